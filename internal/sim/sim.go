// Package sim runs rooms in virtual time on a network that misbehaves on
// purpose, and watches what must never happen.
//
//	Scenario: who, when, what
//	     |  one goroutine, the director: acts when it is time, speaks for the talkers, looks whether all agree
//	     v
//	persons, each with its lives ---- room.Room (real)
//	     |                                 |
//	     |                            tap: reads what the room sends; nonces, keys handed out, epochs held
//	     |                                 |
//	  ground: memory (mesh.Memory)   or   internet (real node.Node on simulated UDP)
//	     |
//	  wires: delay, jitter, random and burst loss, splits, death; by seed
//
// A [Scenario] is a value. Its faults come at their times, and from its seed
// come the keys, the wires' dice and, for [Churn], the scenario itself. What
// the seed does not decide is what rooms draw (salts, epoch secrets, the
// spread of their timers) and the order in which goroutines run that are ready
// at one instant. So a seed that failed may have to be played a few times
// until it fails again.
package sim

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"teahouse/internal/mesh/meshtest"
	"teahouse/node"
	"teahouse/room"
)

// Scenario is what happens to whom, and when.
type Scenario struct {
	Name string
	// Made tells how to make it again, in Go; empty: as it stands.
	Made string
	Seed uint64
	// People is how many persons there are; they are numbered from 0, and
	// nobody is in the room before a [Join].
	People int
	// Ground is what the rooms stand on.
	Ground Ground
	// Wire is the way between any two until an act says otherwise.
	Wire Wire
	// Bandwidth of each person's uplink and downlink on [Internet], in bits
	// per second; 0 means 50 Mbit/s.
	Bandwidth int
	// Clock is what right clocks show at the start, since midnight of a day,
	// UTC; see [Skew].
	Clock time.Duration
	// Transport is what may carry voice on [Internet]; empty is node.Auto.
	Transport node.Transport
	// Steps come in the order of their times; For is when it ends.
	Steps []Step
	For   time.Duration
	// Event, if set, is told of each event of each room, from a goroutine of
	// that room's.
	Event func(at time.Duration, who int, e *room.Event)
	// Log gets what the rooms and nodes have to say; nil discards.
	Log *slog.Logger
}

// Ground is a kind of network.
type Ground int

// The grounds.
const (
	// Memory is mesh.Memory: no cryptography on the wires, many people.
	Memory Ground = iota
	// Internet is real nodes over QUIC and voice datagrams: sessions and
	// gossip of libp2p, to about ten people.
	Internet
)

// Step is one act at its time, counted from the start on a clock that stands
// still while a [Settle] waits.
type Step struct {
	At time.Duration
	Do Act
}

// Act is something that happens.
type Act interface{ act(w *world) }

// String is the scenario as it would be written in Go, for the report of a
// seed that failed.
func (s Scenario) String() string {
	if s.Made != "" {
		return fmt.Sprintf("%s, its first %d steps", s.Made, len(s.Steps))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "sim.Scenario{Name: %q, Seed: %d, People: %d, Ground: %d, Wire: %#v, Clock: %d, For: %d, Steps: []sim.Step{ // %v\n",
		s.Name, s.Seed, s.People, s.Ground, s.Wire, s.Clock, s.For, s.For)
	for _, step := range s.Steps {
		fmt.Fprintf(&b, "\t{%d, %#v}, // %v\n", step.At, step.Do, step.At)
	}
	b.WriteString("}}")
	return b.String()
}

// Run plays a scenario in virtual time, inside a bubble of testing/synctest of
// its own, and tells what was measured. Violations of what must hold are in
// the result, see [Result.Report]; t fails only where the scenario cannot be
// played, or something is left running.
func Run(t *testing.T, s Scenario) *Result {
	t.Helper()
	var result *Result
	meshtest.Bubble(t, func(t *testing.T) {
		w := newWorld(t, &s)
		defer w.close()
		w.direct()
		result = w.result
	})
	return result
}

// Result is what was seen of a scenario.
type Result struct {
	Scenario *Scenario
	// Violations of what must hold, in the order in which they were seen; at
	// most maxViolations.
	Violations []Violation
	// Settled is what became of each [Settle], in order.
	Settled []Settled
	// Windows are the measurements, in the order of the [Mark]s.
	Windows []*Window
	// Sealed counts frames and sealed rosters whose nonces were watched,
	// under Keys keys.
	Sealed, Keys int
	// Handed counts epochs handed to somebody.
	Handed int
	// Lives counts how often somebody came.
	Lives int
	// Links counts what became of links before the end, as "up: carrier" and
	// "down: reason".
	Links map[string]int
	// Took is how long all of it took, in virtual time.
	Took time.Duration
	// Looks is how often everybody was looked at.
	Looks int
	// Uploaded is how many bytes of an [Upload] arrived, by person.
	Uploaded map[int]int
	// Done counts acts, by the names of their types.
	Done map[string]int
	// Longest is how long at most something lasted that must not last: see
	// invariants for its kinds.
	Longest map[string]time.Duration
	// Peak is the most of what rooms hold: of each collection in one of them,
	// "sessions" of one life, and "goroutines" for each who was present.
	Peak map[string]int
}

// Violation is something that must never happen, and did.
type Violation struct {
	At   time.Duration
	Step int // how many steps had been done
	What string
}

func (v Violation) String() string { return fmt.Sprintf("%v: %s", v.At, v.What) }

const maxViolations = 20

// Settled is what became of a Settle.
type Settled struct {
	At time.Duration // since the start
	// Since then, until for good: each saw who was there and nobody else,
	// held one epoch with all of them, was heard by all; and all of that.
	Roster, Epoch, Voice, All time.Duration
	Why                       string // what was missing at the end; empty: they agreed
}

// Report fails t where something happened that must not, with all that is
// needed to play it again.
func (r *Result) Report(t testing.TB) {
	t.Helper()
	if len(r.Violations) == 0 {
		return
	}
	var b strings.Builder
	for _, v := range r.Violations {
		fmt.Fprintf(&b, "%v\n", v)
	}
	to := *r.Scenario // the first violation is enough to look for
	to.Steps = to.Steps[:r.Violations[0].Step]
	t.Errorf("seed %d of %s:\n%splayed again, up to the first, by\n%v", to.Seed, to.Name, b.String(), to)
}

// Window is the measurement of that name; nil for none.
func (r *Result) Window(name string) *Window {
	for _, w := range r.Windows {
		if w.Name == name {
			return w
		}
	}
	return nil
}
