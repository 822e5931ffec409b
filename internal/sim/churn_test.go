package sim

import (
	"fmt"
	"testing"
	"time"
)

// keptSeeds failed once:
//
//	42   who had gone could follow a ratchet
//	58   an entry that a third one passed on made a dead one live for 14 s more
//	137, 165   the same; and the in-memory ground healed a split when one part had died out
//	507, 515, 795   the only one who had seen somebody go died before the next change, a ratchet
//
// Seeds 3 and 15 (no session for minutes with who came back at once) are among
// those that are played anyway.
var keptSeeds = []uint64{42, 58, 137, 165, 507, 515, 795}

// TestChurn: whatever is done to a room of few, it becomes one again, and what
// must never happen does not. Each seed plays an hour of the steps' clock.
func TestChurn(t *testing.T) {
	n, length := 20, time.Hour
	if raceEnabled {
		length = 15 * time.Minute
	}
	if *flagHours > 0 {
		n = max(1, int(*flagHours))
	}
	play := seeds(n)
	if *flagSeeds == 0 && *flagHours == 0 && !raceEnabled && !testing.Short() {
		play = append(play, keptSeeds...)
	}
	for _, seed := range play {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			begun := time.Now()
			r := Run(t, Churn(seed, 8, length))
			r.Report(t)
			if r.Lives < 5 || len(r.Settled) < 3 || r.Sealed < 500 {
				t.Errorf("%d lives in %d rounds, %d seals: little has happened", r.Lives, len(r.Settled), r.Sealed)
			}
			var worst time.Duration
			for _, s := range r.Settled {
				worst = max(worst, s.All)
			}
			t.Logf("%v in %v: %d lives, %d rounds, one room after at most %v, %d seals under %d keys, %d epochs handed; longest %v", r.Took.Round(time.Second),
				time.Since(begun).Round(time.Millisecond), r.Lives, len(r.Settled), worst, r.Sealed, r.Keys, r.Handed, r.Longest)
		})
	}
}
