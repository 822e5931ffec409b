package node

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"teahouse/internal/mesh"
	"teahouse/internal/mesh/meshtest"
)

// link of a session, for tests that look inside.
func inside(s mesh.Session) *session { return s.(*session) }

// byDatagrams waits until packets of a session go by datagrams: on a busy
// machine TCP may be there first.
func byDatagrams(t *testing.T, s mesh.Session) (w *way) {
	t.Helper()
	eventually(t, "packets go by datagrams", func() bool {
		w = inside(s).link.way.Load()
		return w != nil && w.stream == nil
	})
	return w
}

// heard are the packets that came of a session, in sets: while a path is in
// doubt a packet goes by two carriers, and both copies may come.
type heard struct{ copies map[string]int }

// say sends a packet until it comes: on a machine that stands still for a
// moment a stream drops what is old, and a socket what it has no room for.
func (h *heard) say(t *testing.T, from mesh.Session, packets <-chan string, text string) {
	t.Helper()
	for deadline := time.Now().Add(patience); h.copies[text] == 0; {
		if err := from.SendPacket([]byte(text)); err != nil {
			t.Fatal(err)
		}
		h.take(packets, 100*time.Millisecond)
		if time.Now().After(deadline) {
			t.Fatalf("not heard in %v: a packet of %d bytes", patience, len(text))
		}
	}
}

// take takes what comes until something has, or for a while.
func (h *heard) take(packets <-chan string, d time.Duration) {
	if h.copies == nil {
		h.copies = make(map[string]int)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case p := <-packets:
		h.copies[p]++
	case <-timer.C:
	}
}

// until takes packets until want is among them.
func (h *heard) until(t *testing.T, packets <-chan string, want string) {
	t.Helper()
	if h.copies == nil {
		h.copies = make(map[string]int)
	}
	for h.copies[want] == 0 {
		h.copies[receive(t, packets)]++
	}
}

