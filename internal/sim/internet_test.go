package sim

import (
	"fmt"
	"testing"
	"time"
)

// TestInternetMisbehaves: real nodes find each other, talk, and are one room
// again after each thing that the simulated internet can do to them.
func TestInternetMisbehaves(t *testing.T) {
	bad := Wire{Delay: 30 * time.Millisecond, Jitter: 30 * time.Millisecond, Loss: Loss{Rate: 0.1, Burst: 100 * time.Millisecond}}
	s := Scenario{
		Name: "internet", Seed: 1, People: 5, Ground: Internet, Wire: Wire{Delay: 20 * time.Millisecond, Jitter: 5 * time.Millisecond},
		Clock: 23*time.Hour + 58*time.Minute,
	}
	at := time.Duration(0)
	do := func(acts ...Act) {
		for _, act := range acts {
			s.Steps = append(s.Steps, Step{at, act})
		}
	}
	talk := func(name string, who ...int) {
		do(Mark{name}, Talk{who})
		at += 3 * time.Second
		do(Talk{})
		at += 500 * time.Millisecond
		do(Hark{}, Mark{})
	}
	do(Skew{0, time.Hour}, Skew{1, -time.Hour}, Join{[]int{0, 1, 2, 3}}, Settle{Within: 10 * time.Second})
	talk("clocks", 0, 1, 2, 3)
	do(SetWires{bad}, Join{[]int{4}}, Settle{Within: 15 * time.Second})
	talk("bad wires", 0, 1, 2, 3, 4)
	// Over midnight of whose clock is right, and the half hour of no one's.
	do(Skew{2, 29 * time.Minute})
	at += 3 * time.Minute
	do(Settle{Within: 5 * time.Second})
	talk("another day", 2, 3)
	do(SetWires{Wire{Delay: 20 * time.Millisecond}}, Split{[][]int{{0, 1, bootstrap}}})
	at += 5 * time.Second
	talk("apart", 0, 2)
	at += 20 * time.Second
	do(Settle{Within: 5 * time.Second}, Kill{1}, Heal{}, Settle{Within: 20 * time.Second})
	talk("healed", 0, 2, 3, 4)
	do(JoinAgain{1}, Settle{Within: 10 * time.Second})
	talk("again", 0, 1, 2, 3, 4)
	s.For = at + time.Second
	r := Run(t, s)
	r.Report(t)
	for _, window := range []string{"clocks", "bad wires", "another day", "apart", "healed", "again"} {
		h, _, _ := r.Window(window).All()
		t.Logf("%-12s %+v", window, h)
		if h.Expected < 100 {
			t.Errorf("while %s only %d frames were expected", window, h.Expected)
		}
	}
	for _, done := range r.Settled {
		t.Logf("%+v", done)
	}
	t.Log(r.Took, r.Links, r.Longest)
}

// TestInternetChurn: random life on real nodes. The bootstrap stays in reach.
// In the round 39 of seed 2 nobody was dialled for minutes, because so many
// dials had failed (node's TestManyDead).
func TestInternetChurn(t *testing.T) {
	length := 20 * time.Minute
	if raceEnabled {
		length = 5 * time.Minute
	}
	for _, seed := range seeds(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			s := Churn(seed, 5, length)
			s.Ground, s.Made = Internet, fmt.Sprintf("%s on the ground Internet", s.Made)
			r := Run(t, s)
			r.Report(t)
			var worst time.Duration
			for _, done := range r.Settled {
				worst = max(worst, done.All)
			}
			if r.Lives < 5 || len(r.Settled) < 3 || r.Sealed < 500 {
				t.Errorf("%d lives in %d rounds, %d seals: little has happened", r.Lives, len(r.Settled), r.Sealed)
			}
			t.Logf("%v: %d lives, %d rounds, one room after at most %v; longest %v", r.Took.Round(time.Second), r.Lives, len(r.Settled), worst, r.Longest)
		})
	}
}
