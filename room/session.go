package room

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"teahouse/internal/mesh"
)

const (
	// greetingTime is how long a session may take from its start to PROOF,
	// ENTRY and KNOWN of both sides; maxGreeting is how many that others
	// opened may be at it at once.
	greetingTime = 10 * time.Second
	maxGreeting  = 64
	// maxSessions bounds all of them.
	maxSessions = 2*MaxMembers + maxGreeting
	// refusalTime is within which time of our greeting a refusal comes.
	refusalTime = 5 * time.Second
	// closeAfter is how long a session that we end stays open after the last
	// message, so that it arrives.
	closeAfter = 250 * time.Millisecond
	// pairWindow is within which time two sessions of one pair count as opened
	// at once; after it the newer one is the better one.
	pairWindow = 10 * time.Second

	// Control messages of one session, in the mean and at once. What comes
	// faster is read later, and the far side's queue fills.
	messageRate  = 100 // a second
	messageBurst = 600
	// greetingMost is how many messages may come before the greeting is done:
	// each costs a verification. Who was dialled may say more, because it can
	// be done before we are.
	greetingMost       = 8
	greetingMostDialed = 64
)

// sessionState is how far a session has come.
//
//	greeting --PROOF, ENTRY, KNOWN--> open --> closing --> (forgotten)
//	    \_________________________________________/
type sessionState int

const (
	sessionGreeting sessionState = iota // nothing of the far side is believed
	sessionOpen                         // the far side is a visible member
	sessionClosing                      // nothing is read; the last word is on its way
)

// session is a mesh.Session in this room and what was said in it.
type session struct {
	// Constant.
	room      *Room
	net       mesh.Session
	peer      mesh.PeerID
	initiator bool
	link      *link
	closing   chan struct{} // closed before net is: whoever waits for the room gives up

	// Owned by the goroutine that delivers messages.
	limit  bucket
	before int // messages that came before the greeting was done

	// Atomic.
	greeted atomic.Bool // the greeting is done

	// Owned by the room.
	state  sessionState
	born   time.Time
	opened time.Time
	proof  *proof
	entry  *entry
	known  *knownMessage
	told   knownMessage // our KNOWN in the greeting
	far    *far
	path   mesh.Path
	up     bool
	others bucket    // peers that it names and nobody else does
	end    time.Time // when closing: the latest
}

func (s *session) role() (ours, theirs uint8) {
	if s.initiator {
		return roleInitiator, roleResponder
	}
	return roleResponder, roleInitiator
}

// message takes one message from the far side, on the session's own goroutine:
// what can be checked without the room is checked here.
func (s *session) message(data []byte) {
	if !s.room.sleep(s.limit.wait(time.Now()), s.closing) {
		return
	}
	if !s.greeted.Load() {
		s.before++
		if most := greetingMost; s.before > most && (!s.initiator || s.before > greetingMostDialed) {
			s.room.post(s.closing, func() { s.misbehaved(errors.New("too many messages before the greeting")) })
			return
		}
	}
	take, err := s.read(data)
	switch {
	case err != nil:
		s.room.post(s.closing, func() { s.misbehaved(err) })
	case take != nil:
		s.room.post(s.closing, func() {
			if s.state != sessionClosing && !s.room.leaving {
				take()
			}
		})
	}
}

// read decodes and verifies a message, and gives what the room is to do with
// it: nil for nothing.
func (s *session) read(data []byte) (take func(), err error) {
	kind, body, ok := splitMessage(data)
	if !ok {
		return nil, nil // a keep-alive
	}
	r := s.room
	switch kind {
	case kindProof:
		p, err := decodeProof(body)
		_, theirs := s.role()
		if err == nil {
			err = p.verify(r.id, theirs, s.net.Binding())
		}
		return func() { s.takeProof(&p) }, named("PROOF", err)
	case kindEntry:
		e, _, err := decodeEntry(body)
		if err == nil {
			err = r.verify(&e)
		}
		return func() { s.takeEntry(&e) }, named("ENTRY", err)
	case kindEpoch:
		m, err := decodeEpoch(body)
		if err == nil {
			err = m.verify(r.id)
		}
		if err == nil && (m.Origin.Removals != 0 || !zeros(m.Origin.Heads[:])) {
			err = errMalformed // nobody is removed from an open room
		}
		return func() { s.takeEpoch(&m) }, named("EPOCH", err)
	case kindAdmit:
		m, err := decodeAdmit(body)
		if err == nil {
			err = r.verify(&m.Entry)
		}
		return func() { s.takeAdmit(&m) }, named("ADMIT", err)
	case kindKnown:
		m, err := decodeKnown(body)
		return func() { s.takeKnown(&m) }, named("KNOWN", err)
	case kindPeers:
		peers, err := decodePeers(body)
		return func() { s.takePeers(peers) }, named("PEERS", err)
	}
	r.count.messagesBad.Add(1)
	return nil, nil
}

