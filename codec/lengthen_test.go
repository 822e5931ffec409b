package codec

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// changing is a voice whose frames have one length and then another, as when a
// path is not clean any more: the second begins at the media time at. kept is
// how long each frame of the second kind is kept back at the sender.
func changing(t *testing.T, voice []float32, at int, first, second EncoderConfig, kept time.Duration, block int, phase time.Duration, wobble func() time.Duration) (out []float32, before, after, end Stats) {
	t.Helper()
	type part struct {
		packets [][]byte
		length  int
	}
	e, err := NewEncoder(first)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(c EncoderConfig, pcm []float32) part {
		p := part{length: c.FrameSamples}
		if err := e.Apply(Setting{FrameSamples: c.FrameSamples, Bitrate: c.Bitrate}); err != nil {
			t.Fatal(err)
		}
		for ; len(pcm) >= p.length; pcm = pcm[p.length:] {
			opus := make([]byte, MaxOpus)
			n, err := e.Encode(opus, pcm[:p.length])
			if err != nil {
				t.Fatal(err)
			}
			p.packets = append(p.packets, opus[:n])
		}
		return p
	}
	a, b := encode(first, voice[:at]), encode(second, voice[at:])
	r := NewReceiver(ReceiverConfig{})
	pcm := make([]float32, 2*block)
	n := 0
	pull := func(until time.Duration) {
		for ; ; n++ {
			when := phase + time.Duration(float64(n*block)*1e9/Rate)
			if when > until {
				return
			}
			r.Pull(pcm, simulated.Add(when))
			for i := range block {
				out = append(out, pcm[2*i])
			}
		}
	}
	counter, media := uint32(0), 0
	for k, p := range []part{a, b} {
		for _, opus := range p.packets {
			sent := time.Duration(media+p.length)*time.Second/Rate + 10*ms
			if wobble != nil {
				sent += wobble()
			}
			if k == 1 {
				sent += kept
			}
			pull(sent - 1)
			r.Push(&Frame{Counter: counter, MediaTime: uint32(media), Opus: opus, SpurtStart: counter == 0, Level: 30}, simulated.Add(sent))
			counter, media = counter+1, media+p.length
			switch {
			case k == 0 && media == at:
				before = r.Stats()
			case k == 1 && media >= at+Rate && media < at+Rate+p.length:
				after = r.Stats()
			}
		}
	}
	pull(time.Duration(media) * time.Second / Rate)
	return out, before, after, r.Stats()
}

// When frames become longer in the middle of a sound each is complete later by
// what it is longer, at once and for good. The delay grows by that where the
// first long one comes, and by nothing else; no frame is left out for it, and
// the joint is not heard. Where the sender keeps its frames back from then on
// too, which nothing tells, or only that, some frames come too late first.
func TestFramesBecomeLonger(t *testing.T) {
	const hz, amplitude = 300.0, 0.4
	const steepest = amplitude * 2 * math.Pi * hz / Rate
	tone := make([]float32, 9*Rate)
	for i := range tone {
		tone[i] = float32(amplitude * math.Sin(2*math.Pi*hz*float64(i)/Rate))
	}
	for _, c := range []struct {
		first, second int
		kept          time.Duration
		jitter        float64 // ns
		late          uint64  // at most
	}{
		{480, 960, 0, 0, 1},
		{480, 1920, 0, 0, 1},
		{480, 2880, 0, 0, 1},
		{960, 1920, 0, 0, 1},
		{960, 2880, 0, 0, 1},
		{480, 960, 0, 1e6, 1},
		{960, 1920, 0, 1e6, 1},
		{480, 480, 24 * ms, 0, 3},
		{960, 960, 10 * ms, 0, 3},
		{480, 960, 10 * ms, 0, 5},
		{960, 960, 10 * ms, 1e6, 3},
		{960, 480, 0, 0, 0},
	} {
		t.Run(fmt.Sprintf("%d to %d ms, kept %v, jitter %.0f ms", c.first/48, c.second/48, c.kept, c.jitter/1e6), func(t *testing.T) {
			first, second := EncoderConfig{FrameSamples: c.first, Bitrate: 64000}, EncoderConfig{FrameSamples: c.second, Bitrate: 64000}
			for phase := time.Duration(0); phase < 10*ms; phase += 1700 * time.Microsecond {
				for _, block := range []int{240, 480} {
					rng := newRand(uint64(phase))
					out, before, after, end := changing(t, tone, 6*Rate, first, second, c.kept, block, phase,
						func() time.Duration { return time.Duration(rng.Float64() * c.jitter) })
					step := 0.0
					for i := Rate; i < len(out)-Rate/2; i++ {
						step = max(step, math.Abs(float64(out[i]-out[i-1])))
					}
					if before.Lost+before.Skipped > 0 {
						t.Fatalf("phase %v, Pulls of %d: before the change %+v", phase, block, before)
					}
					longer := time.Duration(max(c.second-c.first, 0))*time.Second/Rate + c.kept
					if end.Late > c.late || end.Lost > end.Late || end.Skipped+end.Resets > 0 {
						t.Errorf("phase %v, Pulls of %d: %d frames late, to be at most %d: %+v", phase, block, end.Late, c.late, end)
					}
					if most := longer + time.Duration(c.late)*20*ms; end.ConcealedDuration > most {
						t.Errorf("phase %v, Pulls of %d: %v made up, to be at most %v", phase, block, end.ConcealedDuration, most)
					}
					if most := before.Delay + c.kept + time.Duration(block)*time.Second/Rate; after.Delay > most && longer > 0 {
						t.Errorf("phase %v, Pulls of %d: a delay of %v, and %v a second after the change", phase, block, before.Delay, after.Delay)
					}
					if step > 1.3*steepest {
						t.Errorf("phase %v, Pulls of %d: a step of %.4f, of the tone itself %.4f", phase, block, step, steepest)
					}
				}
			}
		})
	}
}
