package sim

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"teahouse/internal/mesh"
	"teahouse/room"
)

// networkBudget is how much longer than its path 95 of 100 frames may take
// through the network layer (DESIGN section 9).
const networkBudget = 5 * time.Millisecond

// TestNetworkLayer: what voice datagrams add to the path, at losses that
// fail QUIC's own (LIBRARIES: 1,046 ms at 40 %).
func TestNetworkLayer(t *testing.T) {
	talk := 20 * time.Second
	if testing.Short() || raceEnabled {
		talk = 5 * time.Second
	}
	var table strings.Builder
	fmt.Fprintf(&table, "%6s %6s %5s | %8s %8s %8s | %8s %8s | %8s %8s %7s\n", "path", "loss", "depth",
		"p50", "p95", "p99", "any p95", "any p99", "lost 1st", "lost", "longest")
	for _, path := range []time.Duration{20 * time.Millisecond, 60 * time.Millisecond, 150 * time.Millisecond} {
		for _, loss := range []float64{0.05, 0.33, 0.40} {
			for depth := range 4 {
				name := fmt.Sprintf("%v, %.0f %%, depth %d", path, 100*loss, depth)
				s := NetworkLayer(path, Loss{Rate: loss}, depth, talk)
				var links []room.LinkInfo
				s.Steps = append(s.Steps, Step{s.For, Look{func(p *Present) { links = p.Room(0).Links() }}})
				r := Run(t, s)
				r.Report(t)
				h, first, any := r.Window("talk").All()
				share := func(n int) string { return fmt.Sprintf("%.2f %%", 100*float64(n)/float64(h.Expected)) }
				fmt.Fprintf(&table, "%6v %6.2f %5d | %8v %8v %8v | %8v %8v | %8s %8s %7d\n", path, loss, depth,
					first.Quantile(0.5), first.Quantile(0.95), first.Quantile(0.99), any.Quantile(0.95), any.Quantile(0.99),
					share(h.Repaired+h.Lost), share(h.Lost), h.Longest)
				if late := first.Quantile(0.95) - path; late > networkBudget {
					t.Errorf("%s: 95 of 100 frames take up to %v longer than the path", name, late)
				}
				if loss >= 0.4 && broken(r) {
					t.Logf("%s: the session broke on the way: %v", name, r.Links)
					continue
				}
				if len(links) != 1 || links[0].Depth != depth || links[0].Path.Carrier != mesh.Datagram {
					t.Errorf("%s: not what was to be measured: %+v", name, links)
				}
				// Four standard deviations of what chance may do in so many frames.
				chance := func(p float64) float64 { return 4 * math.Sqrt(p*(1-p)/float64(h.Expected)) }
				if was := float64(h.Repaired+h.Lost) / float64(h.Expected); math.Abs(was-loss) > chance(loss) {
					t.Errorf("%s: %.1f %% of the packets were lost", name, 100*was)
				}
				// Losses of neighbours go together: their copies share packets.
				left, want := float64(h.Lost)/float64(h.Expected), math.Pow(loss, float64(depth+1))
				if left > want+2*chance(want)+0.005 {
					t.Errorf("%s: %.1f %% of the frames were lost in spite of repair, %.1f %% are expected", name, 100*left, 100*want)
				}
			}
		}
	}
	t.Log("\n" + table.String())
}

// broken tells whether a link ended before people left.
func broken(r *Result) bool {
	for what := range r.Links {
		if strings.HasPrefix(what, "down: ") && what != "down: left" {
			return true
		}
	}
	return false
}
