package sim

import (
	"encoding/binary"
	"maps"
	"slices"
	"sync"
	"time"
)

// delayStep is how finely delays are kept.
const delayStep = 100 * time.Microsecond

// Delays is a histogram of delays in steps of 0.1 ms. The zero value is empty.
type Delays struct {
	counts map[int64]int // by delay in steps, rounded up
	total  int
}

func (d *Delays) add(delay time.Duration) {
	if d.counts == nil {
		d.counts = make(map[int64]int)
	}
	d.counts[int64((delay+delayStep-1)/delayStep)]++
	d.total++
}

func (d *Delays) addAll(o *Delays) {
	for step, n := range o.counts {
		if d.counts == nil {
			d.counts = make(map[int64]int)
		}
		d.counts[step] += n
		d.total += n
	}
}

// Count is how many there are.
func (d *Delays) Count() int { return d.total }

// Quantile is the delay that a part q of all, 0 to 1, does not exceed; 0 where
// there is none.
func (d *Delays) Quantile(q float64) time.Duration {
	below, wanted := 0, int(q*float64(d.total))
	for _, step := range slices.Sorted(maps.Keys(d.counts)) {
		if below += d.counts[step]; below >= wanted && below > 0 {
			return time.Duration(step) * delayStep
		}
	}
	return 0
}

// Window is what was measured between two Marks, by who spoke and who heard.
// A frame belongs to the window in which it was spoken.
type Window struct {
	Name  string
	From  time.Duration // since the start of the scenario
	Pairs map[[2]int]*Pair
}

// Pair is the voice of one person at another.
type Pair struct {
	// First are delays from Speak to Heard of frames that came in the packet
	// they were spoken into: the network layer. Any has those too that came
	// only when they were sent again: what playout is given.
	First, Any Delays
	frames     []uint8 // by number within the window
}

const (
	frameExpected = 1 << iota // both were here, in one part of the network
	frameFirst                // heard, the first copy
	frameRepaired             // heard, a copy that was sent again
	frameThin                 // heard in the thin flow
)

func (w *Window) pair(from, to int) *Pair {
	p := w.Pairs[[2]int{from, to}]
	if p == nil {
		p = &Pair{}
		w.Pairs[[2]int{from, to}] = p
	}
	return p
}

// mark notes something of a frame, and tells whether it was noted before.
func (p *Pair) mark(number uint32, what uint8) (again bool) {
	for uint32(len(p.frames)) <= number {
		p.frames = append(p.frames, 0)
	}
	again = p.frames[number]&what == what
	p.frames[number] |= what
	return again
}

// Heard counts frames.
type Heard struct {
	Expected int // spoken while both were here, in one part of the network
	First    int // of these, heard by the first copy
	Repaired int // heard by a later copy
	Lost     int // not heard
	Gaps     int // runs of lost frames
	Longest  int // of these runs, in frames
	Thin     int // heard in the thin flow
}

// Heard counts what was expected and heard.
func (p *Pair) Heard() (h Heard) {
	run := 0
	for _, f := range p.frames {
		if f&(frameExpected|frameThin) == frameExpected|frameThin {
			h.Thin++
		}
		switch {
		case f&frameExpected == 0:
			continue
		case f&frameFirst != 0:
			h.First++
		case f&frameRepaired != 0:
			h.Repaired++
		default:
			h.Lost++
			if run++; run == 1 {
				h.Gaps++
			}
			h.Longest = max(h.Longest, run)
			h.Expected++
			continue
		}
		h.Expected++
		run = 0
	}
	return h
}

// All is the whole window: counts of all pairs, and their delays together.
func (w *Window) All() (h Heard, first, anyCopy Delays) {
	for _, p := range w.Pairs {
		one := p.Heard()
		h.Expected += one.Expected
		h.First += one.First
		h.Repaired += one.Repaired
		h.Lost += one.Lost
		h.Gaps += one.Gaps
		h.Thin += one.Thin
		h.Longest = max(h.Longest, one.Longest)
		first.addAll(&p.First)
		anyCopy.addAll(&p.Any)
	}
	return h, first, anyCopy
}

// windows are those of one world.
type windows struct {
	mu  sync.Mutex
	all []*Window
}

// begin makes a new window the current one.
func (ws *windows) begin(name string, at time.Duration) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.all = append(ws.all, &Window{Name: name, From: at, Pairs: make(map[[2]int]*Pair)})
}

// A spoken frame names itself, in place of Opus.
const (
	frameBytes   = 80 // 32 kbit/s
	frameEvery   = 20 * time.Millisecond
	frameSamples = 960
	thinBytes    = 120 // 24 kbit/s in 40 ms
)

// spoken is what stands in a frame.
type spoken struct {
	who    int
	life   int // of who
	window int
	number uint32        // within the window
	at     time.Duration // since the start
}

func (s *spoken) encode(to []byte) {
	binary.BigEndian.PutUint32(to, uint32(s.who))
	binary.BigEndian.PutUint32(to[4:], uint32(s.life))
	binary.BigEndian.PutUint32(to[8:], uint32(s.window))
	binary.BigEndian.PutUint32(to[12:], s.number)
	binary.BigEndian.PutUint64(to[16:], uint64(s.at))
}

func decodeSpoken(b []byte) (s spoken, ok bool) {
	if len(b) != frameBytes && len(b) != thinBytes {
		return s, false
	}
	u32 := func(at int) uint32 { return binary.BigEndian.Uint32(b[at:]) }
	return spoken{
		who: int(u32(0)), life: int(u32(4)), window: int(u32(8)), number: u32(12),
		at: time.Duration(binary.BigEndian.Uint64(b[16:])),
	}, true
}
