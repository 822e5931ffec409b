package process

import (
	"math"
	"testing"
	"time"

	"teahouse/internal/audio"
	"teahouse/internal/lab"
)

// louder is by how much y is louder than x, in dB, in the worst of the 100 ms
// that begin every 5 ms, of those in which there is anything to be heard.
func louder(x, y []float32) float64 {
	const length, hop = audio.Rate / 10, audio.Rate / 200
	worst := math.Inf(-1)
	for i := 0; i+length <= min(len(x), len(y)); i += hop {
		if out := power(y[i : i+length]); out > -75 {
			worst = max(worst, out-power(x[i:i+length]))
		}
	}
	return worst
}

// settle is when, in seconds, the echo from sample from on is first lowered by
// least dB for a whole second; the length of the sound where it never is.
func settle(in, out []float32, from int, least float64) float64 {
	const step = audio.Rate / 10
	for at := from; at+audio.Rate <= min(len(in), len(out)); at += step {
		if power(in[at:at+audio.Rate])-power(out[at:at+audio.Rate]) >= least {
			return float64(at-from) / audio.Rate
		}
	}
	return float64(len(in)-from) / audio.Rate
}

// TestEchoMoves: the way from speaker to microphone changes in the middle of
// far talk, by its delay or altogether. Nothing that comes out is ever louder
// than what went in, and the echo is gone again soon.
func TestEchoMoves(t *testing.T) {
	const change, seconds = 8, 16
	far := prompt(t, "demo-instruct")[:seconds*audio.Rate]
	for name, after := range map[string][]float64{
		"20 ms later":    room(0.080, 0.2, 0.5, 1),
		"20 ms earlier":  room(0.040, 0.2, 0.5, 1),
		"another room":   room(0.060, 0.3, 0.5, 9),
		"twice as loud":  room(0.060, 0.2, 1, 1),
		"other polarity": room(0.060, 0.2, -0.5, 1),
	} {
		t.Run(name, func(t *testing.T) {
			echo := convolve(far, echoRoom())
			copy(echo[change*audio.Rate:], convolve(far, after)[change*audio.Rate:])
			p := newProcessor(t, Config{Stages: Stages{Echo: true}})
			in, out := stand{far: far, echo: echo, drift: 50e-6, jitter: time.Millisecond / 2, seed: 4}.talk(p)
			again := settle(in, out, change*audio.Rate, 30)
			t.Logf("lowered by 30 dB again after %.1f s; at most %.1f dB louder; learnt anew %d times",
				again, louder(in, out), p.echo.(*canceller).relearnt)
			if again > 5 {
				t.Errorf("30 dB are reached again after %.1f s", again)
			}
			if more := louder(in, out); more > 1 {
				t.Errorf("what comes out is %.1f dB louder than what went in", more)
			}
		})
	}
}

// TestTalkFromTheStart: both talk from the first moment on, so that the filter
// never hears the echo alone, for longer than people do. It learns all the
// same: once the near voice has ended the echo is gone; nothing is louder than
// it was meanwhile, and the voice is not much less intelligible than under the
// echo (what it could be: docs/test-wishlist.md).
func TestTalkFromTheStart(t *testing.T) {
	const seconds, both = 16, 11
	far := prompt(t, "demo-instruct")[:seconds*audio.Rate]
	near := atLevel(prompt(t, "demo-congrats")[:both*audio.Rate], -24)
	p := newProcessor(t, Config{Stages: Stages{Echo: true}})
	in, out := stand{
		far: far, echo: convolve(far, room(0.060, 0.2, 0.7, 3)), near: near,
		drift: 50e-6, jitter: time.Millisecond / 2, seed: 5,
	}.talk(p)
	from, to := 4*audio.Rate, both*audio.Rate
	was, is := stoi(t, near[from:to], in[from:to]), stoi(t, near[from:to], out[from:to])
	after := (both + 1) * audio.Rate
	lowered := power(in[after:]) - power(out[after:])
	t.Logf("STOI %.3f, %.3f with the echo; 1 s after the near voice the echo is lowered by %.1f dB; at most %.1f dB louder",
		is, was, lowered, louder(in, out))
	if is < was-0.1 {
		t.Errorf("STOI of the near voice is %.3f, and was %.3f", is, was)
	}
	if lowered < 30 {
		t.Errorf("the echo is lowered by %.1f dB, not by 30", lowered)
	}
	if more := louder(in, out); more > 1 {
		t.Errorf("what comes out is %.1f dB louder than what went in", more)
	}
}

