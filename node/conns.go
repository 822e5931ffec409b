package node

import (
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// The connections that there are with a peer, and which of them answer.

// closeDead closes connections to p of a kind whose pings have gone without an
// answer for so long.
func (n *Node) closeDead(p peer.ID, kinds carrierSet, silent time.Duration, now time.Time) {
	for _, c := range n.host.Network().ConnsToPeer(p) {
		if connKind(c)&kinds != 0 && n.pings.silence(c, now) >= silent {
			n.goTracked(func() { _ = c.Close() })
		}
	}
}

// bestConns are the newest direct connections to p of each kind that answer,
// or else the newest: where an older one has died without notice, the newer has
// not. One by which the peer has moved is as new as the move: others may lead
// to where it was.
func (n *Node) bestConns(p peer.ID) (viaQUIC, viaTCP network.Conn) {
	now := time.Now()
	for _, c := range n.host.Network().ConnsToPeer(p) {
		if c.IsClosed() || c.Stat().Limited {
			continue
		}
		best := &viaTCP
		switch kindOf(c.RemoteMultiaddr()) {
		case onQUIC:
			best = &viaQUIC
		case onTCP:
		default:
			continue
		}
		if *best == nil {
			*best = c
			continue
		}
		dead, bestDead := n.pings.silence(c, now) >= suspectAfter, n.pings.silence(*best, now) >= suspectAfter
		if bestDead && !dead || bestDead == dead && !n.learnt(c, now).Before(n.learnt(*best, now)) {
			*best = c
		}
	}
	return viaQUIC, viaTCP
}

// reaches tells whether a connection with p answers.
func (n *Node) reaches(p peer.ID, now time.Time) bool {
	return slices.ContainsFunc(n.host.Network().ConnsToPeer(p), func(c network.Conn) bool {
		return !c.IsClosed() && n.pings.silence(c, now) < suspectAfter
	})
}

// learnt is when we were told that p is where c leads.
func (n *Node) learnt(c network.Conn, now time.Time) time.Time {
	if q, ok := quicOf(c); ok {
		return n.pings.news(c, q.remote(), now)
	}
	return c.Stat().Opened
}
