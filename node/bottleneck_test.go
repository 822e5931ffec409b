package node

import (
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"teahouse/internal/mesh/meshtest"
)

// line is a bottleneck that all of one node's packets leave by.
type line struct {
	mu sync.Mutex
	b  bottleneck
}

// send puts a packet into the queue, or drops it.
func (l *line) send(b []byte, to net.Addr, write func([]byte, net.Addr) (int, error)) {
	l.mu.Lock()
	wait, ok := l.b.carry(time.Now(), len(b)+28)
	l.mu.Unlock()
	if ok {
		b = append([]byte(nil), b...)
		time.AfterFunc(wait, func() { _, _ = write(b, to) })
	}
}

// fill is what a download does that always has more to send: the queue is never
// shorter than this.
func (l *line) fill(least time.Duration, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.b.freeAt.Before(now.Add(least)) {
		l.b.freeAt = now.Add(least)
	}
}

// narrow makes a node's packets leave by a line. It is called after the node
// was started.
func (i *internet) narrow(of int, capacity float64, queue time.Duration) *line {
	l := &line{b: bottleneck{capacity: capacity, queue: queue, dice: rand.New(rand.NewPCG(1, 2))}}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.conns[of].line.Store(l)
	return l
}

// rates sends packets of a size, so many a second, and tells for each second
// how many bytes the rate control let go. each is called every 10 ms.
func rates(s *session, size, perSecond int, d time.Duration, each func(time.Time)) (perSec []int) {
	sent := func() int {
		st := s.Stats()
		return int(st.SentBytes)
	}
	packet := make([]byte, size)
	last, begun := sent(), time.Now()
	next := begun
	for now := begun; now.Before(begun.Add(d)); now = time.Now() {
		if each != nil {
			each(now)
		}
		for !next.After(now) {
			_ = s.SendPacket(packet)
			next = next.Add(time.Second / time.Duration(perSecond))
		}
		time.Sleep(10 * time.Millisecond)
		if seconds := len(perSec) + 1; time.Since(begun) >= time.Duration(seconds)*time.Second {
			perSec, last = append(perSec, sent()-last), sent()
		}
	}
	return perSec
}

func extremes(all []int) (least, most int) {
	least, most = all[0], all[0]
	for _, n := range all {
		least, most = min(least, n), max(most, n)
	}
	return least, most
}

// TestVoiceBesideDownload: a link that wants more than the floor goes down to it
// beside a download that keeps the queue full, stays there for as long as that
// lasts, and has what it wants again soon after.
func TestVoiceBesideDownload(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		net := newInternet(t, 20*time.Millisecond)
		ca, cb := net.config(t), net.config(t)
		ca.Transport, cb.Transport = DatagramOnly, DatagramOnly
		a, b := startNode(t, ca), startNode(t, cb)
		from, to := silent(t, a, b)
		from.Start(func([]byte) {}, nil)
		to.Start(func([]byte) {}, nil)
		s := inside(from)
		l := net.narrow(0, 125_000, time.Second) // 1 Mbit/s
		const size, perSecond = 1000, 60
		const wants = size * perSecond
		if least, _ := extremes(rates(s, size, perSecond, 10*time.Second, nil)); least < wants-size {
			t.Errorf("alone on the line it gets %d of %d bytes in a second", least, wants)
		}
		beside := rates(s, size, perSecond, 3*time.Minute, func(now time.Time) { l.fill(300*time.Millisecond, now) })
		t.Logf("beside the download: %v", beside)
		least, most := extremes(beside[5:])
		if least < rateFloor*95/100 || most > rateFloor*125/100 {
			t.Errorf("beside the download %d to %d bytes in a second, want about %d", least, most, rateFloor)
		}
		after := rates(s, size, perSecond, 15*time.Second, nil)
		t.Logf("after it: %v", after)
		if least, _ := extremes(after[8:]); least < wants-size {
			t.Errorf("8 s after the download it gets %d of %d bytes in a second", least, wants)
		}
		if from.Err() != nil || to.Err() != nil {
			t.Errorf("the session ended: %v, %v", from.Err(), to.Err())
		}
	})
}

// TestVoiceMakesNoQueue: a link that wants more than the line carries takes most
// of it, evenly, and leaves no queue behind that others would wait in.
func TestVoiceMakesNoQueue(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		net := newInternet(t, 20*time.Millisecond)
		ca, cb := net.config(t), net.config(t)
		ca.Transport, cb.Transport = DatagramOnly, DatagramOnly
		a, b := startNode(t, ca), startNode(t, cb)
		from, to := silent(t, a, b)
		from.Start(func([]byte) {}, nil)
		to.Start(func([]byte) {}, nil)
		const capacity = 62_500 // 500 kbit/s
		l := net.narrow(0, capacity, 2*time.Second)
		var waits []time.Duration
		got := rates(inside(from), 1000, 110, 2*time.Minute, func(now time.Time) {
			l.mu.Lock()
			defer l.mu.Unlock()
			waits = append(waits, max(0, l.b.freeAt.Sub(now)))
		})
		settled := waits[len(waits)/6:]
		var sum, worst time.Duration
		for _, w := range settled {
			sum, worst = sum+w, max(worst, w)
		}
		mean := sum / time.Duration(len(settled))
		least, most := extremes(got[20:])
		t.Logf("%d to %d bytes in a second of %d, queue %v on average, %v at worst", least, most, capacity, mean, worst)
		if least < capacity/2 || most > capacity*125/100 || mean > 150*time.Millisecond || worst > 500*time.Millisecond {
			t.Error("it starves, floods, or fills the queue")
		}
	})
}

// TestLossIsNoQueue: where 40 % is lost by chance and nothing waits, talk with
// full repair loses nothing to the rate control.
func TestLossIsNoQueue(t *testing.T) {
	for _, oneWay := range []time.Duration{20 * time.Millisecond, 60 * time.Millisecond, 150 * time.Millisecond} {
		t.Run(oneWay.String(), func(t *testing.T) {
			meshtest.Bubble(t, func(t *testing.T) {
				net := newInternet(t, oneWay)
				ca, cb := net.config(t), net.config(t)
				ca.Transport, cb.Transport = DatagramOnly, DatagramOnly
				a, b := startNode(t, ca), startNode(t, cb)
				from, to := silent(t, a, b)
				from.Start(func([]byte) {}, nil)
				to.Start(func([]byte) {}, nil)
				time.Sleep(2 * time.Second)
				net.lose(0.4, 7)
				const size = 16 + 4*(80+2+23+1) // 32 kbit/s in 20 ms frames, each four times
				rates(inside(from), size, 50, time.Minute, nil)
				if st := from.Stats(); st.DroppedSending > 0 || from.Err() != nil {
					t.Errorf("%d of %d packets dropped, the session: %v", st.DroppedSending, st.SentPackets, from.Err())
				}
				net.lose(0, 0)
			})
		})
	}
}
