package node

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// throttle ignores a source of datagrams for the rest of a second once more
// than failedOpens of its datagrams in that second did not open, so that a
// flood of forgeries costs no cryptography (docs/protocol.md section 4).
// Others, and the peer it pretends to be at another address, are not touched.
type throttle struct {
	blocked atomic.Int32 // sources over the limit; 0 is the common case

	mu     sync.Mutex
	second int64
	failed map[netip.AddrPort]uint16
}

const (
	failedOpens = 200
	// throttleSources bounds the table; sources beyond it go untracked for a
	// second.
	throttleSources = 1024
)

// ignore tells whether datagrams from source are to be dropped unopened.
func (t *throttle) ignore(source netip.AddrPort, now time.Time) bool {
	if t.blocked.Load() == 0 {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn(now)
	return t.failed[source] > failedOpens
}

// fail counts a datagram from source that did not open.
func (t *throttle) fail(source netip.AddrPort, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn(now)
	n, known := t.failed[source]
	switch {
	case !known && len(t.failed) >= throttleSources, n > failedOpens:
		return
	case n == failedOpens:
		t.blocked.Add(1)
	}
	if t.failed == nil {
		t.failed = make(map[netip.AddrPort]uint16)
	}
	t.failed[source] = n + 1
}

// turn begins a new second. mu must be held.
func (t *throttle) turn(now time.Time) {
	if s := now.Unix(); s != t.second {
		t.second = s
		clear(t.failed)
		t.blocked.Store(0)
	}
}
