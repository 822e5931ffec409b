package node

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"teahouse/internal/mesh"
)

// What becomes of those whom the policy refuses: connections with them are
// closed, and whoever runs the node is told, if they mattered.

const (
	refusedAgain = 30 * time.Second // between two words about one peer
	maxRefused   = 256
)

// refusedPeers remembers about whom something was said.
type refusedPeers struct {
	tell func(mesh.PeerID, error) // may be nil

	mu   sync.Mutex
	said map[peer.ID]time.Time
}

// due tells whether something is to be said about p at now, and notes it.
func (r *refusedPeers) due(p peer.ID, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last, ok := r.said[p]; ok && now.Sub(last) < refusedAgain {
		return false
	}
	if r.said == nil || len(r.said) >= maxRefused {
		r.said = make(map[peer.ID]time.Time)
	}
	r.said[p] = now
	return true
}

// refused says that policy keeps us from p.
func (n *Node) refused(p peer.ID, why error) {
	if !n.refusedPeers.due(p, time.Now()) {
		return
	}
	n.log.Info("policy refuses the ways to a peer", "peer", mesh.PeerID(p), "why", why)
	if n.refusedPeers.tell != nil {
		n.refusedPeers.tell(mesh.PeerID(p), why)
	}
}

// tellRefused says so where p is not reached, and policy refuses an address of
// its: others may be old ones, where nobody is any more.
func (n *Node) tellRefused(p peer.ID) {
	if n.gate.policy == nil || n.reaches(p, time.Now()) {
		return
	}
	for _, a := range slices.Concat(n.whereabouts.of(p), n.host.Peerstore().Addrs(p)) {
		bare, _ := peer.SplitAddr(a)
		if bare == nil || kindOf(bare) == 0 && !isCircuit(bare) {
			continue
		}
		why := n.gate.judge(p, bare, Outbound)
		// A relay that is not the network's is no matter of policy.
		if r := (*Refusal)(nil); why != nil && (kindOf(bare) != 0 || errors.As(why, &r)) {
			n.refused(p, why)
			return
		}
	}
}

// cutRefused closes connections that lead to where the policy forbids packets.
func (n *Node) cutRefused() {
	if n.gate.policy == nil {
		return
	}
	for _, c := range n.host.Network().Conns() {
		why := n.gate.judgeConn(c)
		if why == nil {
			continue
		}
		if n.table.knows(c.RemotePeer()) {
			n.refused(c.RemotePeer(), why)
		}
		n.goTracked(func() { _ = c.Close() })
	}
}
