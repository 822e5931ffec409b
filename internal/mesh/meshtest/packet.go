package meshtest

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"time"

	"teahouse/internal/mesh"
)

func packets(t *testing.T, nets []mesh.Network) {
	ours, theirs := pair(t, nets[0], nets[1], door(1))
	sizes := []int{4, 5, 80, 500, mesh.MaxPacket - 1, mesh.MaxPacket}
	for _, dir := range []struct {
		name     string
		from, to mesh.Session
	}{{"to the responder", ours, theirs}, {"to the initiator", theirs, ours}} {
		var mu sync.Mutex
		got := make(map[int]bool)
		begun := time.Now()
		dir.to.Start(noMessage, func(b []byte, arrival time.Time) {
			if len(b) < 4 || numberOf(b) >= len(sizes) || !bytes.Equal(b, numbered(numberOf(b), sizes[numberOf(b)])) {
				t.Errorf("%s: a packet of %d bytes is not what was sent", dir.name, len(b))
				return
			}
			if arrival.Before(begun) || arrival.After(time.Now()) {
				t.Errorf("%s: arrival is %v after the start", dir.name, arrival.Sub(begun))
			}
			mu.Lock()
			defer mu.Unlock()
			got[numberOf(b)] = true
		})
		buf := make([]byte, mesh.MaxPacket)
		eventually(t, "packets of all sizes "+dir.name, func() bool {
			for i, size := range sizes {
				b := buf[:copy(buf, numbered(i, size))]
				if err := dir.from.SendPacket(b); err != nil {
					t.Fatalf("%s: %v", dir.name, err)
				}
				clear(b) // SendPacket does not keep it
			}
			mu.Lock()
			defer mu.Unlock()
			return len(got) == len(sizes)
		})
		if err := dir.from.SendPacket(make([]byte, mesh.MaxPacket+1)); !errors.Is(err, mesh.ErrTooLarge) {
			t.Errorf("a packet that is too large: %v", err)
		}
	}
}

func statistics(t *testing.T, nets []mesh.Network) {
	ours, theirs := pair(t, nets[0], nets[1], door(1))
	ours.Start(noMessage, noPacket)
	theirs.Start(noMessage, noPacket)
	const size = 120
	var sent uint64
	eventually(t, "ten packets counted at the receiver", func() bool {
		if err := ours.SendPacket(numbered(1, size)); err != nil {
			t.Fatal(err)
		}
		sent++
		return theirs.Stats().ReceivedPackets >= 10
	})
	there := theirs.Stats()
	if there.ReceivedBytes != there.ReceivedPackets*size {
		t.Errorf("received %d bytes in %d packets of %d", there.ReceivedBytes, there.ReceivedPackets, size)
	}
	if there.SentPackets != 0 || there.Unauthentic != 0 {
		t.Errorf("at the receiver: %+v", there)
	}
	here := ours.Stats()
	// What was dropped while sending may be counted as sent or not.
	if here.SentPackets > sent || here.SentPackets+here.DroppedSending < sent || here.SentBytes != here.SentPackets*size {
		t.Errorf("after %d packets of %d bytes: %+v", sent, size, here)
	}
	if here.ReceivedPackets != 0 {
		t.Errorf("%d packets came back", here.ReceivedPackets)
	}
}
