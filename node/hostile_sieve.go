package node

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// sieve has the kernel drop what this node would drop unread. A datagram that
// is read costs a wake-up, 20 to 80 us here, and a place in the socket's
// buffer, where a flood leaves none for voice (an ordinary program has 200 KiB
// of it, some 300 small datagrams: 2 ms of a flood); one that the kernel's
// filter drops costs 0.1 us and no place. What is dropped:
//
//   - what is neither QUIC's nor voice, and voice for no session of ours, always
//   - what was refused so often lately that it is a flood, for barFor: packets
//     of one class from one source, or from all who are not connected
//
// But for those bars the filter drops only what would be dropped behind it
// (takeDatagram, doorstep), which is all there is where the kernel has no such
// filter.
//
// Its methods may be called from any goroutine.
type sieve struct {
	// Constant.
	run     func(func()) bool // a goroutine of the node's; false: the node is closing
	done    <-chan struct{}   // closed with the node
	indexes func() []uint32   // receiver indexes of all sessions
	known   func() map[netip.AddrPort]bool

	mu      sync.Mutex
	sockets map[*kernelSocket]bool
	window  time.Time // since when refusals are counted
	refused [packetClasses]refusals
	barred  bars
	lifting bool // a goroutine waits for bars to end
}

// packetClass is a kind of packet that is refused by where it comes from.
type packetClass int

const (
	// voicePacket is a datagram of the voice whose index is right.
	voicePacket packetClass = iota
	// firstPacket begins a QUIC connection.
	firstPacket
	// strangerPacket is another of QUIC's, from an address that nobody is
	// connected from; memberPacket is one from an address that somebody is.
	strangerPacket
	memberPacket
	packetClasses
)

const (
	// refuseWindow is what refusals are counted in; refuseSource of one source
	// bar that, refuseAll of the rest all who are not connected. Below these,
	// 1,000 and 10,000 a second, refusing is cheap.
	refuseWindow = 100 * time.Millisecond
	refuseSource = 100
	refuseAll    = 1000
	// refuseMember is that of an address that somebody is connected from, on top
	// of the 8,192 a second that pass: QUIC slows down before.
	refuseMember = 500

	// barFor is how long a source is barred. Then it may fill the window again,
	// if it still floods. One that is connected is barred for less than what
	// counts as a pause: the guard is to see that its streams go on and on.
	barFor       = time.Second
	barMemberFor = floodCalm * 4 / 5

	maxBars = 32 // sources of one class; more, and all are barred
	// maxFiltered is how many addresses that are connected the filter tells
	// apart. A node that has more bars nobody.
	maxFiltered = 128
)

// refusals are those of one class in this window.
type refusals struct {
	all int
	by  map[netip.AddrPort]int
}

// bars are the sources that are barred, and until when. The port of a source is
// 0 unless it is that of a peer who is connected.
type bars struct {
	by  [packetClasses]map[netip.AddrPort]time.Time
	all [packetClasses]time.Time
}

// rules are what the filter holds to.
type rules struct {
	indexes []uint32 // sorted; what voice may bear
	any     bool     // any index will do
	// known are addresses that are never barred as strangers.
	known  []netip.AddrPort
	barred [packetClasses][]netip.AddrPort
	closed [packetClasses]bool // to all who are not known
}

// admits tells whether a datagram is to be read. The kernel's filter is held
// against it.
func (r *rules) admits(b []byte, from netip.AddrPort) bool {
	switch {
	case len(b) == 0:
		return false
	case b[0] < quicFrom:
		index, ok := datagramIndex(b)
		if _, mine := slices.BinarySearch(r.indexes, index); !ok || !r.any && !mine {
			return false
		}
		return r.open(voicePacket, from)
	case b[0]&firstPackets != 0:
		return r.open(firstPacket, from)
	case slices.Contains(r.known, from):
		return !slices.Contains(r.barred[memberPacket], from)
	default:
		return r.open(strangerPacket, from)
	}
}

// open tells whether a source is not barred.
func (r *rules) open(c packetClass, from netip.AddrPort) bool {
	if c != firstPacket && slices.Contains(r.known, from) {
		return true
	}
	return !r.closed[c] && !slices.Contains(r.barred[c], barOf(c, from))
}

// barOf is what is barred when a packet of that class is refused.
func barOf(c packetClass, from netip.AddrPort) netip.AddrPort {
	if c == memberPacket {
		return from
	}
	return netip.AddrPortFrom(sourcePrefix(from.Addr()).Addr(), 0)
}

