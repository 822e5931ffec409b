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

// echoRoom is a room of 0.2 s of reverberation whose first sound comes after
// 60 ms and which gives back half of what is played.
func echoRoom() []float64 { return room(0.060, 0.2, 0.5, 1) }

// TestFarOnly: of far speech alone nothing is left, 3 s after it has begun.
func TestFarOnly(t *testing.T) {
	far := prompt(t, "demo-instruct")[:20*audio.Rate]
	echo := convolve(far, echoRoom())
	for _, c := range []struct {
		engine Engine
		drift  float64
		jitter time.Duration
		least  float64 // dB
	}{
		{Best, 0, 0, 40},
		{Best, 100e-6, time.Millisecond / 2, 40},
		// Clocks and stamps worse than any that were met.
		{Best, -300e-6, 3 * time.Millisecond, 35},
		{WebRTC, 0, 0, 40},
		{WebRTC, 100e-6, time.Millisecond / 2, 40},
		{WebRTC, -300e-6, 3 * time.Millisecond, 30},
		{Speex, 0, 0, 25},
		{Speex, 100e-6, time.Millisecond, 18},
	} {
		t.Run(fmt.Sprintf("%v/%.0fppm/%v", c.engine, 1e6*c.drift, c.jitter), func(t *testing.T) {
			p := newProcessor(t, Config{Stages: Stages{Echo: true}, Engine: c.engine})
			in, out := stand{far: far, echo: echo, drift: c.drift, jitter: c.jitter, seed: 1}.talk(p)
			const after = 3 * audio.Rate
			lowered := power(in[after:]) - power(out[after:])
			t.Logf("%.1f dBFS comes out at %.1f: %.1f dB less", power(in[after:]), power(out[after:]), lowered)
			if lowered < c.least {
				t.Errorf("the echo is lowered by %.1f dB, not by %.0f", lowered, c.least)
			}
			if s := p.Stats(); math.Abs(s.Reference.Drift-c.drift) > 20e-6 {
				t.Errorf("the drift is taken for %.0f ppm, not %.0f", 1e6*s.Reference.Drift, 1e6*c.drift)
			}
		})
	}
}

// TestWithoutReference: the measure of the tests above. What was not played
// is no echo, and stays.
func TestWithoutReference(t *testing.T) {
	near := prompt(t, "demo-instruct")[:10*audio.Rate]
	for _, engine := range []Engine{Best, WebRTC, Speex} {
		p := newProcessor(t, Config{Stages: Stages{Echo: true}, Engine: engine})
		in, out := stand{far: make([]float32, len(near)), echo: make([]float32, len(near)), near: near}.talk(p)
		if lost := power(in) - power(out); math.Abs(lost) > 0.5 {
			t.Errorf("%v: speech that nobody played is lowered by %.1f dB", engine, lost)
		}
	}
}

// TestDoubleTalk: while the far end talks on, digits said at this end are
// recognised. Each digit is said three times, in three rooms.
func TestDoubleTalk(t *testing.T) {
	const settled = 5 // seconds of talk before the first digit
	talk := prompt(t, "demo-instruct")
	for _, c := range []struct {
		engine Engine
		least  int
	}{{Best, 24}, {WebRTC, 20}, {Speex, 22}} {
		t.Run(c.engine.String(), func(t *testing.T) {
			var before, after [][]float32
			takes := 3
			if *sweep {
				takes = 12
			}
			for take := range takes {
				far := talk[take%3*15*audio.Rate+take/3*audio.Rate:][:(settled+21)*audio.Rate]
				s := stand{far: far, drift: 50e-6, jitter: time.Millisecond / 2, seed: 2}
				s.echo = convolve(far, room(0.060, 0.2, 0.5, uint64(take+1)))
				s.near = make([]float32, len(far))
				for n := range digits {
					s.near = mix(s.near, atLevel(digit(t, n), -20), (settled+2*n)*audio.Rate)
				}
				p := newProcessor(t, Config{Stages: Stages{Echo: true}, Engine: c.engine})
				in, out := s.talk(p)
				for n := range digits {
					from := (settled+2*n)*audio.Rate - around
					to := from + len(digit(t, n)) + 2*around
					before, after = append(before, in[from:to]), append(after, out[from:to])
				}
			}
			got, without := right(recognise(t, after)), right(recognise(t, before))
			t.Logf("%d of %d digits recognised, %d with the echo", got, len(after), without)
			if got < c.least*takes/3 || got <= without+5 {
				t.Errorf("%d of %d digits are recognised while both talk, not %d; %d without echo cancelling",
					got, len(after), c.least*takes/3, without)
			}
		})
	}
}

// TestStall: the speaker runs empty for 40 ms in the middle; the echo is gone
// again 3 s later.
func TestStall(t *testing.T) {
	far := prompt(t, "demo-instruct")[:16*audio.Rate]
	p := newProcessor(t, Config{Stages: Stages{Echo: true}, Engine: Best})
	in, out := stand{
		far: far, echo: convolve(far, echoRoom()), drift: 50e-6, jitter: time.Millisecond, seed: 3,
		stallAt: 8 * time.Second, stall: 40 * time.Millisecond,
	}.talk(p)
	after := 12 * audio.Rate
	lowered := power(in[after:]) - power(out[after:])
	t.Logf("lowered by %.1f dB; %+v", lowered, p.Stats().Reference)
	if lowered < 30 {
		t.Errorf("after the speaker ran empty the echo is lowered by %.1f dB, not by 30", lowered)
	}
	if p.Stats().Reference.Jumps == 0 {
		t.Error("nobody saw that the speaker ran empty")
	}
}
