package node

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"time"

	"teahouse/internal/mesh"
	"teahouse/internal/mesh/meshtest"
)

// shelf is a Memory.
type shelf struct {
	mu      sync.Mutex
	content []byte
	stores  int
	failing error
}

func (s *shelf) Load() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.content), s.failing
}

func (s *shelf) Store(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stores++
	if s.failing == nil {
		s.content = bytes.Clone(b)
	}
	return s.failing
}

// A node that is told of nobody finds those whom it knew the last time, and
// only those of its own network.
func TestRememberedPeersAreFoundAgain(t *testing.T) {
	there := startNode(t, loopback(t))
	foreign := loopback(t)
	foreign.Network = NetworkFromSeed([32]byte{77})
	stranger := startNode(t, foreign)

	store := new(shelf)
	cfg := loopback(t, append(fullAddrs(there), fullAddrs(stranger)...)...)
	cfg.Memory = store
	first := startNode(t, cfg)
	eventually(t, "both connected", func() bool { return first.Stats().Peers == 2 && first.Stats().RoutingTable == 1 })
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	m, err := parseMemory(store.content, time.Now())
	if err != nil || len(m) != 1 || len(m[there.host.ID()].addrs) == 0 {
		t.Fatalf("remembered %v, %v", m, err)
	}

	again := loopback(t)
	again.Memory = store
	second := startNode(t, again)
	eventually(t, "the remembered peer is met", func() bool { return second.Stats().RoutingTable == 1 })

	other := loopback(t)
	other.Network, other.Memory = foreign.Network, new(shelf)
	third := startNode(t, other)
	if third.Stats().Peers != 0 {
		t.Error("met somebody without a memory")
	}
}

// A store that fails costs the memory, not the talk; so does a damaged one.
func TestMemoryThatFails(t *testing.T) {
	there := startNode(t, loopback(t))
	for _, store := range []*shelf{{failing: errors.New("disk full")}, {content: []byte("damaged")}} {
		cfg := loopback(t, fullAddrs(there)...)
		cfg.Memory = store
		n := startNode(t, cfg)
		eventually(t, "connected", func() bool { return n.Stats().RoutingTable == 1 })
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		if store.stores == 0 {
			t.Error("nothing was to be stored")
		}
	}
}

// loopback6 is a config of a node on IPv6 loopback.
func loopback6(t testing.TB, peers ...string) Config {
	t.Helper()
	if !HasIPv6() {
		t.Skip("this machine has no IPv6")
	}
	cfg := loopback(t, peers...)
	cfg.Listen = []string{"/ip6/::1/udp/0/quic-v1", "/ip6/::1/tcp/0"}
	return cfg
}

func TestVoiceOverIPv6(t *testing.T) {
	for _, transport := range []Transport{DatagramOnly, QUICOnly, TCPOnly} {
		t.Run(string(transport), func(t *testing.T) {
			ca, cb := loopback6(t), loopback6(t)
			ca.Transport, cb.Transport = transport, transport
			a, b := startNode(t, ca), startNode(t, cb)
			p := openPair(t, a, b)
			eventually(t, "paths", func() bool {
				_, oka := p.a.Path()
				_, okb := p.b.Path()
				return oka && okb
			})
			var ha, hb heard
			for _, text := range []string{"one", "two"} {
				hb.say(t, p.a, p.pb, text)
				ha.say(t, p.b, p.pa, text)
			}
			path, _ := p.a.Path()
			if want := (transport == DatagramOnly); (path.Carrier == mesh.Datagram) != want {
				t.Errorf("path %+v", path)
			}
		})
	}
}

// The contract holds over IPv6 as it does over IPv4.
func TestConformanceIPv6(t *testing.T) {
	if testing.Short() {
		t.Skip("short")
	}
	meshtest.Run(t, func(t *testing.T, count int) []mesh.Network {
		var nets []mesh.Network
		var first *Node
		for range count {
			cfg := loopback6(t)
			if first != nil {
				cfg.Peers = fullAddrs(first)
			}
			n := startNode(t, cfg)
			if first == nil {
				first = n
			}
			nets = append(nets, n)
		}
		for _, n := range nets {
			eventually(t, "the routing table has a peer", func() bool { return count == 1 || n.(*Node).Stats().RoutingTable > 0 })
		}
		return nets
	})
}

// Both families of one port are listened on by default.
func TestDefaultListen(t *testing.T) {
	want := 2
	if HasIPv6() {
		want = 4
	}
	if got := DefaultListen(7654); len(got) != want {
		t.Errorf("%v", got)
	}
	for _, s := range DefaultListen(7654) {
		if _, err := parseAddr(s); err != nil {
			t.Error(err)
		}
	}
}
