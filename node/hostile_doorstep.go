package node

import (
	"net/netip"
	"time"
)

// doorstep bounds how many packets reach quic-go. Those that begin a connection
// it answers (a Retry, or the first half of a handshake) on the goroutine that
// reads the socket, the one that voice comes by; those of connections that it
// does not know it answers with a stateless reset. Either costs 10 us and more,
// so that 50,000 a second, from forged addresses, leave no time for voice. Who
// finds the step crowded still has TCP, and what is lost of a connection QUIC
// sends again.
//
// It belongs to the goroutine that reads one socket.
type doorstep struct {
	// known tells whether somebody is connected from an address; nil: nobody
	// is. refused is told of each packet that does not pass; nil: nobody wants
	// to know. Constant.
	known   func(a netip.AddrPort, now time.Time) bool
	refused func(c packetClass, from netip.AddrPort, now time.Time)

	first, other step[netip.Prefix]
	member       step[netip.AddrPort]
}

// step bounds one kind of packets, of one source and of all.
type step[K comparable] struct {
	all   spending
	fresh spending
	by    map[K]*spending
	swept time.Time
}

const (
	// firstPackets is set in the first byte of packets that make connections
	// (RFC 9000 section 17.2).
	firstPackets = 0x80

	stepSources = 1024
	// freshPackets is how many packets somebody has brought lately at most who is
	// let in beside those that crowd the step: two connections.
	freshPackets = 10
)

// stepAllowance is what a step lets through.
// fresh is on top of all, for those of whom little has come lately: a few
// addresses that bring as much as each may do not keep others out.
type stepAllowance struct{ one, all, fresh allowance }

var (
	// A connection begins with 3 to 5 packets: a household of 16 that starts
	// again takes 100.
	firstAllowance = stepAllowance{one: allowance{rate: 64, burst: 128}, all: allowance{rate: 256, burst: 256}, fresh: allowance{rate: 128, burst: 128}}
	// Who has moved to another address is known by it only when QUIC has
	// validated it: until then he comes as a stranger.
	otherAllowance = stepAllowance{one: allowance{rate: 128, burst: 128}, all: allowance{rate: 512, burst: 512}, fresh: allowance{rate: 128, burst: 128}}
	// Whoever is connected may send junk from where he is connected, too. All
	// that a peer is allowed to bring, 2 MiB/s, is 1,700 packets.
	memberAllowance = stepAllowance{one: allowance{rate: 8192, burst: 512}, all: allowance{rate: 16_384, burst: 4096}}
)

// pass tells whether a QUIC packet may go on to quic-go.
func (d *doorstep) pass(first byte, from netip.AddrPort, now time.Time) (ok bool) {
	class := strangerPacket
	switch {
	case first&firstPackets != 0:
		class = firstPacket
		ok = d.first.pass(sourcePrefix(from.Addr()), from.Addr().IsLoopback(), now, firstAllowance)
	case d.known != nil && d.known(from, now):
		class = memberPacket
		ok = d.member.pass(from, false, now, memberAllowance)
	default:
		ok = d.other.pass(sourcePrefix(from.Addr()), from.Addr().IsLoopback(), now, otherAllowance)
	}
	if !ok && d.refused != nil {
		d.refused(class, from, now)
	}
	return ok
}

// pass asks for one packet. own is a source that is all programs of this
// machine, which has all there is.
func (d *step[K]) pass(source K, own bool, now time.Time, a stepAllowance) bool {
	one := a.one
	if own {
		one = a.all
	}
	s := d.by[source]
	if s == nil {
		if d.by == nil {
			d.by = make(map[K]*spending)
		}
		if len(d.by) >= stepSources {
			d.sweep(now, a)
		}
		s = &spending{}
		if len(d.by) < stepSources { // else it counts in the total alone
			d.by[source] = s
		}
	}
	if ok, _ := s.take(now, one, 1); !ok {
		return false
	}
	ok, _ := d.all.take(now, a.all, 1)
	if !ok && s.used <= freshPackets {
		ok, _ = d.fresh.take(now, a.fresh, 1)
	}
	return ok
}

// sweep forgets who has used up nothing, at most four times a second: forged
// addresses fill the table as soon as there is room.
func (d *step[K]) sweep(now time.Time, a stepAllowance) {
	if now.Sub(d.swept) < 250*time.Millisecond {
		return
	}
	d.swept = now
	for k, s := range d.by {
		if s.settle(now, a.one); s.used == 0 {
			delete(d.by, k)
		}
	}
}
