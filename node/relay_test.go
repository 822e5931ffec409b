package node

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/multiformats/go-multiaddr"

	"teahouse/internal/mesh"
	"teahouse/internal/mesh/meshtest"
)

// wall is a firewall before one node, as home routers have: packets come in
// from where the node has sent to lately. A strict one lets nobody in but the
// servers, whatever is sent.
type wall struct {
	net.PacketConn
	strict  func() bool
	servers []netip.Addr

	mu   sync.Mutex
	sent map[netip.AddrPort]time.Time
}

func (w *wall) WriteTo(b []byte, to net.Addr) (int, error) {
	w.mu.Lock()
	if w.sent == nil {
		w.sent = make(map[netip.AddrPort]time.Time)
	}
	w.sent[to.(*net.UDPAddr).AddrPort()] = time.Now()
	w.mu.Unlock()
	return w.PacketConn.WriteTo(b, to)
}

func (w *wall) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := w.PacketConn.ReadFrom(b)
		if err != nil {
			return n, from, err
		}
		at := from.(*net.UDPAddr).AddrPort()
		w.mu.Lock()
		last, ok := w.sent[at]
		w.mu.Unlock()
		known := slices.Contains(w.servers, at.Addr().Unmap())
		if ok && time.Since(last) < 30*time.Second && (known || !w.strict()) {
			return n, from, nil
		}
	}
}

// walled puts cfg behind a wall.
func walled(cfg Config, strict func() bool, servers ...netip.Addr) Config {
	listen := cfg.ListenUDP
	cfg.ListenUDP = func(network string, at *net.UDPAddr) (net.PacketConn, error) {
		c, err := listen(network, at)
		if err != nil {
			return nil, err
		}
		return &wall{PacketConn: c, strict: strict, servers: servers}, nil
	}
	return cfg
}

func always() bool { return true }

// relayed starts a relay, and two who are walled off each other.
func relayed(t *testing.T, i *internet, strict func() bool, change func(*Config)) (relay, a, b *Node) {
	t.Helper()
	cfg := i.config(t)
	cfg.Bootstrap, cfg.Relay = true, true
	relay = startNode(t, cfg)
	at := netip.MustParseAddr("44.0.0.1")
	var both []*Node
	for range 2 {
		cfg := walled(i.config(t), strict, at)
		cfg.Relays = fullAddrs(relay)
		if change != nil {
			change(&cfg)
		}
		both = append(both, startNode(t, cfg))
	}
	return relay, both[0], both[1]
}

func circuits(n *Node) (out []mesh.Addr) {
	for _, a := range n.Self().Addrs {
		if m, err := multiaddr.NewMultiaddr(string(a)); err == nil && isCircuit(m) {
			out = append(out, a)
		}
	}
	return out
}

// Two whom no way leads to each other talk through the relay of their network,
// and the path says so.
func TestRelay(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		relay, a, b := relayed(t, newInternet(t, 20*time.Millisecond), always, nil)
		time.Sleep(10 * time.Second)
		if len(circuits(a)) == 0 || len(circuits(b)) == 0 {
			t.Fatalf("reachable at %v and %v", a.Self().Addrs, b.Self().Addrs)
		}
		p := openPair(t, a, b)
		begun := time.Now()
		for _, s := range []mesh.Session{p.a, p.b} {
			eventually(t, "a path", func() bool { _, ok := s.Path(); return ok })
		}
		t.Logf("voice has a path %v after the session", time.Since(begun))
		for range 10 {
			sent := time.Now()
			_ = p.a.SendPacket([]byte("tick"))
			receive(t, p.pb)
			if d := time.Since(sent); d < 40*time.Millisecond || d > 42*time.Millisecond {
				t.Errorf("a packet took %v over two hops of 20 ms", d)
			}
			_ = p.b.SendPacket([]byte("tock"))
			receive(t, p.pa)
			time.Sleep(20 * time.Millisecond)
		}
		time.Sleep(30 * time.Second)
		for _, s := range []mesh.Session{p.a, p.b} {
			path, ok := s.Path()
			if !ok || path.Carrier != mesh.Relayed || path.Via != relay.id || path.Transport != "quic" || path.Remote != "44.0.0.1:7654" {
				t.Errorf("path %+v, %v", path, ok)
			}
			if s.Err() != nil {
				t.Errorf("the session ended: %v", s.Err())
			}
		}
	})
}

