package node

import (
	"testing"
	"time"
)

// homes is links of one node that all send 20,000 bytes a second, or as much as
// they may, in samples of half a second.
type homes struct {
	shared sharedRate
	links  []*link
	now    time.Time
}

func newHomes(n int) *homes {
	h := &homes{now: epoch}
	for range n {
		h.links = append(h.links, &link{})
	}
	return h
}

// tell gives samples for a while; queued says which links see a queue. It gives
// what was answered last, by link.
func (h *homes) tell(d time.Duration, loss float64, queued func(int) bool) (common float64, own []bool) {
	own = make([]bool, len(h.links))
	for end := h.now.Add(d); h.now.Before(end); {
		h.now = h.now.Add(sampleTime)
		for i, l := range h.links {
			s := rateSample{elapsed: sampleTime, rtt: 40 * time.Millisecond, packets: 25, bytes: 10_000}
			if common > 0 {
				s.bytes = min(s.bytes, uint64(common)/uint64(2*len(h.links)))
			}
			q := queued(i)
			if q {
				s.rtt, s.loss = 300*time.Millisecond, loss
			}
			common, own[i], _ = h.shared.observe(h.now, l, s, q)
		}
	}
	return common, own
}

// TestSharedQueue: a queue that most links see is the uplink's, and all have
// one budget for it, of no link's own; when it is gone there is more again.
func TestSharedQueue(t *testing.T) {
	h := newHomes(4)
	none, all := func(int) bool { return false }, func(int) bool { return true }
	if common, _ := h.tell(5*time.Second, 0, none); common != 0 {
		t.Errorf("without a queue there is a limit of %.0f", common)
	}
	common, own := h.tell(time.Second, 0.1, func(i int) bool { return i > 0 })
	if common == 0 || common > 80_000 || own[1] || own[3] {
		t.Errorf("three of four see a queue: %.0f for all, own %v", common, own)
	}
	if _, stands := h.shared.told(h.now); !stands {
		t.Error("nobody is told of the queue")
	}
	// It stays, whatever is done about it: a TCP's share at that loss, R = 300
	// ms, p = 5 %: 26,700 bytes a second.
	if common, _ = h.tell(20*time.Second, 0.05, all); common < 20_000 || common > 35_000 {
		t.Errorf("beside somebody else's download: %.0f", common)
	}
	before := common
	if common, _ = h.tell(5*time.Second, 0, none); common < 1.4*before {
		t.Errorf("5 s after the queue: %.0f, was %.0f", common, before)
	}
	if common, _ = h.tell(time.Minute, 0, none); common != 0 {
		t.Errorf("a minute after the queue: %.0f", common)
	}
}

// TestThinListener: a queue that one of three sees is that link's affair: all
// together may send as before.
func TestThinListener(t *testing.T) {
	h := newHomes(3)
	common, own := h.tell(30*time.Second, 0.2, func(i int) bool { return i == 1 })
	if common != 0 || own[0] || !own[1] || own[2] {
		t.Errorf("%.0f for all, own %v", common, own)
	}
}

// TestThinListenerRepairs: so it is where that link carries more than all others,
// because it sends again what it loses.
func TestThinListenerRepairs(t *testing.T) {
	var shared sharedRate
	links := []*link{{}, {}, {}}
	for now := epoch; now.Before(epoch.Add(30 * time.Second)); now = now.Add(sampleTime) {
		for i, l := range links {
			s := rateSample{elapsed: sampleTime, rtt: 40 * time.Millisecond, packets: 25, bytes: 4_000}
			if i == 1 {
				s.rtt, s.loss, s.bytes = 300*time.Millisecond, 0.3, 12_000
			}
			if common, own, _ := shared.observe(now, l, s, i == 1); common != 0 || own != (i == 1) {
				t.Fatalf("link %d: %.0f for all, own %v", i, common, own)
			}
		}
	}
}

// TestLateLink: who comes while the uplink has a queue takes it for its path,
// has no vote, and is told to look again when the queue has gone.
func TestLateLink(t *testing.T) {
	h := newHomes(1)
	h.tell(5*time.Second, 0, func(int) bool { return false })
	h.tell(2*time.Second, 0.02, func(int) bool { return true })
	h.links = append(h.links, &link{}, &link{})
	if common, _ := h.tell(10*time.Second, 0.02, func(i int) bool { return i == 0 }); common == 0 {
		t.Error("two who know no better voted the queue away")
	}
	h.tell(2*time.Second, 0, func(int) bool { return false })
	for i, l := range h.links {
		if h.shared.links[l].late {
			t.Errorf("link %d still takes the queue for its path", i)
		}
	}
}
