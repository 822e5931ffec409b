package node

import (
	"context"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"teahouse/internal/mesh"
)

// starters are the peers that this node starts from: those of its configuration
// for as long as it runs, and those that the network's descriptor names now.
// Each has a goroutine that stays connected to it.
type starters struct {
	mu      sync.Mutex
	always  []peer.AddrInfo
	running map[peer.ID]*starter
}

type starter struct {
	addrs  []ma.Multiaddr
	cancel context.CancelFunc
}

// startFrom makes the node start from those of its configuration and from
// named. Who is in neither any more is let go: not cut off, but not sought.
func (n *Node) startFrom(named []peer.AddrInfo) {
	s := &n.starters
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := make(map[peer.ID][]ma.Multiaddr)
	for _, info := range slices.Concat(s.always, named) {
		if info.ID != n.host.ID() && !n.gate.revoked.has(info.ID) {
			wanted[info.ID] = ma.Unique(slices.Concat(wanted[info.ID], info.Addrs))
		}
	}
	for id, old := range s.running {
		if addrs, ok := wanted[id]; ok && sameAddrs(addrs, old.addrs) {
			continue
		}
		old.cancel()
		delete(s.running, id)
		if _, ok := wanted[id]; !ok {
			n.host.ConnManager().Unprotect(id, bootstrapTag)
		}
	}
	// Who is named anew, while we run, may have moved: a connection that we have
	// may be dead, which libp2p finds out after half a minute.
	doubtful := s.running != nil
	if s.running == nil {
		s.running = make(map[peer.ID]*starter)
	}
	for id, addrs := range wanted {
		if s.running[id] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(n.ctx)
		s.running[id] = &starter{addrs, cancel}
		if !n.goTracked(func() { n.keepBootstrapping(ctx, peer.AddrInfo{ID: id, Addrs: addrs}, doubtful) }) {
			cancel()
		}
	}
}

// any tells whether there is anybody to start from.
func (s *starters) any() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.running) > 0
}

// revokedPeers are those with which no packet is exchanged, whoever begins. The
// zero value, and nil, are nobody.
type revokedPeers struct {
	mu    sync.Mutex
	peers map[peer.ID]bool
}

func (r *revokedPeers) has(p peer.ID) bool {
	if r == nil || p == "" {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.peers[p]
}

// set replaces them, and tells who is new among them.
func (r *revokedPeers) set(all []mesh.PeerID) (news []peer.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.peers
	r.peers = make(map[peer.ID]bool, len(all))
	for _, p := range all {
		r.peers[peer.ID(p)] = true
		if !old[peer.ID(p)] {
			news = append(news, peer.ID(p))
		}
	}
	return news
}
