package codec

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// A sine that is read faster or slower is the sine of another pitch, and a
// step stays a step: nothing else is in it.
func TestGlideIsClean(t *testing.T) {
	const length = 4000
	for _, speed := range []int{-glideFast, -glideSlow, 0, glideSlow, glideFast} {
		for _, hz := range []float64{50, 440, 3000, 12000, 18000} {
			var tp tape
			tp.init()
			for i := range tp.buf {
				tp.buf[i] = float32(math.Sin(2 * math.Pi * hz * float64(i/2) / Rate))
			}
			tp.tail = tp.head + length
			from := float64(tp.head - glideDelay)
			out := make([]float32, 2*length)
			n := 0
			for tp.pending() > 0 { // in pieces, as a device takes them
				n += tp.read(out[2*n:min(2*n+2*37, len(out))], speed)
				if n > length-40 {
					break
				}
			}
			if n < length-100 {
				t.Fatalf("speed %d: only %d samples", speed, n)
			}
			for i := range n {
				at := from + float64(i)*(1+float64(speed)/glidePhases)
				want := math.Sin(2 * math.Pi * hz * at / Rate)
				if d := math.Abs(float64(out[2*i]) - want); d > 0.002 || out[2*i] != out[2*i+1] {
					t.Fatalf("%v Hz, speed %d: off by %.4f at %d", hz, speed, d, i)
				}
			}
		}
		var tp tape
		tp.init()
		for i := tapeHistory + 500; i < tapeLength; i++ {
			tp.buf[2*i], tp.buf[2*i+1] = 1, 1
		}
		tp.tail = tp.head + 1000
		out := make([]float32, 2*900)
		n := tp.read(out, speed)
		for i := range n {
			v := out[2*i]
			if v < -0.15 || v > 1.15 { // Gibbs: 9 %, a little more between samples
				t.Fatalf("speed %d: a step overshoots to %.3f", speed, v)
			}
			if away := math.Abs(float64(i) - 500 - glideDelay); away > glideTaps && v != 0 && math.Abs(float64(v)-1) > 1e-6 {
				t.Fatalf("speed %d: a step is heard %v samples away: %v", speed, away, v)
			}
		}
	}
}

// A glide ends where it was meant to, at a whole sample, whatever it is asked
// for meanwhile.
func TestGlideEndsAtWholeSamples(t *testing.T) {
	r := NewReceiver(ReceiverConfig{})
	rng := newRand(3)
	pcm := make([]float32, 2*480)
	for range 2000 {
		wanted := rng.IntN(40) - 20
		r.glideBy(wanted, []int{glideSlow, glideFast}[rng.IntN(2)])
		for r.glide != 0 && rng.IntN(20) > 0 {
			r.tape.write(make([]float32, 2*480))
			for r.tape.pending() > 0 {
				r.read(pcm[:2*(1+rng.IntN(480))])
			}
		}
		if r.glide == 0 && r.tape.phase != 0 {
			t.Fatalf("ended at phase %d", r.tape.phase)
		}
	}
}

// clicks measures a steady tone sample by sample: the largest step, and the
// largest part of it that two samples before do not foretell. A sine obeys
// s[n] = 2 cos(w) s[n-1] - s[n-2]; whatever else sounds, a click above all,
// does not.
type clicks struct {
	w          float64
	a, b       float64
	step, rest float64
}

func (c *clicks) hear(pcm []float32) {
	for i := 0; i < len(pcm); i += 2 {
		s := float64(pcm[i])
		c.step = max(c.step, math.Abs(s-c.a))
		c.rest = max(c.rest, math.Abs(s-2*math.Cos(c.w)*c.a+c.b))
		c.a, c.b = s, c.a
	}
}

// An hour of a tone on two clocks that drift apart, without any silence to hide
// a correction in: no frame is lost, the delay stays, and what is heard is the
// tone and nothing else. The same frames go round and round: a period of the
// tone fits a second.
func TestHourOfDrift(t *testing.T) {
	const hz, amplitude, frame = 220.0, 0.3, 960
	tone := make([]float32, 3*Rate)
	for i := range tone {
		tone[i] = float32(amplitude * math.Sin(2*math.Pi*hz*float64(i)/Rate))
	}
	second := encodeAll(t, EncoderConfig{}, tone)[2*Rate/frame:]
	play := func(ppm float64, d time.Duration) (c clicks, s Stats, least, most time.Duration) {
		r := NewReceiver(ReceiverConfig{})
		const block, step = 240, 5 * ms
		pcm := make([]float32, 2*block)
		c.w = 2 * math.Pi * hz / Rate
		least = time.Hour
		n := 0
		for i := range int(d / (20 * ms)) {
			at := simulated.Add(time.Duration(float64(i+1) * 20e6 * (1 + ppm/1e6)))
			for ; !simulated.Add(time.Duration(n+1) * step).After(at); n++ {
				r.Pull(pcm, simulated.Add(time.Duration(n+1)*step))
				if n > 400 {
					c.hear(pcm)
					least, most = min(least, r.Stats().Delay), max(most, r.Stats().Delay)
				} else if n == 400 {
					c.a, c.b = float64(pcm[2*(block-1)]), float64(pcm[2*(block-2)])
				}
			}
			r.Push(&Frame{Counter: uint32(i), MediaTime: uint32(i * frame), SpurtStart: i == 0, Opus: second[i%len(second)]}, at)
		}
		return c, r.Stats(), least, most
	}
	still, _, _, _ := play(0, 10*time.Second) // what the codec does to a tone
	long := time.Hour
	if testing.Short() {
		long = 5 * time.Minute
	}
	for _, ppm := range []float64{-300, 300} {
		t.Run(fmt.Sprintf("%+.0fppm", ppm), func(t *testing.T) {
			t.Parallel()
			c, s, least, most := play(ppm, long)
			t.Logf("delay %v to %v, glided %v, largest step %.4f (undisturbed %.4f), beside the tone %.2g (%.2g)",
				least, most, s.StretchedDuration, c.step, still.step, c.rest, still.rest)
			if s.Lost > 0 || s.Skipped > 0 || s.Resets > 0 {
				t.Errorf("%+v", s)
			}
			if c.step > 1.01*still.step || c.rest > 5*still.rest {
				t.Errorf("a click: step %.4f, undisturbed %.4f; beside the tone %.2g, undisturbed %.2g", c.step, still.step, c.rest, still.rest)
			}
			if least < 0 || most > 12*ms {
				t.Errorf("delay %v to %v", least, most)
			}
			// The clocks went so far apart, and that is what was made good.
			if drift := time.Duration(math.Abs(ppm) / 1e6 * float64(long)); s.StretchedDuration < drift-20*ms || s.StretchedDuration > drift+40*ms {
				t.Errorf("the clocks went %v apart, %v was made good", drift, s.StretchedDuration)
			}
		})
	}
}
