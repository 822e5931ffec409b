package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// A room of 16 is cut in two for 30 s and heals.
const (
	splitPeople = 16
	splitAt     = 8 * time.Second
	splitFor    = 30 * time.Second
	// joinedWithin is how soon 16 who came within three seconds are one room.
	joinedWithin = 15 * time.Second
)

// splitScenario has half of the seeds change the epoch of one side or both
// while they are apart: somebody is killed and comes back.
func splitScenario(seed uint64, healWithin time.Duration) Scenario {
	random := rand.New(rand.NewPCG(seed, 1))
	s := Scenario{
		Name: "split", Seed: seed, People: splitPeople,
		Wire: Wire{
			Delay: time.Duration(5+random.IntN(60)) * time.Millisecond, Jitter: time.Duration(random.IntN(10)) * time.Millisecond,
			Loss: Loss{Rate: 0.02 * random.Float64(), Burst: time.Duration(random.IntN(80)) * time.Millisecond},
		},
	}
	add := func(at time.Duration, do Act) { s.Steps = append(s.Steps, Step{at, do}) }
	for who := range splitPeople {
		add(time.Duration(random.IntN(3000))*time.Millisecond, Join{[]int{who}})
	}
	slices.SortStableFunc(s.Steps, func(a, b Step) int { return int(a.At - b.At) })
	order := random.Perm(splitPeople)
	left, right := order[:splitPeople/2], order[splitPeople/2:]
	add(4*time.Second, Settle{Within: joinedWithin})
	add(splitAt-2*time.Second, Talk{[]int{left[0], right[0]}})
	add(splitAt, Split{[][]int{left}})
	for i, side := range [][]int{left, right} {
		if random.IntN(2) == 0 {
			at := splitAt + time.Duration(1000+random.IntN(15000))*time.Millisecond
			add(at, Kill{side[1+i]})
			add(at+time.Second, Join{[]int{side[1+i]}})
		}
	}
	slices.SortStableFunc(s.Steps, func(a, b Step) int { return int(a.At - b.At) })
	// What a side has left of the other is gone 15 s after the cut.
	add(splitAt+20*time.Second, Settle{Within: 5 * time.Second})
	add(splitAt+25*time.Second, Mark{"split"})
	add(splitAt+splitFor, Mark{"healing"})
	add(splitAt+splitFor, Heal{})
	add(splitAt+splitFor, Settle{Within: healWithin})
	last := splitAt + splitFor
	add(last, Mark{"healed"})
	add(last, Talk{order})
	add(last+time.Second, Talk{})
	s.For = last + 2*time.Second
	return s
}

// TestSplit: both halves talk, one epoch soon after they meet, nobody lost, no
// nonce twice.
func TestSplit(t *testing.T) {
	var mu sync.Mutex
	var one, voice []time.Duration // until one roster and epoch; until all are heard
	t.Run("seed", func(t *testing.T) {
		for _, seed := range seeds(100) {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				r := Run(t, splitScenario(seed, *flagHeal))
				r.Report(t)
				for _, window := range []string{"split", "healed"} {
					checkHeard(t, r, window)
				}
				if r.Sealed < 1000 || r.Keys < splitPeople || r.Handed < splitPeople {
					t.Errorf("only %d seals under %d keys and %d epochs handed were watched", r.Sealed, r.Keys, r.Handed)
				}
				last := r.Settled[len(r.Settled)-1]
				mu.Lock()
				defer mu.Unlock()
				one, voice = append(one, max(last.Roster, last.Epoch)), append(voice, last.Voice)
			})
		}
	})
	if len(one) == 0 {
		t.Fatal("nothing was played")
	}
	slices.Sort(one)
	slices.Sort(voice)
	t.Logf("%d seeds; one roster and epoch after: median %.1f s, worst %.1f s; all voices: median %.1f s, worst %.1f s", len(one),
		one[len(one)/2].Seconds(), one[len(one)-1].Seconds(), voice[len(voice)/2].Seconds(), voice[len(voice)-1].Seconds())
}

// checkHeard: each who talked in a window was heard by all who were there, but
// for what the wires lost.
func checkHeard(t *testing.T, r *Result, window string) {
	t.Helper()
	w := r.Window(window)
	for pair, p := range w.Pairs {
		if h := p.Heard(); h.Lost == h.Expected {
			t.Errorf("while %s person %d heard nothing of %d frames of person %d", window, pair[1], h.Expected, pair[0])
		}
	}
	h, _, _ := w.All()
	if most := 2*r.Scenario.Wire.Loss.Rate + 0.005; h.Expected == 0 || float64(h.Lost)/float64(h.Expected) > most {
		t.Errorf("while %s %d of %d frames were lost, of which the wires lose %.1f %%", window, h.Lost, h.Expected,
			100*r.Scenario.Wire.Loss.Rate)
	}
}
