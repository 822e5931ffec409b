package node

import (
	"net/netip"
	"time"
)

// doorstep bounds how many packets that begin a QUIC connection reach quic-go.
// It answers each (a Retry, or the first half of a handshake) on the goroutine
// that reads the socket, the one that voice comes by: 10 us and more, so that
// 50,000 a second, from forged addresses, leave no time for voice. Established
// connections have short headers and never pass here, and who finds the step
// crowded still has TCP.
//
// It belongs to the goroutine that reads one socket.
type doorstep struct {
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

var (
	// A connection takes 3 to 5 such packets: a household of 16 that starts
	// again takes 100.
	stepOfOne = allowance{rate: 64, burst: 256}
	stepOfAll = allowance{rate: 512, burst: 1024}
)

// pass tells whether a QUIC packet may go on to quic-go.
func (d *doorstep) pass(first byte, from netip.AddrPort, now time.Time) bool {
	if first&firstPackets == 0 {
		return true
	}
	prefix := sourcePrefix(from.Addr())
	s := d.by[prefix]
	if s == nil {
		if d.by == nil {
			d.by = make(map[netip.Prefix]*spending)
		}
		if len(d.by) >= stepSources {
			d.sweep(now)
		}
		s = &spending{}
		if len(d.by) < stepSources { // else it counts in the total alone
			d.by[prefix] = s
		}
	}
	ofOne := stepOfOne
	if from.Addr().IsLoopback() { // all programs of this machine
		ofOne = stepOfAll
	}
	if ok, _ := s.take(now, ofOne, 1); !ok {
		return false
	}
	ok, _ := d.all.take(now, stepOfAll, 1)
	return ok
}

// sweep forgets who has used up nothing, at most four times a second: forged
// addresses fill the table as soon as there is room.
func (d *doorstep) sweep(now time.Time) {
	if now.Sub(d.swept) < 250*time.Millisecond {
		return
	}
	d.swept = now
	for p, s := range d.by {
		if s.settle(now, stepOfOne); s.used == 0 {
			delete(d.by, p)
		}
	}
}
