package node

import (
	"cmp"
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	msmux "github.com/multiformats/go-multistream"

	"teahouse/internal/mesh"
)

var (
	errDoorOpen = errors.New("this door stands open already")
	errSelf     = errors.New("this peer is the node itself")
)

// protectTag keeps connections of session members from being trimmed.
const protectTag = "session"

// Open connects to a peer where needed and opens a session through door.
func (n *Node) Open(ctx context.Context, to mesh.Peer, door mesh.Door) (mesh.Session, error) {
	if n.ctx.Err() != nil {
		return nil, mesh.ErrClosed
	}
	id := peer.ID(to.ID)
	switch {
	case !validPeer(id):
		return nil, errors.New("open session: the peer id is not that of an Ed25519 key")
	case to.ID == n.id:
		return nil, fmt.Errorf("open session: %w", errSelf)
	}
	ctx, cancel := n.within(ctx)
	defer cancel()
	n.learn(id, to.Addrs)
	for try := 1; ; try++ {
		if err := n.connect(ctx, id); err != nil {
			return nil, n.openError("connect", err)
		}
		s, err := n.openOnce(ctx, id, door)
		if err == nil {
			return s, nil
		}
		// Where the connection died under it another may have come.
		if !errors.Is(err, errDeaf) || try == openTries || ctx.Err() != nil {
			return nil, err
		}
	}
}

// openTries is how often one call opens a session anew because the connection
// that it began on stopped to answer.
const openTries = 3

var errDeaf = errors.New("the connection does not answer any more")

// openOnce opens a session over the connection that is best now, for as long as
// that answers.
func (n *Node) openOnce(ctx context.Context, id peer.ID, door mesh.Door) (mesh.Session, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	st, err := n.roomStream(ctx, id)
	if err != nil {
		return nil, n.openError("open a stream", err)
	}
	if !n.goTracked(func() { n.whileAnswers(ctx, st.Conn(), func() { cancel(errDeaf) }) }) {
		_ = st.Reset()
		return nil, mesh.ErrClosed
	}
	inner, stop := underDeadline(ctx, st)
	defer stop()
	index := n.table.reserve()
	defer n.table.release(index)
	a, err := n.initiate(inner, st, id, door, hello{features: uint32(allCarriers &^ n.carriers), index: index})
	if err != nil {
		_ = st.Reset()
		if inner.Err() != nil {
			err = context.Cause(inner)
		}
		return nil, n.openError("handshake", err)
	}
	stop()
	s, err := n.newSession(st, a, true)
	if err != nil {
		_ = st.Reset()
		return nil, n.openError("add", err)
	}
	return s, nil
}

// roomStream opens the stream of a session over a connection that answers:
// libp2p would take the one with the most streams, which is the oldest.
func (n *Node) roomStream(ctx context.Context, id peer.ID) (network.Stream, error) {
	viaQUIC, viaTCP := n.bestConns(id)
	for _, c := range []network.Conn{viaQUIC, viaTCP} {
		if c == nil || len(n.host.Network().ConnsToPeer(id)) < 2 || n.pings.silence(c, time.Now()) >= suspectAfter {
			continue
		}
		st, err := c.NewStream(ctx)
		if err != nil {
			return nil, err
		}
		release := context.AfterFunc(ctx, func() { _ = st.Reset() })
		if err = st.SetProtocol(roomProtocol); err == nil {
			err = msmux.SelectProtoOrFail(roomProtocol, st)
		}
		if !release() || err != nil {
			_ = st.Reset()
			return nil, cmp.Or(ctx.Err(), err)
		}
		return st, nil
	}
	return n.host.NewStream(overRelay(ctx), id, roomProtocol)
}

