package meshtest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"teahouse/internal/mesh"
)

func self(t *testing.T, nets []mesh.Network) {
	a, b := nets[0].Self(), nets[1].Self()
	for _, p := range []mesh.Peer{a, b} {
		if _, err := mesh.ParsePeerID([]byte(p.ID)); err != nil {
			t.Error(err)
		}
		if len(p.Addrs) == 0 || len(p.Addrs) > mesh.MaxAddrs {
			t.Errorf("%d addresses", len(p.Addrs))
		}
	}
	if a.ID == b.ID {
		t.Error("two nodes have one id")
	}
}

func sign(t *testing.T, nets []mesh.Network) {
	id, message := nets[0].Self().ID, []byte("milk first")
	sig, err := nets[0].SignAsHost("teahouse/test/1", message)
	if err != nil {
		t.Fatal(err)
	}
	if len(sig) != ed25519.SignatureSize || !id.Verify("teahouse/test/1", message, sig) {
		t.Error("the signature is not good")
	}
	if id.Verify("teahouse/other/1", message, sig) {
		t.Error("good under another context")
	}
	if id.Verify("teahouse/test/1", []byte("milk last"), sig) {
		t.Error("good for another message")
	}
	if nets[1].Self().ID.Verify("teahouse/test/1", message, sig) {
		t.Error("good for another peer")
	}
}

func open(t *testing.T, nets []mesh.Network) {
	ours, theirs := pair(t, nets[0], nets[1], door(1))
	if ours.Peer() != nets[1].Self().ID || theirs.Peer() != nets[0].Self().ID {
		t.Error("a session is with somebody else")
	}
	if !ours.Initiator() || theirs.Initiator() {
		t.Error("the initiator is wrong")
	}
	if ours.Binding() != theirs.Binding() || ours.Binding() == [32]byte{} {
		t.Error("the bindings are not equal, or zero")
	}
	if ours.Err() != nil || theirs.Err() != nil {
		t.Error("a live session has an error")
	}
	again, theirsAgain := pair(t, nets[0], nets[1], door(1))
	if again.Binding() != theirsAgain.Binding() || again.Binding() == ours.Binding() {
		t.Error("a binding repeats")
	}
	// Ending one of a pair leaves the other.
	if err := ours.Close(); err != nil {
		t.Error(err)
	}
	ended(t, theirs)
	got := make(chan string, 1)
	theirsAgain.Start(func(b []byte) { got <- string(b) }, noPacket)
	if err := again.Send(mesh.Chat, []byte("still here")); err != nil {
		t.Error(err)
	}
	if s := receive(t, "a message on the second session", got); s != "still here" {
		t.Errorf("got %q", s)
	}
}

