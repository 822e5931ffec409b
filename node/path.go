package node

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"teahouse/internal/mesh"
)

// carrierSet is a set of what may carry voice. The bits are those of HELLO.
type carrierSet uint32

const (
	onDatagram carrierSet = refusesDatagram
	onQUIC     carrierSet = refusesQUIC
	onTCP      carrierSet = refusesTCP

	allCarriers = onDatagram | onQUIC | onTCP
)

// Choosing a path. Of what both sides allow, the best that works:
//
//	datagrams beside a direct QUIC connection, while they arrive
//	a stream in a direct QUIC connection
//	a stream in a TCP connection
//
// It is chosen anew when a connection comes or goes, when QUIC's remote
// address moves, when path checks fail or succeed again, and every second.
// The gater is asked each time. A missing transport is dialled even where
// another connection exists.

const (
	pathTick    = time.Second
	upgradeMin  = 2 * time.Second // between tries to reach a peer by a transport
	upgradeMax  = 5 * time.Minute
	idleStreams = 10 * time.Second // a voice stream that is not chosen any more
)

// pathState belongs to the path goroutine, once that runs.
type pathState struct {
	announced   mesh.Path
	announcedOK bool
	everSaid    bool

	quic, tcp network.Conn // the best of each, or nil
	lastCheck time.Time

	dialAfter time.Time
	dialDelay time.Duration
}

func (s *session) pathLoop() {
	defer s.die()
	st := &s.paths
	timer := time.NewTimer(checkFast)
	defer timer.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
		now := time.Now()
		over, wait := s.lingering(now)
		if over {
			return
		}
		if wait < 0 && now.Sub(s.born) >= s.node.sessionLife {
			s.end(errExpired, retireFor, true)
		}
		next := s.choose(st, now)
		s.announce(st)
		if wait >= 0 {
			next = min(next, wait)
		}
		timer.Reset(next)
	}
}

// lingering tells when a session that has ended dies. wait is negative while
// it has not ended.
func (s *session) lingering(now time.Time) (over bool, wait time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		return false, -1
	}
	wait = s.deadline.Sub(now)
	return wait <= 0, max(wait, 0)
}

// die removes the session: the last of its states.
func (s *session) die() {
	s.end(mesh.ErrClosed, 0, false)
	s.link.refuse()
	s.node.removeSession(s)
	s.link.way.Store(nil)
	s.dropStreams()
	s.cancel()
}

// choose looks at the connections there are, and answers when to look again.
func (s *session) choose(st *pathState, now time.Time) time.Duration {
	st.quic, st.tcp = s.node.bestConns(s.remote)
	dg := s.makeDatagramWay(st)
	next := pathTick
	good := false
	if dg != nil {
		var proven bool
		good, proven = s.link.checks.judge(now)
		every := checkEvery
		if !proven && good {
			every, next = checkFast, checkFast
		}
		if now.Sub(st.lastCheck) >= every-checkFast/2 {
			st.lastCheck = now
			s.link.sendCheck(dg, check{token: s.link.checks.ask(now)})
		}
		s.node.pings.touch(st.quic, now)
	}
	var w *way
	switch {
	case dg != nil && good:
		w = dg
	default:
		w = s.streamWay(st, now)
		if w == nil {
			w = dg // better than nothing, and nothing else is allowed
		} else {
			next = min(next, checkFast)
		}
	}
	s.link.way.Store(w)
	s.idleStreams(w, now)
	s.dialMissing(st, now)
	return next
}