// Where both firewalls let in what was asked for, a hole is punched, voice goes
// directly and the relay is left.
func TestPunch(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		_, a, b := relayed(t, newInternet(t, 20*time.Millisecond), func() bool { return false }, nil)
		time.Sleep(10 * time.Second)
		p := openPair(t, a, b)
		begun := time.Now()
		for {
			path, ok := p.a.Path()
			if ok && path.Carrier == mesh.Datagram {
				t.Logf("direct after %v", time.Since(begun))
				break
			}
			if time.Since(begun) > 30*time.Second {
				t.Fatalf("still %+v", path)
			}
			time.Sleep(10 * time.Millisecond)
		}
		for range 20 {
			_ = p.a.SendPacket([]byte("tick"))
			receive(t, p.pb)
			time.Sleep(20 * time.Millisecond)
		}
	})
}

// When the firewalls come to let through what was asked for, a talk that goes
// through the relay goes directly, without a gap, and goes on without the relay.
func TestUpgradeInMidTalk(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		var open atomic.Bool
		relay, a, b := relayed(t, newInternet(t, 20*time.Millisecond), func() bool { return !open.Load() }, nil)
		time.Sleep(10 * time.Second)
		p := openPair(t, a, b)
		eventually(t, "a path", func() bool { _, ok := p.a.Path(); return ok })
		stop, heard := make(chan struct{}), make(map[string]time.Time)
		var talk sync.WaitGroup
		talk.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond):
					_ = p.a.SendPacket([]byte(strconv.Itoa(i)))
				}
			}
		})
		listen := func(d time.Duration) {
			for end := time.After(d); ; {
				select {
				case s := <-p.pb:
					if _, twice := heard[s]; twice {
						t.Logf("%s came twice", s) // the room drops it
					}
					heard[s] = time.Now()
				case <-end:
					return
				}
			}
		}
		listen(20 * time.Second)
		if path, _ := p.a.Path(); path.Carrier != mesh.Relayed {
			t.Errorf("path %+v", path)
		}
		open.Store(true)
		opened := time.Now()
		for {
			listen(100 * time.Millisecond)
			if path, ok := p.a.Path(); ok && path.Carrier == mesh.Datagram {
				break
			}
			if time.Since(opened) > 6*time.Minute {
				t.Fatal("still through the relay")
			}
		}
		t.Logf("direct %v after it became possible", time.Since(opened))
		listen(2 * time.Second)
		if n := len(heard); n > 0 {
			lost := 0
			for i := range n {
				if _, ok := heard[strconv.Itoa(i)]; !ok {
					lost++
				}
			}
			t.Logf("%d packets came, %d were lost", n, lost)
			if lost > 2 {
				t.Errorf("%d of %d packets were lost", lost, n)
			}
		}
		// The session that stands on the relay makes way for another.
		eventually(t, "the session to be replaced", func() bool { return p.a.Err() != nil })
		close(stop)
		talk.Wait()
		q := openPair(t, a, b)
		noError(t, relay.Close())
		time.Sleep(30 * time.Second)
		if path, ok := q.a.Path(); !ok || path.Carrier != mesh.Datagram || q.a.Err() != nil {
			t.Errorf("without the relay: path %+v, %v, %v", path, ok, q.a.Err())
		}
	})
}

func noError(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What fails closed: a relay without a ticket, a policy that refuses relays, and
// a stranger at the relay.
func TestRelayRefused(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no ticket":       func(c *Config) { c.Peers, c.Relays = c.Relays, nil },
		"policy":          func(c *Config) { c.Gater = noRelays{} },
		"another network": func(c *Config) { c.Network = NetworkFromSeed([32]byte{9}) },
	} {
		t.Run(name, func(t *testing.T) {
			meshtest.Bubble(t, func(t *testing.T) {
				_, a, b := relayed(t, newInternet(t, 20*time.Millisecond), always, change)
				time.Sleep(10 * time.Second)
				if len(circuits(a)) != 0 {
					t.Errorf("reachable at %v", circuits(a))
				}
				if _, err := a.Open(within(t, 20*time.Second), b.Self(), testDoor); err == nil {
					t.Error("a session was opened")
				}
				for _, c := range a.host.Network().Conns() {
					if connKind(c) == onRelay {
						t.Errorf("connected by %v", c.RemoteMultiaddr())
					}
				}
			})
		})
	}
}