func named(message string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", message, err)
	}
	return nil
}

// send sends a message; a far side that does not read what it is sent is let
// go.
func (s *session) send(class mesh.Priority, data []byte) {
	if s.state == sessionClosing {
		return
	}
	if err := s.net.Send(class, data); errors.Is(err, mesh.ErrBusy) {
		s.room.log.Debug("a peer does not read what it is sent", "peer", s.peer)
		s.room.later(func() { s.room.endSession(s, "does not read") })
	}
}

// greet says who we are. All of it goes in one class, so that it arrives in
// order.
func (s *session) greet() {
	r := s.room
	ours, _ := s.role()
	p := newProof(r.id, ours, s.net.Binding(), r.cfg.Key)
	s.told = r.handing.known()
	s.send(mesh.Urgent, p.appendMessage(nil))
	if e := r.freshEntry(); e != nil {
		s.send(mesh.Urgent, e.appendMessage(nil))
	}
	s.send(mesh.Urgent, s.told.appendMessage(nil))
}

func (s *session) takeProof(p *proof) {
	if s.proof != nil {
		s.misbehaved(errors.New("a second PROOF"))
		return
	}
	s.proof = p
	s.meet()
}

func (s *session) takeEntry(e *entry) {
	r := s.room
	switch {
	case s.state == sessionGreeting && s.proof == nil && e.Member == r.self:
		// The far side does not let us in, because it knows of another
		// instance of ourselves.
		r.shownSelf(e, false)
		r.endSession(s, "refused")
	case s.state == sessionGreeting:
		if s.entry != nil {
			s.misbehaved(errors.New("a second ENTRY before the first was answered"))
			return
		}
		s.entry = e
		s.meet()
	case e.Member == s.far.member && e.Peer == s.peer:
		r.show(e)
	case e.Member == r.self:
		// Soon after the greeting it is how the far side does not let us in;
		// later it says that the other instance has come.
		r.shownSelf(e, false)
		if time.Since(s.opened) < refusalTime {
			r.endSession(s, "refused")
		}
	default:
		s.misbehaved(errors.New("ENTRY of somebody else"))
	}
}

func (s *session) takeKnown(m *knownMessage) {
	if s.state == sessionGreeting {
		s.known = m
		s.meet()
		return
	}
	s.room.handing.takeKnown(s.far, m, time.Now())
	s.room.handingMoved()
}

func (s *session) takeEpoch(m *epochMessage) {
	if s.state != sessionOpen {
		return // nothing is believed of who has not proven who it is
	}
	if err := s.room.handing.takeEpoch(s.far, m, time.Now()); err != nil {
		s.room.count.messagesBad.Add(1)
	}
	s.room.handingMoved()
}

func (s *session) takeAdmit(m *admitMessage) {
	r := s.room
	if s.state != sessionOpen {
		return
	}
	if m.Entry.Member == r.self {
		r.shownSelf(&m.Entry, false)
	} else if e := r.handing.newest(); e != nil && e.origin.Commitment == m.Commitment {
		r.show(&m.Entry)
	}
	if s.state != sessionOpen {
		return
	}
	r.handing.takeAdmit(m, r.isPresent(&m.Entry), time.Now())
	r.handingMoved()
}

// meet goes on once the far side has said all three: it is let in, or not.
func (s *session) meet() {
	if s.state != sessionGreeting || s.proof == nil || s.entry == nil || s.known == nil {
		return
	}
	r, e := s.room, s.entry
	if e.Member != s.proof.Member || e.Peer != s.peer {
		s.misbehaved(errors.New("ENTRY is not of who has proven to be here"))
		return
	}
	if e.Member == r.self {
		r.meetSelf(s, e)
		return
	}
	switch r.show(e) {
	case shownOutdated, shownClash:
		s.send(mesh.Urgent, r.roster.last(e.Member).appendMessage(nil))
		r.refuse(s, "an older instance")
		return
	case shownFull:
		r.refuse(s, "the room is full")
		return
	}
	if !r.isPresent(e) {
		r.refuse(s, "not present")
		return
	}
	if !r.settlePair(s) {
		return
	}
	r.openSession(s)
}

