// Package meshtest is the conformance suite of mesh.Network: what mesh.go
// promises, sentence by sentence, for the double and for the real thing.
package meshtest

import (
	"context"
	"testing"
	"time"

	"teahouse/internal/mesh"
)

// patience is how long something that must happen may take. Nothing here is
// a measurement: a slow machine passes.
const patience = 60 * time.Second

// quiet is how long the suite waits to see that something does not happen.
const quiet = 300 * time.Millisecond

// New starts n nodes of one fresh network that can reach each other. The
// suite closes them.
type New func(t *testing.T, n int) []mesh.Network

// Run runs the suite. Tests run one after another, in real time: about 15 s.
func Run(t *testing.T, start New) {
	RunIn(t, func(t *testing.T, f func(*testing.T)) { f(t) }, start)
}

// RunIn runs each test of the suite inside bubble, for example synctest.Test.
func RunIn(t *testing.T, bubble func(*testing.T, func(*testing.T)), start New) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				nets := start(t, c.nodes)
				defer func() {
					for _, n := range nets {
						if err := n.Close(); err != nil {
							t.Errorf("close: %v", err)
						}
					}
				}()
				if len(nets) != c.nodes {
					t.Fatalf("got %d nodes, asked for %d", len(nets), c.nodes)
				}
				c.run(t, nets)
			})
		})
	}
	t.Run("no goroutine outlives Close", func(t *testing.T) { bubble(t, func(t *testing.T) { leaks(t, start) }) })
}

var cases = []struct {
	name  string
	nodes int
	run   func(t *testing.T, nets []mesh.Network)
}{
	{"self", 2, self},
	{"sign as host", 2, sign},
	{"open", 2, open},
	{"open by the door", 2, doors},
	{"wrong door is refused", 2, wrongDoor},
	{"at most 16 doors", 2, manyDoors},
	{"open fails in time", 2, openFails},
	{"accept has a goroutine of its own", 2, slowAccept},
	{"both open at once", 2, crossing},
	{"messages", 2, messages},
	{"messages wait for Start", 2, beforeStart},
	{"slow reader", 2, slowReader},
	{"priorities", 2, priorities},
	{"packets", 2, packets},
	{"packet statistics", 2, statistics},
	{"path", 2, path},
	{"close a session", 2, closeSession},
	{"retire", 2, retire},
	{"topic", 3, topic},
	{"validator", 3, validator},
	{"close a topic", 2, closeTopic},
	{"provide and find", 3, provideFind},
	{"find ends with its context", 2, findEnds},
	{"penalise", 2, penalise},
	{"close the network", 2, closeNetwork},
	{"close waits for callbacks", 2, closeWaits},
	{"use from many goroutines", 3, concurrent},
}

// eventually waits until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// receive takes one value.
func receive[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case v = <-c:
	case <-timer.C:
		t.Fatalf("not within %v: %s", patience, what)
	}
	return v
}

// silent sees that nothing comes.
func silent[T any](t *testing.T, what string, c <-chan T) {
	t.Helper()
	timer := time.NewTimer(quiet)
	defer timer.Stop()
	select {
	case <-c:
		t.Fatalf("unexpected: %s", what)
	case <-timer.C:
	}
}

func within(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(context.Background(), patience)
}

// door is the n-th door of a test.
func door(n byte) mesh.Door { return mesh.Door{1, 2, 3, n} }

// pair opens a session from a to b.
func pair(t *testing.T, a, b mesh.Network, d mesh.Door) (ours, theirs mesh.Session) {
	t.Helper()
	accepted := make(chan mesh.Session, 1)
	stop, err := b.Listen(d, func(s mesh.Session) { accepted <- s })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	ctx, cancel := within(t)
	defer cancel()
	ours, err = a.Open(ctx, b.Self(), d)
	if err != nil {
		t.Fatal(err)
	}
	return ours, receive(t, "the session is accepted", accepted)
}

// ended waits until a session has.
func ended(t *testing.T, s mesh.Session) {
	t.Helper()
	receive(t, "the session ends", s.Done())
	if s.Err() == nil {
		t.Error("a session has ended without an error")
	}
}

func noMessage([]byte)           {}
func noPacket([]byte, time.Time) {}
