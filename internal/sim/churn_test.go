package sim

import (
	"fmt"
	"testing"
	"time"
)

// TestChurn: whatever is done to a room of few, it becomes one again, and what
// must never happen does not. Each seed plays an hour of the steps' clock.
func TestChurn(t *testing.T) {
	n, length := 8, time.Hour
	if raceEnabled {
		length = 15 * time.Minute
	}
	if *flagHours > 0 {
		n = max(1, int(*flagHours))
	}
	for _, seed := range seeds(n) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			begun := time.Now()
			r := Run(t, Churn(seed, 8, length))
			r.Report(t)
			var virtual, worst time.Duration
			for _, s := range r.Settled {
				virtual, worst = s.At, max(worst, s.All)
			}
			if r.Lives < 5 || len(r.Settled) < 3 || r.Sealed < 500 {
				t.Errorf("%d lives in %d rounds, %d seals: little has happened", r.Lives, len(r.Settled), r.Sealed)
			}
			t.Logf("%v in %v: %d lives, %d rounds, one room after at most %v, %d seals under %d keys, %d epochs handed",
				virtual.Round(time.Second), time.Since(begun).Round(time.Millisecond), r.Lives, len(r.Settled), worst, r.Sealed, r.Keys, r.Handed)
		})
	}
}