// refuse ends a session whose far side is not let in.
func (r *Room) refuse(s *session, why string) {
	r.count.sessionsRefused.Add(1)
	r.endSession(s, why)
}

// settlePair decides which of two sessions with one member stays, and whether
// that is s. Both sides decide alike: the one that the smaller peer id opened,
// unless the other is so much older that only one side can still have it. (At
// the very edge of pairWindow the two may decide differently and lose both;
// then they dial again.)
func (r *Room) settlePair(s *session) bool {
	for o := range r.sessions {
		if o == s || o.state != sessionOpen || o.far.member != s.entry.Member {
			continue
		}
		if o.far.instance != s.entry.Instance {
			o.send(mesh.Urgent, s.entry.appendMessage(nil))
			r.endSession(o, "a newer instance has come")
			continue
		}
		young := time.Since(o.opened) < pairWindow
		if young && o.initiator != s.initiator && o.initiator == (r.peer < s.peer) {
			r.retire(s)
			return false
		}
		r.retire(o)
	}
	return true
}

// retire ends a session that gives way to another with the same member; what
// is on its way still counts.
func (r *Room) retire(s *session) {
	r.forgetSession(s, "replaced")
	s.net.Retire()
}

// openSession makes s a link to a member.
func (r *Room) openSession(s *session) {
	now := time.Now()
	s.state, s.opened = sessionOpen, now
	s.greeted.Store(true)
	member, instance := s.entry.Member, s.entry.Instance
	v := r.voiceOf(member)
	s.link.voice.Store(v)
	r.plane.addLink(s.link)
	if !s.initiator {
		s.greet()
	} else if known := r.handing.known(); known != s.told {
		s.send(mesh.Urgent, known.appendMessage(nil))
	}
	s.send(mesh.Roster, r.peersFor(s))
	s.far = &far{
		member: member, instance: instance, responder: !s.initiator, known: *s.known,
		entry: func() *entry {
			if p := r.roster.present[member]; p != nil && p.entry.Instance == instance {
				return &p.entry
			}
			return nil
		},
		send:    func(message []byte) { s.send(mesh.Urgent, message) },
		dismiss: func() { r.later(func() { s.misbehaved(errEpochLie) }) },
	}
	r.met(s.peer)
	r.linksChanged()
	s.net.OnPath(func(path mesh.Path, ok bool) {
		r.post(s.closing, func() { r.pathChanged(s, path, ok) })
	})
	r.handing.open(s.far, now)
	r.wake()
	s.link.sendReport(v, now, false)
}

// handingMoved is called after news for handing, which may have to come again
// sooner than was thought.
func (r *Room) handingMoved() {
	if next := r.handing.next; !next.IsZero() && next.Before(r.next) {
		r.wake()
	}
}

// misbehaved ends a session whose far side broke the protocol.
func (s *session) misbehaved(err error) {
	if s.state == sessionClosing {
		return
	}
	r := s.room
	r.count.messagesBad.Add(1)
	if s.state == sessionGreeting {
		r.count.sessionsRefused.Add(1)
	}
	r.log.Debug("peer broke the protocol", "peer", s.peer, "what", err)
	r.cfg.Network.Penalise(s.peer, err.Error())
	r.farewell(s.peer)
	r.endSession(s, "broke the protocol")
}

// adopt takes up a session that others opened; it is called on any goroutine.
func (r *Room) adopt(n mesh.Session) {
	if !r.enter() {
		_ = n.Close() // the room has ended; there is nobody to tell
		return
	}
	defer r.wg.Done()
	if s := r.newSession(n); !r.post(nil, func() { r.begin(s) }) {
		_ = n.Close() // as above
	}
}

func (r *Room) newSession(n mesh.Session) *session {
	return &session{
		room: r, net: n, peer: n.Peer(), initiator: n.Initiator(), closing: make(chan struct{}),
		link: &link{plane: r.plane, net: n}, born: time.Now(),
		limit:  bucket{rate: messageRate, burst: messageBurst},
		others: bucket{rate: hearsayRate, burst: hearsayBurst},
	}
}

// begin starts a session, if there is room for it. Those that have not said
// who they are give way to newer ones: the oldest where there are too many, and
// an earlier one of the same peer, which may be dead by now.
func (r *Room) begin(s *session) {
	var oldest, same *session
	greeting := 0
	for o := range r.sessions {
		if o.state != sessionGreeting || o.initiator || s.initiator {
			continue
		}
		greeting++
		if oldest == nil || o.born.Before(oldest.born) {
			oldest = o
		}
		if o.peer == s.peer {
			same = o
		}
	}
	if same != nil {
		r.refuse(same, "greeted anew")
	} else if greeting >= maxGreeting {
		r.refuse(oldest, "did not say who it is while others wait")
	}
	if r.leaving || len(r.sessions) >= maxSessions {
		r.count.sessionsRefused.Add(1)
		_ = s.net.Close() // it has not begun
		return
	}
	r.sessions[s] = struct{}{}
	r.peers[s.peer]++
	r.watch(s)
	s.net.Start(s.message, s.link.packet)
	if s.initiator {
		s.greet()
	}
	r.wake()
}

