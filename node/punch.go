package node

import (
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Hole punching. Two behind home routers who are connected through a relay tell
// each other over it where they are seen from outside, and dial each other in
// the same moment, so that each router takes what comes for an answer: libp2p's
// DCUtR, in which who was dialled through the relay begins. libp2p tries when
// the relayed connection comes and then never again, and a node answers only
// once it knows an address of its own, for which libp2p looks at most every
// 5 s: who has just started would stay on the relay. So the service is made as
// soon as a relay has said what address it sees, and asked again for as long as
// a session has no other way.

const (
	// punchDial bounds each of the dials of an attempt, of which libp2p makes
	// four: TCP says its first word again after 1 s, and QUIC before that.
	punchDial = 3 * time.Second
	// Between attempts, the second of which follows soon: an address may have
	// come in meanwhile.
	punchMin, punchMax = time.Second, time.Minute
	// maxSeen bounds what relays have said of our addresses.
	maxSeen = 4 * MaxRelays
)

// puncher is libp2p's hole punching, from the moment that this node has an
// address to punch with. The zero value is ready.
type puncher struct {
	mu      sync.Mutex
	begun   bool
	closed  bool
	service *holepunch.Service // nil until it is ready

	seen []seenAddr // the latest last
}

// seenAddr is the public address that a relay sees of ours.
type seenAddr struct {
	by   peer.ID
	kind carrierSet // onQUIC or onTCP
	addr ma.Multiaddr
}

// seeOurselves takes in what a relay says of our address, on the connection that
// e is about.
func (n *Node) seeOurselves(e event.EvtPeerIdentificationCompleted) {
	kind := kindOf(e.ObservedAddr)
	if kind == 0 || kind != kindOf(e.Conn.RemoteMultiaddr()) || !manet.IsPublicAddr(e.ObservedAddr) || !n.relays.has(e.Peer) {
		return
	}
	// A TCP connection from another port than the one that we listen on says
	// nothing of how that one is seen.
	if !slices.ContainsFunc(n.swarm.ListenAddresses(), func(a ma.Multiaddr) bool { return samePort(a, e.Conn.LocalMultiaddr()) }) {
		return
	}
	p := &n.puncher
	p.mu.Lock()
	p.seen = slices.DeleteFunc(p.seen, func(s seenAddr) bool { return s.by == e.Peer && s.kind == kind })
	p.seen = append(p.seen, seenAddr{e.Peer, kind, e.ObservedAddr})
	p.seen = p.seen[max(0, len(p.seen)-maxSeen):]
	p.mu.Unlock()
	n.readyToPunch()
}

// samePort tells whether two addresses are of one transport and port.
func samePort(a, b ma.Multiaddr) bool {
	for _, code := range []int{ma.P_UDP, ma.P_TCP} {
		x, err := a.ValueForProtocol(code)
		if err != nil {
			continue
		}
		y, err := b.ValueForProtocol(code)
		return err == nil && x == y
	}
	return false
}

// punchAddrs are the public addresses at which this node may be dialled when a
// hole is punched, those that relays see of it among them.
func (n *Node) punchAddrs() (out []ma.Multiaddr) {
	for _, a := range n.host.Addrs() {
		if kindOf(a) != 0 && manet.IsPublicAddr(a) {
			out = append(out, a)
		}
	}
	n.puncher.mu.Lock()
	defer n.puncher.mu.Unlock()
	for _, s := range n.puncher.seen {
		out = append(out, s.addr)
	}
	return ma.Unique(out)
}

// readyToPunch makes the service as soon as there is an address for it.
func (n *Node) readyToPunch() {
	ids, ok := n.host.(interface{ IDService() identify.IDService })
	known := n.punchAddrs()
	if !ok || len(known) == 0 {
		return
	}
	// A host that is being closed has no address any more: the service would
	// wait for one, and this node's Close for the service.
	addrs := func() []ma.Multiaddr {
		if now := n.punchAddrs(); len(now) > 0 {
			return now
		}
		return known
	}
	p := &n.puncher
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begun || p.closed {
		return
	}
	p.begun = n.goTracked(func() {
		service, err := holepunch.NewService(n.host, ids.IDService(), addrs, holepunch.DirectDialTimeout(punchDial))
		if err != nil {
			n.log.Warn("no holes can be punched", "err", err)
			return
		}
		// It begins in the background, and a service that is closed before would
		// keep who asks it for something forever: so nobody has it until it has
		// answered once, in vain.
		_ = service.DirectConnect("")
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.closed {
			_ = service.Close()
			return
		}
		p.service = service
	})
}

// close ends what is under way.
func (p *puncher) close() error {
	p.mu.Lock()
	service := p.service
	p.closed, p.service = true, nil
	p.mu.Unlock()
	if service == nil {
		return nil
	}
	return service.Close()
}

// punch begins an attempt, where it is this side's turn and time for one.
func (s *session) punch(st *pathState, now time.Time) {
	if st.relayed == nil || st.relayed.Stat().Direction != network.DirInbound || st.quic != nil || st.tcp != nil {
		st.punches, st.punched = redial{}, nil
		return
	}
	if st.punched != st.relayed {
		st.punched = st.relayed
		st.punches = redial{after: now.Add(punchMin)} // libp2p's own is under way
	}
	if now.Before(st.punches.after) {
		return
	}
	s.node.puncher.mu.Lock()
	service := s.node.puncher.service
	s.node.puncher.mu.Unlock()
	if service == nil {
		return
	}
	st.punches.delay = min(max(2*st.punches.delay, punchMin), punchMax)
	st.punches.after = now.Add(st.punches.delay)
	s.node.goTracked(func() {
		if err := service.DirectConnect(s.remote); err != nil {
			s.node.log.Debug("no hole punched", "peer", s.Peer(), "err", err)
		}
	})
}
