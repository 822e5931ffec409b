package room

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// repaired lets a voice of 50 frames a second pass over a path for a while,
// with reports as a link has them, and gives the part of frames that no copy
// brought, and the mean depth.
func repaired(r *Repair, seconds int, queued bool, lost func(frame int) bool) (left, depth float64) {
	var heard Reception
	now := time.Unix(1000, 0)
	heard.Frame(0, 0, false, 0) // the first one always comes
	got := make([]bool, 50*seconds)
	for i := 1; i < len(got); i++ {
		depth += float64(r.depth) / float64(len(got))
		if !lost(i) {
			for back := min(r.depth, i); back >= 0; back-- { // oldest first, as a packet is opened
				if j := i - back; !got[j] {
					got[j] = true
					heard.Frame(uint32(j), uint32(j)*960, back > 0, time.Duration(i)*20*time.Millisecond)
				}
			}
		}
		if i%25 == 0 {
			now = now.Add(reportEvery)
			r.Report(now, heard.Tally(), queued)
		}
	}
	missing := 0
	for _, ok := range got[len(got)/4 : len(got)-maxDepth] { // once it has settled
		if !ok {
			missing++
		}
	}
	return float64(missing) / (0.75*float64(len(got)) - maxDepth), depth
}

// TestRepairOfRandomLoss: up to 31 % under 1 % stays lost, with no more than is
// needed for that; above, what the highest depth gives.
func TestRepairOfRandomLoss(t *testing.T) {
	for _, tt := range []struct{ loss, least, most float64 }{
		{0, 0, 0}, {0.001, 0, 0.1}, {0.03, 0.9, 1.3}, {0.05, 0.9, 1.6}, {0.12, 1.7, 2.5}, {0.20, 2.3, 3}, {0.30, 2.8, 3}, {0.50, 2.8, 3},
	} {
		dice := rand.New(rand.NewPCG(1, uint64(1000*tt.loss)))
		var r Repair
		left, depth := repaired(&r, 200, false, func(int) bool { return dice.Float64() < tt.loss })
		if allowed := max(0.01, 1.15*math.Pow(tt.loss, maxDepth+1)); left > allowed || depth < tt.least || depth > tt.most {
			t.Errorf("%.1f %% loss: %.2f %% stay lost, depth %.2f on average", 100*tt.loss, 100*left, depth)
		}
		if repaired(&r, 40, false, func(int) bool { return false }); r.depth != 0 {
			t.Errorf("40 s after %.1f %% loss: depth %d", 100*tt.loss, r.depth)
		}
	}
}

// TestRepairOfBursts: bursts that a depth can bridge are bridged, those of up
// to a dozen frames are shortened, and of longer ones nothing is made.
func TestRepairOfBursts(t *testing.T) {
	for _, tt := range []struct {
		frames            int
		left, least, most float64 // part that stays lost; depth
	}{
		{1, 0, 0.8, 1.1}, {2, 0, 1.8, 3}, {3, 0, 2.5, 3}, {6, 0.03, 2.8, 3}, {10, 0.07, 2.8, 3}, {20, 0.2, 0, 0.9},
	} {
		var r Repair
		left, depth := repaired(&r, 200, false, func(i int) bool { return i%100 < tt.frames && i > 100 })
		if math.Abs(left-tt.left) > 0.003 || depth < tt.least || depth > tt.most {
			t.Errorf("bursts of %d frames: %.2f %% stay lost, depth %.2f on average", tt.frames, 100*left, depth)
		}
	}
}

// TestRepairBelievesTheFirstReport: half a second of loss is enough to answer it.
func TestRepairBelievesTheFirstReport(t *testing.T) {
	var r Repair
	now := time.Unix(0, 0)
	if got := r.Report(now, Tally{Received: 20, Lost: 5, Unaided: 5, MeanBurst: 20}, false); got != 3 {
		t.Errorf("20 %% in the first report: depth %d", got)
	}
	r = Repair{}
	if got := r.Report(now, Tally{Received: 1e6, Lost: 3e5, Unaided: 3e5}, false); got != 0 {
		t.Errorf("the past of another link: depth %d", got)
	}
	if got := r.Report(now, Tally{Received: 1e6 + 18, Lost: 3e5 + 7, Unaided: 3e5 + 7}, false); got != 3 {
		t.Errorf("the report after it: depth %d", got)
	}
	r.Skip()
	before := r
	if got := r.Report(now, Tally{Received: 2e6, Lost: 2e6, Unaided: 2e6}, false); got != 3 || r.losses != before.losses {
		t.Errorf("counts of another flow: depth %d", got)
	}
	if got := r.Report(now, Tally{Received: 3}, false); got != 3 || r.frames != before.frames { // the far side begins anew
		t.Errorf("a restart of the far side: depth %d", got)
	}
}

// TestRepairDoesNotFeedAQueue: what is lost to a queue raises nothing at first.
// A queue that stays is somebody else's, and then losses are losses.
func TestRepairDoesNotFeedAQueue(t *testing.T) {
	var r Repair
	now := time.Unix(0, 0)
	var sum Tally
	say := func(queued bool, lost uint32) int {
		now = now.Add(reportEvery)
		sum.Received, sum.Lost, sum.Unaided = sum.Received+25-lost, sum.Lost+lost, sum.Unaided+lost
		return r.Report(now, sum, queued)
	}
	for range 6 {
		say(false, 0)
	}
	for i := range int(depthQueued / reportEvery) {
		if got := say(true, 10); got != 0 {
			t.Fatalf("depth %d by report %d of a queue", got, i)
		}
	}
	if say(true, 10); r.depth == 0 {
		t.Error("a queue that stays explains losses for ever")
	}
	r, sum = Repair{}, Tally{}
	for range 10 {
		say(false, 5)
	}
	before := r.depth
	for range 4 {
		say(true, 0)
	}
	if r.depth != before || before != 3 {
		t.Errorf("a queue took the depth from %d to %d", before, r.depth)
	}
}
