package main

import (
	"testing"
	"time"

	"teahouse/internal/audio"
)

// A chirp that is put off by a known time is found there to the sample, under
// noise and at another loudness.
func TestFindChirp(t *testing.T) {
	pattern := chirp()
	noise := speech(3 * audio.Rate / 10)
	for _, at := range []int{0, 1, 479, 5000, len(noise) - len(pattern)} {
		pcm := make([]float32, len(noise))
		for i := range pcm {
			pcm[i] = 0.02 * noise[i]
		}
		for i, v := range pattern {
			pcm[at+i] += 0.3 * v
		}
		if got, fit := find(pcm, pattern); got != at || fit < 0.9 {
			t.Errorf("chirp at %d found at %d, fit %.2f", at, got, fit)
		}
	}
	if _, fit := find(noise, pattern); fit > 0.5 {
		t.Errorf("found in sound without one: fit %.2f", fit)
	}
}

// The delay that the chirps were given is the one that is measured, whatever
// the phase between the clocks of the two devices.
func TestChirpDelays(t *testing.T) {
	for _, phase := range []time.Duration{0, 2500 * time.Microsecond, 7500 * time.Microsecond} {
		for _, delay := range []int{pathFrame + 1, pathFrame + 700, pathFrame + 5000} { // samples, capture to playout
			const blocks = 1000 // halves of them
			left := make([]float32, blocks*audio.PlayFrames)
			times := make([]time.Duration, blocks)
			for i := range times {
				times[i] = time.Duration(i) * 5 * time.Millisecond
			}
			shift := int(phase * audio.Rate / time.Second)
			for n := 0; n < len(left); n += chirpEvery {
				for k, v := range chirp() {
					if i := n + delay - shift + k; i >= 0 && i < len(left) {
						left[i] += v
					}
				}
			}
			delays, err := chirpDelays(left, times, phase, time.Second)
			if err != nil {
				t.Errorf("phase %v, delay %d: %v", phase, delay, err)
				continue
			}
			want := 1000 * float64(delay-pathFrame) / audio.Rate
			if got := median(delays); got < want-0.05 || got > want+0.05 {
				t.Errorf("phase %v: %.2f ms, want %.2f", phase, got, want)
			}
		}
	}
	if _, err := chirpDelays(make([]float32, 500*audio.BlockFrames), make([]time.Duration, 500), 0, 0); err == nil {
		t.Error("silence had a delay")
	}
}
