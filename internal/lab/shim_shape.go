package lab

import (
	"hash/fnv"
	"math/rand/v2"
	"time"
)

// Shape is what a line does to the packets of each direction. The zero value
// does nothing.
type Shape struct {
	Delay  time.Duration // what every packet takes
	Jitter time.Duration // each takes up to this much more, evenly spread
	// InOrder holds a packet until the one before it has gone, as one queue on
	// the way does; otherwise they overtake each other, as on several ways.
	InOrder bool
	// Burst is how long all is lost, Every how long it is from one burst to the
	// next: a half to one and a half of it, so Burst/Every is the part lost.
	Burst, Every time.Duration
}

// shaper decides what becomes of the packets of one direction. The n-th packet
// takes what the seed says of n, and bursts come when the seed says, whatever
// is sent. It reads no clock; at is the time since the line was made, and never
// goes back.
type shaper struct {
	shape  Shape
	jitter *rand.Rand
	bursts *rand.Rand
	from   time.Duration // the burst that is, or comes next
	last   time.Duration // the latest that a packet leaves, if in order
}

// newShaper seeds a direction by its name.
func newShaper(shape Shape, seed uint64, direction string) *shaper {
	h := fnv.New64a()
	_, _ = h.Write([]byte(direction)) // never fails
	s := &shaper{
		shape:  shape,
		jitter: rand.New(rand.NewPCG(seed, h.Sum64())),
		bursts: rand.New(rand.NewPCG(seed, ^h.Sum64())),
	}
	s.from = s.gap()
	return s
}

// gap is how long it is from one burst's beginning to the next one's.
func (s *shaper) gap() time.Duration {
	if s.shape.Burst <= 0 {
		return 0
	}
	return s.shape.Every/2 + time.Duration(s.bursts.Int64N(int64(s.shape.Every)+1))
}

// pass is when a packet that comes at a time leaves, unless it is lost.
func (s *shaper) pass(at time.Duration) (leaves time.Duration, lost bool) {
	leaves = at + s.shape.Delay
	if s.shape.Jitter > 0 {
		leaves += time.Duration(s.jitter.Int64N(int64(s.shape.Jitter) + 1))
	}
	if s.burst(at) {
		return 0, true
	}
	if s.shape.InOrder {
		leaves = max(leaves, s.last)
		s.last = leaves
	}
	return leaves, false
}

func (s *shaper) burst(at time.Duration) bool {
	if s.shape.Burst <= 0 {
		return false
	}
	for at >= s.from+s.shape.Burst {
		s.from += s.gap()
	}
	return at >= s.from
}

// heldPacket is one on its way.
type heldPacket struct {
	leaves time.Duration
	number uint64 // of those that leave at once, who came first
	bytes  []byte
}

func (p heldPacket) before(q heldPacket) bool {
	return p.leaves < q.leaves || p.leaves == q.leaves && p.number < q.number
}

// held are the packets on their way, a heap: who leaves first is at 0.
type held []heldPacket

func (h *held) push(p heldPacket) {
	*h = append(*h, p)
	all := *h
	for i := len(all) - 1; i > 0; {
		parent := (i - 1) / 2
		if !all[i].before(all[parent]) {
			break
		}
		all[i], all[parent] = all[parent], all[i]
		i = parent
	}
}

func (h *held) pop() heldPacket {
	all := *h
	first, last := all[0], len(all)-1
	all[0], all[last] = all[last], heldPacket{}
	all = all[:last]
	for i := 0; ; {
		least := i
		for _, child := range []int{2*i + 1, 2*i + 2} {
			if child < last && all[child].before(all[least]) {
				least = child
			}
		}
		if least == i {
			break
		}
		all[i], all[least] = all[least], all[i]
		i = least
	}
	*h = all
	return first
}
