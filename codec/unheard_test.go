package codec

import (
	"math"
	"testing"
	"time"
)

// A voice that is passed over for some seconds costs nothing of what is
// measured: its frames are counted, its delay goes on, what its sender claims
// is told. When it is heard again it is itself, and neither change clicks.
func TestUnheard(t *testing.T) {
	const from, to = 2500 * ms, 5500 * ms
	voice := speech(t)[:9*Rate]
	ref := throughOpus(t, EncoderConfig{}, voice)
	for name, path := range map[string]func(int, time.Duration) []time.Duration{
		"clean": nil,
		"lossy": jittered(newRand(5), 0.05, 40*ms),
	} {
		t.Run(name, func(t *testing.T) {
			r := NewReceiver(ReceiverConfig{})
			s := simulation{voice: voice, path: path, receiver: r}
			claims := 0
			s.each = func(at time.Duration, _ []float32, p Pulled) {
				r.SetUnheard(at >= from && at < to)
				switch in := at > from+50*ms && at < to; {
				case in && (p.Level != 127 || p.Active):
					t.Errorf("at %v: %+v of what is unheard", at, p)
				case in && p.Claimed == 30: // what the simulation claims
					claims++
				}
			}
			out, stats := s.run(t)
			heard := simulation{voice: voice, path: jitteredAgain(name), receiver: NewReceiver(ReceiverConfig{})}
			plain, want := heard.run(t)
			if stats.Unheard < 130 || stats.Unheard > 151 || claims < 270 {
				t.Errorf("%d frames unheard, claimed %d times", stats.Unheard, claims)
			}
			if stats.Lost+stats.OnTime != want.Lost+want.OnTime || stats.Skipped != want.Skipped || name == "clean" && stats.OnTime != want.OnTime {
				t.Errorf("%+v, all heard %+v", stats, want)
			}
			if stats.Delay > want.Delay+20*ms {
				t.Errorf("a delay of %v, all heard %v", stats.Delay, want.Delay)
			}
			if rms(out[int((from+100*ms)*Rate/time.Second):int((to-10*ms)*Rate/time.Second)]) != 0 {
				t.Error("what is unheard is heard")
			}
			if name == "clean" {
				const after = 6 * Rate
				if median, least, _ := likeness(ref[after:], out[after:]); median < 0.99 || least < 0.95 {
					t.Errorf("after it: likeness %.3f, least %.3f", median, least)
				}
				// The first 100 ms may still differ, but not be loud.
				at := int(to * Rate / time.Second)
				if a, b := rms(out[at:at+Rate/10]), rms(plain[at:at+Rate/10]); a > 2*b+0.01 {
					t.Errorf("heard again at %.3f, not %.3f", a, b)
				}
			}
		})
	}
}

// jitteredAgain is the path of that name, from its beginning.
func jitteredAgain(name string) func(int, time.Duration) []time.Duration {
	if name == "clean" {
		return nil
	}
	return jittered(newRand(5), 0.05, 40*ms)
}

// A loud tone that becomes unheard and heard again, at any time, does not click.
func TestUnheardFades(t *testing.T) {
	tone := make([]float32, 2*Rate)
	for i := range tone {
		tone[i] = float32(0.5 * math.Sin(2*math.Pi*300*float64(i)/Rate))
	}
	for phase := range 4 {
		r := NewReceiver(ReceiverConfig{})
		s := simulation{voice: tone, receiver: r, block: 480, encoder: EncoderConfig{Bitrate: 64000}}
		n := phase
		s.each = func(time.Duration, []float32, Pulled) {
			r.SetUnheard(n%16 > 8)
			n++
		}
		out, stats := s.run(t)
		if stats.Unheard < 30 || stats.Unheard > 70 || rms(out) < 0.1 {
			t.Errorf("%+v, %.3f", stats, rms(out))
		}
		for i := 1; i < len(out); i++ {
			if d := math.Abs(float64(out[i] - out[i-1])); d > 0.04 {
				t.Fatalf("phase %d: a step of %.3f at %.1f ms", phase, d, float64(i)/48)
			}
		}
	}
}
