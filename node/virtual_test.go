package node

import (
	"cmp"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/marcopolo/simnet"

	"teahouse/internal/mesh"
	"teahouse/internal/mesh/meshtest"
)

// internet is a simulated network in virtual time. Its nodes have QUIC alone.
type internet struct {
	net *simnet.Simnet
	// bitsPerSecond is the line of the nodes to come; 0: 50 Mbit/s.
	bitsPerSecond int

	mu    sync.Mutex
	next  int
	conns []*lossyConn
}

// lossyConn drops what its filter says.
type lossyConn struct {
	net.PacketConn
	drop atomic.Pointer[func(b []byte) bool]
	line atomic.Pointer[line]
	sent atomic.Int64 // voice datagrams, dropped ones too
}

func (c *lossyConn) WriteTo(b []byte, to net.Addr) (int, error) {
	if b[0] < quicFrom {
		c.sent.Add(1)
	}
	if drop := c.drop.Load(); drop != nil && (*drop)(b) {
		return len(b), nil
	}
	if l := c.line.Load(); l != nil {
		l.send(b, to, c.PacketConn.WriteTo)
		return len(b), nil
	}
	return c.PacketConn.WriteTo(b, to)
}

func newInternet(t *testing.T, oneWay time.Duration) *internet {
	i := &internet{net: &simnet.Simnet{LatencyFunc: simnet.StaticLatency(oneWay), Logger: slog.New(slog.DiscardHandler)}}
	i.net.Start()
	t.Cleanup(i.net.Close)
	return i
}

// config is that of the next node, and its socket once it is opened.
func (i *internet) config(t *testing.T, peers ...string) Config {
	i.next++
	ip := net.IPv4(44, 0, 0, byte(i.next))
	line := simnet.LinkSettings{BitsPerSecond: cmp.Or(i.bitsPerSecond, 50_000_000)}
	link := simnet.NodeBiDiLinkSettings{Downlink: line, Uplink: line}
	return Config{
		HostKey: newKey(t), Network: testNetwork, Peers: peers, Log: testLog(),
		Listen: []string{fmt.Sprintf("/ip4/%s/udp/7654/quic-v1", ip)},
		ListenUDP: func(_ string, laddr *net.UDPAddr) (net.PacketConn, error) {
			c := &lossyConn{PacketConn: i.net.NewEndpoint(laddr, link)}
			i.mu.Lock()
			defer i.mu.Unlock()
			i.conns = append(i.conns, c)
			return c, nil
		},
	}
}

// cut makes every node's network drop all, or ends that.
func (i *internet) cut(on bool) { i.filter(on, func([]byte) bool { return true }) }

// blockVoice makes every node's network drop voice datagrams and let QUIC
// through, as some firewalls do, or ends that.
func (i *internet) blockVoice(on bool) {
	i.filter(on, func(b []byte) bool { return b[0] < quicFrom })
}

func (i *internet) filter(on bool, drop func([]byte) bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, c := range i.conns {
		if on {
			c.drop.Store(&drop)
		} else {
			c.drop.Store(nil)
		}
	}
}

func TestVirtualTime(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		net := newInternet(t, 20*time.Millisecond)
		a, b := startNode(t, net.config(t)), startNode(t, net.config(t))
		p := openPair(t, a, b)
		sent := time.Now()
		_ = p.a.SendPacket([]byte("tick"))
		receive(t, p.pb)
		if d := time.Since(sent); d < 20*time.Millisecond || d > 21*time.Millisecond {
			t.Errorf("a packet took %v over a path of 20 ms", d)
		}
		time.Sleep(10 * time.Second)
		path, ok := p.a.Path()
		if !ok || path.Carrier != mesh.Datagram || path.RTT < 39*time.Millisecond || path.RTT > 42*time.Millisecond {
			t.Errorf("path %+v", path)
		}
	})
}

// TestFallBack: where voice datagrams stop arriving, voice goes on in a
// stream, and comes back.
func TestFallBack(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		net := newInternet(t, 20*time.Millisecond)
		a, b := startNode(t, net.config(t)), startNode(t, net.config(t))
		p := openPair(t, a, b)
		carrier := func(s mesh.Session) mesh.Carrier { path, _ := s.Path(); return path.Carrier }
		n := 0
		talk := func(d time.Duration) int {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
				n++
				_ = p.a.SendPacket(fmt.Append(nil, n))
			}
			time.Sleep(100 * time.Millisecond)
			got := map[string]bool{} // while a path is in doubt, packets come twice
			for len(p.pb) > 0 {
				got[<-p.pb] = true
			}
			return len(got)
		}
		if got := talk(2 * time.Second); got != 100 || carrier(p.a) != mesh.Datagram {
			t.Errorf("%d of 100 packets by %s", got, carrier(p.a))
		}
		net.blockVoice(true)
		if got := talk(4 * time.Second); got < 189 { // two checks are 120 ms, their answers late after 90 more
			t.Errorf("%d of 200 packets while the path died", got)
		}
		if got := talk(2 * time.Second); got != 100 || carrier(p.a) != mesh.Stream || carrier(p.b) != mesh.Stream {
			t.Errorf("blocked: %d of 100 packets by %s and %s", got, carrier(p.a), carrier(p.b))
		}
		net.blockVoice(false)
		if got := talk(5 * time.Second); got != 250 {
			t.Errorf("%d of 250 packets on the way back", got)
		}
		if got := talk(2 * time.Second); got != 100 || carrier(p.a) != mesh.Datagram || carrier(p.b) != mesh.Datagram {
			t.Errorf("free again: %d of 100 packets by %s and %s", got, carrier(p.a), carrier(p.b))
		}
	})
}
