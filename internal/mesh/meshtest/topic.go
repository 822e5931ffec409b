package meshtest

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"teahouse/internal/mesh"
)

type heard struct {
	from mesh.PeerID
	data string
}

func anything(mesh.PeerID, []byte) mesh.Verdict { return mesh.Accept }

// ear joins a topic and gives what it delivers; what is too much is dropped.
func ear(t *testing.T, n mesh.Network, name string, validate mesh.Validator) (mesh.Topic, chan heard) {
	t.Helper()
	c := make(chan heard, 4096)
	topic, err := n.Join(name, validate, func(from mesh.PeerID, data []byte) {
		select {
		case c <- heard{from, string(data)}:
		default:
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return topic, c
}

// publishUntil publishes until the receiver got it: a mesh takes time to form.
func publishUntil(t *testing.T, from mesh.Topic, data string, to chan heard, sender mesh.PeerID) {
	t.Helper()
	found := false
	eventually(t, "a broadcast arrives", func() bool {
		if err := from.Publish([]byte(data)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
		for len(to) > 0 && !found {
			h := <-to
			found = h.data == data
			if h.from != sender {
				t.Fatalf("a broadcast of %s comes from %s", sender.Short(), h.from.Short())
			}
		}
		return found
	})
}

func topic(t *testing.T, nets []mesh.Network) {
	a, heardA := ear(t, nets[0], "oolong", anything)
	b, heardB := ear(t, nets[1], "oolong", anything)
	_, heardC := ear(t, nets[2], "oolong", anything)
	_, other := ear(t, nets[1], "pu-erh", anything)
	publishUntil(t, a, "one", heardB, nets[0].Self().ID)
	publishUntil(t, a, "two", heardC, nets[0].Self().ID)
	publishUntil(t, b, "three", heardA, nets[1].Self().ID)
	large := string(bytes.Repeat([]byte("x"), mesh.MaxBroadcast))
	publishUntil(t, a, large, heardB, nets[0].Self().ID)
	if err := a.Publish(make([]byte, mesh.MaxBroadcast+1)); !errors.Is(err, mesh.ErrTooLarge) {
		t.Errorf("a broadcast that is too large: %v", err)
	}
	time.Sleep(quiet)
	for len(heardA) > 0 {
		if h := <-heardA; h.from == nets[0].Self().ID {
			t.Error("an own broadcast was delivered")
		}
	}
	if len(other) > 0 {
		t.Error("a broadcast reached another topic")
	}
	data := []byte("copied")
	if err := a.Publish(data); err != nil {
		t.Fatal(err)
	}
	clear(data)
	for h := (heard{}); h.data != "copied"; {
		if h = receive(t, "a broadcast whose bytes were reused", heardB); h.data == string(data) {
			t.Fatal("Publish did not copy")
		}
	}
}

func validator(t *testing.T, nets []mesh.Network) {
	var asked, strange atomic.Int64
	good := func(_ mesh.PeerID, data []byte) mesh.Verdict {
		switch {
		case bytes.HasPrefix(data, []byte("bad")):
			asked.Add(1)
			return mesh.Reject
		case bytes.HasPrefix(data, []byte("strange")):
			strange.Add(1)
			return mesh.Ignore
		}
		return mesh.Accept
	}
	a, _ := ear(t, nets[0], "oolong", anything)
	_, heardB := ear(t, nets[1], "oolong", good)
	publishUntil(t, a, "good", heardB, nets[0].Self().ID)
	// What is ignored goes first: a peer that brought it keeps its standing.
	for _, kind := range []struct {
		data  string
		asked *atomic.Int64
	}{{"strange one", &strange}, {"bad one", &asked}} {
		eventually(t, "the validator is asked about a "+kind.data, func() bool {
			if err := a.Publish([]byte(kind.data)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
			return kind.asked.Load() > 0
		})
	}
	time.Sleep(quiet)
	for len(heardB) > 0 {
		if h := <-heardB; h.data != "good" {
			t.Errorf("%q was delivered", h.data)
		}
	}
}

func closeTopic(t *testing.T, nets []mesh.Network) {
	a, heardA := ear(t, nets[0], "oolong", anything)
	var running, closed atomic.Bool
	inside := make(chan struct{}, 1)
	b, err := nets[1].Join("oolong", anything, func(mesh.PeerID, []byte) {
		if closed.Load() {
			t.Error("delivered after Close")
		}
		running.Store(true)
		select {
		case inside <- struct{}{}:
		default:
		}
		time.Sleep(100 * time.Millisecond)
		running.Store(false)
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "a broadcast arrives", func() bool {
		_ = a.Publish([]byte("x"))
		time.Sleep(20 * time.Millisecond)
		return len(inside) > 0
	})
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	closed.Store(true)
	if running.Load() {
		t.Error("Close did not wait for a callback")
	}
	if err := b.Close(); err != nil {
		t.Errorf("Close again: %v", err)
	}
	if err := b.Publish([]byte("x")); !errors.Is(err, mesh.ErrClosed) {
		t.Errorf("Publish after Close: %v", err)
	}
	for range 5 {
		if err := a.Publish([]byte("nobody")); err != nil {
			t.Errorf("publish to nobody: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	// It can be joined again.
	again, heardB := ear(t, nets[1], "oolong", anything)
	publishUntil(t, a, "back", heardB, nets[0].Self().ID)
	publishUntil(t, again, "hello", heardA, nets[1].Self().ID)
}

func provideFind(t *testing.T, nets []mesh.Network) {
	ctx, cancel := within(t)
	defer cancel()
	key, other := [32]byte{7}, [32]byte{8}
	for _, n := range nets[:2] {
		eventually(t, "provide", func() bool { return n.Provide(ctx, key) == nil })
	}
	for i, n := range nets {
		found := make(map[mesh.PeerID]mesh.Peer)
		want := 2
		if i < 2 {
			want = 1 // never this node itself
		}
		eventually(t, "the providers are found", func() bool {
			fctx, stop := context.WithTimeout(ctx, 5*time.Second)
			defer stop()
			err := n.Find(fctx, key, func(p mesh.Peer) { found[p.ID] = p })
			if err != nil && fctx.Err() == nil {
				t.Fatal(err)
			}
			return len(found) >= want
		})
		if len(found) != want {
			t.Errorf("node %d found %d peers, want %d", i, len(found), want)
		}
		if _, ok := found[n.Self().ID]; ok {
			t.Error("a node found itself")
		}
		for _, p := range found {
			if len(p.Addrs) > mesh.MaxAddrs {
				t.Errorf("%d addresses", len(p.Addrs))
			}
		}
	}
	// What was found can be called.
	accepted := make(chan mesh.Session, 1)
	if _, err := nets[0].Listen(door(1), func(s mesh.Session) { accepted <- s }); err != nil {
		t.Fatal(err)
	}
	var first mesh.Peer
	fctx, stop := context.WithCancel(ctx)
	_ = nets[2].Find(fctx, key, func(p mesh.Peer) {
		if p.ID == nets[0].Self().ID {
			first = p
			stop() // as it comes: the end of the search is not waited for
		}
	})
	stop()
	if _, err := nets[2].Open(ctx, first, door(1)); err != nil {
		t.Fatalf("open to what was found: %v", err)
	}
	receive(t, "accept", accepted)

	fctx, stop = context.WithTimeout(ctx, 2*time.Second)
	defer stop()
	_ = nets[2].Find(fctx, other, func(p mesh.Peer) { t.Errorf("%s found under another key", p.ID.Short()) })
}

func findEnds(t *testing.T, nets []mesh.Network) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	begun := time.Now()
	if err := nets[0].Find(ctx, [32]byte{9}, func(mesh.Peer) {}); err == nil {
		t.Error("no error from a search that could not begin")
	}
	if err := nets[0].Provide(ctx, [32]byte{9}); err == nil {
		t.Error("provided with an ended context")
	}
	if d := time.Since(begun); d > 10*time.Second {
		t.Errorf("it took %v", d)
	}
}
