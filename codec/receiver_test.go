package codec

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 42)) }

// On a clean path nothing is made up or silent, and the delay is one Pull and
// the least target at most, at every phase of frames to Pulls. Nothing is
// stretched but by one Pull, which glides away once the path is known.
func TestCleanPath(t *testing.T) {
	voice := speech(t)[:10*Rate]
	for _, length := range []int{480, 960, 1920, 2880} {
		c := EncoderConfig{FrameSamples: length}
		ref := throughOpus(t, c, voice)
		for _, phase := range []time.Duration{0, 1 * time.Millisecond, 4900 * time.Microsecond, 5100 * time.Microsecond, 9 * time.Millisecond} {
			t.Run(fmt.Sprintf("%dms/%v", length/48, phase), func(t *testing.T) {
				var worst time.Duration
				r := NewReceiver(ReceiverConfig{})
				s := simulation{encoder: c, voice: voice, phase: phase, receiver: r}
				s.each = func(time.Duration, []float32, Pulled) { worst = max(worst, r.Stats().Delay) }
				out, stats := s.run(t)
				if stats.Lost != 0 || stats.Skipped != 0 || stats.StretchedDuration > 5100*time.Microsecond || stats.ConcealedDuration != 0 {
					t.Errorf("%+v", stats)
				}
				if int(stats.OnTime) != len(voice)/length {
					t.Errorf("%d frames on time", stats.OnTime)
				}
				if worst > 10*ms || stats.Delay > 7*ms+100*time.Microsecond {
					t.Errorf("a delay of up to %v, in the end %v", worst, stats.Delay)
				}
				if phase == 0 || phase == 9*time.Millisecond {
					// A glide moves half a second by half a millisecond.
					wanted, worst := 0.999, 0.99
					if stats.StretchedDuration > 0 {
						wanted, worst = 0.98, 0.85
					}
					if median, least, _ := likeness(ref, out); median < wanted || least < worst {
						t.Errorf("likeness: median %.4f, least %.4f", median, least)
					}
				}
			})
		}
	}
}

// Hiccups of both schedulers on a busy machine: no lasting rise, hardly any
// damage, and the acceptance test's bar.
func TestHiccups(t *testing.T) {
	voice := speech(t)[:20*Rate]
	c := EncoderConfig{}
	ref := throughOpus(t, c, voice)
	for seed := range uint64(12) {
		rng := newRand(seed)
		hold := time.Duration(0)
		s := simulation{encoder: c, voice: voice, phase: time.Duration(seed) * 2 * time.Millisecond}
		s.path = func(_ int, sent time.Duration) []time.Duration {
			if rng.Float64() < 0.004 { // the sender's thread is held up
				hold = sent + time.Duration((5+15*rng.Float64())*1e6)
			}
			return []time.Duration{max(hold-sent, 0) + time.Duration(rng.ExpFloat64()*3e5)}
		}
		late := time.Duration(0)
		s.wake = func(int) time.Duration {
			if late = max(0, late-10*time.Millisecond); rng.Float64() < 0.004 {
				late = time.Duration((5 + 15*rng.Float64()) * 1e6)
			}
			return late
		}
		out, stats := s.run(t)
		median, least, shift := likeness(ref, out)
		t.Logf("seed %d: median %.3f, least %.3f; stretched %v, concealed %v, late %d, target %v, delay %v",
			seed, median, least, stats.StretchedDuration, stats.ConcealedDuration, stats.Late, stats.Target, stats.Delay)
		if median < 0.97 || least < 0.6 {
			t.Errorf("seed %d: likeness: median %.3f, least %.3f", seed, median, least)
		}
		if g := gaps(ref, out, shift); g >= 960 {
			t.Errorf("seed %d: silent for %d ms within speech", seed, g/48)
		}
		if stats.Delay > 35*time.Millisecond {
			t.Errorf("seed %d: delay %v", seed, stats.Delay)
		}
	}
}

// The table of what the receiver does, for reading: go test -run Table -v.
func TestTable(t *testing.T) {
	voice := speech(t)
	c := EncoderConfig{}
	ref := throughOpus(t, c, voice)
	t.Log("loss  jitter | target   mean delay  concealed  late   stretched  likeness")
	for _, loss := range []float64{0, 0.05, 0.20} {
		for _, jitter := range []time.Duration{0, 10 * time.Millisecond, 40 * time.Millisecond} {
			var delays, blocks float64
			r := NewReceiver(ReceiverConfig{})
			s := simulation{encoder: c, voice: voice, path: jittered(newRand(3), loss, jitter), receiver: r}
			lost, sent := 0, 0
			path := s.path
			s.path = func(i int, at time.Duration) []time.Duration {
				copies := path(i, at)
				if sent++; len(copies) == 0 {
					lost++
				}
				return copies
			}
			s.each = func(time.Duration, []float32, Pulled) {
				delays, blocks = delays+r.Stats().Delay.Seconds()*1000, blocks+1
			}
			out, stats := s.run(t)
			median, _, _ := likeness(ref, out)
			concealed := float64(stats.Concealed) / float64(stats.Played()) * 100
			t.Logf("%3.0f %%  %3d ms | %5.1f ms  %6.1f ms  %6.2f %%  %5.2f %%  %6.0f ms  %.3f", loss*100, jitter.Milliseconds(),
				stats.Target.Seconds()*1000, delays/blocks, concealed, float64(stats.Late)/float64(stats.Played())*100,
				stats.StretchedDuration.Seconds()*1000, median)
			if concealed > float64(lost)/float64(sent)*100+1.5 {
				t.Errorf("loss %.0f %%, jitter %v: concealed %.2f %%", loss*100, jitter, concealed)
			}
			if most := jitter.Seconds()*1000 + 15; delays/blocks > most {
				t.Errorf("loss %.0f %%, jitter %v: mean delay %.1f ms, more than %.0f", loss*100, jitter, delays/blocks, most)
			}
		}
	}
}
