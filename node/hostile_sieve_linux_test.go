package node

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/bpf"
)

// sieved is a socket behind the kernel's filter, and two that send to it.
type sieved struct {
	socket  *kernelSocket
	senders [2]*net.UDPConn
	from    [2]netip.AddrPort
}

func newSieved(t *testing.T, network, ip string) *sieved {
	t.Helper()
	c, err := net.ListenUDP(network, &net.UDPAddr{IP: net.ParseIP(ip)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	s := &sieved{}
	if s.socket, err = newKernelSocket(c, nil, nil); err != nil {
		t.Fatal(err)
	}
	s.socket.family = familyOf(network)
	for i := range s.senders {
		if s.senders[i], err = net.DialUDP(network, nil, c.LocalAddr().(*net.UDPAddr)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.senders[i].Close() })
		s.from[i], _ = addrPortOf(s.senders[i].LocalAddr())
	}
	return s
}

// admits sends datagrams, each with a last one that always passes, and tells
// which came. Nothing on loopback is lost or late that is not dropped.
func (s *sieved) admits(t *testing.T, sender int, datagrams [][]byte, mark []byte) (came []bool) {
	t.Helper()
	came = make([]bool, len(datagrams))
	buf := make([]byte, 4096)
	for i, d := range datagrams {
		for _, b := range [][]byte{d, mark} {
			if _, err := s.senders[sender].Write(b); err != nil {
				t.Fatal(err)
			}
		}
		for {
			if err := s.socket.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			n, err := s.socket.Read(buf)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Equal(buf[:n], mark) {
				break
			}
			if !bytes.Equal(buf[:n], d) {
				t.Fatalf("%x came, not %x", buf[:n], d)
			}
			came[i] = true
		}
	}
	return came
}

// admitsNone sends datagrams of which none is to come.
func (s *sieved) admitsNone(t *testing.T, sender int, datagrams [][]byte, r *rules) {
	t.Helper()
	before := s.socket.drops()
	for _, b := range datagrams {
		if r.admits(b, s.from[sender]) {
			t.Fatalf("%x is admitted", b)
		}
		if _, err := s.senders[sender].Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.socket.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := s.socket.Read(make([]byte, 2000)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes came from %d: %v", n, sender, err)
	}
	if got := s.socket.drops() - before; got != uint32(len(datagrams)) {
		t.Errorf("%d drops were counted, of %d", got, len(datagrams))
	}
}

// someDatagrams are of every kind, around every edge that the rules have.
func someDatagrams(r *rand.Rand, indexes []uint32) (out [][]byte) {
	voice := func(kind byte, index uint32, length int) {
		b := make([]byte, max(length, 5))
		b[0] = kind
		binary.BigEndian.PutUint32(b[1:], index)
		out = append(out, b[:length])
	}
	for _, kind := range []byte{0x00, 0x20, typePacket, typeCheck, 0x23, 0x3f} {
		index := r.Uint32()
		if len(indexes) > 0 {
			index = indexes[r.IntN(len(indexes))]
		}
		for _, length := range []int{0, 1, 4, 5, 12, minDatagramLen - 1, minDatagramLen, 200, datagramLen, datagramLen + 1, 1400} {
			voice(kind, index, length)
		}
		for _, other := range []uint32{0, 1, index - 1, index + 1, ^uint32(0), r.Uint32()} {
			voice(kind, other, 100)
		}
	}
	for range 20 {
		if len(indexes) > 0 {
			voice(typePacket, indexes[r.IntN(len(indexes))], 100)
		}
	}
	for _, kind := range []byte{0x40, 0x41, 0x7f, 0x80, 0xc3, 0xff} {
		voice(kind, r.Uint32(), 1+r.IntN(1200))
	}
	return out
}

// TestFilter: the kernel admits exactly what the rules do.
func TestFilter(t *testing.T) {
	for _, where := range []struct{ network, ip string }{{"udp4", "127.0.0.1"}, {"udp6", "::1"}} {
		t.Run(where.network, func(t *testing.T) {
			if where.network == "udp6" && !HasIPv6() {
				t.Skip("this machine has no IPv6")
			}
			s := newSieved(t, where.network, where.ip)
			r := rand.New(rand.NewPCG(7, 7))
			elsewhere := []netip.AddrPort{
				netip.MustParseAddrPort("44.0.0.1:7654"), netip.MustParseAddrPort("[2a00::1]:7654"),
				netip.AddrPortFrom(s.from[0].Addr(), s.from[0].Port()^0x4000),
			}
			us := barOf(voicePacket, s.from[0])
			for _, c := range []struct {
				name     string
				sessions int
				rules    rules
			}{
				{name: "nothing"},
				{name: "any index", rules: rules{any: true}},
				{name: "one session", sessions: 1},
				{name: "some", sessions: leafSize},
				{name: "more", sessions: leafSize + 1},
				{name: "all there may be", sessions: maxSessions},
				{name: "we are barred", sessions: 3, rules: rules{known: elsewhere, barred: [packetClasses][]netip.AddrPort{{us}, {us}, {us}}}},
				{name: "all are barred", sessions: 1, rules: rules{closed: [packetClasses]bool{true, true, true, false}}},
				{name: "others are barred", sessions: 3, rules: rules{
					known:  elsewhere,
					barred: [packetClasses][]netip.AddrPort{{barOf(0, elsewhere[0]), barOf(0, elsewhere[1])}, {barOf(0, elsewhere[0])}, {barOf(0, elsewhere[1])}, elsewhere},
				}},
				{name: "one of us is known, and all others are barred", sessions: 3, rules: rules{
					known: append(elsewhere, s.from[0]), closed: [packetClasses]bool{true, true, true, false},
				}},
				{name: "one of us is known, and where we are is barred", sessions: 40, rules: rules{
					known: append([]netip.AddrPort{s.from[0]}, elsewhere...), barred: [packetClasses][]netip.AddrPort{{us}, {us}, {us}},
				}},
				{name: "who is known is barred", sessions: 2, rules: rules{
					known: append([]netip.AddrPort{s.from[0]}, elsewhere...), barred: [packetClasses][]netip.AddrPort{memberPacket: {s.from[0]}},
				}},
			} {
				t.Run(c.name, func(t *testing.T) {
					for range c.sessions {
						c.rules.indexes = append(c.rules.indexes, r.Uint32())
					}
					// One that may pass from anywhere ends each wait.
					mark := []byte{0xc0, 'm', 'a', 'r', 'k'}
					if c.rules.closed[firstPacket] || slices.Contains(c.rules.barred[firstPacket], us) {
						mark = append([]byte{typePacket}, make([]byte, 100)...)
						c.rules.indexes[0] = binary.BigEndian.Uint32(mark[1:])
					}
					slices.Sort(c.rules.indexes)
					program, err := bpf.Assemble(c.rules.program(s.socket.family))
					if err != nil || len(program) > maxProgram {
						t.Fatalf("a program of %d: %v", len(program), err)
					}
					if err := s.socket.attach(program); err != nil {
						t.Fatal(err)
					}
					for i, from := range s.from {
						datagrams := someDatagrams(r, c.rules.indexes)
						if !c.rules.admits(mark, from) {
							s.admitsNone(t, i, datagrams, &c.rules)
							continue
						}
						passed := 0
						for j, came := range s.admits(t, i, datagrams, mark) {
							if want := c.rules.admits(datagrams[j], from); came != want {
								t.Errorf("%x... of %d bytes, from %d: came %v, not %v", datagrams[j][:min(13, len(datagrams[j]))], len(datagrams[j]), i, came, want)
							}
							if came {
								passed++
							}
						}
						if passed == 0 || passed == len(datagrams) {
							t.Errorf("%d of %d passed", passed, len(datagrams))
						}
					}
				})
			}
		})
	}
}

// TestFilterTooLong: rules that make no program the kernel would take are made
// simpler, and never stay as they were.
func TestFilterTooLong(t *testing.T) {
	s := newSieved(t, "udp4", "127.0.0.1")
	long := &rules{indexes: []uint32{1}}
	for i := range 600 {
		long.known = append(long.known, netip.AddrPortFrom(netip.AddrFrom4([4]byte{44, 1, byte(i >> 8), byte(i)}), 1))
	}
	long.closed = [packetClasses]bool{true, true, true}
	s.socket.filter(&rules{indexes: []uint32{2}})
	s.socket.filter(long)
	voice := func(index byte) []byte { return append([]byte{typePacket, 0, 0, 0, index}, make([]byte, 100)...) }
	came := s.admits(t, 0, [][]byte{voice(2), voice(1)}, []byte{0xc0, 1})
	if fmt.Sprint(came) != "[false true]" {
		t.Errorf("of the old session and the new one came %v", came)
	}
	many := &rules{}
	for i := range uint32(8000) {
		many.indexes = append(many.indexes, i)
	}
	s.socket.filter(many)
	if came := s.admits(t, 0, [][]byte{voice(9), {0x20}}, []byte{0xc0, 1}); fmt.Sprint(came) != "[true false]" {
		t.Errorf("with rules for too many sessions came %v", came)
	}
}

// TestSieve: what is refused now and then is read; what is a flood is not, and
// bars nobody else; and no bar is for ever.
func TestSieve(t *testing.T) {
	stranger := netip.MustParseAddrPort("44.0.0.1:9")
	neighbour := netip.MustParseAddrPort("44.0.0.2:9")
	member := netip.MustParseAddrPort("44.0.0.3:9")
	of := func(i int) netip.AddrPort { // many sources
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{45, 0, byte(i >> 8), byte(i)}), 9)
	}
	for _, c := range []struct {
		name    string
		class   packetClass
		each    int // refused
		every   time.Duration
		from    func(i int) netip.AddrPort
		barred  bool // stranger
		closed  bool
		oneToo  bool // the member, as such
		notMuch bool // whatever else: all is open
	}{
		{name: "now and then", each: 2000, every: 2 * time.Millisecond, from: func(int) netip.AddrPort { return stranger }, notMuch: true},
		{name: "a flood", each: refuseSource, every: 10 * time.Microsecond, from: func(int) netip.AddrPort { return stranger }, barred: true},
		{name: "a longer one", each: 5 * refuseAll, every: 10 * time.Microsecond, from: func(int) netip.AddrPort { return stranger }, barred: true},
		{name: "of many, slow", class: firstPacket, each: 2000, every: 200 * time.Microsecond, from: of, notMuch: true},
		{name: "of many", class: firstPacket, each: refuseAll, every: 10 * time.Microsecond, from: of, closed: true},
		{name: "of a member", class: memberPacket, each: refuseMember, every: 10 * time.Microsecond, from: func(int) netip.AddrPort { return member }, oneToo: true},
		{name: "of all members", class: memberPacket, each: 20_000, every: 10 * time.Microsecond, from: of, notMuch: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			known := map[netip.AddrPort]bool{member: true}
			s := sieve{
				run:     func(func()) bool { return true }, // settled by hand
				indexes: func() []uint32 { return []uint32{7} },
				known:   func() map[netip.AddrPort]bool { return known },
			}
			s.add(newSieved(t, "udp4", "127.0.0.1").socket)
			now := epoch
			for i := range c.each {
				s.refuse(c.class, c.from(i), now)
				now = now.Add(c.every)
			}
			check := func(barred, closed, oneToo bool) {
				t.Helper()
				r := s.rules()
				// The class alone, the source alone, and never who is connected.
				for class := range memberPacket {
					if got := r.open(class, stranger); got != (class != c.class || !barred && !closed) {
						t.Errorf("class %d of the one who floods: open %v", class, got)
					}
					if got := r.open(class, neighbour); got != (class != c.class || !closed) {
						t.Errorf("class %d of his neighbour: open %v", class, got)
					}
				}
				if !r.open(voicePacket, member) || r.admits([]byte{0x41, 0}, member) == oneToo {
					t.Errorf("the member: voice open %v, QUIC open %v", r.open(voicePacket, member), r.admits([]byte{0x41, 0}, member))
				}
			}
			check(c.barred, c.closed, c.oneToo)
			if s.lifting == c.notMuch {
				t.Errorf("somebody waits for the end of a bar: %v", s.lifting)
			}
			s.barred.settle(now.Add(barFor))
			check(false, false, false)
		})
	}
}