// Who wants voice in datagrams alone may meet others through the relay, but
// sends no voice there.
func TestRelayCarriesNoDatagrams(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		_, a, b := relayed(t, newInternet(t, 20*time.Millisecond), always, func(c *Config) { c.Transport = DatagramOnly })
		time.Sleep(10 * time.Second)
		p := openPair(t, a, b)
		time.Sleep(20 * time.Second)
		if path, ok := p.a.Path(); ok {
			t.Errorf("path %+v", path)
		}
		_ = p.a.SendPacket([]byte("tick"))
		time.Sleep(time.Second)
		if len(p.pb) != 0 {
			t.Error("a packet came")
		}
	})
}

// noRelays allows all but relays.
type noRelays struct{}

func (noRelays) Allow(mesh.PeerID, netip.Addr, Direction) error { return nil }

func (noRelays) AllowRelay(mesh.PeerID, netip.Addr, bool) error { return errStrangeRelay }

func (noRelays) AllowLink(netip.Prefix) error { return nil }

// A talk through a relay is not cut by libp2p's limits (2 minutes, 128 KiB):
// 11 minutes and over 100 MiB one way.
func TestRelayLasts(t *testing.T) {
	const length = 1000
	lasts, every := 11*time.Minute, 6*time.Millisecond
	if testing.Short() || raceDetector {
		lasts, every = 130*time.Second, 50*time.Millisecond
	}
	meshtest.Bubble(t, func(t *testing.T) {
		_, a, b := relayed(t, newInternet(t, 5*time.Millisecond), always, nil)
		time.Sleep(10 * time.Second)
		p := openPair(t, a, b)
		eventually(t, "a path", func() bool { _, ok := p.a.Path(); return ok })
		packet := make([]byte, length)
		sent, came := 0, 0
		for begun := time.Now(); time.Since(begun) < lasts; time.Sleep(every) {
			_ = p.a.SendPacket(packet)
			for sent++; len(p.pb) > 0; came++ {
				<-p.pb
			}
		}
		time.Sleep(time.Second)
		came += len(p.pb)
		t.Logf("%d packets of %d bytes were sent in %v, %d came", sent, length, lasts, came)
		if came < sent*999/1000 || p.a.Err() != nil {
			t.Errorf("%d of %d packets came; the session: %v", came, sent, p.a.Err())
		}
	})
}

// When the relay that a talk goes through dies, those who talk meet at another.
func TestRelayDies(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		i := newInternet(t, 20*time.Millisecond)
		other := i.config(t)
		other.Bootstrap, other.Relay = true, true
		second := startNode(t, other)
		first := i.config(t)
		first.Bootstrap, first.Relay = true, true
		relays := map[mesh.PeerID]*Node{second.id: second}
		one := startNode(t, first)
		relays[one.id] = one
		var both []*Node
		for range 2 {
			cfg := walled(i.config(t), always, netip.MustParseAddr("44.0.0.1"), netip.MustParseAddr("44.0.0.2"))
			cfg.Relays = slices.Concat(fullAddrs(one), fullAddrs(second))
			both = append(both, startNode(t, cfg))
		}
		time.Sleep(10 * time.Second)
		p := openPair(t, both[0], both[1])
		eventually(t, "a path", func() bool { _, ok := p.a.Path(); return ok })
		path, _ := p.a.Path()
		stop, err := both[1].Listen(testDoor, func(mesh.Session) {})
		noError(t, err)
		defer stop()
		noError(t, relays[path.Via].Close())
		died := time.Now()
		<-p.a.Done()
		t.Logf("the session broke %v after the relay died", time.Since(died))
		var q *pair
		eventually(t, "another session", func() bool {
			s, err := both[0].Open(within(t, 5*time.Second), both[1].Self(), testDoor)
			if err == nil {
				q = &pair{a: s}
			}
			return err == nil
		})
		eventually(t, "another path", func() bool {
			got, ok := q.a.Path()
			return ok && got.Carrier == mesh.Relayed && got.Via != path.Via
		})
		t.Logf("through another relay after %v", time.Since(died))
	})
}