// refuse counts a packet that was read in vain.
func (s *sieve) refuse(c packetClass, from netip.AddrPort, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sockets) == 0 {
		return // no kernel to tell
	}
	if now.Sub(s.window) >= refuseWindow || now.Before(s.window) {
		s.window = now
		for i := range s.refused {
			s.refused[i].all = 0
			clear(s.refused[i].by)
		}
	}
	r, source := &s.refused[c], barOf(c, from)
	if now.Before(s.barred.by[c][source]) {
		return // it had sent this before
	}
	if r.by == nil {
		r.by = make(map[netip.AddrPort]int)
	}
	r.all++
	if n, listed := r.by[source]; listed || len(r.by) < refuseAll {
		r.by[source] = n + 1
	}
	until, most := now.Add(barFor), refuseSource
	if c == memberPacket {
		until, most = now.Add(barMemberFor), refuseMember
	}
	switch {
	case r.by[source] == most && len(s.barred.by[c]) < maxBars:
		if s.barred.by[c] == nil {
			s.barred.by[c] = make(map[netip.AddrPort]time.Time)
		}
		s.barred.by[c][source] = until
		r.all -= most
	case r.all == refuseAll && c != memberPacket: // those bar nobody else
		s.barred.all[c] = until
	default:
		return
	}
	s.install()
	if !s.lifting {
		s.lifting = s.run(s.lift)
	}
}

// lift ends bars when it is time to.
func (s *sieve) lift() {
	for {
		s.mu.Lock()
		now := time.Now()
		next, ended := s.barred.settle(now)
		if ended {
			s.install()
		}
		if s.lifting = !next.IsZero(); !s.lifting {
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		wait := time.NewTimer(next.Sub(now))
		select {
		case <-wait.C:
		case <-s.done:
			wait.Stop()
			return
		}
	}
}

// settle ends what is over, and tells when the next will be; zero: never.
func (b *bars) settle(now time.Time) (next time.Time, ended bool) {
	soonest := func(until time.Time) {
		if next.IsZero() || until.Before(next) {
			next = until
		}
	}
	for c := range b.by {
		for source, until := range b.by[c] {
			if now.Before(until) {
				soonest(until)
				continue
			}
			delete(b.by[c], source)
			ended = true
		}
		switch until := b.all[c]; {
		case until.IsZero():
		case now.Before(until):
			soonest(until)
		default:
			b.all[c], ended = time.Time{}, true
		}
	}
	return next, ended
}

// add puts a socket behind the filter, remove takes it out.
func (s *sieve) add(k *kernelSocket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sockets == nil {
		s.sockets = make(map[*kernelSocket]bool)
	}
	s.sockets[k] = true
	s.install()
}

func (s *sieve) remove(k *kernelSocket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sockets, k)
}

// sessionsChanged is called when a session has come or gone, before its peer
// can know that it has come.
func (s *sieve) sessionsChanged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.install()
}

// peersChanged is called when somebody is connected from another address.
func (s *sieve) peersChanged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lifting { // else nobody is barred
		s.install()
	}
}

// dropped is how many datagrams the kernel has dropped, here or because a
// socket was full.
func (s *sieve) dropped() (n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.sockets {
		n += uint64(k.drops())
	}
	return n
}

// install makes the kernel hold to the rules of now. mu must be held.
func (s *sieve) install() {
	if len(s.sockets) == 0 {
		return
	}
	r := s.rules()
	for k := range s.sockets {
		k.filter(r)
	}
}

// rules are those of now. mu must be held.
func (s *sieve) rules() *rules {
	r := &rules{indexes: s.indexes()}
	slices.Sort(r.indexes)
	known := s.known()
	if len(known) > maxFiltered {
		return r
	}
	for a := range known {
		r.known = append(r.known, a)
	}
	for c := range r.barred {
		for source := range s.barred.by[c] {
			r.barred[c] = append(r.barred[c], source)
		}
		r.closed[c] = !s.barred.all[c].IsZero()
	}
	return r
}

// simpler are the rules to fall back on where the kernel finds these too many
// (net.core.optmem_max); nil after the last.
func (r *rules) simpler() *rules {
	switch {
	case r.sources():
		return &rules{indexes: r.indexes, any: r.any}
	case !r.any:
		return &rules{any: true}
	}
	return nil
}

// sources tells whether anybody is barred.
func (r *rules) sources() bool {
	for c := range r.barred {
		if r.closed[c] || len(r.barred[c]) > 0 {
			return true
		}
	}
	return false
}

// words are an address as a filter compares it: one of 32 bits, or four.
func words(a netip.Addr) []uint32 {
	var out []uint32
	for b := a.AsSlice(); len(b) >= 4; b = b[4:] {
		out = append(out, binary.BigEndian.Uint32(b))
	}
	return out
}