// whileAnswers asks over c until ctx ends, and calls deaf where no answer comes,
// sooner where there is a better connection.
func (n *Node) whileAnswers(ctx context.Context, c network.Conn, deaf func()) {
	tick := time.NewTicker(checkFast)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			n.pings.touch(c, now)
			patience := suspectAfter
			if viaQUIC, viaTCP := n.bestConns(c.RemotePeer()); c != viaQUIC && c != viaTCP {
				patience = hurriedAfter
			}
			if n.pings.silence(c, now) >= patience {
				deaf()
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func (n *Node) openError(step string, err error) error {
	switch {
	case n.ctx.Err() != nil:
		return mesh.ErrClosed
	case errors.Is(err, mesh.ErrRefused):
		return mesh.ErrRefused
	}
	return fmt.Errorf("open session: %s: %w", step, err)
}

// learn keeps addresses of a peer for a while, those that may be dialled.
func (n *Node) learn(id peer.ID, addrs []mesh.Addr) {
	var good []ma.Multiaddr
	for _, a := range addrs[:min(len(addrs), mesh.MaxAddrs)] {
		m, err := parseWhere(string(a))
		if err != nil {
			n.log.Debug("address of a peer left out", "peer", mesh.PeerID(id), "err", err)
			continue
		}
		if bare, of := peer.SplitAddr(m); bare != nil && (of == "" || of == id) {
			good = append(good, bare)
		}
	}
	n.host.Peerstore().AddAddrs(id, good, addrTTL)
	n.hearWhere(id, good, false)
}

// connect makes sure of a connection: where voice has no choice of transport,
// of one by that, so that the session has a path from its beginning.
func (n *Node) connect(ctx context.Context, id peer.ID) error {
	var want carrierSet
	switch {
	case n.carriers == onTCP:
		want = onTCP
	case n.carriers&onTCP == 0:
		want = onQUIC
	}
	if want != 0 && !n.hasConn(id, want) {
		if err := n.dialBy(ctx, id, want); err != nil {
			n.log.Debug("peer not reached by the wanted transport", "peer", mesh.PeerID(id), "transport", transportName(want), "err", err)
		}
	}
	// A new session must not begin on a connection that is dead, nor wait for
	// libp2p's back-off: who opens sessions has one of his own.
	n.closeDead(id, onQUIC|onTCP|onRelay, forsakeAfter, time.Now())
	n.swarm.Backoff().Clear(id)
	ctx = overRelay(ctx)
	if n.host.Network().Connectedness(id) == network.Connected && !n.reaches(id, time.Now()) {
		n.dialAnew(ctx, id)
	}
	err := n.host.Connect(network.WithDialPeerTimeout(ctx, handshakeTimeout), peer.AddrInfo{ID: id})
	if err != nil {
		n.tellRefused(id)
	}
	return err
}

// dialAnew dials a peer whose connections do not answer, which libp2p does not
// while it holds them for alive.
func (n *Node) dialAnew(ctx context.Context, id peer.ID) {
	ctx, cancel := context.WithTimeout(ctx, healDial)
	var dials sync.WaitGroup
	defer dials.Wait() // the one that is not needed ends with ctx
	defer cancel()
	kinds := []carrierSet{onQUIC, onTCP}
	done := make(chan error, len(kinds))
	for _, kind := range kinds {
		dials.Go(func() { done <- n.dialWithin(ctx, id, kind, healDial) })
	}
	for range kinds {
		if err := <-done; err == nil {
			return
		}
	}
}

// Listen takes sessions that others open through door.
func (n *Node) Listen(door mesh.Door, accept func(mesh.Session)) (stop func(), err error) {
	e, err := n.table.openDoor(door, accept)
	if err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() { n.table.shutDoor(door, e) }), nil
}

// admit counts the handshake of a voice stream, if the limits and the peer's
// standing allow it. Who has no session, and none that is being opened, is not
// listened to at all.
func (n *Node) admit(p peer.ID) (release func(), ok bool) {
	if !n.table.knows(p) || !n.mayAttempt(origin{peer: p}, voiceAttempt) || !n.table.begin(p) {
		n.stats.busy.Add(1)
		return nil, false
	}
	return sync.OnceFunc(func() { n.table.finish(p) }), true
}

// knows tells whether p has a session, or is opening one.
func (t *table) knows(p peer.ID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.peers[p]) > 0 || t.handshakes[p] > 0
}

