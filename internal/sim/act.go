package sim

import "time"

// Who joins and is here, or leaves and is not, does nothing: so a scenario
// stays one when acts are taken out of it, see [Shrink].

// Join brings people into the room, or back into it, as a new instance of
// themselves on a new peer id.
type Join struct{ Who []int }

// JoinAgain brings somebody back on the peer id of the life before, as a home
// that keeps its identity does.
type JoinAgain struct{ Who int }

// Leave has somebody leave with a goodbye.
type Leave struct{ Who int }

// Kill ends somebody's node without a goodbye, as kill -9 does.
type Kill struct{ Who int }

// Split cuts the network into groups; people that none names form one more.
type Split struct{ Groups [][]int }

// Heal ends a split.
type Heal struct{}

// SetWire changes the way from one person to another, in this direction only.
type SetWire struct {
	From, To int
	Wire     Wire
}

// SetWires changes every wire.
type SetWires struct{ Wire Wire }

// Talk has exactly these people talk from now on, wherever they are: a frame
// of frameBytes each frameEvery.
type Talk struct{ Who []int }

// Mark begins a new window of measurement.
type Mark struct{ Name string }

// Settle wants all who are present, in each part of a split network, to see
// each other and nobody else, to hold one epoch and to hear each other within
// a time. It goes on looking for Patience, to tell how long it took; 0 is two
// minutes. No other act comes before it has ended.
type Settle struct{ Within, Patience time.Duration }

// Hark wants each who talked in this window to have been heard by all who were
// there: at least one frame of all those that were expected, if they were more
// than ten.
type Hark struct{}

// Depth makes every link carry this many older frames again, 0 to 3: what
// listeners report of their losses is replaced by what leads to it.
type Depth struct{ Depth int }

// Look lets a test look at the rooms of those present, by person.
type Look struct{ At func(p *Present) }

func (a Join) act(w *world) {
	for _, who := range a.Who {
		w.people[who].join(false)
	}
}
func (a JoinAgain) act(w *world) { w.people[a.Who].join(true) }
func (a Leave) act(w *world)     { w.people[a.Who].leave() }
func (a Kill) act(w *world)      { w.people[a.Who].kill() }

func (a Split) act(w *world) {
	w.wires.split(a.Groups)
	w.ground.rewired()
}

func (Heal) act(w *world) {
	w.wires.split(nil)
	w.ground.rewired()
}

func (a SetWire) act(w *world) {
	w.wires.between(a.From, a.To).set(a.Wire)
	w.ground.rewired()
}

func (a SetWires) act(w *world) {
	w.wires.setAll(a.Wire)
	w.ground.rewired()
}

func (a Talk) act(w *world) {
	for _, p := range w.people {
		p.talking = false
	}
	for _, who := range a.Who {
		w.people[who].talk()
	}
}

func (a Mark) act(w *world) { w.mark(a.Name) }
func (a Settle) act(w *world) {
	if a.Patience == 0 {
		a.Patience = 2 * time.Minute
	}
	w.settling = &settling{begun: time.Now(), Settle: a}
}
func (Hark) act(w *world)    { w.hark() }
func (a Depth) act(w *world) { w.depth.Store(int32(a.Depth) + 1) }
func (a Look) act(w *world)  { a.At(&Present{w}) }
