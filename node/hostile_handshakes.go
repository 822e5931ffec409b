package node

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// handshakes are those of sessions that others open with us. A handshake takes
// three round trips; who begins one and stalls holds a place for 10 s. So where
// places are short the one who holds most of them loses the one he has held for
// longest, and not the newcomer.
type handshakes struct {
	mu      sync.Mutex
	running []*begun // oldest first
}

// begun is one handshake that runs.
type begun struct {
	who  origin
	at   time.Time
	stop func() // ends it soon, never blocks
}

const (
	// atOnce is how many run at a time, and atOncePrefix how many of them with
	// one address: a few people who stall behind a NAT leave room for others.
	// Both stay below maxHandshakes, because one that was stopped takes a
	// moment to end.
	atOnce       = 48
	atOncePrefix = 40
	// youngest is how old a handshake of a peer that has several must be to be
	// stopped, and younger than patienceOne is none that is a peer's only one.
	youngest    = 300 * time.Millisecond
	patienceOne = 2 * time.Second
)

// begin enters a handshake, in the place of another where all are taken; false
// if there is none to be had.
func (h *handshakes) begin(now time.Time, who origin, stop func()) (*begun, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	ofPrefix := 0
	for _, b := range h.running {
		if who.prefix.IsValid() && b.who.prefix == who.prefix && !who.prefix.Addr().IsLoopback() {
			ofPrefix++
		}
	}
	switch {
	case ofPrefix >= atOncePrefix:
		if !h.makeRoom(now, who.prefix) {
			return nil, false
		}
	case len(h.running) >= atOnce:
		if !h.makeRoom(now, netip.Prefix{}) {
			return nil, false
		}
	}
	b := &begun{who: who, at: now, stop: stop}
	h.running = append(h.running, b)
	return b, true
}

// makeRoom stops the oldest handshake of the peer that has most, of one prefix
// or of all. mu must be held.
func (h *handshakes) makeRoom(now time.Time, prefix netip.Prefix) bool {
	count := make(map[peer.ID]int)
	most := 0
	for _, b := range h.running {
		if !prefix.IsValid() || b.who.prefix == prefix {
			count[b.who.peer]++
			most = max(most, count[b.who.peer])
		}
	}
	least := youngest
	if most == 1 {
		least = patienceOne
	}
	for i, b := range h.running { // oldest first
		if count[b.who.peer] == most && most > 0 && now.Sub(b.at) >= least {
			h.running = slices.Delete(h.running, i, i+1)
			b.stop()
			return true
		}
	}
	return false
}

// end takes a handshake out.
func (h *handshakes) end(b *begun) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.Index(h.running, b); i >= 0 {
		h.running = slices.Delete(h.running, i, i+1)
	}
}
