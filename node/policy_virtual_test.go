package node

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/marcopolo/simnet"

	"teahouse/internal/mesh"
	"teahouse/internal/mesh/meshtest"
)

// witness counts the packets that a node sends, by where they go.
type witness struct {
	mu   sync.Mutex
	sent map[netip.Addr]int
}

func (w *witness) count(to netip.Addr) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sent[to]
}

// watch makes w see what the node of cfg sends.
func (w *witness) watch(cfg *Config) {
	w.sent = map[netip.Addr]int{}
	open := cfg.ListenUDP
	cfg.ListenUDP = func(network string, at *net.UDPAddr) (net.PacketConn, error) {
		c, err := open(network, at)
		return &witnessed{c, w}, err
	}
}

type witnessed struct {
	net.PacketConn
	w *witness
}

func (c *witnessed) WriteTo(b []byte, to net.Addr) (int, error) {
	if at, ok := addrPortOf(to); ok {
		c.w.mu.Lock()
		c.w.sent[at.Addr()]++
		c.w.mu.Unlock()
	}
	return c.PacketConn.WriteTo(b, to)
}

// roamer is a socket that can go to another address, as behind a NAT that
// forgets: what is sent comes from there, and only what is sent there comes in.
type roamer struct {
	net.PacketConn // where it was
	next           net.PacketConn
	moved          atomic.Bool
	drained        bool // the reading goroutine's
}

func (r *roamer) now() net.PacketConn {
	if r.moved.Load() {
		return r.next
	}
	return r.PacketConn
}

func (r *roamer) move() {
	r.moved.Store(true)
	_ = r.PacketConn.SetReadDeadline(time.Now()) // wakes the reader
}

// SetReadDeadline is how quic-go wakes the reader when it closes.
func (r *roamer) SetReadDeadline(t time.Time) error {
	return errors.Join(r.PacketConn.SetReadDeadline(t), r.next.SetReadDeadline(t))
}

func (r *roamer) WriteTo(b []byte, to net.Addr) (int, error) { return r.now().WriteTo(b, to) }

func (r *roamer) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		c := r.now()
		if c == r.next && !r.drained {
			r.drained = true
			go r.drain()
		}
		n, from, err := c.ReadFrom(b)
		if err != nil && c != r.now() {
			continue
		}
		return n, from, err
	}
}

// drain loses what still comes to where it was, or the simulated line would
// hold up who sends it.
func (r *roamer) drain() {
	_ = r.PacketConn.SetReadDeadline(time.Time{})
	var b [2048]byte
	for {
		if _, _, err := r.PacketConn.ReadFrom(b[:]); err != nil {
			return
		}
	}
}

func (r *roamer) Close() error { return errors.Join(r.PacketConn.Close(), r.next.Close()) }