// TestNearAlone: a voice is left as it is where the far end is silent, from
// the beginning or after it has talked, and where the reference has stopped.
func TestNearAlone(t *testing.T) {
	const talk, seconds = 6, 14
	near := make([]float32, talk*audio.Rate)
	near = append(near, atLevel(prompt(t, "demo-congrats")[:(seconds-talk)*audio.Rate], -24)...)
	speech := prompt(t, "demo-instruct")[:talk*audio.Rate]
	silent := make([]float32, seconds*audio.Rate)
	talked := append(append([]float32(nil), speech...), make([]float32, (seconds-talk)*audio.Rate)...)
	for name, far := range map[string][]float32{
		"far is silent": silent, "far has talked": talked, "the reference stops": speech, "no reference": nil,
	} {
		t.Run(name, func(t *testing.T) {
			echo := make([]float32, len(near))
			copy(echo, convolve(append(append([]float32(nil), far...), make([]float32, audio.Rate)...), echoRoom()))
			p := newProcessor(t, Config{Stages: Stages{Echo: true}})
			in, out := stopping(p, far, echo, near)
			from := (talk + 1) * audio.Rate
			if got := stoi(t, in[from:], out[from:]); got < 0.999 {
				t.Errorf("STOI is %.4f", got)
			}
			if lost := power(in[from:]) - power(out[from:]); math.Abs(lost) > 0.2 {
				t.Errorf("it is lowered by %.2f dB", lost)
			}
		})
	}
}

// stopping plays far and then nothing any more, while near goes on.
func stopping(p *Processor, far, echo, near []float32) (in, out []float32) {
	in = mix(near, echo, 0)
	out = make([]float32, len(in))
	stereo := make([]float32, 2*audio.BlockFrames)
	for i := 0; i+audio.BlockFrames <= len(in); i += audio.BlockFrames {
		b := out[i : i+audio.BlockFrames]
		copy(b, in[i:])
		if ahead := i + 4*audio.BlockFrames; ahead+audio.BlockFrames <= len(far) {
			for j := range audio.BlockFrames {
				stereo[2*j], stereo[2*j+1] = far[ahead+j], far[ahead+j]
			}
			p.Play(stereo, start.Add(nominal(ahead)))
		}
		p.Process(b, start.Add(nominal(i)))
	}
	late := int(p.Delay().Seconds() * audio.Rate)
	return in[:len(in)-late], out[late:]
}

// TestClippingSpeaker: a loudspeaker that is driven too hard makes sound that
// no linear filter can explain; it is lowered all the same.
func TestClippingSpeaker(t *testing.T) {
	far := prompt(t, "demo-instruct")[:16*audio.Rate]
	clipped := make([]float32, len(far))
	most := 0.25 * audio.Peak(far)
	for i, x := range far {
		clipped[i] = max(-most, min(x, most))
	}
	p := newProcessor(t, Config{Stages: Stages{Echo: true}})
	in, out := stand{far: far, echo: convolve(clipped, echoRoom()), drift: 50e-6, jitter: time.Millisecond / 2, seed: 6}.talk(p)
	from := 4 * audio.Rate
	lowered := power(in[from:]) - power(out[from:])
	t.Logf("clipped 12 dB below its peaks: lowered by %.1f dB; at most %.1f dB louder", lowered, louder(in, out))
	if lowered < 30 {
		t.Errorf("the echo is lowered by %.1f dB, not by 30", lowered)
	}
	if more := louder(in, out); more > 1 {
		t.Errorf("what comes out is %.1f dB louder than what went in", more)
	}
}

// TestGuard: whatever the filter makes of a sound, it does not become louder.
func TestGuard(t *testing.T) {
	c := newCanceller()
	in := scaled(white(4*audio.Rate, 8), 0.05)
	out := append([]float32(nil), in...)
	far := block(white(audio.BlockFrames, 9))
	for i := 0; i < len(out); i += audio.BlockFrames {
		// A filter that is sure of what is wrong.
		for j := range c.filter.parts {
			for k := range echoBins {
				c.filter.parts[j].way.re[k] = 0.3 * float32(1-2*(i/audio.BlockFrames/20%2))
				c.filter.parts[j].variance[k] = 1
			}
		}
		if err := c.process(&far, (*block)(out[i:i+audio.BlockFrames])); err != nil {
			t.Fatal(err)
		}
	}
	late := int(c.delay().Seconds() * audio.Rate)
	if more := louder(in[:len(in)-late], out[late:]); more > 1 {
		t.Errorf("it is %.1f dB louder", more)
	}
	if c.relearnt == 0 {
		t.Error("the filter was never found to be astray")
	}
}

// TestAstray: a filter that has come to what is not a number begins anew, and
// works again.
func TestAstray(t *testing.T) {
	c := newCanceller()
	far := prompt(t, "demo-instruct")[:8*audio.Rate]
	echo := convolve(far, room(0.02, 0.1, 0.5, 1))
	out := append([]float32(nil), echo...)
	for i := 0; i < len(out); i += audio.BlockFrames {
		if i == 2*audio.Rate {
			c.filter.parts[3].way.re[7] = float32(math.NaN())
		}
		b := (*block)(out[i : i+audio.BlockFrames])
		if err := c.process((*block)(far[i:i+audio.BlockFrames]), b); err != nil || !sane(b) {
			t.Fatalf("at %v it is no sound", nominal(i))
		}
	}
	from := 6 * audio.Rate
	if lowered := power(echo[from:]) - power(out[from:]); lowered < 30 {
		t.Errorf("the echo is lowered by %.1f dB afterwards", lowered)
	}
}

func stoi(t *testing.T, clean, heard []float32) float64 {
	t.Helper()
	n := min(len(clean), len(heard))
	got, err := lab.STOI(clean[:n], heard[:n])
	if err != nil {
		t.Fatal(err)
	}
	return got
}