func TestForgedAndReplayed(t *testing.T) {
	a, b := startNode(t, loopback(t)), startNode(t, loopback(t))
	p := openPair(t, a, b)
	w := byDatagrams(t, p.a)
	byDatagrams(t, p.b)
	var h heard
	h.say(t, p.a, p.pb, "real")

	// What an observer of the wire can do: send again, bend, invent; from any
	// address.
	s := &inside(p.a).link.out
	s.mu.Lock()
	sealed, err := s.seal(typePacket, []byte("once")) // on the wire by our hand alone
	if err != nil {
		t.Fatal(err)
	}
	again := bytes.Clone(sealed)
	s.mu.Unlock()
	bent := bytes.Clone(again)
	bent[len(bent)-1] ^= 1
	unknown := bytes.Clone(again)
	unknown[1] ^= 0xff
	attacker, err := net.Dial("udp4", w.to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = attacker.Close() }()
	send := func(b []byte) {
		if _, err := attacker.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	before := b.Stats()
	for _, b := range [][]byte{bent, unknown, {0x21}, {0x00, 1, 2}, append(again[:5:5], make([]byte, 1300)...)} {
		send(b)
	}
	send(again) // the source is never believed: an authentic packet counts from anywhere
	h.until(t, p.pb, "once")
	send(again)
	eventually(t, "all were counted", func() bool {
		st := b.Stats()
		dropped := func(s Stats) uint64 { return s.UnknownIndex + s.Malformed + s.Unread }
		return p.b.Stats().Unauthentic == 2 && dropped(st) >= dropped(before)+4
	})
	h.say(t, p.a, p.pb, "after")
	if h.copies["once"] != 1 || len(h.copies) != 3 {
		t.Errorf("these packets came: %v", h.copies)
	}
	if to := byDatagrams(t, p.b).to.String(); to == attacker.LocalAddr().String() {
		t.Error("the other side answers the attacker")
	}
}

// TestFlood: forgeries with a known index from one source cost no more than
// failedOpens a second, and do not shut the real peer out.
func TestFlood(t *testing.T) {
	a, b := startNode(t, loopback(t)), startNode(t, loopback(t))
	p := openPair(t, a, b)
	w := byDatagrams(t, p.a)
	forged := make([]byte, 100)
	forged[0] = typePacket
	copy(forged[1:], []byte{byte(inside(p.b).index >> 24), byte(inside(p.b).index >> 16), byte(inside(p.b).index >> 8), byte(inside(p.b).index)})
	attacker, err := net.Dial("udp4", w.to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = attacker.Close() }()
	for i := range 5000 {
		forged[12] = byte(i)
		_, _ = attacker.Write(forged)
		if i%100 == 0 {
			time.Sleep(time.Millisecond) // the socket's buffer is finite
		}
	}
	eventually(t, "the source is throttled", func() bool { return b.Stats().Throttled+b.Stats().Unread > 1000 })
	// With the peer's own address on them they are still forgeries, and still
	// do not shut the peer out.
	theirs := byDatagrams(t, p.b).to
	for range 1000 {
		copy(forged[20:], forged[:13]) // opening has blanked the rest
		b.takeDatagram(bytes.Clone(forged), theirs, time.Now())
	}
	var h heard
	h.say(t, p.a, p.pb, "voice")
	if len(h.copies) != 1 {
		t.Errorf("these packets came: %v", h.copies)
	}
}

// TestCrossing: both open at once; both rooms see both sessions, agree by
// their bindings, and retire one without losing what travels on it. In virtual
// time, because a machine that stands still for a moment may lose packets.
func TestCrossing(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		net := newInternet(t, 10*time.Millisecond)
		a, b := startNode(t, net.config(t)), startNode(t, net.config(t))
		accepted := [2]chan mesh.Session{make(chan mesh.Session, 1), make(chan mesh.Session, 1)}
		for i, n := range []*Node{a, b} {
			stop, err := n.Listen(testDoor, func(s mesh.Session) { accepted[i] <- s })
			if err != nil {
				t.Fatal(err)
			}
			defer stop()
		}
		var opened [2]mesh.Session
		var wg sync.WaitGroup
		for i, n := range []*Node{a, b} {
			to := []*Node{b, a}[i].Self()
			wg.Go(func() {
				s, err := n.Open(within(t, patience), to, testDoor)
				if err != nil {
					t.Error(err)
					return
				}
				opened[i] = s
			})
		}
		wg.Wait()
		if t.Failed() {
			return
		}
		first, second := opened[0], opened[1] // by a, by b
		firstB, secondA := <-accepted[1], <-accepted[0]
		if first.Binding() != firstB.Binding() || second.Binding() != secondA.Binding() || first.Binding() == second.Binding() {
			t.Error("bindings do not tell the sessions apart")
		}
		var k talk
		k.listen(first)
		k.listen(secondA)
		for _, s := range []mesh.Session{second, firstB} {
			s.Start(func([]byte) {}, nil)
		}
		// b talks on its own session while a retires it, and goes on when it has
		// seen the end; then it uses the other.
		k.speak(second, 500*time.Millisecond)
		secondA.Retire()
		k.speak(second, 2*time.Second)
		select {
		case <-second.Done():
		default:
			t.Error("b has not seen the end")
		}
		k.speak(firstB, 2*time.Second)
		time.Sleep(100 * time.Millisecond)
		if missing := k.missing(); len(missing) > 0 {
			t.Errorf("packets %v of %d did not come", missing, len(k.sent))
		}
	})
}

// TestConnectionKilled: the link of a session whose connection is gone lingers,
// and finds the way by a new one.
func TestConnectionKilled(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		net := newInternet(t, 10*time.Millisecond)
		a, b := startNode(t, net.config(t)), startNode(t, net.config(t))
		p := openPair(t, a, b)
		paths := make(chan string, 100)
		p.a.OnPath(func(path mesh.Path, _ bool) { paths <- string(path.Carrier) })
		await := func(want mesh.Carrier) {
			t.Helper()
			for receive(t, paths) != string(want) {
			}
		}
		await(mesh.Datagram)
		for _, c := range a.host.Network().ConnsToPeer(peer.ID(b.id)) {
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
		}
		<-p.a.Done()
		<-p.b.Done()
		await("") // none
		again := openPair(t, a, b)
		await(mesh.Datagram)
		var old, fresh heard
		old.say(t, p.a, p.pb, "old")
		fresh.say(t, again.a, again.pb, "new")
		if len(old.copies)+len(fresh.copies) != 2 {
			t.Errorf("on the lingering link %v, on the new one %v", old.copies, fresh.copies)
		}
	})
}

