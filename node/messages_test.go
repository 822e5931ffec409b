package node

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"teahouse/internal/mesh"
	"teahouse/internal/mesh/meshtest"
)

// TestCredit: all but urgent messages wait while much is untaken, and the
// count is right beyond 2^32.
func TestCredit(t *testing.T) {
	q := newSendQueue()
	q.sent, q.taken = 1<<32-5000, 1<<32-5000
	const size = 4096
	fill := func() {
		for q.push(mesh.Bulk, make([]byte, size)) == nil {
		}
	}
	leave := func() (n int) {
		for q.pop() != nil {
			n++
		}
		return n
	}
	fill()
	if n := leave(); n != mesh.MaxUnread/size {
		t.Fatalf("%d messages of %d bytes left", n, size)
	}
	if q.heldFor(epoch) != 0 || q.heldFor(epoch.Add(time.Minute)) != time.Minute {
		t.Error("it does not know for how long the peer has taken nothing")
	}
	for i := range byte(3) {
		if err := q.push(mesh.Urgent, []byte{i}); err != nil {
			t.Fatal(err)
		}
		if m := q.pop(); m == nil || m[2] != i {
			t.Errorf("an urgent message waits: %v", m)
		}
	}
	if err := q.took(q.taken + 2*size); err != nil {
		t.Fatal(err)
	}
	if q.heldFor(epoch.Add(time.Minute)) != 0 {
		t.Error("held though the peer goes on")
	}
	if n := leave(); n != 2 {
		t.Errorf("%d messages left for two that were taken", n)
	}
	if err := q.took(q.taken); err != nil { // said twice
		t.Error(err)
	}
	for _, more := range []uint32{q.sent - q.taken + 1, 1 << 31, 1<<32 - 1} {
		if err := q.took(q.taken + more); !errors.Is(err, errCredit) {
			t.Errorf("%d more than was known, %d were sent: %v", more, q.sent-q.taken, err)
		}
	}
	q.close()
	if n := leave(); n == 0 {
		t.Error("a closed queue is not emptied")
	}
}

// TestPeerThatTakesNothing: it is given up, though its stream and its link
// live, and what it lies about what it took ends the session.
func TestPeerThatTakesNothing(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		net := newInternet(t, 20*time.Millisecond)
		a, b := startNode(t, net.config(t)), startNode(t, net.config(t))
		from, to := silent(t, a, b)
		from.Start(func([]byte) {}, nil)
		block := make(chan struct{})
		to.Start(func([]byte) { <-block }, nil)
		begun := time.Now()
		for from.Send(mesh.Bulk, make([]byte, 4096)) == nil {
		}
		select {
		case <-from.Done():
		case <-time.After(time.Minute):
			t.Fatal("it waits for ever")
		}
		if d := time.Since(begun); !errors.Is(from.Err(), errStuck) || d < deadAfter || d > deadAfter+5*time.Second {
			t.Errorf("after %v: %v", d, from.Err())
		}
		close(block)

		p := openPair(t, a, b)
		lie := binary.BigEndian.AppendUint32([]byte{0xff, 0xff}, 1)
		if _, err := inside(p.a).conn.Write(lie); err != nil { // the writer is idle
			t.Fatal(err)
		}
		<-p.b.Done()
		if !errors.Is(p.b.Err(), errCredit) || b.Stats().Penalties == 0 {
			t.Errorf("it ended with %v, %d penalties", p.b.Err(), b.Stats().Penalties)
		}
	})
}

// TestUrgentOnThinLine: behind a line of 500 kbit/s, with a full queue, what is
// urgent arrives within a second.
func TestUrgentOnThinLine(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		net := newInternet(t, 20*time.Millisecond)
		net.bitsPerSecond = 500_000
		a, b := startNode(t, net.config(t)), startNode(t, net.config(t))
		p := openPair(t, a, b)
		begun, all := time.Now(), 0
		for p.a.Send(mesh.Bulk, make([]byte, 4096)) == nil {
			all++
		}
		time.Sleep(time.Second)
		const urgent = "urgent"
		sent := time.Now()
		if err := p.a.Send(mesh.Urgent, []byte(urgent)); err != nil {
			t.Fatal(err)
		}
		before := 0
		for receive(t, p.mb) != urgent {
			before++
		}
		d := time.Since(sent)
		t.Logf("after %v, %d of %d messages before it", d, before, all)
		if d > time.Second || before > all/2 {
			t.Errorf("an urgent message took %v", d)
		}
		for range all - before {
			receive(t, p.mb)
		}
		t.Logf("all after %v", time.Since(begun))
	})
}

// TestBrokenKeysLive: the link of a broken session takes packets for 15 s, of a
// replaced one for 5 s.
func TestBrokenKeysLive(t *testing.T) {
	for _, c := range []struct {
		name   string
		end    func(mesh.Session)
		lasts  time.Duration
		within time.Duration
	}{
		{"broken", func(s mesh.Session) { inside(s).endOf("read", errors.New("test")) }, 15 * time.Second, 16 * time.Second},
		{"retired", func(s mesh.Session) { s.Retire() }, 5 * time.Second, 6 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			meshtest.Bubble(t, func(t *testing.T) {
				net := newInternet(t, 20*time.Millisecond)
				a, b := startNode(t, net.config(t)), startNode(t, net.config(t))
				from, to := silent(t, a, b)
				var k talk
				k.listen(to)
				from.Start(func([]byte) {}, nil)
				k.speak(from, time.Second)
				ended := time.Now()
				c.end(to)
				c.end(from)
				k.speak(from, 20*time.Second)
				k.mu.Lock()
				defer k.mu.Unlock()
				var last time.Time
				for i, at := range k.came {
					if !at.IsZero() {
						last = k.sent[i]
					}
				}
				if d := last.Sub(ended); d < c.lasts-100*time.Millisecond || d > c.within {
					t.Errorf("packets arrived for %v", d)
				}
			})
		})
	}
}
