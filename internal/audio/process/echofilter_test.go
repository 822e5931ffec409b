package process

import (
	"math"
	"testing"

	"teahouse/internal/audio"
)

// TestEchoFilter: of noise in a known room the filter finds the room's own
// transfer function, piece by piece, and therefore the echo.
func TestEchoFilter(t *testing.T) {
	const seconds = 12
	far := scaled(white(seconds*audio.Rate, 1), 0.1)
	way := room(0.013, 0.08, 0.5, 4)
	near := convolve(far, way)
	f := newEchoFilter()
	var heard, left float64
	for i := 0; i < len(far); i += audio.BlockFrames {
		var echo block
		f.process((*block)(far[i:i+audio.BlockFrames]), (*block)(near[i:i+audio.BlockFrames]), &echo)
		if i < (seconds-1)*audio.Rate {
			continue
		}
		// Between 100 Hz and 10 kHz, as the filter hears nothing above 12 kHz.
		// learn has left E times its scale in sum, and the scale in power.
		for k := 2; k < 213; k++ {
			left += float64(f.sum.re[k]*f.sum.re[k]+f.sum.im[k]*f.sum.im[k]) / float64(f.power[k]*f.power[k])
		}
		var d [echoSize]float32
		copy(d[echoSize-audio.BlockFrames:], near[i:i+audio.BlockFrames])
		f.fourier.forward(f.re[:], f.im[:], d[:])
		for k := 2; k < 213; k++ {
			heard += float64(f.re[k]*f.re[k] + f.im[k]*f.im[k])
		}
	}
	if lowered := 10 * math.Log10(heard/left); lowered < 20 {
		t.Errorf("the filter lowers the echo by %.1f dB", lowered)
	}
	var off, all float64
	for p := range f.parts {
		var h [echoSize]float32
		for i := range audio.BlockFrames {
			if at := p*audio.BlockFrames + i; at < len(way) {
				h[i] = float32(way[at])
			}
		}
		f.fourier.forward(f.re[:], f.im[:], h[:])
		for k := 2; k < 213; k++ {
			dr, di := float64(f.re[k]-f.parts[p].way.re[k]), float64(f.im[k]-f.parts[p].way.im[k])
			off += dr*dr + di*di
			all += float64(f.re[k])*float64(f.re[k]) + float64(f.im[k])*float64(f.im[k])
		}
	}
	if wrong := 10 * math.Log10(off/all); wrong > -15 {
		t.Errorf("the way is known to %.1f dB", wrong)
	}
}

// TestEchoFilterSilence: where nothing is played there is no echo, and near
// sound alone teaches nothing.
func TestEchoFilterSilence(t *testing.T) {
	f := newEchoFilter()
	near := white(audio.Rate, 2)
	for i := 0; i < len(near); i += audio.BlockFrames {
		var far, echo block
		f.process(&far, (*block)(near[i:i+audio.BlockFrames]), &echo)
		if echo != (block{}) {
			t.Fatalf("at %v an echo of nothing", nominal(i))
		}
	}
	for p := range f.parts {
		if f.parts[p].way != (echoSpectrum{}) {
			t.Fatalf("piece %d has learnt something", p)
		}
	}
}