// refusing is a policy of words.
func refusing(t *testing.T, words ...string) *Policy {
	t.Helper()
	p, err := NewPolicy(atlas, layer(t, words...))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestPolicySendsNothing: not one packet goes to a forbidden address, neither
// to look for whom is there, nor to answer who knocks.
func TestPolicySendsNothing(t *testing.T) {
	for name, words := range map[string][]string{
		"control": nil,
		"deny":    {"deny 44.0.0.3"},
		"allow":   {"allow 44.0.0.2", "allow 44.0.0.1"},
		"country": {"deny BR", "home 44.0.0.1", "home 44.0.0.2"},
	} {
		t.Run(name, func(t *testing.T) {
			meshtest.Bubble(t, func(t *testing.T) {
				net := newInternet(t, 20*time.Millisecond)
				var w witness
				var told atomic.Pointer[error]
				cfg := net.config(t)
				cfg.Gater = refusing(t, words...)
				cfg.OnRefused = func(_ mesh.PeerID, why error) { told.Store(&why) }
				w.watch(&cfg)
				a, friend, foe := startNode(t, cfg), startNode(t, net.config(t)), startNode(t, net.config(t))
				openPair(t, a, friend)
				from := netip.MustParseAddr("44.0.0.3")
				for _, n := range []*Node{a, foe} {
					if _, err := n.Listen(testDoor, func(mesh.Session) {}); err != nil && !errors.Is(err, errDoorOpen) {
						t.Fatal(err)
					}
				}
				_, knocked := foe.Open(within(t, 20*time.Second), a.Self(), testDoor)
				_, called := a.Open(within(t, 20*time.Second), foe.Self(), testDoor)
				time.Sleep(time.Minute)
				if name == "control" {
					if knocked != nil || called != nil || w.count(from) == 0 {
						t.Fatalf("without rules: %v, %v, %d packets: the test tests nothing", knocked, called, w.count(from))
					}
					return
				}
				if n := w.count(from); n != 0 {
					t.Errorf("%d packets went to a forbidden address", n)
				}
				if knocked == nil || called == nil {
					t.Error("there is a session with the forbidden")
				}
				if why := told.Load(); why == nil {
					t.Error("nothing was told")
				} else if r := (*Refusal)(nil); !errors.As(*why, &r) || r.Addr != from {
					t.Errorf("told %v", *why)
				}
				if w.count(netip.MustParseAddr("44.0.0.2")) == 0 {
					t.Error("the test tests nothing")
				}
			})
		})
	}
}

// TestPolicyCutsWhoMoves: QUIC validates the new address of a peer by packets
// to it; where they are forbidden none goes, and the peer is cut.
func TestPolicyCutsWhoMoves(t *testing.T) {
	for name, words := range map[string][]string{
		"control": nil,
		"deny":    {"deny 44.9.0.0/16"},
		"allow":   {"allow 44.0.0.0/16"},
		"country": {"deny BR", "home 44.0.0.0/16"},
	} {
		t.Run(name, func(t *testing.T) {
			meshtest.Bubble(t, func(t *testing.T) {
				internet := newInternet(t, 20*time.Millisecond)
				var w witness
				cfg := internet.config(t)
				cfg.Gater = refusing(t, words...)
				w.watch(&cfg)
				a := startNode(t, cfg)
				cfg = internet.config(t)
				r := &roamer{}
				open := cfg.ListenUDP
				there := &net.UDPAddr{IP: net.IPv4(44, 9, 0, 2), Port: 7654}
				cfg.ListenUDP = func(network string, at *net.UDPAddr) (c net.PacketConn, err error) {
					line := simnet.LinkSettings{BitsPerSecond: 50_000_000}
					r.next = internet.net.NewEndpoint(there, simnet.NodeBiDiLinkSettings{Downlink: line, Uplink: line})
					r.PacketConn, err = open(network, at)
					return r, err
				}
				b := startNode(t, cfg)
				p := openPair(t, b, a) // b dials: it is the one whom QUIC follows
				time.Sleep(5 * time.Second)
				if path, ok := p.b.Path(); !ok || path.Carrier != mesh.Datagram {
					t.Fatalf("no path before: %+v", path)
				}
				r.move()
				moved := time.Now()
				follow := netip.MustParseAddr("44.9.0.2")
				lost := time.Duration(0)
				for time.Since(moved) < 30*time.Second {
					_ = p.a.SendPacket([]byte("from afar"))
					_ = p.b.SendPacket([]byte("to nowhere"))
					if _, ok := p.b.Path(); !ok && lost == 0 {
						lost = time.Since(moved)
					}
					time.Sleep(20 * time.Millisecond)
				}
				path, ok := p.b.Path()
				if name == "control" {
					if !ok || path.Remote != "44.9.0.2:7654" || w.count(follow) == 0 {
						t.Fatalf("without rules the path does not follow: %+v, %v: the test tests nothing", path, ok)
					}
					return
				}
				if n := w.count(follow); n != 0 {
					t.Errorf("%d packets went after the peer", n)
				}
				if ok || lost == 0 || lost > 5*time.Second {
					t.Errorf("path %+v, %v; lost after %v", path, ok, lost)
				}
			})
		})
	}
}
