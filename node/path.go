package node

import (
	"context"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
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

	direct      = onDatagram | onQUIC | onTCP
	allCarriers = direct | onRelay
)

// Choosing a path. Of what both sides allow, the best that works:
//
//	datagrams beside a direct QUIC connection, while they arrive
//	a stream in a TCP connection
//	a stream in a direct QUIC connection
//	a stream through a relay
//
// It is chosen anew when a connection comes or goes, when QUIC's remote
// address moves, when path checks fail or succeed again, and every second.
// The gater is asked each time. A missing transport is dialled even where
// another connection exists.
//
// Where datagrams and a stream are allowed, a stream stands by: in TCP, because
// what blocks datagrams often blocks all of UDP, and in QUIC until there is a
// TCP connection. While datagrams have not answered yet, or are late, packets
// go both ways, so that neither a path that is blocked from the start nor one
// that dies in mid-talk costs more than a moment.

const (
	pathTick    = time.Second
	upgradeMin  = 2 * time.Second // between tries to reach a peer by a transport
	upgradeMax  = 5 * time.Minute
	idleStreams = 10 * time.Second // a voice stream that is not chosen any more
	// healMin and healMax bound the wait between dials while a peer that was
	// connected by a transport is not any more, for healFor.
	healMin = 500 * time.Millisecond
	healMax = 2 * time.Second
	healFor = time.Minute
	// relayedMax is the longest such wait while voice goes through a relay.
	relayedMax = 20 * time.Second
	// healDial is how long one dial may take then. What waits behind the lost
	// packets of a handshake does not see that the network is back: both QUIC
	// and TCP double the time to the next try.
	healDial = 3 * time.Second
	// nudgeEvery is how often something is written to a session's stream while
	// it seems to stand still. QUIC doubles the time to its next try with each
	// loss in a row, and what is lost beyond that waits for it; but new data
	// goes out at once, and the first acknowledgement of any sets all going.
	nudgeEvery = 250 * time.Millisecond
	// rushFor is for how long paths are looked at often when the network under
	// us has changed.
	rushFor = 3 * time.Second
	// talkRate is how many packets a second are voice rather than reports.
	talkRate = 8
	// wokenBy is how far the wall clock may run away from the monotonic one
	// until that looks like the sleep of a laptop.
	wokenBy = 2 * time.Second
)

// pathState belongs to the path goroutine, once that runs.
type pathState struct {
	announced   mesh.Path
	announcedOK bool
	everSaid    bool

	quic, tcp network.Conn // the best of each, or nil
	relayed   network.Conn // the best through a relay, or nil
	directly  time.Time    // since when voice has gone by no relay; zero: it goes by one
	lastCheck time.Time

	dials [2]redial // for QUIC and for TCP

	punches redial       // for holes
	punched network.Conn // the relayed one that they are for
	asked   time.Time    // when others were asked where the peer is

	looked  time.Time
	nudged  time.Time // when the stream was written to because it may stand still
	rushed  time.Time // when the network under us changed last
	counted time.Time // when talking was found out
	sent    uint64    // packets until then
	talking bool      // voice was sent lately
}

