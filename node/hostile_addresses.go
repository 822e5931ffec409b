package node

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

// addressBook is where peers are connected from, by QUIC. It is read for every
// packet of QUIC's without a lock, and replaced as a whole.
//
// The address in a connection's multiaddr is the one that it was made from. A
// peer whose NAT gives it another goes on with the same connection, and only
// quic-go knows where it is now, once it has validated that; so the
// connections are asked whenever a packet comes from an address that is not in
// the book.
type addressBook struct {
	// changed is called after each change, with no lock held; nil: nobody wants
	// to know. Constant.
	changed func()

	now    atomic.Pointer[map[netip.AddrPort]bool]
	looked atomic.Int64 // when the connections were asked last, Unix ns

	mu    sync.Mutex
	conns map[network.Conn]*place
}

// place is where the peer of one connection is.
type place struct {
	quic quicConn // conn is nil where there is nobody to ask
	at   netip.AddrPort
}

// lookEvery is how often the connections are asked at most: a flood of packets
// from nowhere comes here too.
const lookEvery = 100 * time.Millisecond

// has tells whether somebody is connected from an address.
func (b *addressBook) has(a netip.AddrPort) bool {
	m := b.now.Load()
	return m != nil && (*m)[a]
}

// find is has, and asks the connections before it says no.
func (b *addressBook) find(a netip.AddrPort, now time.Time) bool {
	return b.has(a) || b.look(now) && b.has(a)
}

// all are the addresses in the book, which is not to be changed.
func (b *addressBook) all() map[netip.AddrPort]bool {
	if m := b.now.Load(); m != nil {
		return *m
	}
	return nil
}

// add notes a connection.
func (b *addressBook) add(c network.Conn) {
	if kindOf(c.RemoteMultiaddr()) != onQUIC {
		return
	}
	p := &place{}
	var ok bool
	if p.quic, ok = quicOf(c); ok {
		p.at = p.quic.remote()
	} else if at, err := netip.ParseAddrPort(remoteOf(c.RemoteMultiaddr())); err == nil {
		p.at = unmap(at)
	}
	if !p.at.IsValid() {
		return // no address that packets come from
	}
	b.mu.Lock()
	if b.conns == nil {
		b.conns = make(map[network.Conn]*place)
	}
	b.conns[c] = p
	b.publish()
	b.mu.Unlock()
	b.tell()
}

// remove notes that a connection is gone.
func (b *addressBook) remove(c network.Conn) {
	b.mu.Lock()
	_, known := b.conns[c]
	if known {
		delete(b.conns, c)
		b.publish()
	}
	b.mu.Unlock()
	if known {
		b.tell()
	}
}

// look asks each connection where its peer is, unless that was done a moment
// ago, and tells whether somebody has moved.
func (b *addressBook) look(now time.Time) (moved bool) {
	last := b.looked.Load()
	if now.UnixNano()-last < int64(lookEvery) || !b.looked.CompareAndSwap(last, now.UnixNano()) {
		return false
	}
	b.mu.Lock()
	for _, p := range b.conns {
		if p.quic.conn == nil {
			continue
		}
		if at := p.quic.remote(); at.IsValid() && at != p.at {
			p.at, moved = at, true
		}
	}
	if moved {
		b.publish()
	}
	b.mu.Unlock()
	if moved {
		b.tell()
	}
	return moved
}

// publish replaces what is read. mu must be held.
func (b *addressBook) publish() {
	next := make(map[netip.AddrPort]bool, len(b.conns))
	for _, p := range b.conns {
		next[p.at] = true
	}
	b.now.Store(&next)
}

func (b *addressBook) tell() {
	if b.changed != nil {
		b.changed()
	}
}