// TestTransportMeets: each side's choice binds both.
func TestTransportMeets(t *testing.T) {
	for _, c := range []struct {
		a, b Transport
		want string // carrier/transport, or empty for none
	}{
		{Auto, TCPOnly, "stream/tcp"},
		{TCPOnly, Auto, "stream/tcp"},
		{Auto, QUICOnly, "stream/quic"},
		{DatagramOnly, Auto, "datagram/quic"},
		{DatagramOnly, TCPOnly, ""},
		{TCPOnly, QUICOnly, ""},
	} {
		t.Run(string(c.a+" "+c.b), func(t *testing.T) {
			ca, cb := loopback(t), loopback(t)
			ca.Transport, cb.Transport = c.a, c.b
			a, b := startNode(t, ca), startNode(t, cb)
			// A connection by QUIC is there before, whatever is chosen.
			if err := b.host.Connect(within(t, patience), peer.AddrInfo{ID: a.host.ID(), Addrs: a.host.Addrs()}); err != nil {
				t.Fatal(err)
			}
			p := openPair(t, a, b)
			for _, s := range []mesh.Session{p.a, p.b} {
				if c.want == "" {
					time.Sleep(300 * time.Millisecond)
					_ = s.SendPacket([]byte("must not arrive"))
					if path, ok := s.Path(); ok {
						t.Errorf("a path: %+v", path)
					}
					if s.Stats().DroppedSending != 1 {
						t.Errorf("stats %+v", s.Stats())
					}
					continue
				}
				eventually(t, "a path", func() bool { _, ok := s.Path(); return ok })
				path, _ := s.Path()
				if got := string(path.Carrier) + "/" + path.Transport; got != c.want {
					t.Errorf("path %+v", path)
				}
			}
			if len(p.pa)+len(p.pb) > 0 {
				t.Error("a packet arrived by a way that is not allowed")
			}
		})
	}
}

// TestUpgrade: where only a TCP connection came about, QUIC is tried too.
func TestUpgrade(t *testing.T) {
	a, b := startNode(t, loopback(t)), startNode(t, loopback(t))
	a.learn(b.host.ID(), b.Self().Addrs)
	if err := a.dialBy(within(t, patience), b.host.ID(), onTCP); err != nil {
		t.Fatal(err)
	}
	if a.hasConn(b.host.ID(), onQUIC) {
		t.Fatal("QUIC is there already")
	}
	p := openPair(t, a, b)
	eventually(t, "datagrams", func() bool {
		path, ok := p.a.Path()
		return ok && path.Carrier == mesh.Datagram
	})
}

// policy refuses what its function says.
type policy func(mesh.PeerID, netip.Addr, Direction) error

func (p policy) Allow(id mesh.PeerID, a netip.Addr, d Direction) error { return p(id, a, d) }

func (p policy) AllowLink(link netip.Prefix) error { return p("", link.Addr(), Outbound) }

var errPolicy = errors.New("not this one")

func TestGater(t *testing.T) {
	for _, c := range []struct {
		name    string
		refuse  Direction
		byPeer  bool
		refuser int // 0 the one who opens, 1 the other
	}{
		{"dial", Outbound, false, 0},
		{"accept by address", Inbound, false, 1},
		{"accept by peer", Inbound, true, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfgs := [2]Config{loopback(t), loopback(t)}
			cfgs[c.refuser].Gater = policy(func(id mesh.PeerID, _ netip.Addr, d Direction) error {
				if d == c.refuse && (d == Outbound || (id != "") == c.byPeer) {
					return errPolicy
				}
				return nil
			})
			a, b := startNode(t, cfgs[0]), startNode(t, cfgs[1])
			if _, err := b.Listen(testDoor, func(mesh.Session) { t.Error("a session") }); err != nil {
				t.Fatal(err)
			}
			if s, err := a.Open(within(t, 3*time.Second), b.Self(), testDoor); err == nil {
				t.Errorf("opened %v", s)
			}
			if c.refuser == 0 && b.Stats().Connections > 0 {
				t.Error("a packet went out")
			}
		})
	}
}

