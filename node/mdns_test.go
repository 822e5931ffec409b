package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"teahouse/internal/mesh/meshtest"
)

// cable is a LAN for mDNS alone, in the memory of a test.
type cable struct {
	mu   sync.Mutex
	ends []*cableEnd
	sent int
}

// cableEnd is one machine on it, with one interface.
type cableEnd struct {
	cable *cable
	in    chan mdnsPacket

	mu   sync.Mutex
	lan  lan
	from netip.Addr
	off  bool // unplugged
}

func (c *cable) plug(ip string) *cableEnd {
	p := netip.MustParsePrefix(ip)
	e := &cableEnd{cable: c, in: make(chan mdnsPacket, 64), from: p.Addr(), lan: lan{index: 1, name: "eth0", prefixes: []netip.Prefix{p}}}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ends = append(c.ends, e)
	return e
}

func (e *cableEnd) packets() <-chan mdnsPacket { return e.in }

func (e *cableEnd) lans() ([]lan, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.off {
		return nil, nil
	}
	return []lan{e.lan}, nil
}

func (e *cableEnd) send(_ *lan, ipv4 bool, b []byte) error {
	if ipv4 != e.from.Is4() {
		return fmt.Errorf("no such family: ipv4 %v", ipv4)
	}
	e.cable.put(e.from, b)
	return nil
}

func (e *cableEnd) close() {}

func (e *cableEnd) unplug(off bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.off = off
}

// put sends b to all, to the sender too, as the kernel does.
func (c *cable) put(from netip.Addr, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent++
	for _, e := range c.ends {
		e.mu.Lock()
		off := e.off
		e.mu.Unlock()
		if off {
			continue
		}
		select {
		case e.in <- mdnsPacket{index: 1, source: from, data: slices.Clone(b)}:
		default:
		}
	}
}

func (c *cable) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent
}

// seeker is one mDNS service and what it found.
type seeker struct {
	end *cableEnd

	mu    sync.Mutex
	found map[peer.ID][]string
	calls int
	life  time.Duration
	gone  []peer.ID
}

func (s *seeker) sees(id peer.ID) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.found[id]
}

// seek runs an mDNS service on the cable until the returned stop.
func (c *cable) seek(id peer.ID, n Network, ip string, listen ...ma.Multiaddr) (*seeker, func()) {
	s := &seeker{end: c.plug(ip), found: make(map[peer.ID][]string)}
	m := &mdns{
		network: n, self: id, instance: "instance of " + ip[:strings.Index(ip, "/")], log: slog.New(slog.DiscardHandler), wire: s.end,
		listen: func() []ma.Multiaddr { return listen },
		found: func(id peer.ID, addrs []ma.Multiaddr, _ netip.Addr, life time.Duration) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.found[id], s.life = texts(addrs), life
			s.calls++
		},
		gone: func(id peer.ID, _ netip.Addr) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.gone = append(s.gone, id)
		},
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { m.run(ctx) })
	return s, func() { cancel(); wg.Wait() }
}

// pass lets d go by, until nobody has anything to do.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestMDNSFindsAndLosesNeighbours(t *testing.T) {
	for _, family := range []struct{ a, b, listen, sees string }{
		{"10.0.0.1/24", "10.0.0.2/24", "/ip4/0.0.0.0/udp/7/quic-v1", "/ip4/10.0.0.1/udp/7/quic-v1"},
		{"fd00::1/64", "fd00::2/64", "/ip6/::/tcp/7", "/ip6/fd00::1/tcp/7"},
	} {
		t.Run(family.a, func(t *testing.T) {
			listen := multiaddrs(t, family.listen)
			meshtest.Bubble(t, func(t *testing.T) {
				c := new(cable)
				ida, idb := peer.ID(idOf(1)), peer.ID(idOf(2))
				a, stopA := c.seek(ida, testNetwork, family.a, listen...)
				pass(time.Hour) // it waits in vain, and falls silent
				before := c.count()
				pass(time.Hour)
				if n := c.count() - before; n < 40 || n > 85 {
					t.Errorf("%d messages in a lonely hour", n)
				}
				b, stopB := c.seek(idb, testNetwork, family.b, listen...)
				pass(500 * time.Millisecond)
				if got := b.sees(ida); !slices.Equal(got, []string{family.sees}) {
					t.Errorf("the newcomer sees %v after half a second", got)
				}
				if a.sees(idb) == nil || a.sees(ida) != nil || a.life != mdnsTTL {
					t.Errorf("who was there sees %v for %v", a.found, a.life)
				}
				// A cable pulled and put in again begins anew.
				b.end.unplug(true)
				pass(time.Minute)
				a.mu.Lock()
				clear(a.found)
				a.mu.Unlock()
				b.end.unplug(false)
				pass(lanPoll + time.Second)
				if a.sees(idb) == nil {
					t.Error("not seen again after the cable was put in again")
				}
				stopB()
				pass(time.Second)
				if !slices.Contains(a.gone, idb) {
					t.Error("no goodbye")
				}
				stopA()
			})
		})
	}
}

