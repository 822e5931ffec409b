package room

import (
	"errors"
	"time"

	"teahouse/internal/mesh"
)

const (
	// closeAfter is how long a session that we end stays open after the last
	// message, so that it arrives.
	closeAfter = 250 * time.Millisecond
	// How long the voice of a session goes on whose stream has ended
	// (DESIGN section 5), unless another session with the member carries it
	// before: where the stream broke, which tells nothing of the voice, that
	// has ways of its own; and where it was replaced, or closed by the far side,
	// because until both sides have opened the new one packets would be lost.
	brokenFor   = 15 * time.Second
	replacedFor = 5 * time.Second
)

// reasonReplaced is why a session ended that gave way to another.
const reasonReplaced = "replaced"

// retire ends a session that gives way to another with the same member. Its
// voice goes on until the other's has been acknowledged.
func (r *Room) retire(s *session) {
	if s.state == sessionOpen {
		r.fade(s, replacedFor, reasonReplaced)
	} else {
		r.forgetSession(s, reasonReplaced)
	}
	s.net.Retire()
}

// fade takes a session whose stream has ended, or is about to, out of all but
// the voice, which goes on for d at most.
func (r *Room) fade(s *session, d time.Duration, why string) {
	for o := range r.sessions {
		if o.state == sessionFading && o.far.member == s.far.member {
			r.endSession(o, o.why) // one for each member is enough
		}
	}
	r.handing.drop(s.far)
	r.unpeer(s)
	s.state, s.end, s.why = sessionFading, time.Now().Add(d), why
	s.link.fading.Store(true)
	r.linksChanged()
	r.wake()
}

// carried tells whether the voice of a fading session goes by another by now.
func (r *Room) carried(s *session, now time.Time) bool {
	for o := range r.sessions {
		if o.state == sessionOpen && o.far.member == s.far.member && o.link.hearsNow(now) {
			return true
		}
	}
	return false
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
// network. One that was open fades: whoever has gone from the roster lost its
// sessions with that.
func (r *Room) sessionEnded(s *session) {
	if _, ok := r.sessions[s]; !ok || s.state == sessionFading {
		return
	}
	err := s.net.Err()
	reason := "ended"
	if err != nil {
		reason = err.Error()
	}
	switch {
	case s.state != sessionOpen:
		r.forgetSession(s, reason)
		_ = s.net.Close() // it has ended
	case errors.Is(err, mesh.ErrClosed):
		r.fade(s, replacedFor, reason)
		r.parted(s.peer)
	default:
		r.fade(s, brokenFor, reason)
		r.broke(s.peer)
	}
}

// endSession ends a session at once; what was sent in it still goes out.
func (r *Room) endSession(s *session, reason string) {
	if _, ok := r.sessions[s]; !ok || s.state == sessionClosing {
		return
	}
	if s.state == sessionFading {
		r.forgetSession(s, reason)
		_ = s.net.Close() // it has ended
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
		case sessionFading:
			if s.end.After(now) && !r.carried(s, now) {
				next = sooner(next, s.end)
				continue
			}
			r.forgetSession(s, s.why)
			if s.why != reasonReplaced {
				_ = s.net.Close() // it has ended
			}
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
	member := s.far.member
	r.handing.drop(s.far)
	r.plane.removeLink(s.link)
	was := s.up
	s.up, s.far = false, nil
	if was && !r.upElsewhere(member) {
		r.emit(Event{Kind: EventLink, Member: member, State: stateDown, Reason: reason})
	}
	r.linksChanged()
}

// upElsewhere tells whether a member's voice has a way by any session.
func (r *Room) upElsewhere(m Member) bool {
	for o := range r.sessions {
		if o.far != nil && o.far.member == m && o.up {
			return true
		}
	}
	return false
}

// openWith tells whether a session with a member is open.
func (r *Room) openWith(m Member) bool {
	for o := range r.sessions {
		if o.state == sessionOpen && o.far.member == m {
			return true
		}
	}
	return false
}

// unpeer takes a session out of those that count as being with its peer; its
// state is about to leave those that do.
func (r *Room) unpeer(s *session) {
	if s.state == sessionFading || s.state == sessionClosing {
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
	if s.state != sessionFading { // else it has been told
		r.parted(s.peer)
	}
	s.state = sessionClosing
	delete(r.sessions, s)
	close(s.closing)
	r.wake()
}

// outlived tells whether a session only fades, and another one has a way to
// the member: how its packets travel is nobody's concern any more.
func (r *Room) outlived(s *session) bool {
	if s.state != sessionFading {
		return false
	}
	for o := range r.sessions {
		if o.state == sessionOpen && o.far.member == s.far.member && o.up {
			return true
		}
	}
	return false
}

// pathChanged is told how packets travel now.
func (r *Room) pathChanged(s *session, path mesh.Path, ok bool) {
	if s.far == nil {
		return // not open, or over
	}
	old, was := s.path, s.up
	s.path, s.up = path, ok
	old.RTT, path.RTT = 0, 0
	switch {
	case ok && r.outlived(s):
	case ok && (!was || old != path):
		r.emit(Event{Kind: EventLink, Member: s.far.member, State: stateUp, Path: s.path})
		s.link.sendReport(s.link.voice.Load(), time.Now(), false)
	case !ok && was && !r.upElsewhere(s.far.member):
		r.emit(Event{Kind: EventLink, Member: s.far.member, State: stateDown, Reason: "no way to the peer"})
	}
}