// TestGaterOnTheWay: an address that policy forbids later gets no voice.
func TestGaterOnTheWay(t *testing.T) {
	var forbidden atomic.Bool
	cfg := loopback(t)
	cfg.Gater = policy(func(mesh.PeerID, netip.Addr, Direction) error {
		if forbidden.Load() {
			return errPolicy
		}
		return nil
	})
	a, b := startNode(t, cfg), startNode(t, loopback(t))
	p := openPair(t, a, b)
	eventually(t, "a path", func() bool { _, ok := p.a.Path(); return ok })
	forbidden.Store(true)
	eventually(t, "no path", func() bool { _, ok := p.a.Path(); return !ok })
	_ = p.a.SendPacket([]byte("must not arrive"))
	time.Sleep(50 * time.Millisecond)
	if len(p.pb) > 0 {
		t.Error("a packet went to a forbidden address")
	}
}

func TestConfigRefused(t *testing.T) {
	taken := startNode(t, loopback(t))
	var busyTCP, busyUDP string
	for _, a := range taken.Self().Addrs {
		if strings.Contains(string(a), "/tcp/") {
			busyTCP = string(a)
		} else {
			busyUDP = string(a)
		}
	}
	for name, c := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"no key":         {func(c *Config) { c.HostKey = nil }, "host key"},
		"no network":     {func(c *Config) { c.Network = Network{} }, "network"},
		"transport":      {func(c *Config) { c.Transport = "pigeon" }, "pigeon"},
		"name":           {func(c *Config) { c.Listen = []string{"/dns4/example.org/tcp/1"} }, "names are not looked up"},
		"peer by name":   {func(c *Config) { c.Peers = []string{"/dns4/example.org/tcp/1/p2p/" + taken.host.ID().String()} }, "names are not looked up"},
		"peer unnamed":   {func(c *Config) { c.Peers = []string{"/ip4/1.2.3.4/tcp/1"} }, "/p2p/"},
		"not a address":  {func(c *Config) { c.Listen = []string{"127.0.0.1:1"} }, "127.0.0.1:1"},
		"websocket":      {func(c *Config) { c.Listen = []string{"/ip4/127.0.0.1/tcp/1/ws"} }, "neither"},
		"TCP port taken": {func(c *Config) { c.Listen = append(c.Listen, busyTCP) }, "in use"},
		"UDP port taken": {func(c *Config) { c.Listen = append(c.Listen, busyUDP) }, "taken"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := loopback(t)
			c.change(&cfg)
			n, err := New(t.Context(), cfg)
			if err == nil {
				_ = n.Close()
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("it says %q", err)
			}
		})
	}
}

// TestBootstrapComesLater: a peer to start from that is out of reach is tried
// until it is there, and a record wanted meanwhile is put then.
func TestBootstrapComesLater(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		net := newInternet(t, 10*time.Millisecond)
		late := net.config(t)
		id, err := peer.IDFromBytes([]byte(mesh.PeerIDOf(late.HostKey.Public().(ed25519.PublicKey))))
		if err != nil {
			t.Fatal(err)
		}
		addr := late.Listen[0] + "/p2p/" + id.String()
		a, b := startNode(t, net.config(t, addr)), startNode(t, net.config(t, addr))
		key := [32]byte{5}
		if err := b.Provide(t.Context(), key); err == nil {
			t.Error("provided to nobody")
		}
		time.Sleep(3 * time.Minute)
		late.Bootstrap = true
		startNode(t, late)
		time.Sleep(2 * time.Minute) // at most bootMax and provideRetry
		var found []mesh.PeerID
		if err := a.Find(t.Context(), key, func(p mesh.Peer) { found = append(found, p.ID) }); err != nil {
			t.Error(err)
		}
		if len(found) != 1 || found[0] != b.id {
			t.Errorf("found %v", found)
		}
	})
}

