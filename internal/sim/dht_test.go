package sim

import (
	"flag"
	"slices"
	"testing"
	"time"

	"teahouse/internal/mesh/meshtest"
)

// The figures of docs/measurements.md, The DHT at 200:
//
//	go test ./internal/sim -run TestDHT -dht.full -timeout 2h -v
var (
	flagDHT     = flag.Bool("dht.full", false, "TestDHT: 200 honest nodes and 100 hostile ones, instead of 30 and 15")
	flagMinutes = flag.Int("dht.minutes", 0, "TestDHT: virtual minutes of churn; 0: 5, or 15 with -dht.full")
)

// TestDHT: with 5 % of the nodes replaced each minute a newcomer finds somebody
// who is in the room, within the time that a room searches for, and still does
// where a third of all nodes are hostile: they know the network and everybody
// in it, call on each newcomer at once, and hear the key of a room as soon as
// anybody asks for it. They cannot choose where they stand by it, because it is
// another each hour. The last case has no bootstrap any more.
func TestDHT(t *testing.T) {
	plan := dhtPlan{seed: 1, honest: 30, rooms: 10, members: 3, searches: 4, churn: 0.05, minutes: 5}
	if *flagDHT {
		plan.honest, plan.rooms, plan.minutes = 200, 40, 15
	}
	if *flagMinutes > 0 {
		plan.minutes = *flagMinutes
	}
	for _, c := range []struct {
		name     string
		hostile  int
		orphaned bool
	}{
		{"calm", 0, false},
		{"hostile", plan.honest / 2, false},
		{"orphaned", plan.honest / 2, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := plan
			p.hostile, p.orphaned = c.hostile, c.orphaned
			meshtest.Bubble(t, func(t *testing.T) {
				w := newDHTWorld(p)
				if err := w.play(); err != nil {
					t.Fatal(err)
				}
				w.close()
				judgeDHT(t, w)
			})
		})
	}
}

// judgeDHT holds a world to the promise.
func judgeDHT(t *testing.T, w *dhtWorld) {
	t.Helper()
	var times, ends []time.Duration
	var before, junk []int
	for _, s := range w.searches {
		if s.honest > 0 {
			times, before = append(times, s.honest), append(before, s.before)
		}
		ends, junk = append(ends, s.took), append(junk, s.junk)
	}
	found := float64(len(times)) / float64(len(w.searches))
	t.Logf("%d honest, %d hostile, %d min: %d searches, %.1f %% found somebody", w.plan.honest, w.plan.hostile, w.plan.minutes, len(w.searches), 100*found)
	t.Logf("after p50 %v, p95 %v, p99 %v, at most %v; the search had ended after p50 %v, p95 %v", quantile(times, 0.5), quantile(times, 0.95),
		quantile(times, 0.99), quantile(times, 1), quantile(ends, 0.5), quantile(ends, 0.95))
	t.Logf("providers that are none: told of before p50 %d, p95 %d, in all p50 %d, p95 %d; questions that hostile nodes got %v",
		quantile(before, 0.5), quantile(before, 0.95), quantile(junk, 0.5), quantile(junk, 0.95), w.ring.asked)
	least, sample := 0.99, w.plan.honest/10*w.plan.minutes
	if !*flagDHT {
		least = 0.95 // of too few to tell 99 %
	}
	if len(w.searches) < sample {
		t.Fatalf("only %d searches", len(w.searches))
	}
	if found < least {
		t.Errorf("%.1f %% of the searches found somebody, want %.0f %%", 100*found, 100*least)
	}
	if late := quantile(times, 0.95); late > 5*time.Second {
		t.Errorf("the p95 of them took %v", late)
	}
	for how, n := range w.ring.asked {
		if w.plan.hostile > 0 && n == 0 {
			t.Errorf("nobody asked those of kind %d: the test tests nothing", how)
		}
	}
}

// quantile is that of what is not sorted yet; zero of nothing.
func quantile[T int | time.Duration](v []T, q float64) (out T) {
	if len(v) == 0 {
		return out
	}
	v = slices.Clone(v)
	slices.Sort(v)
	return v[int(q*float64(len(v)-1))]
}
