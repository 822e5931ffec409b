package node

import (
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

// doorstep bounds how many packets of strangers reach quic-go. Those that begin
// a connection it answers (a Retry, or the first half of a handshake) on the
// goroutine that reads the socket, the one that voice comes by; those of
// connections that it does not know it answers with a stateless reset. Either
// costs 10 us and more, so that 50,000 a second, from forged addresses, leave
// no time for voice. Packets of addresses that somebody is connected from pass,
// and who finds the step crowded still has TCP.
//
// It belongs to the goroutine that reads one socket.
type doorstep struct {
	// known tells whether somebody is connected from an address; nil: nobody
	// is. Constant.
	known func(netip.AddrPort) bool

	first, other step
}

// step bounds one kind of packets, of one source and of all.
type step struct {
	all   spending
	by    map[netip.Prefix]*spending
	swept time.Time
}

const (
	// firstPackets is set in the first byte of packets that make connections
	// (RFC 9000 section 17.2).
	firstPackets = 0x80

	stepSources = 1024
)

// stepAllowance is what a step lets through.
type stepAllowance struct{ one, all allowance }

var (
	// A connection begins with 3 to 5 packets: a household of 16 that starts
	// again takes 100.
	firstAllowance = stepAllowance{one: allowance{rate: 64, burst: 128}, all: allowance{rate: 256, burst: 256}}
	// Who has moved to another address is known by it only when QUIC has
	// validated it: until then he comes as a stranger.
	otherAllowance = stepAllowance{one: allowance{rate: 128, burst: 128}, all: allowance{rate: 512, burst: 512}}
)

// pass tells whether a QUIC packet may go on to quic-go.
func (d *doorstep) pass(first byte, from netip.AddrPort, now time.Time) bool {
	switch {
	case first&firstPackets != 0:
		return d.first.pass(from.Addr(), now, firstAllowance)
	case d.known != nil && d.known(from):
		return true
	default:
		return d.other.pass(from.Addr(), now, otherAllowance)
	}
}

func (d *step) pass(from netip.Addr, now time.Time, a stepAllowance) bool {
	one := a.one
	if from.IsLoopback() { // all programs of this machine
		one = a.all
	}
	prefix := sourcePrefix(from)
	s := d.by[prefix]
	if s == nil {
		if d.by == nil {
			d.by = make(map[netip.Prefix]*spending)
		}
		if len(d.by) >= stepSources {
			d.sweep(now, a)
		}
		s = &spending{}
		if len(d.by) < stepSources { // else it counts in the total alone
			d.by[prefix] = s
		}
	}
	if ok, _ := s.take(now, one, 1); !ok {
		return false
	}
	ok, _ := d.all.take(now, a.all, 1)
	return ok
}

// sweep forgets who has used up nothing, at most four times a second: forged
// addresses fill the table as soon as there is room.
func (d *step) sweep(now time.Time, a stepAllowance) {
	if now.Sub(d.swept) < 250*time.Millisecond {
		return
	}
	d.swept = now
	for p, s := range d.by {
		if s.settle(now, a.one); s.used == 0 {
			delete(d.by, p)
		}
	}
}

// addressBook is where peers are connected from, by QUIC. It is read for every
// packet of QUIC's without a lock, and replaced as a whole.
type addressBook struct {
	now atomic.Pointer[map[netip.AddrPort]int]

	mu sync.Mutex // of those who replace it
}

// has tells whether somebody is connected from an address.
func (b *addressBook) has(a netip.AddrPort) bool {
	m := b.now.Load()
	return m != nil && (*m)[a] > 0
}

// change notes connections that came from an address (1), or went (-1).
func (b *addressBook) change(c network.Conn, by int) {
	if kindOf(c.RemoteMultiaddr()) != onQUIC {
		return
	}
	at, err := netip.ParseAddrPort(remoteOf(c.RemoteMultiaddr()))
	if err != nil {
		return // no address that packets come from
	}
	at = unmap(at)
	b.mu.Lock()
	defer b.mu.Unlock()
	next := make(map[netip.AddrPort]int)
	if m := b.now.Load(); m != nil {
		next = maps.Clone(*m)
	}
	if next[at] += by; next[at] <= 0 {
		delete(next, at)
	}
	b.now.Store(&next)
}

// connectedFrom tells whether somebody is connected by QUIC from an address.
func (n *Node) connectedFrom(a netip.AddrPort) bool {
	// The first packets come before the guard stands.
	g := n.topics.watching.Load()
	return g != nil && g.addresses.has(a)
}