func doors(t *testing.T, nets []mesh.Network) {
	accepted := [2]chan mesh.Session{make(chan mesh.Session, 1), make(chan mesh.Session, 1)}
	for i := range accepted {
		if _, err := nets[1].Listen(door(byte(i)), func(s mesh.Session) { accepted[i] <- s }); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := within(t)
	defer cancel()
	for _, i := range []int{1, 0} {
		s, err := nets[0].Open(ctx, nets[1].Self(), door(byte(i)))
		if err != nil {
			t.Fatal(err)
		}
		if theirs := receive(t, "accept of the door", accepted[i]); theirs.Binding() != s.Binding() {
			t.Error("another session was accepted")
		}
		silent(t, "accept of the other door", accepted[1-i])
	}
}

func wrongDoor(t *testing.T, nets []mesh.Network) {
	ctx, cancel := within(t)
	defer cancel()
	refused := func(why string) {
		t.Helper()
		if s, err := nets[0].Open(ctx, nets[1].Self(), door(2)); !errors.Is(err, mesh.ErrRefused) || s != nil {
			t.Errorf("%s: %v", why, err)
		}
	}
	refused("no door at all")
	accepted := make(chan mesh.Session, 4)
	stop, err := nets[1].Listen(door(1), func(s mesh.Session) { accepted <- s })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	// The opener's own doors do not count.
	stopOwn, err := nets[0].Listen(door(2), func(s mesh.Session) { accepted <- s })
	if err != nil {
		t.Fatal(err)
	}
	defer stopOwn()
	refused("another door")
	silent(t, "accept", accepted)
	stopThere, err := nets[1].Listen(door(2), func(s mesh.Session) { accepted <- s })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nets[0].Open(ctx, nets[1].Self(), door(2)); err != nil {
		t.Fatal(err)
	}
	receive(t, "accept", accepted)
	stopThere()
	stopThere() // again does nothing
	refused("the door has been closed")
	if _, err := nets[0].Open(ctx, nets[1].Self(), door(1)); err != nil {
		t.Errorf("closing a door closed another: %v", err)
	}
}

func manyDoors(t *testing.T, nets []mesh.Network) {
	var stops []func()
	for i := range byte(16) {
		stop, err := nets[0].Listen(door(i), func(mesh.Session) {})
		if err != nil {
			t.Fatalf("door %d: %v", i+1, err)
		}
		stops = append(stops, stop)
	}
	if _, err := nets[0].Listen(door(16), func(mesh.Session) {}); !errors.Is(err, mesh.ErrBusy) {
		t.Errorf("the 17th door: %v", err)
	}
	ctx, cancel := within(t)
	defer cancel()
	for i := range byte(16) {
		s, err := nets[1].Open(ctx, nets[0].Self(), door(i))
		if err != nil {
			t.Fatalf("door %d: %v", i+1, err)
		}
		_ = s.Close()
	}
	stops[3]()
	if _, err := nets[0].Listen(door(16), func(mesh.Session) {}); err != nil {
		t.Errorf("a door after one was closed: %v", err)
	}
}

func openFails(t *testing.T, nets []mesh.Network) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if s, err := nets[0].Open(ctx, nets[1].Self(), door(1)); err == nil || s != nil {
		t.Error("a session with an ended context")
	}
	gone := nets[1].Self()
	if err := nets[1].Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	begun := time.Now()
	if s, err := nets[0].Open(ctx, gone, door(1)); err == nil || s != nil {
		t.Error("a session with a peer that is gone")
	} else if errors.Is(err, mesh.ErrRefused) {
		t.Errorf("a peer that is gone cannot refuse: %v", err)
	}
	if d := time.Since(begun); d > 10*time.Second {
		t.Errorf("Open took %v, the context 2 s", d)
	}
}

func slowAccept(t *testing.T, nets []mesh.Network) {
	release, accepted := make(chan struct{}), make(chan mesh.Session, 2)
	stop, err := nets[1].Listen(door(1), func(s mesh.Session) { accepted <- s; <-release })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	defer close(release)
	ctx, cancel := within(t)
	defer cancel()
	for range 2 {
		if _, err := nets[0].Open(ctx, nets[1].Self(), door(1)); err != nil {
			t.Fatal(err)
		}
		receive(t, "accept while another blocks", accepted)
	}
}

