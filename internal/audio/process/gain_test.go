package process

import (
	"fmt"
	"math"
	"testing"
	"time"

	"teahouse/internal/audio"
)

// TestGain: speech of -40 to -10 dBFS comes out within 3 dB of the target, in
// every 5 s from the 5th on.
func TestGain(t *testing.T) {
	speech := prompt(t, "demo-instruct")[:25*audio.Rate]
	for level := -40.0; level <= -10; level += 5 {
		for _, noise := range []float64{math.Inf(-1), -75} {
			t.Run(fmt.Sprintf("%.0f/noise%.0f", level, noise), func(t *testing.T) {
				in := atLevel(speech, level)
				if !math.IsInf(noise, -1) {
					in = mix(in, fan(len(in), noise, 1), 0)
				}
				for i, x := range in {
					in[i] = max(-1, min(x, 1)) // as a sound card does
				}
				p := newProcessor(t, Config{Stages: Stages{Gain: true}})
				out := run(p, in)
				for at := 5; at < 25; at += 5 {
					got := active(out[at*audio.Rate : (at+5)*audio.Rate])
					if math.Abs(got-gainTarget) > 3 {
						t.Errorf("%d to %d s: %.1f dBFS comes out at %.1f, not %d", at, at+5,
							active(in[at*audio.Rate:(at+5)*audio.Rate]), got, gainTarget)
					}
				}
			})
		}
	}
}

// TestGainOfAll: the same where echo and noise are on as well, and the other
// end talks now and then.
func TestGainOfAll(t *testing.T) {
	speech := prompt(t, "demo-congrats")[:25*audio.Rate]
	for _, level := range []float64{-40, -25, -10} {
		near := mix(atLevel(speech, level), fan(len(speech), -75, 2), 0)
		for i, x := range near {
			near[i] = max(-1, min(x, 1))
		}
		far := append([]float32(nil), prompt(t, "demo-instruct")[:25*audio.Rate]...)
		clear(far[4*audio.Rate:])
		p := newProcessor(t, Config{Stages: All()})
		_, out := stand{far: far, echo: convolve(far, room(0.06, 0.2, 0.1, 1)), near: near, drift: 50e-6, jitter: time.Millisecond / 2, seed: 7}.talk(p)
		for at := 10; at < 25; at += 5 {
			if got := active(out[at*audio.Rate : (at+5)*audio.Rate]); math.Abs(got-gainTarget) > 3 {
				t.Errorf("%d to %d s: speech of %.1f dBFS comes out at %.1f, not %d", at, at+5, level, got, gainTarget)
			}
		}
	}
}

// TestGainOfNoise: where nobody speaks nothing is raised, and noise between
// the words is not raised above noiseMost.
func TestGainOfNoise(t *testing.T) {
	p := newProcessor(t, Config{Stages: Stages{Gain: true}})
	out := run(p, fan(20*audio.Rate, -55, 2))
	if got := power(out[audio.Rate:]); got > -54 {
		t.Errorf("noise of -55 dBFS comes out at %.1f", got)
	}
	p = newProcessor(t, Config{Stages: Stages{Gain: true}})
	speech := atLevel(prompt(t, "demo-instruct")[:20*audio.Rate], -45)
	in := append(mix(speech, fan(len(speech), -65, 3), 0), fan(2*audio.Rate, -65, 4)...)
	out = run(p, in)
	if got := power(out[len(out)-audio.Rate:]); got > noiseMost+1 {
		t.Errorf("noise of -65 dBFS under quiet speech comes out at %.1f, above %d", got, noiseMost)
	}
}

// TestGainMoves: no block is louder or quieter than its neighbours by the gain
// alone by more than gainFall, and a shout is down within 2 s.
func TestGainMoves(t *testing.T) {
	speech := prompt(t, "demo-instruct")
	in := append(atLevel(speech[:10*audio.Rate], -35), atLevel(speech[10*audio.Rate:20*audio.Rate], -12)...)
	p := newProcessor(t, Config{Stages: Stages{Gain: true}})
	last := 0.0
	for i := 0; i < len(in); i += audio.BlockFrames {
		p.Process(in[i:i+audio.BlockFrames], start.Add(nominal(i)))
		now := p.Stats().Gain
		if now-last > gainRise+1e-9 || last-now > gainFall+1e-9 {
			t.Fatalf("at %v the gain goes from %.2f to %.2f dB", nominal(i), last, now)
		}
		last = now
		if audio.Peak(in[i:i+audio.BlockFrames]) > 1 {
			t.Fatalf("at %v it is beyond full scale", nominal(i))
		}
	}
	from := 12 * audio.Rate
	if got := active(in[from : from+4*audio.Rate]); math.Abs(got-gainTarget) > 4 {
		t.Errorf("2 s after the voice was raised by 23 dB it comes out at %.1f dBFS", got)
	}
}

