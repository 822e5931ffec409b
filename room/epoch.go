package room

import (
	"crypto/subtle"
	"errors"
	"slices"
	"time"
)

const (
	// maxEpochs is how many epochs are held at once: those that a crowd makes
	// while a sender still lags behind, see switchMost and handing.admit.
	// epochOpen is how long voice under an old one is opened (DESIGN section 5).
	maxEpochs = 8
	epochOpen = 5 * time.Second
	// maxLineage is how many origins back a succession is recognised, and
	// how many origins that lost are remembered.
	maxLineage = 16
)

// errEpochLie: somebody holds, or hands on, another secret than we under one
// name.
var errEpochLie = errors.New("two secrets for one epoch")

// epoch is one that we hold.
type epoch struct {
	number   uint32
	secret   epochSecret
	origin   *origin
	id       epochID
	tag      tag
	sendFrom time.Time // when we begin to send in it, unless skipped
	skip     bool      // not: others whom we speak with may not hold it
	until    time.Time // when we cease to open what is sent in it; zero for the newest
}

// steps is how often it was ratcheted since its origin.
func (e *epoch) steps() uint32 { return e.number - e.origin.Number }

// epochs are those that this member holds, and who was given them. It is pure
// state; what comes in was verified on its own (signatures, commitments). For
// one goroutine at a time.
//
// The newest epoch only ever moves forward: by ratchets within one origin, and
// from an origin to one that beats it. Members who exchange what they hold
// therefore end with the same epoch, whatever the order.
type epochs struct {
	held []*epoch // newest first, at most maxEpochs
	// lineage is how the newest origin descends from those before it, oldest
	// first; lost are origins that were given up for others.
	lineage []ancestor
	lost    []commitment
	// entitled are the members who were let into the epochs of the lineage,
	// by us or by others, with the place in it from which on they were.
	entitled map[Member]entitlement
	// Somebody who may hold a secret of the newest origin has gone, and follows
	// any ratchet of it: witnessed, we saw it; told, others say so. With the
	// origin this ends, but for what we saw a moment before.
	witnessed, told bool
	departedAt      time.Time // when we first knew of one
	departureAt     time.Time // when we last saw one go
	changedAt       time.Time // when the newest epoch began
}

type ancestor struct {
	commitment commitment
	place      int
}

type entitlement struct {
	instance uint64
	place    int
}

func newEpochs() *epochs { return &epochs{entitled: make(map[Member]entitlement)} }

// newest is the epoch to be in, nil before the first.
func (s *epochs) newest() *epoch {
	if len(s.held) == 0 {
		return nil
	}
	return s.held[0]
}

// known is what we tell others that we hold.
func (s *epochs) known() knownMessage {
	e := s.newest()
	if e == nil {
		return knownMessage{}
	}
	m := knownMessage{
		Number: e.number, OriginNumber: e.origin.Number, Removals: e.origin.Removals,
		Commitment: e.origin.Commitment, Epoch: e.id,
	}
	if s.stale() {
		m.Flags |= knownStale
	}
	return m
}

// message hands the newest epoch on.
func (s *epochs) message() epochMessage {
	e := s.newest()
	return epochMessage{Number: e.number, Secret: e.secret, Origin: *e.origin}
}

// stale tells whether somebody has gone who can follow ratchets of the newest
// origin.
func (s *epochs) stale() bool { return s.witnessed || s.told }

// mustRenew tells whether the next change has to be a fresh epoch: the newest
// is stale, or the ratchet is at its end.
func (s *epochs) mustRenew() bool {
	e := s.newest()
	return e == nil || s.stale() || e.steps() >= maxRatchets
}

// ratchet moves one step within the newest origin.
func (s *epochs) ratchet(now time.Time, delay time.Duration) {
	e := s.newest()
	s.push(&epoch{number: e.number + 1, secret: e.secret.ratchet(), origin: e.origin}, now, delay)
}

// renew moves to a fresh epoch that we are the author of. sign makes its
// origin, of the given number and parent.
func (s *epochs) renew(now time.Time, delay time.Duration, fresh epochSecret, sign func(number uint32, parent commitment) origin) {
	number, parent := uint32(1), commitment{}
	if e := s.newest(); e != nil {
		number, parent = e.number+1, e.origin.Commitment
	}
	o := sign(number, parent)
	s.descend(&o)
	s.push(&epoch{number: number, secret: fresh, origin: &o}, now, delay)
	s.witnessed, s.told = false, false
}

