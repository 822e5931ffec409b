package sim

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// jittery is one talker and one listener on a path that loses every fifth packet
// and has each take up to a jitter longer, both ways.
func jittery(seed uint64, loss float64, jitter time.Duration, look func(*Present)) Scenario {
	wire := Wire{Delay: 60 * time.Millisecond, Jitter: jitter, Loss: Loss{Rate: loss}}
	steps := []Step{
		{0, Join{[]int{0, 1}}},
		{time.Second, Settle{Within: 10 * time.Second}},
		{time.Second, SetWires{wire}},
		{time.Second, Talk{[]int{0}}},
		{6 * time.Second, Mark{"talk"}},
	}
	for at := 6 * time.Second; at < 46*time.Second; at += 500 * time.Millisecond {
		steps = append(steps, Step{at, Look{look}})
	}
	return Scenario{
		Name: "jitter", Seed: seed, People: 2, Ground: Internet, Wire: Wire{Delay: 60 * time.Millisecond},
		Steps: append(steps, Step{46 * time.Second, Talk{}}), For: 47 * time.Second,
	}
}

// TestJitterIsNoQueue: round trips that differ by chance are no queue, and
// repair is not given up for them (60 ms of jitter and 20 % of loss are what
// docs/voice.md promises for, without node's rate control).
func TestJitterIsNoQueue(t *testing.T) {
	var expected, lost atomic.Int64
	t.Run("all", func(t *testing.T) { jitters(t, &expected, &lost) })
	if 100*lost.Load() > expected.Load() {
		t.Errorf("of %d frames %d were lost", expected.Load(), lost.Load())
	}
}

func jitters(t *testing.T, expected, lost *atomic.Int64) {
	for _, seed := range seeds(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			looks, queued, depth, depths := 0, 0, 0, map[int]int{}
			r := Run(t, jittery(seed, 0.2, 60*time.Millisecond, func(p *Present) {
				for _, l := range p.Room(0).Links() {
					looks++
					depth += l.Depth
					depths[l.Depth]++
					if l.Stats.Queued {
						queued++
					}
				}
			}))
			r.Report(t)
			h, _, late := r.Window("talk").All()
			t.Logf("%d lost, %d repaired of %d, p99 %v; depths %v, a queue in %d of %d looks; %v", h.Lost, h.Repaired, h.Expected, late.Quantile(0.99), depths, queued, looks, r.Links)
			expected.Add(int64(h.Expected))
			lost.Add(int64(h.Lost))
			// While the node learns how round trips differ it may err once.
			if h.Expected < 1900 || h.Lost > h.Expected/40 || depth < 2*looks || queued > 4 || broken(r) {
				t.Errorf("%+v", h)
			}
		})
	}
}
