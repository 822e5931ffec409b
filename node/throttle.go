package node

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// throttle ignores a source of datagrams for the rest of a second once more
// than failedOpens of its datagrams in that second did not open, so that a
// flood of forgeries costs no cryptography (docs/protocol.md section 4). A
// source is an IPv4 address or an IPv6 /64: whoever has one has all of its
// ports, and all of the addresses in it. Others are not touched, nor is the peer
// at the address that QUIC has validated, whoever shares it with him.
type throttle struct {
	blocked atomic.Int32 // sources over the limit; 0 is the common case

	mu     sync.Mutex
	second int64
	total  int
	failed map[netip.Prefix]uint16
}

const (
	failedOpens = 200
	// failedInAll is the bound for all sources together, because a sender may
	// forge as many as it likes: 6 ms of cryptography a second. Beyond it no
	// source is listened to that QUIC has not validated.
	failedInAll = 20_000
	// throttleSources bounds the table; sources beyond it are counted in the
	// total alone.
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
	return t.total > failedInAll || t.failed[sourcePrefix(source.Addr())] > failedOpens
}

// fail counts a datagram from source that did not open.
func (t *throttle) fail(source netip.AddrPort, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.turn(now)
	if t.total++; t.total == failedInAll+1 {
		t.blocked.Add(1)
	}
	prefix := sourcePrefix(source.Addr())
	n, known := t.failed[prefix]
	switch {
	case !known && len(t.failed) >= throttleSources, n > failedOpens:
		return
	case n == failedOpens:
		t.blocked.Add(1)
	}
	if t.failed == nil {
		t.failed = make(map[netip.Prefix]uint16)
	}
	t.failed[prefix] = n + 1
}

// turn begins a new second. mu must be held.
func (t *throttle) turn(now time.Time) {
	if s := now.Unix(); s != t.second {
		t.second, t.total = s, 0
		clear(t.failed)
		t.blocked.Store(0)
	}
}