// raise moves up to number within the newest origin, as an ADMIT says; false:
// it says nothing new.
func (s *epochs) raise(origin commitment, number uint32, now time.Time, delay time.Duration) bool {
	e := s.newest()
	if e == nil || e.origin.Commitment != origin {
		return false
	}
	steps := number - e.origin.Number
	if steps <= e.steps() || steps > maxRatchets {
		return false
	}
	s.climb(number, now, delay)
	return true
}

// climb ratchets up to number within the newest origin, by at most maxRatchets
// steps. The epochs between are held too: somebody may be sending in them.
func (s *epochs) climb(number uint32, now time.Time, delay time.Duration) {
	for e := s.newest(); e.number != number; e = s.newest() {
		steps := uint32(1)
		if rest := number - e.number; rest > maxEpochs {
			steps = rest - maxEpochs
		}
		secret, _ := e.secret.ratchetBy(steps) // the caller has bounded them
		s.push(&epoch{number: e.number + steps, secret: secret, origin: e.origin}, now, delay)
	}
}

// taken is what became of an EPOCH that was handed to us.
type taken int

const (
	takenNot    taken = iota // old, or it loses
	takenRaised              // a later epoch of the same origin
	takenFresh               // another origin, that succeeds ours
	takenOther               // another origin, of people who were apart from us
)

// take takes an EPOCH that an entitled member handed to us. errEpochLie: it
// cannot be true together with what we hold.
func (s *epochs) take(m *epochMessage, from Member, instance uint64, now time.Time, delay time.Duration) (taken, error) {
	e := s.newest()
	if e == nil {
		s.descend(&m.Origin)
		s.push(s.fromMessage(m), now, delay)
		s.entitle(from, instance)
		return takenOther, nil
	}
	if m.Origin.Commitment == e.origin.Commitment {
		steps := m.Number - m.Origin.Number
		if steps <= e.steps() {
			for _, h := range s.held {
				if h.origin.Commitment == m.Origin.Commitment && h.number == m.Number && !h.secret.equal(&m.Secret) {
					return takenNot, errEpochLie
				}
			}
			return takenNot, nil
		}
		if secret, ok := e.secret.ratchetBy(steps - e.steps()); !ok || !secret.equal(&m.Secret) {
			return takenNot, errEpochLie
		}
		s.climb(m.Number, now, delay)
		s.entitle(from, instance)
		return takenRaised, nil
	}
	if !m.Origin.beats(e.origin) {
		return takenNot, nil
	}
	if s.hasLeft(m.Origin.Commitment) {
		// We went from it to one that beat it, and that this one now beats:
		// the order of numbers modulo 2^32 was led round in a circle.
		return takenNot, errEpochLie
	}
	kind := takenOther
	if s.descend(&m.Origin) {
		kind = takenFresh
	}
	s.push(s.fromMessage(m), now, delay)
	s.entitle(from, instance)
	// Its author may not have known yet of somebody's going that we saw. What
	// others told us is of the origin before: were it kept too, a word would go
	// round for ever.
	s.witnessed, s.told = s.witnessed && now.Sub(s.departureAt) < presenceGone, false
	s.departedAt = s.departureAt
	return kind, nil
}

func (s *epochs) fromMessage(m *epochMessage) *epoch {
	o := m.Origin
	return &epoch{number: m.Number, secret: m.Secret, origin: &o}
}

// descend makes o the newest origin. true: it descends from one of ours, and
// who was entitled there still is. Otherwise nobody is.
func (s *epochs) descend(o *origin) bool {
	if e := s.newest(); e != nil {
		s.lost = append(s.lost, e.origin.Commitment)
		s.lost = s.lost[max(0, len(s.lost)-maxLineage):]
	}
	at := slices.IndexFunc(s.lineage, func(a ancestor) bool { return a.commitment == o.Parent })
	if at < 0 {
		s.lineage = []ancestor{{commitment: o.Commitment}}
		clear(s.entitled)
		return false
	}
	place := s.lineage[at].place
	for m, e := range s.entitled {
		if e.place > place {
			delete(s.entitled, m) // was let into a branch that lost
		}
	}
	s.lineage = append(s.lineage[:at+1], ancestor{o.Commitment, place + 1})
	s.lineage = s.lineage[max(0, len(s.lineage)-maxLineage):]
	return true
}

