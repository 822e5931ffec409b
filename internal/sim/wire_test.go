package sim

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// TestLoss: dice lose what their wire says, in runs as long as it says, however
// often packets are sent.
func TestLoss(t *testing.T) {
	for _, loss := range []Loss{{}, {Rate: 0.05}, {Rate: 0.4}, {Rate: 0.05, Burst: 100 * time.Millisecond}, {Rate: 0.3, Burst: 300 * time.Millisecond}} {
		for _, every := range []time.Duration{time.Millisecond, 20 * time.Millisecond} {
			t.Run(fmt.Sprint(loss, every), func(t *testing.T) {
				d := newDice(1, 0, 1, Wire{Loss: loss})
				const n = 400_000
				lost, runs, before := 0, 0, false
				now := time.Unix(0, 0)
				for range n {
					now = now.Add(every)
					is := d.lost(now)
					if is {
						lost++
						if !before {
							runs++
						}
					}
					before = is
				}
				if runs == 0 {
					if loss.Rate > 0 {
						t.Error("lost nothing")
					}
					return
				}
				tolerance := 4 / math.Sqrt(float64(runs)) // runs are what is independent
				if rate := float64(lost) / n; math.Abs(rate-loss.Rate) > tolerance*loss.Rate {
					t.Errorf("lost %.3f", rate)
				}
				// A run ends with a packet that passes: with probability
				// 1-Rate where each is for itself, else where the chain has
				// left its bad state and not come back.
				want := 1 / (1 - loss.Rate)
				if loss.Burst > 0 {
					forget := math.Exp(-float64(every) / (float64(loss.Burst) * (1 - loss.Rate)))
					want = 1 / ((1 - loss.Rate) * (1 - forget))
				}
				if run := float64(lost) / float64(runs); math.Abs(run-want) > tolerance*want {
					t.Errorf("runs of %.2f packets, want %.2f", run, want)
				}
			})
		}
	}
}

// TestDiceAreByWire: one seed throws the same for one direction, and something
// else for another.
func TestDiceAreByWire(t *testing.T) {
	throw := func(seed uint64, from, to int) (s string) {
		w := newWires(seed, Wire{Delay: time.Millisecond, Jitter: time.Second})
		for range 8 {
			s += fmt.Sprint(w.between(from, to).delay(), " ")
		}
		return s
	}
	once := throw(1, 2, 3)
	if again := throw(1, 2, 3); again != once {
		t.Error("the same wire threw something else")
	}
	for _, other := range []string{throw(1, 3, 2), throw(2, 2, 3), throw(1, 2, 4)} {
		if other == once {
			t.Error("another wire threw the same")
		}
	}
}
