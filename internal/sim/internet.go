package sim

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/marcopolo/simnet"

	"teahouse/internal/mesh"
	"teahouse/node"
)

const (
	defaultBandwidth = 50_000_000 // bits per second
	headers          = 28         // bytes of IPv4 and UDP
	// bootstrap is the number of the node that all others start from. It is
	// no person: it hears nothing. A split leaves it in reach of everybody
	// unless it names it: who comes new could find nobody without.
	bootstrap = -1
)

// internet is real nodes over simulated UDP. simnet brings delay and
// bandwidth (with FQ-CoDel queues); what vanishes does so at the sender's
// socket, and what would cross a split also at the receiver's.
type internet struct {
	wires     *wires
	watch     *nonceWatch
	net       *simnet.Simnet
	bandwidth int
	network   node.Network
	transport node.Transport
	log       *slog.Logger
	links     func(who int) (up, down *uplink) // of persons
	root      *node.Node
	peers     []string // where to start from

	mu    sync.Mutex
	ports map[int]*port // the newest of each person
}

func newInternet(s *Scenario, w *wires, links func(who int) (up, down *uplink), watch *nonceWatch) (*internet, error) {
	i := &internet{
		wires: w, links: links, watch: watch, bandwidth: s.Bandwidth, transport: s.Transport, log: s.Log, ports: make(map[int]*port),
		network: node.NetworkFromSeed(seed32("network", s.Seed, 0, 0)),
	}
	if i.bandwidth == 0 {
		i.bandwidth = defaultBandwidth
	}
	i.net = &simnet.Simnet{Logger: slog.New(slog.DiscardHandler), LatencyFunc: func(p *simnet.Packet) time.Duration {
		return w.between(whoseAddr(p.From), whoseAddr(p.To)).delay()
	}}
	i.net.Start()
	root, err := i.start(bootstrap, deriveKey("host", s.Seed, bootstrap, 0))
	if err != nil {
		i.net.Close()
		return nil, fmt.Errorf("start the bootstrap: %w", err)
	}
	i.root = root
	for _, a := range root.Self().Addrs {
		i.peers = append(i.peers, fmt.Sprintf("%s/p2p/%s", a, peer.ID(root.Self().ID)))
	}
	return i, nil
}

func (i *internet) node(who int, key ed25519.PrivateKey) (mesh.Network, error) {
	return i.start(who, key)
}

func (i *internet) start(who int, key ed25519.PrivateKey) (*node.Node, error) {
	// Ended by its Close.
	return node.New(context.Background(), node.Config{
		HostKey: key, Network: i.network, Peers: i.peers, Bootstrap: who == bootstrap,
		Transport: i.transport, Log: i.log,
		Listen: []string{fmt.Sprintf("/ip4/%s/udp/7654/quic-v1", addrOf(who))},
		ListenUDP: func(_ string, laddr *net.UDPAddr) (net.PacketConn, error) {
			link := simnet.LinkSettings{BitsPerSecond: i.bandwidth}
			i.mu.Lock()
			defer i.mu.Unlock()
			p := &port{
				PacketConn: i.net.NewEndpoint(laddr, simnet.NodeBiDiLinkSettings{Downlink: link, Uplink: link}),
				internet:   i, who: who, uplink: i.uplink(who),
			}
			i.ports[who] = p
			return p, nil
		},
	})
}

func (i *internet) kill(who int, _ mesh.Network) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ports[who].dead.Store(true)
}

func (i *internet) gone(mesh.Network)   {}
func (i *internet) rewired()            {}
func (i *internet) drops(_, _ int) bool { return false }

func (i *internet) close() {
	_ = i.root.Close() // there is nobody left to tell
	i.net.Close()
	time.Sleep(announceRetry) // or its goroutines are left in the bubble
}

// announceRetry is for how long gossipsub sleeps at most, whether it has been
// closed or not, where it could not tell somebody that a topic was joined or left
// (pubsub.go, announceRetry).
const announceRetry = 1001 * time.Millisecond

// uplink is that of a person; the bootstrap's has no limit.
func (i *internet) uplink(who int) *uplink {
	if who == bootstrap {
		return &uplink{}
	}
	up, _ := i.links(who)
	return up
}

// downlink is as uplink. Its queue stands before the path, not behind it, which
// comes to the same.
func (i *internet) downlink(who int) *uplink {
	if who == bootstrap {
		return &uplink{}
	}
	_, down := i.links(who)
	return down
}

// addrOf is the address of a person: 44.1.0.1 and up, the bootstrap's is
// 44.0.255.255.
func addrOf(who int) net.IP {
	n := 1<<16 + who
	return net.IPv4(44, byte(n>>16), byte(n>>8), byte(n))
}

// whoseAddr is the person at an address.
func whoseAddr(a net.Addr) int {
	ip := a.(*net.UDPAddr).IP.To4() // simnet has no other kind
	return int(ip[1])<<16 + int(ip[2])<<8 + int(ip[3]) - 1<<16
}

// port is a person's UDP socket.
type port struct {
	net.PacketConn
	internet *internet
	who      int
	uplink   *uplink
	dead     atomic.Bool
}

// WriteTo sends, and tells nobody what is lost.
func (p *port) WriteTo(b []byte, to net.Addr) (int, error) {
	if p.dead.Load() {
		return len(b), nil
	}
	w, other := p.internet.wires, whoseAddr(to)
	p.internet.watch.datagram(other, b)
	if w.apart(p.who, other) || w.between(p.who, other).lost(time.Now()) {
		return len(b), nil
	}
	now := time.Now()
	wait, ok := p.uplink.take(now, len(b)+headers)
	if ok {
		var more time.Duration
		more, ok = p.internet.downlink(other).take(now.Add(wait), len(b)+headers)
		wait += more
	}
	b = slices.Clone(b)
	switch {
	case !ok:
		return len(b), nil
	case wait == 0:
		return p.PacketConn.WriteTo(b, to)
	}
	time.AfterFunc(wait, func() { _, _ = p.PacketConn.WriteTo(b, to) }) // as if it had been lost
	return len(b), nil
}

// ReadFrom gives what has arrived in spite of all.
func (p *port) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := p.PacketConn.ReadFrom(b)
		if err == nil && (p.dead.Load() || p.internet.wires.apart(p.who, whoseAddr(from))) {
			continue
		}
		return n, from, err
	}
}