func (s *epochs) push(e *epoch, now time.Time, delay time.Duration) {
	for _, old := range s.held {
		if old.origin.Commitment != e.origin.Commitment && old.sendFrom.After(now) {
			old.skip = true // others may have refused it
		}
	}
	e.id, e.tag, e.sendFrom = e.secret.id(), e.secret.tag(), now.Add(delay)
	if old := s.newest(); old != nil {
		old.until = now.Add(epochOpen)
	}
	s.held = slices.Insert(s.held, 0, e)
	s.held = s.held[:min(len(s.held), maxEpochs)]
	s.changedAt = now
}

// bypass has us send in none of the epochs before number whose time has not
// come: somebody whom we speak with comes from another origin and is in none
// before number. Until then one of that origin goes on.
func (s *epochs) bypass(number uint32, now time.Time) {
	for _, e := range s.held {
		e.skip = e.skip || e.sendFrom.After(now) && int32(e.number-number) < 0
	}
}

// hasLeft tells whether an origin is one that we were in before the newest.
func (s *epochs) hasLeft(c commitment) bool { return slices.Contains(s.lost, c) }

// expire drops what is opened no more, and tells whether it did.
func (s *epochs) expire(now time.Time) bool {
	before := len(s.held)
	s.held = slices.DeleteFunc(s.held, func(e *epoch) bool { return !e.until.IsZero() && !e.until.After(now) })
	return len(s.held) != before
}

// entitle notes that a member may have the newest epoch.
func (s *epochs) entitle(m Member, instance uint64) {
	if len(s.lineage) == 0 {
		return
	}
	if e, ok := s.entitled[m]; ok && e.instance == instance {
		return
	}
	s.entitled[m] = entitlement{instance, s.lineage[len(s.lineage)-1].place}
}

func (s *epochs) isEntitled(m Member, instance uint64) bool {
	e, ok := s.entitled[m]
	return ok && e.instance == instance
}

// depart notes that a member has gone, who may have had the newest epoch: the
// next change will be fresh. news: that was not known before.
func (s *epochs) depart(m Member, now time.Time) (news bool) {
	delete(s.entitled, m)
	if s.newest() == nil {
		return false
	}
	if news = !s.stale(); news {
		s.departedAt = now
	}
	s.witnessed, s.departureAt = true, now
	return news
}

// hearsay notes that somebody has gone from the newest origin, as others say.
func (s *epochs) hearsay(now time.Time) { s.told, s.departedAt = true, now }

// step is what we owe a member at the far end of a session.
type step int

const (
	stepNone  step = iota
	stepFound      // make the first epoch: neither of us has one
	stepHand       // EPOCH: it may have ours, and has an older or a losing one
	stepAdmit      // let it in: it has none, or a losing one, and is new to us
	stepRenew      // a fresh epoch: we hold different secrets under one name
)

// owe tells what we owe a visible member that says it holds known.
func (s *epochs) owe(m Member, instance uint64, known *knownMessage) step {
	e := s.newest()
	none := known.Commitment == commitment{}
	if e == nil {
		if none {
			return stepFound
		}
		return stepNone
	}
	let := stepAdmit
	if s.isEntitled(m, instance) {
		let = stepHand
	}
	switch {
	case none:
		return let
	case known.Commitment == e.origin.Commitment:
		switch steps := known.Number - e.origin.Number; {
		case steps > e.steps():
			return stepNone // it will see that we are behind
		case steps < e.steps():
			return let
		case known.Epoch != e.id:
			return stepRenew
		}
		return stepNone
	case s.hasLeft(known.Commitment):
		return let
	}
	if theirs := known.origin(); theirs.beats(e.origin) {
		return stepNone // it will let us in
	}
	return let
}

func (s *epochSecret) equal(o *epochSecret) bool { return subtle.ConstantTimeCompare(s[:], o[:]) == 1 }
