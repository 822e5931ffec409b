package sim

import (
	"math/rand/v2"
	"sync"
	"time"
)

// Wire is the way from one person to another, in one direction.
type Wire struct {
	Delay time.Duration // one way
	// Jitter is added to Delay per packet, uniform in [0, Jitter): packets
	// overtake each other where it is longer than their distance.
	Jitter time.Duration
	Loss   Loss
}

// Loss is how packets vanish: the Gilbert model, with a good state in which
// none does and a bad one in which all do (E. N. Gilbert, Capacity of a
// burst-noise channel, 1960; RFC 3611 section 4.7.2 has its terms).
type Loss struct {
	// Rate is the part of packets that vanish in the long run, 0 to below 1.
	Rate float64
	// Burst is the mean length of a run of losses, in packets. Up to
	// 1/(1-Rate), which is what chance makes, losses are independent.
	Burst float64
}

// inBursts tells whether l is anything else than independent.
func (l Loss) inBursts() bool { return l.Rate > 0 && l.Burst > 1/(1-l.Rate) }

// dice throw for the packets of one direction. They may be used from several
// goroutines at once.
type dice struct {
	mu   sync.Mutex
	wire Wire
	bad  bool
	rng  *rand.Rand
}

func newDice(seed uint64, from, to int, wire Wire) *dice {
	return &dice{wire: wire, rng: rand.New(rand.NewPCG(seed, uint64(uint32(from))<<32|uint64(uint32(to))))}
}

func (d *dice) set(wire Wire) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wire, d.bad = wire, false
}

// lost throws for one packet.
func (d *dice) lost() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.wire.Loss
	switch {
	case l.Rate <= 0:
		return false
	case !l.inBursts():
		return d.rng.Float64() < l.Rate
	case d.bad:
		d.bad = d.rng.Float64() >= 1/l.Burst
	default:
		d.bad = d.rng.Float64() < l.Rate/(l.Burst*(1-l.Rate))
	}
	return d.bad
}

// delay throws for one packet.
func (d *dice) delay() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.wire.Jitter <= 0 {
		return d.wire.Delay
	}
	return d.wire.Delay + time.Duration(d.rng.Int64N(int64(d.wire.Jitter)))
}

// wires are those between all persons, and who is cut off from whom.
type wires struct {
	seed  uint64
	other Wire // where nothing was set

	mu     sync.Mutex
	dice   map[[2]int]*dice
	groups map[int]int // nil: whole
}

func newWires(seed uint64, all Wire) *wires {
	return &wires{seed: seed, other: all, dice: make(map[[2]int]*dice)}
}

func (w *wires) between(from, to int) *dice {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.dice[[2]int{from, to}]
	if d == nil {
		d = newDice(w.seed, from, to, w.other)
		w.dice[[2]int{from, to}] = d
	}
	return d
}

// setAll changes every wire.
func (w *wires) setAll(wire Wire) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.other = wire
	for _, d := range w.dice {
		d.set(wire)
	}
}

// split cuts the network: people reach each other only within a group; those
// that no group names form one more. No groups: it is whole.
func (w *wires) split(groups [][]int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.groups = nil
	if len(groups) == 0 {
		return
	}
	w.groups = make(map[int]int)
	for i, group := range groups {
		for _, who := range group {
			w.groups[who] = i + 1
		}
	}
}

// group is where someone is: people of one group reach each other.
func (w *wires) group(who int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.groups[who]
}