// makeDatagramWay is the way by datagrams, or nil if there can be none.
func (s *session) makeDatagramWay(st *pathState) *way {
	if s.carriers&onDatagram == 0 || st.quic == nil {
		s.link.datagrams.Store(nil)
		return nil
	}
	q, ok := quicOf(st.quic)
	if !ok {
		s.link.datagrams.Store(nil)
		return nil
	}
	to := q.remote()
	sender, ok := s.node.sockets.senderFor(q.local())
	if !ok || !s.node.gate.allowIP(s.remote, to.Addr()) {
		s.link.datagrams.Store(nil)
		return nil
	}
	if old := s.link.datagrams.Load(); old != nil && old.quic == q && old.to == to {
		return old
	}
	w := &way{
		kind: onDatagram, quic: q, sender: sender, to: to,
		path: mesh.Path{Carrier: mesh.Datagram, Transport: "quic", Remote: to.String()},
	}
	s.link.checks.forget()
	st.lastCheck = time.Time{}
	s.link.datagrams.Store(w)
	return w
}

// streamWay is the way by a voice stream that stands; where one is missing,
// the initiator begins to open it.
func (s *session) streamWay(st *pathState, now time.Time) *way {
	for _, c := range []struct {
		kind carrierSet
		conn network.Conn
	}{{onQUIC, st.quic}, {onTCP, st.tcp}} {
		if s.carriers&c.kind == 0 || c.conn == nil || !s.node.gate.allow(s.remote, c.conn.RemoteMultiaddr(), Outbound) {
			continue
		}
		if v := s.liveStream(c.kind); v != nil {
			if old := s.link.way.Load(); old != nil && old.stream == v {
				return old
			}
			return &way{kind: c.kind, stream: v, path: mesh.Path{
				Carrier: mesh.Stream, Transport: transportName(c.kind), Remote: remoteOf(v.conn.RemoteMultiaddr()),
			}}
		}
		if s.initiator {
			s.openStream(c.kind, c.conn, now)
		}
	}
	return nil
}

func transportName(kind carrierSet) string {
	if kind == onTCP {
		return "tcp"
	}
	return "quic"
}

// remoteOf writes the address of a connection as IP and port.
func remoteOf(a ma.Multiaddr) string {
	_, remote, err := manet.DialArgs(a)
	if err != nil {
		return ""
	}
	return remote
}

// dialMissing reaches the peer by a transport that voice wants and no
// connection has, in the background and with back-off.
func (s *session) dialMissing(st *pathState, now time.Time) {
	var want carrierSet
	switch {
	case s.carriers&(onDatagram|onQUIC) != 0 && st.quic == nil:
		want = onQUIC
	case s.carriers&(onDatagram|onQUIC) == 0 && s.carriers&onTCP != 0 && st.tcp == nil:
		want = onTCP
	default:
		st.dialDelay = 0
		return
	}
	if now.Before(st.dialAfter) {
		return
	}
	st.dialDelay = min(max(2*st.dialDelay, upgradeMin), upgradeMax)
	st.dialAfter = now.Add(st.dialDelay)
	s.node.goTracked(func() {
		ctx, cancel := context.WithTimeout(s.ctx, handshakeTimeout)
		defer cancel()
		if err := s.node.dialBy(ctx, s.remote, want); err != nil {
			s.node.log.Debug("peer not reached by the wanted transport", "peer", s.Peer(), "transport", transportName(want), "err", err)
		}
	})
}

// announce tells OnPath of a change.
func (s *session) announce(st *pathState) {
	s.mu.Lock()
	f, fresh := s.onPath, s.newHook
	s.newHook = false
	s.mu.Unlock()
	if f == nil {
		return
	}
	p, ok := s.link.path()
	plain := p
	plain.RTT = 0
	if !fresh && st.everSaid && ok == st.announcedOK && plain == st.announced {
		return
	}
	st.announced, st.announcedOK, st.everSaid = plain, ok, true
	f(p, ok)
}

// bestConns are the newest direct connections to p of each kind: where an
// older one has died without notice, the newer has not.
func (n *Node) bestConns(p peer.ID) (viaQUIC, viaTCP network.Conn) {
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
		if *best == nil || !c.Stat().Opened.Before((*best).Stat().Opened) {
			*best = c
		}
	}
	return viaQUIC, viaTCP
}
