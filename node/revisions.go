package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"

	"teahouse/internal/mesh"
	"teahouse/internal/seal"
)

// How the newest descriptor of the network reaches everybody: two nodes that
// meet tell each other which revision they hold, and the one who has the newer
// gives it (revisions_wire.go). A newer one is checked, then stored, then used,
// then told to all that we are connected with.
//
//	goroutine                 ends with
//	spread                    the node; it decides whom to talk to, and waits for nobody
//	talkRevisions, up to 4    its own exchange, 10 s at most
//	serveRevisions, up to 16  the same

const (
	revisionTalks   = 4  // exchanges that we began, at a time
	revisionServed  = 16 // that others began
	revisionAgain   = 10 * time.Minute
	revisionSome    = 3 // how many are asked then
	maxRevisionWait = 1024

	// A peer is answered revisionBurst times at once, then once in revisionEach.
	revisionBurst   = 8
	revisionEach    = 2 * time.Second
	maxRevisionPeer = 1024
)

// revisions is the part of a node that keeps the network's descriptor. Without
// one it is nil.
type revisions struct {
	// Constant.
	protocol protocol.ID
	key      *seal.Key
	keep     func(*Descriptor) error

	adopting sync.Mutex // held while one replaces another
	served   chan struct{}
	news     signal // fires when there is a newer one

	mu    sync.Mutex
	now   *Descriptor
	spent map[peer.ID]spentAnswers
}

type spentAnswers struct {
	used float64
	at   time.Time
}

func revisionProtocol(n Network) protocol.ID {
	return protocol.ID("/teahouse/" + n.ID + "/descriptor/1")
}

// startRevisions begins to keep the descriptor of cfg, if it has one.
func (n *Node) startRevisions(cfg *Config) error {
	d := cfg.Descriptor
	if d == nil {
		n.startFrom(nil)
		return nil
	}
	r := &revisions{
		protocol: revisionProtocol(cfg.Network), keep: cfg.OnDescriptor, now: d,
		key:    seal.NewX((*[seal.KeySize]byte)(expand(cfg.Network.Secret[:], "teahouse descriptor 1", seal.KeySize))),
		served: make(chan struct{}, revisionServed), spent: make(map[peer.ID]spentAnswers),
	}
	n.revisions = r
	sub, err := n.host.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted), eventbus.BufSize(256))
	if err != nil {
		return fmt.Errorf("watch for revisions: %w", err)
	}
	n.use(d)
	n.host.SetStreamHandler(r.protocol, n.handler(n.serveRevisions))
	news := r.news.wait() // none is missed from here on
	if !n.goTracked(func() { defer sub.Close(); n.spread(sub, news) }) {
		return errors.Join(mesh.ErrClosed, sub.Close())
	}
	return nil
}

// Descriptor is the newest of the network that this node knows; nil on one
// that has only a name.
func (n *Node) Descriptor() *Descriptor {
	if n.revisions == nil {
		return nil
	}
	n.revisions.mu.Lock()
	defer n.revisions.mu.Unlock()
	return n.revisions.now
}

// Offer gives the node a newer descriptor that its owner has got by another
// way, and has stored. The error is that of [Descriptor.Replaces].
func (n *Node) Offer(d *Descriptor) error {
	if n.revisions == nil {
		return ErrOtherNetwork
	}
	return n.adopt(d, func(*Descriptor) error { return nil })
}

// adopt makes d the network's descriptor, if it is newer.
func (n *Node) adopt(d *Descriptor, keep func(*Descriptor) error) error {
	r := n.revisions
	r.adopting.Lock()
	defer r.adopting.Unlock()
	if err := d.Replaces(n.Descriptor(), time.Now()); err != nil {
		return err
	}
	if keep != nil {
		if err := keep(d); err != nil {
			// A full disk is no reason to go on talking to who was revoked.
			n.log.Warn("the network's new descriptor was not stored: it is used until this node ends", "err", err)
		}
	}
	r.mu.Lock()
	r.now = d
	r.mu.Unlock()
	n.use(d)
	n.log.Info("the network has a new descriptor", "revision", d.Revision)
	r.news.fire()
	return nil
}

// use lets a descriptor have its effect.
func (n *Node) use(d *Descriptor) {
	for _, p := range n.gate.revoked.set(d.Revoked) {
		n.log.Info("a node was revoked", "peer", mesh.PeerID(p))
		n.dht.RoutingTable().RemovePeer(p)
		n.endSessionsOf(p)
		n.goTracked(func() { _ = n.swarm.ClosePeer(p) }) // what is closed already is as good
		n.host.Peerstore().ClearAddrs(p)
	}
	infos, err := bootstrapPeers(d.Peers(), n.host.ID())
	if err != nil {
		n.log.Warn("the bootstraps of the descriptor are of no use", "err", err) // it was checked
	}
	n.startFrom(append(infos, n.useRelays(d)...))
}