// TestHighPass: rumble goes, a voice stays.
func TestHighPass(t *testing.T) {
	for hz, least := range map[float64][2]float64{10: {-60, -30}, 40: {-14, -10}, 80: {-4, -2}, 160: {-0.6, 0.1}, 1000: {-0.1, 0.1}, 15000: {-0.1, 0.1}} {
		h := newHighPass()
		var sum, n float64
		for i := 0; i < 4*audio.Rate; i += audio.BlockFrames {
			var b block
			for j := range b {
				b[j] = float32(math.Sin(2 * math.Pi * hz * float64(i+j) / audio.Rate))
			}
			h.process(&b)
			if i >= audio.Rate {
				for _, x := range b {
					sum += float64(x) * float64(x)
					n++
				}
			}
		}
		if db := 10 * math.Log10(2*sum/n); db < least[0] || db > least[1] {
			t.Errorf("%v Hz is changed by %.2f dB, not %v", hz, db, least)
		}
	}
}

// TestKernel: what lies between two samples is right to -70 dB up to 16 kHz.
func TestKernel(t *testing.T) {
	k := newKernel()
	for _, hz := range []float64{100, 1000, 8000, 16000} {
		src := make([]float32, 2000)
		for i := range src {
			src[i] = float32(math.Sin(2 * math.Pi * hz * float64(i) / audio.Rate))
		}
		const frac, step = 0.371, 1.0003
		var dst block
		k.resample(dst[:], src, frac, step)
		worst := 0.0
		for i, x := range dst {
			at := float64(kernelTaps/2-1) + frac + step*float64(i)
			worst = max(worst, math.Abs(float64(x)-math.Sin(2*math.Pi*hz*at/audio.Rate)))
		}
		if db := 20 * math.Log10(worst); db > -70 {
			t.Errorf("%v Hz: wrong by %.1f dB", hz, db)
		}
	}
}

// TestClock: the rate is found among stamps that jitter, one thread that was
// late is not believed, and a stream that was interrupted is.
func TestClock(t *testing.T) {
	for _, drift := range []float64{0, 100e-6, -250e-6} {
		var c clock
		jitter := white(10000, 5)
		for i := range 6000 {
			at := float64(i)*blockSeconds*(1+drift) + 0.5e-3*float64(jitter[i])
			if i == 3000 {
				at += 0.1
			}
			if c.step(at) {
				t.Fatalf("one late stamp was believed, at %d", i)
			}
		}
		if math.Abs(c.rate-drift) > 3e-6 {
			t.Errorf("after a minute the drift is taken for %.1f ppm, not %.0f", 1e6*c.rate, 1e6*drift)
		}
		if off := c.at - 5999*blockSeconds*(1+drift); math.Abs(off) > 0.2e-3 {
			t.Errorf("after a minute the time is off by %.3f ms", 1e3*off)
		}
		jumps := 0
		for i := 6000; i < 6100; i++ {
			if c.step(float64(i)*blockSeconds*(1+drift) + 0.04 + 0.5e-3*float64(jitter[i])) {
				jumps++
			}
		}
		if off := c.at - 6099*blockSeconds*(1+drift) - 0.04; jumps != 1 || math.Abs(off) > 1e-3 {
			t.Errorf("a gap of 40 ms: %d jumps, off by %.2f ms", jumps, 1e3*off)
		}
	}
}

// FuzzReference: no time stamp and no sound makes the reference panic or give
// what is not sound.
func FuzzReference(f *testing.F) {
	f.Add(int64(0), int64(0), int64(10_000_000), uint8(3))
	f.Add(int64(1)<<62, -int64(1)<<62, int64(-7), uint8(200))
	f.Fuzz(func(t *testing.T, played, captured, step int64, n uint8) {
		r := newReference()
		stereo := make([]float32, 2*audio.BlockFrames)
		for i := range stereo {
			stereo[i] = float32(math.Inf(1 - 2*(i%2)))
			if i%3 == 0 {
				stereo[i] = 0.5
			}
		}
		for i := range int64(n) {
			r.play(stereo, start.Add(time.Duration(played+i*step)))
			var b block
			r.heard(&b, start.Add(time.Duration(captured+i*step/2)))
			for _, x := range b {
				if x != finite(x) {
					t.Fatalf("block %d: %v", i, x)
				}
			}
		}
	})
}
