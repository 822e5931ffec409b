package process

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"teahouse/internal/audio"
)

// start is when the tests begin; no clock is read.
var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// nominal is how long n samples last at 48 kHz.
func nominal(n int) time.Duration { return time.Duration(n) * time.Second / audio.Rate }

// stand is a speaker and a microphone in one place, each with its own clock.
type stand struct {
	far    []float32 // mono: what the speaker plays, by the speaker's clock
	echo   []float32 // far in the room, by the speaker's clock
	near   []float32 // what is said besides, by the microphone's clock
	drift  float64   // by how much the speaker's clock is faster
	jitter time.Duration
	seed   uint64
	// stall: the speaker runs empty for that long, once, after stallAt of far.
	stallAt, stall time.Duration
}

// talk plays and captures all of it. in is what the microphone heard, out
// what came of it, aligned with in.
func (s stand) talk(p *Processor) (in, out []float32) {
	rng := rand.New(rand.NewPCG(s.seed, 3))
	jitter := func() time.Duration {
		if s.jitter == 0 {
			return 0
		}
		return time.Duration(rng.Int64N(int64(2*s.jitter))) - s.jitter
	}
	stallFrom := int(s.stallAt.Seconds() * audio.Rate)
	stalled := int(s.stall.Seconds() * audio.Rate)
	// The room hears the speaker's sample n at n / (48 kHz (1 + drift)),
	// beginning after 100 ms of the microphone's time.
	const ahead = audio.Rate / 10
	n := (int(float64(len(s.far)+stalled)/(1+s.drift)) + ahead) / audio.BlockFrames * audio.BlockFrames
	in = make([]float32, n)
	k := newKernel()
	for i := range in {
		at := float64(i-ahead) * (1 + s.drift)
		if stalled > 0 && at >= float64(stallFrom) {
			if at < float64(stallFrom+stalled) {
				continue
			}
			at -= float64(stalled)
		}
		whole := math.Floor(at)
		if from := int(whole) - kernelTaps/2 + 1; from >= 0 && from+kernelTaps+1 <= len(s.echo) {
			k.resample(in[i:i+1], s.echo[from:from+kernelTaps+1], at-whole, 1)
		}
		if i < len(s.near) {
			in[i] += s.near[i]
		}
	}
	late := int(p.Delay().Seconds() * audio.Rate)
	out = make([]float32, n+audio.Rate)
	played := 0
	stereo := make([]float32, 2*audio.BlockFrames)
	for i := 0; i < len(out)/audio.BlockFrames*audio.BlockFrames; i += audio.BlockFrames {
		captured := nominal(i)
		// What is heard until 30 ms after this block has been captured was
		// given to the speaker by then.
		for {
			from := played
			if stalled > 0 && played >= stallFrom {
				from += stalled
			}
			heard := time.Duration(float64(from)/(1+s.drift)/audio.Rate*1e9) + nominal(ahead)
			if heard > captured+30*time.Millisecond {
				break
			}
			for j := range audio.BlockFrames {
				var x float32
				if played+j < len(s.far) {
					x = s.far[played+j]
				}
				stereo[2*j], stereo[2*j+1] = x, x
			}
			p.Play(stereo, start.Add(heard+jitter()))
			played += audio.BlockFrames
		}
		b := out[i : i+audio.BlockFrames]
		if i < n {
			copy(b, in[i:])
		}
		p.Process(b, start.Add(captured+jitter()))
	}
	return in, out[late:][:n]
}

func newProcessor(t testing.TB, cfg Config) *Processor {
	t.Helper()
	if cfg.Engine == WebRTC && !haveWebRTC {
		t.Skip("this build has no WebRTC audio processing")
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestTry(t *testing.T) {
	far := prompt(t, "demo-instruct")[:40*audio.Rate]
	for _, t60 := range []float64{0.1, 0.2, 0.3} {
		echo := convolve(far, room(0.060, t60, 0.5, 1))
		for _, engine := range []Engine{WebRTC, Speex} {
			for _, drift := range []float64{0, 100e-6, -300e-6} {
				for _, jitter := range []time.Duration{0, 3 * time.Millisecond} {
					p := newProcessor(t, Config{Stages: Stages{Echo: true}, Engine: engine})
					in, out := stand{far: far, echo: echo, drift: drift, jitter: jitter}.talk(p)
					s := ""
					for _, at := range []int{0, 1, 2, 3, 5, 10, 20, 30} {
						s += fmt.Sprintf(" %d:%.0f/%.0f", at, power(in[at*48000:(at+1)*48000]), power(out[at*48000:(at+1)*48000]))
					}
					t.Logf("t60 %v engine %d drift %v jitter %v: %.1f -> %.1f: %s %+v", t60, engine, drift, jitter, power(in[3*48000:]), power(out[3*48000:]), s, p.Stats())
				}
			}
		}
	}
}
