package room

import (
	"math/rand/v2"
	"testing"
	"time"

	"teahouse/internal/mesh"
)

// paced is a plane of n links into which base frames of 20 ms have been spoken.
func paced(t *testing.T, n int) (*plane, []*link) {
	p, links, _ := flowStage(t, n)
	for i := range 3 {
		speakFlow(t, p.speaker, FlowBase, uint32(i*960))
	}
	return p.speaker, links
}

// wanting is the wish of a link that loses so much by chance.
func wanting(loss float64, path mesh.Path, stats mesh.LinkStats) wish {
	r := Repair{frames: 1000, losses: 1000 * loss}
	return newWish(&r, r.needed(loss), path, &stats)
}

// TestAllotWithoutLimits: each gets what it wants; on a stream, which loses
// nothing, that is nothing.
func TestAllotWithoutLimits(t *testing.T) {
	p, links := paced(t, 3)
	now := time.Now()
	p.allot(now, links[0], wanting(0.3, mesh.Path{Carrier: mesh.Datagram}, mesh.LinkStats{}), 0)
	p.allot(now, links[1], wanting(0.05, mesh.Path{Carrier: mesh.Datagram}, mesh.LinkStats{}), 0)
	p.allot(now, links[2], wanting(0.3, mesh.Path{Carrier: mesh.Stream}, mesh.LinkStats{}), 0)
	for i, want := range []int32{3, 1, 0} {
		if got := links[i].depth.Load(); got != want || links[i].wantThin.Load() {
			t.Errorf("link %d: depth %d, want %d", i, got, want)
		}
	}
}

// TestAllotByPath: a link gives up repair, and then base, for its own path
// alone; it comes back when there is more room than base needs, later each time.
func TestAllotByPath(t *testing.T) {
	p, links := paced(t, 2)
	now := time.Now()
	say := func(d time.Duration, permitted float64) {
		for end := now.Add(d); now.Before(end); now = now.Add(reportEvery) {
			p.allot(now, links[0], wanting(0.3, mesh.Path{}, mesh.LinkStats{Permitted: uint64(permitted)}), 0)
			p.allot(now, links[1], wanting(0.3, mesh.Path{}, mesh.LinkStats{}), 0)
		}
		if links[1].depth.Load() != 3 || links[1].wantThin.Load() {
			t.Fatal("a thin link costs another one something")
		}
	}
	base, two := p.cost(FlowBase, 0), p.cost(FlowBase, 2)
	if base < 6_000 || base > 7_000 || two < 2.4*base {
		t.Fatalf("base costs %.0f bytes a second, with depth 2 %.0f", base, two)
	}
	if say(time.Second, two+1); links[0].depth.Load() != 2 {
		t.Errorf("depth %d where there is room for 2", links[0].depth.Load())
	}
	for round := range 3 {
		if say(thinAfter-reportEvery, base-1); links[0].depth.Load() != 0 || links[0].wantThin.Load() {
			t.Errorf("depth %d, thin %v while it may be a moment", links[0].depth.Load(), links[0].wantThin.Load())
		}
		if say(2*reportEvery, base-1); !links[0].wantThin.Load() {
			t.Error("base where there is no room for it")
		}
		begun := now
		for links[0].wantThin.Load() && now.Sub(begun) < time.Hour {
			say(reportEvery, 2*base)
		}
		if took, least := now.Sub(begun), thinHold<<round; took < least-2*reportEvery || took > least+2*reportEvery {
			t.Errorf("round %d: back after %v, want %v", round, took, least)
		}
	}
}

// TestAllotShares: with too little for all, the copies go first that help
// least, and nobody's wish costs more than what there is; where even base has no
// room, thin makes some.
func TestAllotShares(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		p, links := paced(t, 1+dice.IntN(12))
		loss := make([]float64, len(links))
		for i := range loss {
			loss[i] = dice.Float64() * 0.4
		}
		shared := p.cost(FlowBase, 0) * float64(len(links)) * (0.7 + 2*dice.Float64())
		now := time.Now()
		for range 20 {
			for i, l := range links {
				now = now.Add(reportEvery)
				p.allot(now, l, wanting(loss[i], mesh.Path{}, mesh.LinkStats{}), uint64(shared))
			}
		}
		total, thin := 0.0, 0
		for i, l := range links {
			depth, flow := int(l.depth.Load()), FlowBase
			if l.wantThin.Load() {
				flow, thin = FlowThin, thin+1
			}
			total += p.cost(flow, depth)
			for j, o := range links { // who has more copies, needs them at least as much
				d := int(o.depth.Load())
				if d > depth && depth < l.wish.depth && depth == 0 && loss[j] < loss[i] && l.wish.left[0]-l.wish.left[1] > o.wish.left[d-1]-o.wish.left[d]+1e-9 {
					t.Errorf("%.2f lost: depth %d, %.2f lost: depth %d", loss[i], depth, loss[j], d)
				}
			}
		}
		if total > shared+1 {
			t.Errorf("%.0f bytes a second of %.0f", total, shared)
		}
		if room := shared > p.cost(FlowBase, 0)*float64(len(links)); room && thin > 0 {
			t.Errorf("%d of %d links thin where base fits", thin, len(links))
		}
	}
}
