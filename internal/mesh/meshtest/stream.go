package meshtest

import (
	"bytes"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"teahouse/internal/mesh"
)

func messages(t *testing.T, nets []mesh.Network) {
	ours, theirs := pair(t, nets[0], nets[1], door(1))
	sizes := []int{4, 5, 100, 4096, 16384, mesh.MaxMessage - 1, mesh.MaxMessage}
	for _, dir := range []struct {
		name     string
		from, to mesh.Session
	}{{"to the responder", ours, theirs}, {"to the initiator", theirs, ours}} {
		got := make(chan []byte, 1)
		var running atomic.Int32
		dir.to.Start(func(b []byte) {
			if running.Add(1) > 1 {
				t.Error("message runs twice at once")
			}
			got <- bytes.Clone(b)
			running.Add(-1)
		}, noPacket)
		for round := range 3 {
			for i := range sizes { // less than the queue takes
				b := numbered(i+round, sizes[i])
				if err := dir.from.Send(mesh.Roster, b); err != nil {
					t.Fatalf("%s: %v", dir.name, err)
				}
				clear(b) // Send has copied it
			}
			for i := range sizes {
				if b := receive(t, "a message "+dir.name, got); !bytes.Equal(b, numbered(i+round, sizes[i])) {
					t.Fatalf("%s: message %d of %d bytes is not what was sent", dir.name, i, len(b))
				}
			}
		}
		if err := dir.from.Send(mesh.Roster, make([]byte, mesh.MaxMessage+1)); !errors.Is(err, mesh.ErrTooLarge) {
			t.Errorf("a message that is too large: %v", err)
		}
	}
}

// beforeStart: what comes before Start waits for it, and Start counts once.
func beforeStart(t *testing.T, nets []mesh.Network) {
	ours, theirs := pair(t, nets[0], nets[1], door(1))
	const n = 20
	for i := range n {
		if err := ours.Send(mesh.Urgent, numbered(i, 50)); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(quiet)
	got := make(chan int, n)
	theirs.Start(func(b []byte) { got <- numberOf(b) }, noPacket)
	for i := range n {
		if k := receive(t, "a message from before Start", got); k != i {
			t.Fatalf("message %d came in the place of %d", k, i)
		}
	}
	func() {
		defer func() { _ = recover() }() // may panic: it must not be called
		theirs.Start(func([]byte) { t.Error("a second Start counts") }, noPacket)
	}()
	if err := ours.Send(mesh.Urgent, numbered(n, 50)); err != nil {
		t.Fatal(err)
	}
	if k := receive(t, "a message after a second Start", got); k != n {
		t.Errorf("got message %d", k)
	}
}

// stuff sends messages of one class until none has been taken for a while,
// because the other side does not read. It counts refusals too: a machine that
// lets nobody run for a while has not shown that the windows are full.
func stuff(t *testing.T, s mesh.Session, class mesh.Priority, size int) (sent int) {
	t.Helper()
	const atMost = 64 << 20 // more than any transport's windows
	refused := 0
	for last := time.Now(); time.Since(last) < quiet || refused < 50; {
		switch err := s.Send(class, numbered(sent, size)); {
		case err == nil:
			sent, last, refused = sent+1, time.Now(), 0
		case errors.Is(err, mesh.ErrBusy):
			refused++
			time.Sleep(time.Millisecond)
		default:
			t.Fatalf("send to a slow reader: %v", err)
		}
		if sent*size > atMost {
			t.Fatalf("%d bytes taken for a peer that does not read", sent*size)
		}
	}
	return sent
}

// slowReader: a message callback that blocks is felt by the sender as ErrBusy,
// nothing is lost or reordered, and packets still come.
func slowReader(t *testing.T, nets []mesh.Network) {
	ours, theirs := pair(t, nets[0], nets[1], door(1))
	ours.Start(noMessage, noPacket)
	gate, got := make(chan struct{}), make(chan int, 1<<20)
	var packets atomic.Int64
	theirs.Start(func(b []byte) { <-gate; got <- numberOf(b) }, func([]byte, time.Time) { packets.Add(1) })
	sent := stuff(t, ours, mesh.Chat, mesh.MaxMessage)
	if sent*mesh.MaxMessage < 256<<10 {
		t.Errorf("busy after %d bytes, 256 KiB may wait", sent*mesh.MaxMessage)
	}
	eventually(t, "a packet while messages wait", func() bool {
		if err := ours.SendPacket([]byte("voice")); err != nil {
			t.Fatal(err)
		}
		return packets.Load() > 0
	})
	close(gate)
	for i := range sent {
		if k := receive(t, "a message that waited", got); k != i {
			t.Fatalf("message %d came in the place of %d", k, i)
		}
	}
	eventually(t, "the queue is free again", func() bool { return ours.Send(mesh.Chat, numbered(sent, 10)) == nil })
	if k := receive(t, "a message afterwards", got); k != sent {
		t.Errorf("got message %d", k)
	}
}

// priorities: what is urgent overtakes all that waits, but for MaxUnread bytes
// and one message, whatever the transport below would have taken.
func priorities(t *testing.T, nets []mesh.Network) {
	ours, theirs := pair(t, nets[0], nets[1], door(1))
	ours.Start(noMessage, noPacket)
	const size, urgent = 4096, 1 << 30
	gate, got := make(chan struct{}), make(chan int, 1<<20)
	theirs.Start(func(b []byte) { <-gate; got <- numberOf(b) }, noPacket)
	sent := stuff(t, ours, mesh.Bulk, size)
	// The queue is full of others; there is room for what is urgent.
	if err := ours.Send(mesh.Urgent, numbered(urgent, 10)); err != nil {
		t.Fatalf("urgent, behind %d messages: %v", sent, err)
	}
	close(gate)
	place, next := -1, 0
	for i := range sent + 1 {
		switch k := receive(t, "a message", got); k {
		case urgent:
			place = i
		case next:
			next++
		default:
			t.Fatalf("message %d came in the place of %d", k, next)
		}
	}
	if most := mesh.MaxUnread/size + 1; place < 0 || place > most {
		t.Errorf("the urgent message came after %d others of %d bytes, at most %d may be on their way", place, size, most)
	}
	if sent*size < 256<<10 {
		t.Errorf("%d bytes were taken, 256 KiB may wait", sent*size)
	}
}
