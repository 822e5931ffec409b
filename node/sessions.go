package node

import (
	"context"
	"crypto/hmac"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

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
	if err := n.connect(ctx, id); err != nil {
		return nil, n.openError("connect", err)
	}
	st, err := n.host.NewStream(ctx, id, roomProtocol)
	if err != nil {
		return nil, n.openError("open a stream", err)
	}
	inner, stop := underDeadline(ctx, st)
	defer stop()
	index := n.table.reserve()
	defer n.table.release(index)
	a, err := n.initiate(inner, st, id, door, hello{features: uint32(allCarriers &^ n.carriers), index: index})
	if err != nil {
		_ = st.Reset()
		if inner.Err() != nil {
			err = inner.Err()
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
		m, err := parseAddr(string(a))
		if err != nil {
			n.log.Debug("address of a peer left out", "peer", mesh.PeerID(id), "err", err)
			continue
		}
		if bare, of := peer.SplitAddr(m); bare != nil && (of == "" || of == id) {
			good = append(good, bare)
		}
	}
	n.host.Peerstore().AddAddrs(id, good, addrTTL)
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
	n.closeDead(id, onQUIC|onTCP, time.Now())
	n.swarm.Backoff().Clear(id)
	return n.host.Connect(network.WithDialPeerTimeout(ctx, handshakeTimeout), peer.AddrInfo{ID: id})
}

// Listen takes sessions that others open through door.
func (n *Node) Listen(door mesh.Door, accept func(mesh.Session)) (stop func(), err error) {
	e, err := n.table.openDoor(door, accept)
	if err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() { n.table.shutDoor(door, e) }), nil
}

// admit counts a handshake, if the limits and the peer's standing allow it.
func (n *Node) admit(p peer.ID) (release func(), ok bool) {
	if !validPeer(p) || n.standing.score(p) < shunBelow || !n.table.begin(p) {
		n.stats.busy.Add(1)
		return nil, false
	}
	return sync.OnceFunc(func() { n.table.finish(p) }), true
}

// serveRoom answers a session's initiator.
func (n *Node) serveRoom(st network.Stream) {
	from := st.Conn().RemotePeer()
	release, ok := n.admit(from)
	if !ok {
		_ = st.ResetWithError(network.StreamRateLimited)
		return
	}
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
	n.host.ConnManager().Protect(s.remote, protectTag)
	return nil
}

func (n *Node) removeSession(s *session) {
	if n.table.remove(s) {
		n.host.ConnManager().Unprotect(s.remote, protectTag)
	}
}

func (n *Node) sessionOf(index uint32) *session { return n.table.byIndex(index) }