// watch tells the room when a session has ended.
func (r *Room) watch(s *session) {
	r.spawn(func() {
		select {
		case <-s.net.Done():
			r.post(s.closing, func() { r.sessionEnded(s) })
		case <-s.closing:
		}
	})
}

// sessionEnded is told that a session has ended, by the far side or the
// network.
func (r *Room) sessionEnded(s *session) {
	if _, ok := r.sessions[s]; !ok {
		return
	}
	reason := "ended"
	if err := s.net.Err(); err != nil {
		reason = err.Error()
	}
	r.forgetSession(s, reason)
	_ = s.net.Close() // it has ended
}

// endSession ends a session; what was sent in it still goes out.
func (r *Room) endSession(s *session, reason string) {
	if _, ok := r.sessions[s]; !ok || s.state == sessionClosing {
		return
	}
	r.loseLink(s, reason)
	r.unpeer(s)
	s.link.voice.Store(nil)
	s.state, s.end = sessionClosing, time.Now().Add(closeAfter)
	r.wake()
}

// closeDue closes the sessions whose last word has had its time, and those
// that take too long to greet; it tells when to come again.
func (r *Room) closeDue(now time.Time) (next time.Time) {
	for s := range r.sessions {
		switch s.state {
		case sessionClosing:
			if !s.end.After(now) {
				r.forgetSession(s, "")
				_ = s.net.Close() // it says nothing but that it was closed
				continue
			}
			next = sooner(next, s.end)
		case sessionGreeting:
			at := s.born.Add(greetingTime)
			if !at.After(now) {
				r.refuse(s, "did not say who it is")
				at = s.end
			}
			next = sooner(next, at)
		}
	}
	return next
}

// loseLink takes a session out of everything that speaks through it.
func (r *Room) loseLink(s *session, reason string) {
	if s.far == nil {
		return
	}
	r.handing.drop(s.far)
	r.plane.removeLink(s.link)
	if s.up {
		s.up = false
		r.emit(Event{Kind: EventLink, Member: s.far.member, State: stateDown, Reason: reason})
	}
	s.far = nil
	r.linksChanged()
}

// unpeer takes a session out of those that count as being with its peer; its
// state is about to become closing.
func (r *Room) unpeer(s *session) {
	if s.state == sessionClosing {
		return
	}
	if r.peers[s.peer]--; r.peers[s.peer] == 0 {
		delete(r.peers, s.peer)
	}
}

// forgetSession ends our part in a session.
func (r *Room) forgetSession(s *session, reason string) {
	r.loseLink(s, reason)
	r.unpeer(s)
	s.state = sessionClosing
	delete(r.sessions, s)
	close(s.closing)
	r.parted(s.peer)
	r.wake()
}

// pathChanged is told how packets travel now.
func (r *Room) pathChanged(s *session, path mesh.Path, ok bool) {
	if s.state != sessionOpen {
		return
	}
	old, was := s.path, s.up
	s.path, s.up = path, ok
	old.RTT, path.RTT = 0, 0
	switch {
	case ok && (!was || old != path):
		r.emit(Event{Kind: EventLink, Member: s.far.member, State: stateUp, Path: s.path})
		s.link.sendReport(s.link.voice.Load(), time.Now(), false)
	case !ok && was:
		r.emit(Event{Kind: EventLink, Member: s.far.member, State: stateDown, Reason: "no way to the peer"})
	}
}

// bucket is a token bucket (RFC 2697's idea): rate tokens a second, at most
// burst saved up.
type bucket struct {
	rate, burst float64
	tokens      float64
	at          time.Time
}

// wait takes one token and tells how long to wait for it.
func (b *bucket) wait(now time.Time) time.Duration {
	if b.at.IsZero() {
		b.tokens = b.burst
	} else {
		b.tokens = min(b.burst, b.tokens+b.rate*now.Sub(b.at).Seconds())
	}
	b.at = now
	b.tokens--
	if b.tokens >= 0 {
		return 0
	}
	return time.Duration(-b.tokens / b.rate * float64(time.Second))
}
