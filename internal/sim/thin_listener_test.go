package sim

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// thinListenerPath is what each packet takes at least.
const thinListenerPath = 5 * time.Millisecond

// thinListener is one talker and four listeners, all 5 ms apart; the way into
// the last one's home is that thin and loses as much.
func thinListener(seed uint64, downlink Uplink, loss float64, look func(*Present)) Scenario {
	const path, last = thinListenerPath, 4
	steps := []Step{
		{0, Join{[]int{0, 1, 2, 3, last}}},
		{time.Second, Settle{Within: 10 * time.Second}},
		{time.Second, SetWire{0, last, Wire{Delay: path, Jitter: 2 * time.Millisecond, Loss: Loss{Rate: loss}}}},
		{time.Second, SetDownlink{last, downlink}},
		{time.Second, Talk{[]int{0}}},
		{12 * time.Second, Mark{"talk"}},
	}
	for at := 12 * time.Second; at < 42*time.Second; at += 500 * time.Millisecond {
		steps = append(steps, Step{at, Look{look}})
	}
	return Scenario{
		Name: "thin listener", Seed: seed, People: last + 1, Ground: Internet, Wire: Wire{Delay: path, Jitter: 2 * time.Millisecond},
		Steps: append(steps,
			Step{42 * time.Second, Talk{}},
			Step{43 * time.Second, SetDownlink{last, Uplink{}}},
			Step{43 * time.Second, Settle{Within: 20 * time.Second}},
		),
		For: 44 * time.Second,
	}
}

// TestThinListener: what somebody behind a thin and lossy line cannot take costs
// the others nothing: no frame, no delay, no repair, no thin flow. Where base is
// too much for that line the talker makes thin for it beside base for them, and
// while it does their frames may be as short as without.
func TestThinListener(t *testing.T) {
	var both atomic.Int64 // looks at which there were two encodings
	t.Run("all", func(t *testing.T) { thinListeners(t, &both) })
	if both.Load() == 0 && !raceEnabled {
		t.Error("nobody ever had the thin flow: the test sees nothing")
	}
}

func thinListeners(t *testing.T, both *atomic.Int64) {
	for _, test := range []struct {
		name     string
		downlink Uplink
		loss     float64
	}{
		{"none", Uplink{}, 0},
		{"100 kbit/s, lossy", Uplink{Rate: 100_000, Queue: 300 * time.Millisecond}, 0.1},
		{"150 kbit/s, lossy", Uplink{Rate: 150_000, Queue: 300 * time.Millisecond}, 0.1},
		{"very lossy", Uplink{}, 0.3},
	} {
		for _, seed := range seeds(3) {
			t.Run(fmt.Sprint(test.name, ", seed ", seed), func(t *testing.T) {
				t.Parallel()
				looks, short, thin := 0, 0, 0
				r := Run(t, thinListener(seed, test.downlink, test.loss, func(p *Present) {
					looks++
					f := p.Room(0).Flows()
					if f.Short {
						short++
					}
					if last := p.Room(4).Self(); f.Thin > 0 {
						thin++
						both.Add(1)
						// A fourth is a link of the last one that is ending.
						if f.Base < 3 || f.Base == 3 && !f.Short {
							t.Errorf("while the last one takes thin the others have %+v", f)
						}
						for _, l := range p.Room(0).Links() {
							if l.Member != last && l.Depth > 0 {
								t.Errorf("frames are sent %d times again to %v", l.Depth, l.Member)
							}
						}
					}
				}))
				r.Report(t)
				w := r.Window("talk")
				for who := 1; who < 4; who++ {
					p := w.Pairs[[2]int{0, who}]
					h := p.Heard()
					if h.Expected < 1400 || h.Lost > 0 || h.Repaired > 0 || h.Thin > 0 || p.First.Quantile(0.99) > thinListenerPath+3*time.Millisecond {
						t.Errorf("listener %d: %+v, 99 of 100 within %v", who, h, p.First.Quantile(0.99))
					}
				}
				last := w.Pairs[[2]int{0, 4}]
				h := last.Heard()
				t.Logf("the last one: %d lost, %d repaired, %d thin of %d, p95 %v; frames may be short in %d of %d looks, two encodings in %d; %v",
					h.Lost, h.Repaired, h.Thin, h.Expected, last.First.Quantile(0.95), short, looks, thin, r.Links)
				if test.name == "none" && short < looks {
					t.Errorf("with good lines alone frames may be short in %d of %d looks", short, looks)
				}
				if h.Lost > h.Expected*3/4 {
					t.Errorf("the last one hears next to nothing: %+v", h)
				}
			})
		}
	}
}