// TestLateJoin: who joined a topic before us is known to be there.
func TestLateJoin(t *testing.T) {
	a, b := startNode(t, loopback(t)), startNode(t, loopback(t))
	if err := a.host.Connect(within(t, patience), peer.AddrInfo{ID: b.host.ID(), Addrs: b.host.Addrs()}); err != nil {
		t.Fatal(err)
	}
	all := func(mesh.PeerID, []byte) mesh.Verdict { return mesh.Accept }
	heard := make(chan string, 1)
	tb, err := b.Join("tea", all, func(_ mesh.PeerID, m []byte) { heard <- string(m) })
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tb.Close() }()
	eventually(t, "b has said so", func() bool { // it says it once
		a.topics.mu.Lock()
		defer a.topics.mu.Unlock()
		return a.topics.others[b.host.ID()]["tea"]
	})
	ta, err := a.Join("tea", all, func(mesh.PeerID, []byte) {})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ta.Close() }()
	if err := ta.Publish([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, heard); got != "hello" {
		t.Errorf("got %q", got)
	}
}

// TestVanishedPeer: a peer that falls silent is noticed after silentAfter.
func TestVanishedPeer(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		net := newInternet(t, 20*time.Millisecond)
		a, b := startNode(t, net.config(t)), startNode(t, net.config(t))
		p := openPair(t, a, b)
		time.Sleep(time.Minute)
		select {
		case <-p.a.Done():
			t.Fatalf("an idle session ended: %v", p.a.Err())
		default:
		}
		net.cut(true)
		begun := time.Now()
		<-p.a.Done()
		if d := time.Since(begun); d > silentAfter+time.Second || d < silentAfter-keepAliveEvery-time.Second {
			t.Errorf("noticed after %v", d)
		}
		if errors.Is(p.a.Err(), mesh.ErrClosed) {
			t.Errorf("it says %v", p.a.Err())
		}
		net.cut(false)
	})
}

// TestSessionAge: a session of a certain age gives way.
func TestSessionAge(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		net := newInternet(t, time.Millisecond)
		a, b := startNode(t, net.config(t)), startNode(t, net.config(t))
		const life = 10 * time.Minute
		a.sessionLife = life
		p := openPair(t, a, b)
		begun := time.Now()
		<-p.a.Done()
		if d := time.Since(begun); d < life || d > life+2*pathTick || !errors.Is(p.a.Err(), errExpired) {
			t.Errorf("after %v: %v", d, p.a.Err())
		}
	})
}

// TestAbuse: who sends too much for too long loses the session, others do not
// notice.
func TestAbuse(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		net := newInternet(t, time.Millisecond)
		a, b := startNode(t, net.config(t)), startNode(t, net.config(t))
		p := openPair(t, a, b)
		ended := false
		for range 4000 { // 4 s at 1,000 a second
			_ = p.a.SendPacket([]byte("flood"))
			time.Sleep(time.Millisecond)
			select {
			case <-p.b.Done():
				ended = true
			default:
			}
		}
		if !ended || !errors.Is(p.b.Err(), errAbuse) {
			t.Errorf("ended %v: %v", ended, p.b.Err())
		}
		if got := len(p.pb); got < bucketPackets || got > 2*bucketPackets {
			t.Errorf("%d packets passed", got)
		}
		if b.standing.score(peer.ID(a.id)) >= 0 {
			t.Error("no fault is held against the peer")
		}
	})
}