func TestMDNSKeepsNetworksApart(t *testing.T) {
	listen := multiaddrs(t, "/ip4/0.0.0.0/udp/7/quic-v1")
	meshtest.Bubble(t, func(t *testing.T) {
		c := new(cable)
		ears := c.plug("10.0.0.9/24")
		ears.in = make(chan mdnsPacket, 10000)
		a, stopA := c.seek(peer.ID(idOf(1)), testNetwork, "10.0.0.1/24", listen...)
		b, stopB := c.seek(peer.ID(idOf(2)), NetworkFromSeed([32]byte{9}), "10.0.0.2/24", listen...)
		l, stopL := c.seek(peer.ID(idOf(3)), LAN(), "10.0.0.3/24", listen...)
		pass(3 * time.Minute)
		for _, s := range []*seeker{a, b, l} {
			if len(s.found) != 0 {
				t.Errorf("found across networks: %v", s.found)
			}
		}
		stopA()
		stopB()
		stopL()
		for len(ears.in) > 0 {
			if p := <-ears.in; strings.Contains(string(p.data), testNetwork.ID) {
				t.Error("the network's id is on the wire")
			}
		}
	})
}

// Over midnight, and with a clock that is an hour and a half wrong.
func TestMDNSOverMidnight(t *testing.T) {
	listen := multiaddrs(t, "/ip4/0.0.0.0/udp/7/quic-v1")
	meshtest.Bubble(t, func(t *testing.T) {
		c := new(cable)
		_, stopA := c.seek(peer.ID(idOf(1)), testNetwork, "10.0.0.1/24", listen...)
		defer stopA()
		for range 50 {
			pass(time.Hour) // the bubble's clock begins at midnight UTC
			b, stopB := c.seek(peer.ID(idOf(2)), testNetwork, "10.0.0.2/24", listen...)
			// Who has just answered for itself is silent for a second.
			for begun := time.Now(); b.sees(peer.ID(idOf(1))) == nil && time.Since(begun) < 5*time.Second; {
				pass(time.Second)
			}
			if b.sees(peer.ID(idOf(1))) == nil {
				t.Errorf("not found at %v", time.Now().UTC())
			}
			stopB()
		}
	})
	behind := time.Unix(86400*20000-5400, 0)
	if !slices.Contains(testNetwork.mdnsServices(behind), testNetwork.mdnsServices(behind.Add(90 * time.Minute))[0]) {
		t.Error("a clock that is 90 minutes behind does not know the new day")
	}
}

func TestMDNSFlood(t *testing.T) {
	listen := multiaddrs(t, "/ip4/0.0.0.0/udp/7/quic-v1")
	meshtest.Bubble(t, func(t *testing.T) {
		c := new(cable)
		s, stop := c.seek(peer.ID(idOf(1)), LAN(), "10.0.0.1/24", listen...)
		defer stop()
		pass(10 * time.Minute)
		query, _ := mdnsQuery([]string{lanService})
		before := c.count()
		const asked = 5000
		for range asked {
			c.put(netip.MustParseAddr("10.0.0.66"), query)
			pass(2 * time.Millisecond)
		}
		if n := c.count() - before - asked; n < 5 || n > 12 {
			t.Errorf("%d messages of ours in 10 s of questions", n)
		}
		// From off the link, or by an interface that we do not know, nothing counts.
		before = s.calls
		a := mdnsAnswer{service: lanService, instance: "x", ttl: mdnsTTL, addrs: []string{"/ip4/10.0.0.7/tcp/7/p2p/" + testPeer}}
		b, _ := a.marshal()
		c.put(netip.MustParseAddr("8.8.8.8"), b)
		s.end.in <- mdnsPacket{index: 9, source: netip.MustParseAddr("10.0.0.7"), data: b}
		pass(time.Second)
		if s.calls != before {
			t.Error("believed what came from elsewhere")
		}
		a.ttl = 1 << 31 * time.Second
		b, _ = a.marshal()
		c.put(netip.MustParseAddr("10.0.0.7"), b)
		pass(time.Second)
		if s.calls != before+1 || s.life != mdnsTTL {
			t.Errorf("%d calls, believed for %v", s.calls-before, s.life)
		}
	})
}

// Who can be reached from no LAN says nothing and asks nothing.
func TestMDNSSilentOnLoopback(t *testing.T) {
	listen := multiaddrs(t, "/ip4/127.0.0.1/udp/7/quic-v1", "/ip6/::1/tcp/7")
	meshtest.Bubble(t, func(t *testing.T) {
		c := new(cable)
		_, stop := c.seek(peer.ID(idOf(1)), LAN(), "10.0.0.1/24", listen...)
		pass(time.Hour)
		stop()
		if c.sent != 0 {
			t.Errorf("%d messages", c.sent)
		}
	})
}

// A message to us alone may come from anywhere: the sockets do not take it.
// Closing ends what reads them.
func TestMDNSSocketsTakeTheGroupAlone(t *testing.T) {
	s := newMDNSSockets(slog.New(slog.DiscardHandler))
	defer s.close()
	for four, to := range map[bool]string{true: "127.0.0.1", false: "::1"} {
		k, err := openMDNS(four)
		if err != nil {
			t.Logf("no socket for this family: %v", err)
			continue
		}
		if four {
			s.four = k
		} else {
			s.six = k
		}
		// What reads a packet sees it, and that it was not sent to the group.
		conn, err := net.Dial("udp", net.JoinHostPort(to, fmt.Sprint(mdnsPort)))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for range 2 {
			if _, err := conn.Write([]byte("to you alone")); err != nil {
				t.Fatal(err)
			}
		}
		_ = k.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, _, dst, from, err := k.readOne(make([]byte, 100)); err != nil {
			t.Logf("another program has the port: %v", err)
		} else if !dst.Equal(net.ParseIP(to)) || from == nil {
			t.Errorf("sent to %v, from %v; want %s", dst, from, to)
		}
		_ = k.conn.SetReadDeadline(time.Time{})
		s.wg.Go(func() { s.read(k) })
	}
	select {
	case p := <-s.in:
		t.Errorf("took %q", p.data)
	case <-time.After(100 * time.Millisecond):
	}
}
