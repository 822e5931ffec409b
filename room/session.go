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
//	greeting --PROOF, ENTRY, KNOWN--> open -- we end it --> closing --> (forgotten)
//	    |                              |                       |           |
//	    |                              \-- it ended, or is     |           |
//	    |                                  replaced --> fading -+-----------/
//	    \------------------------------------------------------/
type sessionState int

const (
	sessionGreeting sessionState = iota // nothing of the far side is believed
	sessionOpen                         // the far side is a visible member
	sessionFading                       // its stream has ended, its voice goes on for a while
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
	end    time.Time // when fading or closing: the latest
	why    string    // when fading: why it ended
}

// speaks tells whether messages travel.
func (s *session) speaks() bool { return s.state == sessionGreeting || s.state == sessionOpen }

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
			if s.speaks() && !s.room.leaving {
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
	if !s.speaks() {
		return
	}
	if err := s.net.Send(class, data); errors.Is(err, mesh.ErrBusy) {
		s.room.log.Debug("a peer does not read what it is sent", "peer", s.peer)
		s.room.later(func() { s.room.endSession(s, "does not read") })
	}
}
