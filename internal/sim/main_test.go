package sim

import (
	"flag"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// More than the tests need every time:
//
//	go test ./internal/sim -run TestSplit -sim.seeds 1000
//	go test ./internal/sim -run TestChurn -sim.hours 100 -sim.first 17
var (
	flagSeeds = flag.Int("sim.seeds", 0, "how many seeds each test plays; 0: as many as it takes by itself")
	flagFirst = flag.Uint64("sim.first", 0, "the first seed")
	flagHeal  = flag.Duration("sim.heal", 5*time.Second, "how soon a room that was split must be one; promised are 5 s")
	flagHours = flag.Float64("sim.hours", 0, "how many virtual hours of churn; 0: 20, with the race detector few")
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// seeds is what to play: n seeds, a part of it where time is short.
func seeds(n int) []uint64 {
	switch {
	case raceEnabled:
		n = (n + 29) / 30
	case testing.Short():
		n = (n + 9) / 10
	}
	if *flagSeeds > 0 {
		n = *flagSeeds
	}
	out := make([]uint64, n)
	for i := range out {
		out[i] = *flagFirst + uint64(i)
	}
	return out
}
