package voice

import (
	"testing"
	"time"

	"teahouse/internal/audio"
	"teahouse/internal/mesh/meshtest"
	"teahouse/room"
)

// Who was gone and comes back is counted on, and there is a bound to how many
// are remembered.
func TestStatsOverAbsence(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		listener := start(t, Config{})
		seat := listener.Sit(room.ID{1}, true)
		talk := func(instance uint64) {
			talker := start(t, Config{Microphone: audio.NewTone(440)})
			w := &wire{from: ada, to: []*Seat{seat}, instance: instance, drop: func(n uint32) bool { return n == 20 }}
			talker.Sit(room.ID{1}, false).Attach(w)
			time.Sleep(time.Second)
			closeAll(t, talker)
			time.Sleep(200 * time.Millisecond)
		}
		talk(1)
		first := seat.Stats()[0]
		if first.Lost != 1 || first.OnTime < 45 || first.Sent != first.OnTime+1 {
			t.Fatalf("%+v", first)
		}
		seat.Gone(ada)
		time.Sleep(100 * time.Millisecond)
		if st := seat.Stats(); len(st) > 0 {
			t.Errorf("figures of somebody who is gone: %+v", st)
		}
		seat.Update(room.MemberInfo{Member: ada})
		if st := seat.Stats(); len(st) != 1 || st[0].Received != first.Received || st[0].Sent != first.Sent {
			t.Errorf("after they came back: %+v, before %+v", st, first)
		}
		talk(2)
		second := seat.Stats()[0]
		if second.Lost != 2 || second.OnTime < 2*45 || second.Sent != second.OnTime+2 {
			t.Errorf("%+v", second)
		}

		for i := range 3 * pastMost { // others come, say a word and go
			m := room.Member{9, byte(i), byte(i >> 8)}
			p := seat.meet(m)
			p.push(&room.Frame{Counter: 1, Opus: []byte{0xf8, 0xff, 0xfe}}, time.Now())
			seat.Gone(m)
			time.Sleep(30 * time.Millisecond)
		}
		seat.people.Lock()
		n := len(seat.past.left)
		seat.people.Unlock()
		if n != pastMost || len(*seat.heard.Load()) != 1 {
			t.Errorf("%d are remembered, %d are here", n, len(*seat.heard.Load()))
		}
		closeAll(t, listener)
	})
}
