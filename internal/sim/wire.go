package sim

import (
	"math"
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

// Loss is how packets vanish: by chance, or in bad times by the Gilbert model,
// a Markov chain in which none is lost in its good state and all are in its bad
// one (E. N. Gilbert, Capacity of a burst-noise channel, 1960; RFC 3611 section
// 4.7.2 has its terms). The chain runs in time, not by packets, so that a bad
// time is as long for who sends two packets a second as for who sends fifty.
type Loss struct {
	// Rate is the part of packets that vanish in the long run, 0 to below 1.
	Rate float64
	// Burst is the mean length of a bad time; 0: each packet for itself.
	Burst time.Duration
}

// dice throw for the packets of one direction. They may be used from several
// goroutines at once.
type dice struct {
	mu   sync.Mutex
	wire Wire
	bad  bool      // it was a bad time at at
	at   time.Time // zero: nothing was sent yet
	rng  *rand.Rand
}

func newDice(seed uint64, from, to int, wire Wire) *dice {
	return &dice{wire: wire, rng: rand.New(rand.NewPCG(seed, uint64(uint32(from))<<32|uint64(uint32(to))))}
}

func (d *dice) set(wire Wire) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wire, d.at = wire, time.Time{}
}

// lost throws for a packet that is sent now.
func (d *dice) lost(now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.wire.Loss
	if l.Rate <= 0 {
		return false
	}
	bad := l.Rate // the probability that it is a bad time
	if l.Burst > 0 && !d.at.IsZero() {
		// The chain forgets its state with the sum of its two rates, 1/Burst
		// and Rate/(Burst(1-Rate)).
		was := 0.0
		if d.bad {
			was = 1
		}
		bad += (was - l.Rate) * math.Exp(-float64(now.Sub(d.at))/(float64(l.Burst)*(1-l.Rate)))
	}
	d.at, d.bad = now, d.rng.Float64() < bad
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
	times  int         // it was cut or healed
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
	w.times++
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

// apart tells whether two are cut off from each other.
func (w *wires) apart(a, b int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, who := range [2]int{a, b} {
		if _, named := w.groups[who]; who == bootstrap && !named {
			return false
		}
	}
	return w.groups[a] != w.groups[b]
}

func (w *wires) isSplit() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.groups != nil
}

// cuts is how often the network was cut or healed.
func (w *wires) cuts() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.times
}

// group is where someone is: people of one group reach each other.
func (w *wires) group(who int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.groups[who]
}