// crossing opens from both sides at once: at least the session that the
// smaller peer id opened must come to life.
func crossing(t *testing.T, nets []mesh.Network) {
	var wg sync.WaitGroup
	opened, accepted := [2]mesh.Session{}, [2]chan mesh.Session{}
	for i := range nets {
		accepted[i] = make(chan mesh.Session, 2)
		if _, err := nets[i].Listen(door(1), func(s mesh.Session) { accepted[i] <- s }); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := within(t)
	defer cancel()
	for i := range nets {
		wg.Go(func() {
			s, err := nets[i].Open(ctx, nets[1-i].Self(), door(1))
			if err != nil {
				t.Errorf("open from %d: %v", i, err)
			}
			opened[i] = s
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	for i := range nets {
		theirs := receive(t, "accept", accepted[1-i])
		if theirs.Binding() != opened[i].Binding() || theirs.Initiator() {
			t.Error("the wrong session was accepted")
		}
	}
}

func closeSession(t *testing.T, nets []mesh.Network) {
	for _, first := range []int{0, 1} { // whoever opened it, either may end it
		var s [2]mesh.Session
		s[0], s[1] = pair(t, nets[0], nets[1], door(1))
		ends, other := s[first], s[1-first]
		var after atomic.Bool
		var late atomic.Int64
		ends.Start(noMessage, func([]byte, time.Time) {
			if after.Load() {
				late.Add(1)
			}
		})
		other.Start(noMessage, noPacket)
		if err := ends.Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(50 * time.Millisecond) // a packet that was being handed over
		after.Store(true)
		ended(t, ends)
		if err := ends.Send(mesh.Chat, []byte("x")); !errors.Is(err, mesh.ErrClosed) {
			t.Errorf("Send after Close: %v", err)
		}
		if err := ends.SendPacket([]byte("x")); !errors.Is(err, mesh.ErrClosed) {
			t.Errorf("SendPacket after Close: %v", err)
		}
		if _, ok := ends.Path(); ok {
			t.Error("a closed session has a path")
		}
		for range 20 { // whether refused here or there
			_ = other.SendPacket([]byte("late"))
			time.Sleep(5 * time.Millisecond)
		}
		ended(t, other)
		if err := other.Send(mesh.Chat, []byte("x")); !errors.Is(err, mesh.ErrClosed) {
			t.Errorf("Send after the peer's Close: %v", err)
		}
		if err := ends.Close(); err != nil {
			t.Errorf("Close again: %v", err)
		}
		if err := other.Close(); err != nil {
			t.Errorf("Close after the peer's: %v", err)
		}
		if n := late.Load(); n > 0 {
			t.Errorf("%d packets after Close", n)
		}
	}
}

func retire(t *testing.T, nets []mesh.Network) {
	ours, theirs := pair(t, nets[0], nets[1], door(1))
	var got atomic.Int64
	ours.Start(noMessage, func([]byte, time.Time) { got.Add(1) })
	theirs.Start(noMessage, noPacket)
	eventually(t, "a packet before Retire", func() bool {
		_ = theirs.SendPacket([]byte("before"))
		return got.Load() > 0
	})
	ours.Retire()
	retired := time.Now()
	ended(t, ours)
	ended(t, theirs)
	if err := ours.Send(mesh.Chat, []byte("x")); !errors.Is(err, mesh.ErrClosed) {
		t.Errorf("Send after Retire: %v", err)
	}
	before := got.Load()
	for time.Since(retired) < 2*time.Second {
		_ = theirs.SendPacket([]byte("in the grace"))
		time.Sleep(20 * time.Millisecond)
	}
	if got.Load() == before {
		t.Error("no packet was taken in the grace of 5 s")
	}
	time.Sleep(time.Until(retired.Add(6 * time.Second)))
	before = got.Load()
	for range 20 {
		_ = theirs.SendPacket([]byte("too late"))
		time.Sleep(10 * time.Millisecond)
	}
	if n := got.Load() - before; n > 0 {
		t.Errorf("%d packets taken 6 s after Retire", n)
	}
	if err := ours.SendPacket([]byte("x")); !errors.Is(err, mesh.ErrClosed) {
		t.Errorf("SendPacket 6 s after Retire: %v", err)
	}
}

func path(t *testing.T, nets []mesh.Network) {
	ours, theirs := pair(t, nets[0], nets[1], door(1))
	for _, s := range []mesh.Session{ours, theirs} {
		s.Start(noMessage, noPacket)
		type call struct {
			path mesh.Path
			ok   bool
		}
		calls := make(chan call, 64)
		var running atomic.Int32
		s.OnPath(func(p mesh.Path, ok bool) {
			if running.Add(1) > 1 {
				t.Error("OnPath's function runs twice at once")
			}
			select {
			case calls <- call{p, ok}:
			default:
			}
			running.Add(-1)
		})
		c := receive(t, "OnPath's first call", calls)
		for !c.ok {
			c = receive(t, "a path", calls)
		}
		if c.path.Carrier != mesh.Datagram && c.path.Carrier != mesh.Stream || c.path.Transport == "" || c.path.Remote == "" {
			t.Errorf("path %+v", c.path)
		}
		eventually(t, "Path agrees", func() bool { p, ok := s.Path(); return ok && p.Carrier != "" })
	}
}

// numbered is a message or packet of size bytes that begins with n.
func numbered(n, size int) []byte {
	b := bytes.Repeat([]byte{byte(n)}, max(size, 4))
	binary.BigEndian.PutUint32(b, uint32(n))
	return b
}

func numberOf(b []byte) int { return int(binary.BigEndian.Uint32(b)) }