// TestStalledStream: after a stall on a stream the newest packets come, not a
// backlog.
func TestStalledStream(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		net := newInternet(t, 20*time.Millisecond)
		ca, cb := net.config(t), net.config(t)
		ca.Transport, cb.Transport = QUICOnly, QUICOnly
		a, b := startNode(t, ca), startNode(t, cb)
		accepted := make(chan mesh.Session, 1)
		if _, err := b.Listen(testDoor, func(s mesh.Session) { accepted <- s }); err != nil {
			t.Fatal(err)
		}
		s, err := a.Open(t.Context(), b.Self(), testDoor)
		if err != nil {
			t.Fatal(err)
		}
		far := <-accepted
		s.Start(func([]byte) {}, nil)
		var mu sync.Mutex
		var worst time.Duration
		var first, last time.Time
		far.Start(func([]byte) {}, func(b []byte, at time.Time) {
			mu.Lock()
			defer mu.Unlock()
			sent, err := time.Parse(time.RFC3339Nano, string(b))
			if err != nil {
				t.Error(err)
			}
			worst, last = max(worst, at.Sub(sent)), at
			if first.IsZero() {
				first = at
			}
		})
		talk := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
				_ = s.SendPacket([]byte(time.Now().Format(time.RFC3339Nano)))
			}
		}
		talk(time.Second) // the first packets wait for the stream
		mu.Lock()
		worst = 0
		mu.Unlock()
		talk(3 * time.Second)
		mu.Lock()
		if worst > 25*time.Millisecond {
			t.Errorf("without a stall packets took %v", worst)
		}
		mu.Unlock()
		net.cut(true)
		talk(2 * time.Second)
		mu.Lock()
		worst, first = 0, time.Time{}
		mu.Unlock()
		net.cut(false)
		healed := time.Now()
		talk(3 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		// QUIC's own probes find out that the way is free (RFC 9002 section 6.2),
		// then a new stream is opened.
		if d := first.Sub(healed); d < 0 || d > 2500*time.Millisecond {
			t.Errorf("voice came back %v after the stall", d)
		}
		if time.Since(last) > 100*time.Millisecond {
			t.Errorf("the last packet came %v ago", time.Since(last))
		}
		if worst > ringPackets*20*time.Millisecond+lateAfter {
			t.Errorf("a packet took %v", worst)
		}
		t.Logf("back after %v, no packet older than %v", first.Sub(healed), worst)
	})
}

// TestAddresses: what a node tells others about itself can be dialled.
func TestAddresses(t *testing.T) {
	for name, listen := range map[string][]string{
		"default": nil,
		"IPv6":    {"/ip6/::1/udp/0/quic-v1", "/ip6/::1/tcp/0"},
	} {
		t.Run(name, func(t *testing.T) {
			if l, err := net.Listen("tcp6", "[::1]:0"); err != nil && name == "IPv6" {
				t.Skip("no IPv6 on this machine")
			} else if err == nil {
				_ = l.Close()
			}
			ca, cb := loopback(t), loopback(t)
			ca.Listen, cb.Listen = listen, listen
			a, b := startNode(t, ca), startNode(t, cb)
			self := b.Self()
			if len(self.Addrs) == 0 {
				t.Fatal("no addresses")
			}
			for _, s := range self.Addrs {
				if m, err := parseAddr(string(s)); err != nil || strings.Contains(string(s), "0.0.0.0") {
					t.Errorf("address %s: %v, %v", s, m, err)
				}
			}
			for _, transport := range []carrierSet{onQUIC, onTCP} {
				a.learn(b.host.ID(), self.Addrs)
				if err := a.dialBy(within(t, patience), b.host.ID(), transport); err != nil {
					t.Errorf("%s: %v", transportName(transport), err)
				}
			}
			p := openPair(t, a, b)
			eventually(t, "datagrams", func() bool {
				path, _ := p.a.Path()
				return path.Carrier == mesh.Datagram && path.RTT > 0
			})
		})
	}
}

func TestLimits(t *testing.T) {
	a, b := startNode(t, loopback(t)), startNode(t, loopback(t))
	if err := a.host.Connect(within(t, patience), peer.AddrInfo{ID: b.host.ID(), Addrs: b.host.Addrs()}); err != nil {
		t.Fatal(err)
	}
	// Handshakes that never go on are held, up to the bound of one peer.
	var streams []network.Stream
	for range maxHandshakesPerPeer + 5 {
		st, err := a.host.NewStream(within(t, patience), b.host.ID(), roomProtocol)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := st.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		streams = append(streams, st)
	}
	eventually(t, "five are turned away", func() bool { return b.Stats().Busy == 5 })
	for _, st := range streams {
		_ = st.Reset()
	}
	eventually(t, "there is room again", func() bool {
		b.table.mu.Lock()
		defer b.table.mu.Unlock()
		return b.table.running == 0
	})
	if _, err := a.Open(within(t, patience), b.Self(), testDoor); !errors.Is(err, mesh.ErrRefused) {
		t.Errorf("after that: %v", err)
	}
	if _, err := a.Open(within(t, patience), a.Self(), testDoor); !errors.Is(err, errSelf) {
		t.Errorf("to itself: %v", err)
	}
}
