package room

import (
	"math/rand/v2"
	"testing"
)

// slowWindow is the replay window as one would explain it: a set, and how far
// back one looks. Counters are 64 bits wide here, so nothing wraps.
type slowWindow struct {
	taken   map[uint64]bool
	highest uint64
}

func (w *slowWindow) accept(counter uint64) bool {
	switch {
	case len(w.taken) == 0:
	case counter+replaySize <= w.highest, w.taken[counter]:
		return false
	}
	w.taken[counter] = true
	w.highest = max(w.highest, counter)
	return true
}

func TestReplayWindowAgainstModel(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 200 {
		// Begin near the wrap often; the model counts on beyond 2^32.
		at := 1<<32 + uint64(random.Uint32())
		if round%2 == 0 {
			at = 1<<33 - uint64(random.IntN(3000))
		}
		var w replayWindow
		slow := slowWindow{taken: map[uint64]bool{}}
		for step := range 2000 {
			var c uint64
			switch random.IntN(20) {
			case 0: // a jump
				c = at + uint64(random.IntN(5000))
			case 1: // the edges of the window
				c = slow.highest - replaySize - 2 + uint64(random.IntN(5))
			case 2, 3, 4:
				c = at - uint64(random.IntN(2*replaySize))
			case 5: // a word or the whole window ahead
				c = at + []uint64{63, 64, 65, replaySize - 1, replaySize, replaySize + 1}[random.IntN(6)]
			default:
				c = at + uint64(random.IntN(3))
			}
			if step == 0 {
				c = at
			}
			at = max(at, c)
			seen := w.seen(uint32(c))
			want := slow.accept(c)
			if got := w.accept(uint32(c)); got != want || seen == want {
				t.Fatalf("round %d step %d counter %d (highest %d): accept %v, seen %v, model %v", round, step, c, slow.highest, got, seen, want)
			}
		}
	}
}

func TestReplayWindowEdges(t *testing.T) {
	for _, start := range []uint32{0, 1, replaySize, 1<<31 - 1, 1 << 31, 0xfffffc00, 0xffffffff} {
		var w replayWindow
		for i, c := range []struct {
			counter uint32
			ok      bool
		}{
			{start, true},
			{start, false},
			{start + 1, true},
			{start - 1, true}, // older, but within the window
			{start - replaySize + 2, true},
			{start - replaySize + 1, false}, // just outside
			{start + 1<<31, true},           // 2^31-1 ahead
			{start, false},
			{start + 1, false}, // 2^31-1 behind
			{start + 1<<31 - 1, true},
			{start + 1<<31 - replaySize + 1, true},
			{start + 1<<31 - replaySize, false},
			{start + 1<<31, false},
		} {
			if got := w.accept(c.counter); got != c.ok {
				t.Errorf("from %d, step %d: %v", start, i, got)
			}
		}
	}
}

// seen never changes what is accepted.
func TestReplaySeenIsPure(t *testing.T) {
	var w replayWindow
	w.accept(100)
	before := w
	for c := range uint32(5000) {
		w.seen(c)
	}
	if w != before {
		t.Error("seen has changed the window")
	}
}

func BenchmarkReplayWindow(b *testing.B) {
	var w replayWindow
	for c := range uint32(b.N) {
		w.accept(c)
	}
}