// redial is when to dial a peer by one transport.
type redial struct {
	after time.Time
	delay time.Duration
	had   time.Time // when there was a connection last
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
		s.life.extend()
		if s.node.pings.late(s.stream.Conn(), now) && now.Sub(st.nudged) >= nudgeEvery {
			st.nudged = now
			s.queue.nudge()
		}
		if s.queue.heldFor(now) >= deadAfter {
			s.end(errStuck, lingerFor, false)
		}
		next := s.look(st, now)
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

// look chooses a path, mindful of sleep, and answers when to look again.
func (s *session) look(st *pathState, now time.Time) time.Duration {
	if wall := now.Round(0).Sub(st.looked.Round(0)); !st.looked.IsZero() && (wall-now.Sub(st.looked)).Abs() > wokenBy {
		s.link.checks.forget() // a sleep, or a new time: what was known is old
	}
	st.looked = now
	if s.rushed.Swap(false) {
		st.rushed = now
		for i := range st.dials {
			st.dials[i].after, st.dials[i].delay = time.Time{}, 0
		}
		st.punched = nil
	}
	if now.Sub(st.rushed) < rushFor {
		// Each of them may be the one that lives, and by being used shows the
		// peer where we are.
		for _, c := range s.node.host.Network().ConnsToPeer(s.remote) {
			if kindOf(c.RemoteMultiaddr()) != 0 && !c.IsClosed() && !c.Stat().Limited {
				s.node.pings.touch(c, now)
			}
		}
	}
	next := s.choose(st, now)
	if now.Sub(st.rushed) < rushFor {
		next = min(next, checkFast)
	}
	return next
}

// choose looks at the connections there are, and answers when to look again.
func (s *session) choose(st *pathState, now time.Time) time.Duration {
	full := s.noteTalk(st, now)
	st.quic, st.tcp = s.node.bestConns(s.remote)
	// The connection of the session's own stream may be none of the best: that
	// it is dead must be found out all the same.
	st.relayed = nil
	if s.carriers&onRelay != 0 {
		st.relayed = s.node.relayedConn(s.remote, now)
	}
	for _, c := range []network.Conn{st.quic, st.tcp, st.relayed, s.stream.Conn()} {
		if c != nil && !c.IsClosed() {
			s.node.pings.touch(c, now)
		}
	}
	dg := s.makeDatagramWay(st, now)
	next := pathTick
	standby := s.standBy(st, now)
	good := false
	if dg != nil {
		good, _ = s.link.checks.judge(now)
		every := s.link.checks.pace(now)
		switch {
		case good && st.talking && s.carriers&(onQUIC|onTCP) != 0 && !s.link.queued():
			every = min(every, checkTalk)
		case st.talking:
			every = min(every, checkFast) // the rate control lives on answers
		}
		next = min(next, every)
		if now.Sub(st.lastCheck) >= every-every/4 {
			st.lastCheck = now
			s.link.sendCheck(dg, check{token: s.link.checks.ask(now)})
		}
	}
	s.link.doubt.Store(dg != nil && s.link.checks.doubted(now))
	w := dg
	if dg == nil || !good {
		w = standby
		if w == nil {
			w = dg // better than nothing, but nothing to call a path
		}
		next = min(next, checkFast)
	}
	s.link.way.Store(w)
	dead := w != nil && w == dg && !good || w != nil && w.stream != nil && w.stream.checks.silent(now)
	s.link.hopeless.Store(dead)
	var by *voiceStream
	if standby != nil {
		by = standby.stream
	}
	s.link.standby.Store(by)
	if full {
		s.idleStreams(w, by, now)
		s.leaveRelay(st, w, now)
		s.forsake(st, now)
	}
	s.dialMissing(st, now)
	s.punch(st, now)
	s.seekPeer(st, now)
	return next
}

// noteTalk finds out whether voice is being sent; full tells that it was time
// for that, about once a second.
func (s *session) noteTalk(st *pathState, now time.Time) (full bool) {
	d := now.Sub(st.counted)
	if d < pathTick*3/4 {
		return false
	}
	sent := s.link.stats.sentPackets.Load()
	st.talking = float64(sent-st.sent) > talkRate*d.Seconds()
	st.sent, st.counted = sent, now
	return true
}

// makeDatagramWay is the way by datagrams, or nil if there can be none.
func (s *session) makeDatagramWay(st *pathState, now time.Time) *way {
	if s.carriers&onDatagram == 0 || st.quic == nil || s.broken(now) {
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
	if !ok || s.node.gate.judgeIP(s.remote, to.Addr(), Outbound) != nil {
		s.link.datagrams.Store(nil)
		return nil
	}
	if old := s.link.datagrams.Load(); old != nil && old.quic == q && old.to == to {
		return old
	}
	w := &way{
		kind: onDatagram, conn: st.quic, quic: q, sender: sender, to: to,
		path: mesh.Path{Carrier: mesh.Datagram, Transport: "quic", Remote: to.String()},
	}
	s.link.checks.turn(now, !s.cameFrom(to))
	s.link.forgetRate()
	st.lastCheck = time.Time{}
	s.link.datagrams.Store(w)
	return w
}

// cameFrom tells whether the session has been opened by QUIC with this address.
func (s *session) cameFrom(to netip.AddrPort) bool {
	q, ok := quicOf(s.stream.Conn())
	return ok && q.remote() == to
}

// vouch notes that a datagram went there and its answer came back: the QUIC
// connection that it goes beside is no dead one, though its pings are late,
// as they are where much is lost. What a session that has ended says does not
// count: the peer may have lost the connection and answer for its link alone.
func (s *session) vouch() {
	if w := s.link.datagrams.Load(); w != nil && w.conn != nil && s.Err() == nil {
		s.node.pings.vouch(w.conn)
	}
}

// broken tells that the circuit breaker of the datagrams has opened. Voice
// goes by streams then, which have a congestion control of their own, and
// where none is allowed the session ends.
func (s *session) broken(now time.Time) bool {
	opened := s.link.breaker(now)
	if opened && s.carriers&(onQUIC|onTCP) == 0 {
		s.end(errCongested, 0, false)
	}
	return opened
}

// standBy is the way by a voice stream that stands, in TCP rather than in QUIC,
// and rather one that answers; where one is missing, the initiator begins to
// open it.
func (s *session) standBy(st *pathState, now time.Time) *way {
	var best *way
	for _, c := range []struct {
		kind carrierSet
		conn network.Conn
	}{{onTCP, st.tcp}, {onQUIC, st.quic}, {onRelay, st.relayed}} {
		if s.carriers&c.kind == 0 || c.conn == nil {
			continue
		}
		if !s.mayStream(c.conn) {
			s.forbidStreams(c.conn)
			continue
		}
		v := s.liveStream(c.kind, c.conn)
		if v == nil {
			// One that stands is enough while datagrams do well, unless it is
			// in QUIC and this would be in TCP.
			if s.initiator && best == nil {
				s.openStream(c.kind, c.conn, now)
			}
			continue
		}
		if best != nil && (v.checks.waiting(now) > lateAfter || best.stream.checks.waiting(now) <= lateAfter) {
			continue
		}
		if old := s.link.way.Load(); old != nil && old.stream == v {
			best = old
			continue
		}
		best = &way{kind: c.kind, stream: v, path: pathOf(v.conn)}
	}
	return best
}

func transportName(kind carrierSet) string {
	switch kind {
	case onTCP:
		return "tcp"
	case onRelay:
		return "relay"
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

// dialMissing reaches the peer by the transports that voice wants and no living
// connection has, in the background and with back-off. A transport that there
// was is tried more often for a while.
func (s *session) dialMissing(st *pathState, now time.Time) {
	for i, d := range []struct {
		kind carrierSet
		conn network.Conn
		want bool
	}{
		{onQUIC, st.quic, s.carriers&(onDatagram|onQUIC) != 0},
		{onTCP, st.tcp, s.carriers&onTCP != 0},
	} {
		r := &st.dials[i]
		if d.conn != nil && s.node.pings.silence(d.conn, now) < suspectAfter {
			r.delay, r.had = 0, now
			continue
		}
		if !d.want || now.Before(r.after) {
			continue
		}
		least, most, limit := upgradeMin, upgradeMax, handshakeTimeout
		if now.Sub(r.had) < healFor {
			least, most, limit = healMin, healMax, healDial
		} else if st.relayed != nil && st.directly.IsZero() {
			most = relayedMax
		}
		r.delay = min(max(2*r.delay, least), most)
		r.after = now.Add(r.delay)
		s.node.goTracked(func() {
			ctx, cancel := context.WithTimeout(s.ctx, limit)
			defer cancel()
			if err := s.node.dialWithin(ctx, s.remote, d.kind, limit); err != nil {
				s.node.log.Debug("peer not reached by the wanted transport", "peer", s.Peer(), "transport", transportName(d.kind), "err", err)
			}
		})
	}
}

// seekPeer asks others where the peer is, while no connection with it answers.
func (s *session) seekPeer(st *pathState, now time.Time) {
	had := st.dials[0].had
	if st.dials[1].had.After(had) {
		had = st.dials[1].had
	}
	if now.Sub(had) >= healFor || now.Sub(st.asked) < askEvery || s.node.reaches(s.remote, now) || !s.node.whereabouts.mayAsk(now) {
		return
	}
	st.asked = now
	s.node.goTracked(func() { s.node.askWhere(s.remote) })
}

// forsake closes connections that have been dead for a while, where a living
// one of their kind has come: what is still tied to them must move. A QUIC
// connection is closed too when datagrams beside it do not arrive either and a
// TCP connection lives: then UDP is blocked, and the session's messages, if it
// is theirs, go on over TCP when the room has opened it anew.
func (s *session) forsake(st *pathState, now time.Time) {
	for _, best := range []network.Conn{st.quic, st.tcp} {
		if best != nil && s.node.pings.silence(best, now) == 0 {
			s.node.closeDead(s.remote, kindOf(best.RemoteMultiaddr()), forsakeAfter, now)
		}
	}
	if st.tcp != nil && s.link.datagrams.Load() != nil && s.node.pings.silence(st.tcp, now) < suspectAfter {
		if good, _ := s.link.checks.judge(now); !good {
			s.node.closeDead(s.remote, onQUIC, forsakeAfter, now)
		}
	}
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