// mayAttempt charges a peer for an attempt at something of a session, and drops
// one that goes on beyond its allowance.
func (n *Node) mayAttempt(from origin, cost float64) bool {
	now := time.Now()
	if !validPeer(from.peer) || n.guard.shunned(from.peer, now) {
		return false
	}
	ok, flood := n.guard.ledger.take(now, from, attempts, cost)
	if flood {
		n.drop(from.peer, attempts.String())
	}
	return ok
}

// drop ends all that a peer has here and shuns it for a while.
func (n *Node) drop(p peer.ID, why string) {
	n.goTracked(func() { n.guard.drop(p, why) })
}

// shedIfShunned drops a peer that has lost its standing.
func (n *Node) shedIfShunned(p peer.ID) {
	if n.guard.shunned(p, time.Now()) {
		n.drop(p, "standing")
	}
}

// endSessionsOf ends the sessions of a peer that is dropped, their links too:
// what it has kept of their keys is worth nothing.
func (n *Node) endSessionsOf(p peer.ID) {
	n.table.mu.Lock()
	all := slices.Collect(maps.Keys(n.table.peers[p]))
	n.table.mu.Unlock()
	for _, s := range all {
		s.link.refuse()
		s.end(errAbuse, 0, false)
	}
}

// serveRoom answers a session's initiator.
func (n *Node) serveRoom(st network.Stream) {
	who := originOf(st.Conn())
	from := who.peer
	if !n.mayAttempt(who, 1) {
		n.stats.busy.Add(1)
		_ = st.ResetWithError(network.StreamRateLimited)
		return
	}
	stopped := func() { _ = st.ResetWithError(network.StreamRateLimited) }
	b, ok := n.guard.handshakes.begin(time.Now(), who, stopped)
	if !ok || !n.table.begin(from) {
		if ok {
			n.guard.handshakes.end(b)
		}
		n.stats.busy.Add(1)
		stopped()
		return
	}
	release := sync.OnceFunc(func() {
		n.guard.handshakes.end(b)
		n.table.finish(from)
	})
	defer release()
	ctx, stop := underDeadline(n.ctx, st)
	defer stop()
	index := n.table.reserve()
	defer n.table.release(index)
	var entry *doorEntry
	find := func(random []byte, tag *[32]byte) (mesh.Door, bool) {
		var found mesh.Door
		for d, e := range n.table.allDoors() { // all of them: the time taken tells nothing
			want := sessionTag(&d, mesh.PeerID(from), n.id, random)
			if hmac.Equal(want[:], tag[:]) {
				found, entry = d, e
			}
		}
		return found, entry != nil
	}
	_, a, err := n.respond(ctx, st, from, find, hello{features: uint32(allCarriers &^ n.carriers), index: index})
	if err != nil {
		_ = st.Reset()
		n.stats.refused.Add(1)
		if errors.Is(err, errNoDoor) {
			n.mayAttempt(who, refusedAttempt)
		}
		n.log.Debug("session not opened", "peer", mesh.PeerID(from), "err", err)
		return
	}
	stop()
	s, err := n.newSession(st, a, false)
	if err != nil {
		_ = st.ResetWithError(network.StreamRateLimited)
		return
	}
	release()
	entry.accept(s)
}

// addSession enters a session and protects its peer's connections.
func (n *Node) addSession(s *session) error {
	if err := n.table.add(s); err != nil {
		return err
	}
	n.sieve.sessionsChanged()
	n.host.ConnManager().Protect(s.remote, protectTag)
	n.whereabouts.told(s.remote, usable(n.host.Peerstore().Addrs(s.remote)), false)
	return nil
}

func (n *Node) removeSession(s *session) {
	if n.table.remove(s) {
		n.host.ConnManager().Unprotect(s.remote, protectTag)
		n.whereabouts.forget(s.remote)
	}
	n.sieve.sessionsChanged()
}

func (n *Node) sessionOf(index uint32) *session { return n.table.byIndex(index) }
