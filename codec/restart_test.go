package codec

import (
	"math"
	"testing"
	"time"
)

// A sender that restarts in the middle of a tone is heard as soon as any other
// is: at its own target, with nothing left of the old stream's delay, clock or
// sound to wait for or to make good, and without a click. Wherever the Reset
// falls between two Pulls, and whether much is on the tape then or nothing.
func TestRestartIsClean(t *testing.T) {
	const hz, amplitude = 300.0, 0.4
	tone := make([]float32, 2*Rate)
	for i := range tone {
		tone[i] = float32(amplitude * math.Sin(2*math.Pi*hz*float64(i)/Rate))
	}
	for _, length := range []int{480, 960, 2880} {
		packets := encodeAll(t, EncoderConfig{FrameSamples: length, Bitrate: 64000}, tone)
		frame := time.Duration(length) * time.Second / Rate
		half := len(packets) / 2
		for offset := time.Duration(0); offset < frame; offset += 3 * ms {
			r := NewReceiver(ReceiverConfig{})
			pcm := make([]float32, 2*480)
			var last float32
			var worst float64
			var before Stats
			pulled := 0
			pull := func(until time.Duration) {
				for ; time.Duration(pulled)*10*ms <= until; pulled++ {
					r.Pull(pcm, simulated.Add(time.Duration(pulled)*10*ms))
					for i := 0; i < len(pcm); i += 2 {
						worst = max(worst, math.Abs(float64(pcm[i]-last)))
						last = pcm[i]
					}
				}
			}
			for i, p := range packets {
				// The second stream: other counters, other media time, off by
				// some of a frame.
				f := Frame{Counter: uint32(i), MediaTime: uint32(i * length), SpurtStart: i == 0, Opus: p}
				at := time.Duration(i+1) * frame
				if i >= half {
					f = Frame{Counter: uint32(7 + i), MediaTime: 1<<30 + uint32(i*length), SpurtStart: i == half, Opus: p}
					at += offset
				}
				pull(at - 1)
				if i == half {
					before = r.Stats()
					r.Reset()
				}
				r.Push(&f, simulated.Add(at))
			}
			pull(2*time.Second + offset)
			s := r.Stats()
			if s.Lost > 0 || s.Resets != 1 || s.Skipped > 60*Rate/1000/uint64(length) {
				t.Errorf("%v, %v: %+v", frame, offset, s)
			}
			if s.Delay > before.Delay+10*ms || s.Delay > 15*ms || s.StretchedDuration != before.StretchedDuration {
				t.Errorf("%v, %v: a delay of %v (%v before), stretched by %v", frame, offset, s.Delay, before.Delay, s.StretchedDuration-before.StretchedDuration)
			}
			// Two tones of the same strength, one fading in as the other fades
			// out: each moves as it does by itself, and a little more.
			if most := amplitude * (2*2*math.Pi*hz/Rate + 2*math.Pi/2/joinLength); worst > most {
				t.Errorf("%v, %v: a step of %.4f", frame, offset, worst)
			}
		}
	}
}