// spread decides with whom to compare revisions: with who has been met, with
// all when ours is new, and now and then with some.
func (n *Node) spread(sub event.Subscription, news <-chan struct{}) {
	r := n.revisions
	var waiting []peer.ID
	add := func(p peer.ID) {
		if len(waiting) < maxRevisionWait && !slices.Contains(waiting, p) && n.speaksRevisions(p) {
			waiting = append(waiting, p)
		}
	}
	done := make(chan struct{}, revisionTalks)
	running := 0
	again := time.NewTimer(jitter(revisionAgain))
	defer again.Stop()
	for {
		for running < revisionTalks && len(waiting) > 0 {
			p := waiting[0]
			waiting = waiting[1:]
			if !n.goTracked(func() { n.talkRevisions(p); done <- struct{}{} }) {
				return
			}
			running++
		}
		select {
		case e := <-sub.Out():
			// Of two that meet one begins.
			if e, ok := e.(event.EvtPeerIdentificationCompleted); ok && n.host.ID() < e.Peer {
				add(e.Peer)
			}
		case <-news:
			news = r.news.wait()
			for _, p := range n.host.Network().Peers() {
				add(p)
			}
		case <-again.C:
			peers := slices.DeleteFunc(n.host.Network().Peers(), func(p peer.ID) bool { return !n.speaksRevisions(p) })
			rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
			for _, p := range peers[:min(len(peers), revisionSome)] {
				add(p)
			}
			again.Reset(jitter(revisionAgain))
		case <-done:
			running--
		case <-n.ctx.Done():
			return
		}
	}
}

// speaksRevisions tells whether p has said that it speaks the protocol.
func (n *Node) speaksRevisions(p peer.ID) bool {
	known, err := n.host.Peerstore().SupportsProtocols(p, n.revisions.protocol)
	return err == nil && len(known) > 0
}

// mayAnswer counts an answer to p, if it has not had too many.
func (r *revisions) mayAnswer(p peer.ID, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, known := r.spent[p]
	if !known && len(r.spent) >= maxRevisionPeer {
		for o, s := range r.spent {
			if now.Sub(s.at) >= revisionBurst*revisionEach {
				delete(r.spent, o)
			}
		}
		if len(r.spent) >= maxRevisionPeer {
			return false
		}
	}
	s.used = max(0, s.used-now.Sub(s.at).Seconds()/revisionEach.Seconds())
	s.at = now
	ok := s.used+1 <= revisionBurst
	if ok {
		s.used++
	}
	r.spent[p] = s
	return ok
}

// serveRevisions answers who compares revisions with us.
func (n *Node) serveRevisions(st network.Stream) {
	r, from := n.revisions, st.Conn().RemotePeer()
	select {
	case r.served <- struct{}{}:
		defer func() { <-r.served }()
	default:
		_ = st.ResetWithError(network.StreamRateLimited)
		return
	}
	if !r.mayAnswer(from, time.Now()) {
		_ = st.ResetWithError(network.StreamRateLimited)
		return
	}
	_, stop := underDeadline(n.ctx, st)
	defer stop()
	if err := n.answerRevision(st, from); err != nil {
		_ = st.Reset()
		n.revisionFailed(from, err)
		return
	}
	_ = st.Close()
}

// talkRevisions compares revisions with p.
func (n *Node) talkRevisions(p peer.ID) {
	const why = "compare descriptors"
	ctx, cancel := context.WithTimeout(network.WithAllowLimitedConn(network.WithNoDial(n.ctx, why), why), handshakeTimeout)
	defer cancel()
	st, err := n.host.NewStream(ctx, p, n.revisions.protocol)
	if err != nil {
		n.revisionFailed(p, err)
		return
	}
	_, stop := underDeadline(n.ctx, st)
	defer stop()
	if err := n.compareRevision(st, p); err != nil {
		_ = st.Reset()
		n.revisionFailed(p, err)
		return
	}
	_ = st.Close()
}

// revisionFailed holds an exchange against the peer where it broke the rules.
func (n *Node) revisionFailed(p peer.ID, err error) {
	n.log.Debug("descriptors not compared", "peer", mesh.PeerID(p), "err", err)
	for _, bad := range []error{ErrMalformed, ErrForged, ErrOtherNetwork, errRevisionRules} {
		if errors.Is(err, bad) {
			n.Penalise(mesh.PeerID(p), "descriptor")
			return
		}
	}
}
