package room

import (
	"errors"
	"time"

	"teahouse/internal/mesh"
)

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
		r.showHearsay(&m.Entry)
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

// openSession makes s a link to a member.
func (r *Room) openSession(s *session) {
	now := time.Now()
	s.state, s.opened = sessionOpen, now
	s.greeted.Store(true)
	member, instance := s.entry.Member, s.entry.Instance
	r.roster.present[member].hear(now, presenceGone) // its PROOF is of now, whatever its entry
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
		fresh: func(now time.Time) bool {
			p := r.roster.present[member]
			return p != nil && p.fresh(now)
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
	r.keysChanged()
	if next := r.handing.next; !next.IsZero() && next.Before(r.next) {
		r.wake()
	}
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
