package node

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"teahouse/internal/mesh"
)

// guard stands between the swarm and every protocol of this node. Each stream
// that a peer opens passes it:
//
//  1. the swarm accepts the stream (its resource manager bounds how many)
//  2. guard: is the peer shunned? does it open too many?
//  3. libp2p negotiates the protocol, on a stream whose reads are metered
//  4. the protocol's handler reads on that stream: who sends too much is read
//     more slowly, and who goes on is dropped
//
// To drop a peer is to end its sessions, close its connections and shun it: its
// standing is such that new connections are closed at once until the fault has
// faded, which takes minutes and longer each time.
type guard struct {
	// Constant.
	log      *slog.Logger
	standing *standing
	gossip   protocol.ID
	lookup   protocol.ID
	ended    func(peer.ID) // ends the sessions of a peer
	// Constant after stand, before which no stream is served.
	swarm guardedSwarm
	next  network.StreamHandler

	ledger     ledger
	handshakes handshakes
	addresses  addressBook
}

// guardedSwarm is what a guard needs of a swarm.
type guardedSwarm interface {
	StreamHandler() network.StreamHandler
	SetStreamHandler(network.StreamHandler)
	Notify(network.Notifiee)
	ClosePeer(peer.ID) error
}

const (
	// maxNegotiating is how many streams of a peer may be open that have not
	// said what they are; libp2p gives them 10 s, and bounds them only for all
	// peers together.
	maxNegotiating       = 32
	maxNegotiatingPrefix = 128

	// maxLookup is the longest request of the DHT, bytes: a provider record
	// with 16 addresses has 1 KiB.
	maxLookup = 16 << 10

	// What a message costs beside its bytes.
	gossipPrice    = 512 // an RPC
	broadcastPrice = 256 // each broadcast in it: a signature to check, an id to keep
	topicPrice     = 64  // each subscription in it
	lookupPrice    = 512
	otherPrice     = 32 // a read
)

func newGuard(n Network, standing *standing, ended func(peer.ID), log *slog.Logger) *guard {
	return &guard{log: log, standing: standing, gossip: gossipProtocol(n), lookup: dhtProtocol(n), ended: ended}
}

// stand puts the guard before the handlers of a swarm.
func (g *guard) stand(sw guardedSwarm) error {
	g.swarm, g.next = sw, sw.StreamHandler()
	if g.next == nil {
		return errors.New("the host takes no streams")
	}
	sw.SetStreamHandler(g.serve)
	sw.Notify(&network.NotifyBundle{
		ConnectedF: func(_ network.Network, c network.Conn) {
			g.addresses.add(c)
			if g.shunned(c.RemotePeer(), time.Now()) {
				_ = c.Close()
			}
		},
		DisconnectedF: func(_ network.Network, c network.Conn) { g.addresses.remove(c) },
	})
	return nil
}

// shunned tells that a peer's standing is too low for anything.
func (g *guard) shunned(p peer.ID, now time.Time) bool { return g.standing.at(p, now) < shunBelow }

// drop ends all connections of a peer and shuns it. It waits for QUIC to say
// goodbye: never from a goroutine that others wait for.
func (g *guard) drop(p peer.ID, why string) {
	g.log.Debug("peer dropped", "peer", mesh.PeerID(p), "why", why)
	g.standing.condemn(p, time.Now())
	g.ended(p)
	_ = g.swarm.ClosePeer(p) // what is closed already is as good
}

// originOf is who a connection leads to.
func originOf(c network.Conn) origin {
	o := origin{peer: c.RemotePeer()}
	if ip, ok := ipOf(c.RemoteMultiaddr()); ok {
		o.prefix = sourcePrefix(ip)
	}
	return o
}

// serve takes a stream, on a goroutine of its own.
func (g *guard) serve(st network.Stream) {
	from, now := originOf(st.Conn()), time.Now()
	if g.shunned(from.peer, now) {
		_ = st.Reset()
		g.drop(from.peer, "standing")
		return
	}
	ok, flood := g.ledger.take(now, from, openings, 1)
	if flood {
		_ = st.Reset()
		g.drop(from.peer, openings.String())
		return
	}
	if !ok || !g.ledger.negotiate(now, from) {
		_ = st.ResetWithError(network.StreamRateLimited)
		return
	}
	m := &meteredStream{Stream: st, guard: g, from: from, what: otherBytes, price: otherPrice}
	defer m.negotiated()
	g.next(m)
}

// inspect is asked for each RPC of gossip, on gossip's own goroutine: it puts
// what is in it on the bill of the peer, which is presented at the next read.
func (g *guard) inspect(from peer.ID, rpc *pubsub.RPC) error {
	n := broadcastPrice*len(rpc.GetPublish()) + topicPrice*len(rpc.GetSubscriptions())
	if n > 0 {
		g.ledger.spend(time.Now(), origin{peer: from}, gossipBytes, float64(n))
	}
	return nil
}

// meteredStream is a stream whose reads are counted and paid for.
type meteredStream struct {
	network.Stream
	guard *guard
	from  origin
	ended atomic.Bool // the negotiation

	// Set by the goroutine of the handler before it reads.
	what   resource
	price  float64
	frames *framing // nil: a price for each read
}

// negotiated gives the place in the count of nameless streams back.
func (m *meteredStream) negotiated() {
	if m.ended.CompareAndSwap(false, true) {
		m.guard.ledger.negotiated(m.from)
	}
}

// SetProtocol notes what the stream is.
func (m *meteredStream) SetProtocol(id protocol.ID) error {
	if err := m.Stream.SetProtocol(id); err != nil {
		return err
	}
	m.negotiated()
	switch id {
	case m.guard.gossip:
		m.what, m.price, m.frames = gossipBytes, gossipPrice, &framing{limit: maxRPC}
	case m.guard.lookup:
		m.what, m.price, m.frames = lookupBytes, lookupPrice, &framing{limit: maxLookup}
	case roomProtocol:
		m.what, m.price = sessionBytes, 0
	case voiceProtocol:
		m.what, m.price = voiceBytes, 0
	}
	return nil
}

// Read reads, and holds what it has read for as long as the peer is over its
// allowance.
func (m *meteredStream) Read(b []byte) (int, error) {
	n, err := m.Stream.Read(b)
	if n == 0 {
		return n, err
	}
	bill := float64(n)
	if m.frames == nil {
		bill += m.price
	} else {
		messages, wrong := m.frames.feed(b[:n])
		if wrong != nil {
			m.guard.standing.penalise(m.from.peer, time.Now())
			_ = m.Reset()
			return 0, wrong
		}
		bill += m.price * float64(messages)
	}
	wait, flood := m.guard.ledger.spend(time.Now(), m.from, m.what, bill)
	if flood && m.what != sessionBytes && m.what != voiceBytes {
		_ = m.Reset()
		m.guard.drop(m.from.peer, m.what.String())
		return 0, network.ErrReset
	}
	if wait > 0 {
		time.Sleep(wait) // at most maxWait; libp2p's handlers are one goroutine a stream
	}
	return n, err
}

// condemnedWeight is what flooding weighs: shunned for three minutes the first
// time, longer each time after.
const condemnedWeight = 150

// condemn makes a peer shunned.
func (s *standing) condemn(p peer.ID, now time.Time) {
	if s.at(p, now) < shunBelow {
		return // it is
	}
	for range condemnedWeight / faultWeight {
		s.penalise(p, now)
	}
}
