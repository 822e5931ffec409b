package room

import (
	"crypto/ed25519"
	"slices"
	"time"
)

const (
	// Who receives on a new epoch at once sends in it only after switchLeast
	// and the longest round trip of its links, at most switchMost: until then
	// the news has reached everybody.
	switchLeast = 100 * time.Millisecond
	switchMost  = 500 * time.Millisecond

	// foundAfter is how long after joining nobody founds. The one that was
	// dialled founds; where it has just come itself, the one that dialled
	// does, foundLater.
	// And for foundMost nobody founds who is still about to meet somebody, who
	// may have an epoch.
	foundAfter = 150 * time.Millisecond
	foundLater = 50 * time.Millisecond
	foundMost  = 600 * time.Millisecond

	// In a big room at most one ratchet is made in bigRoomPause, so that a
	// crowd that arrives does not keep everybody busy; a newcomer may then
	// open up to that much of the past.
	bigRoom      = 32
	bigRoomPause = 10 * time.Second
)

// far is what handing knows of the member at the far end of one open session:
// PROOF given, and visible in the roster.
type far struct {
	member    Member
	entry     func() *entry            // the newest; nil once it is not visible
	fresh     func(now time.Time) bool // it has said so a moment ago: see presenceFresh
	instance  uint64
	responder bool      // the far end opened the session
	opened    time.Time // when we took it up
	known     knownMessage
	// settleAt is until when we wait for news that is on its way to the far
	// end before we tell it ourselves.
	settleAt time.Time
	shared   bool       // it was in one epoch with us
	lies     int        // how often it held another secret under one name
	lied     commitment // the origin of which it did last
	send     func(message []byte)
	dismiss  func() // ends the session: its far end lies
}

// handing decides who is handed which epoch, and by whom the next one is made.
// It is pure state: messages come in verified, answers go out by far.send,
// which must not call back. For one goroutine at a time.
type handing struct {
	room ID
	self Member
	key  ed25519.PrivateKey
	*epochs
	fars    []*far // the order of opening
	fresh   func() epochSecret
	members func() int // in the roster, this one excluded
	rtt     func() time.Duration
	// changed is called after each change of the newest epoch, why in words;
	// apart tells that those who shared the one before may not share this one.
	changed func(reason string, apart bool)

	joined  time.Time   // when we came
	meeting func() bool // tells whether we are about to meet others

	healAt time.Time  // when to heal; zero: nothing is wrong
	healOf commitment // the origin that is wrong
	healed time.Time  // the last time

	answerAt time.Time // when to renew after a ratchet that the departed can follow; zero: no need
	next     time.Time // of the latest tick
}

// open takes up a far end, of which KNOWN has been read.
func (h *handing) open(f *far, now time.Time) {
	f.opened = now
	h.fars = append(h.fars, f)
	h.tick(now)
}

// drop forgets a far end.
func (h *handing) drop(f *far) {
	for i, g := range h.fars {
		if g == f {
			h.fars = append(h.fars[:i:i], h.fars[i+1:]...)
			return
		}
	}
}

// takeKnown takes KNOWN.
func (h *handing) takeKnown(f *far, m *knownMessage, now time.Time) {
	follows := h.follows(f)
	f.known = *m
	if e := h.newest(); e != nil && e.origin.Commitment == m.Commitment {
		f.shared = true
		if follows {
			h.bypass(m.Number, now)
		}
	}
	h.tick(now)
}

// takeEpoch takes EPOCH.
func (h *handing) takeEpoch(f *far, m *epochMessage, now time.Time) error {
	flags := uint8(0)
	if f.known.Commitment == m.Origin.Commitment {
		flags = f.known.Flags // EPOCH does not say: KNOWN did, or will
	}
	f.known = knownMessage{
		Number: m.Number, OriginNumber: m.Origin.Number, Removals: m.Origin.Removals,
		Commitment: m.Origin.Commitment, Epoch: m.Secret.id(), Flags: flags,
	}
	if f.entry() == nil {
		return nil // gone meanwhile
	}
	delay := h.delay()
	if h.newest() == nil || h.aloneIn() {
		delay = 0 // nobody waits for us in the old one
	}
	what, err := h.take(m, f.member, f.instance, now, delay)
	switch {
	case err != nil:
		h.lie(f, now)
		h.tick(now)
		return err
	case what == takenRaised:
		h.answer(now)
		h.announce("someone was let in", false, now)
	case what == takenFresh:
		h.answerAt = time.Time{}
		h.announce("renewed by another member", false, now)
	case what == takenOther:
		h.answerAt = time.Time{}
		h.announce("taken over from others", true, now)
	}
	h.tick(now)
	return nil
}

// takeAdmit takes ADMIT; the entry has been shown to the roster already.
// present tells that it is the one there now.
func (h *handing) takeAdmit(m *admitMessage, present bool, now time.Time) {
	e := h.newest()
	if e == nil || e.origin.Commitment != m.Commitment {
		return
	}
	if present {
		h.entitle(m.Entry.Member, m.Entry.Instance)
	}
	if slices.ContainsFunc(h.fars, func(f *far) bool { return f.member == m.Entry.Member && h.follows(f) }) {
		h.bypass(m.Number, now)
	}
	if h.raise(m.Commitment, m.Number, now, h.delay()) {
		h.answer(now)
		h.announce("someone was let in", false, now)
	}
	h.tick(now)
}

// delay is how long to go on sending in the epoch before.
func (h *handing) delay() time.Duration { return min(switchLeast+h.rtt(), switchMost) }

// aloneIn tells that nobody hears us in the epochs that we hold: no far end
// shares the newest origin or has shared one before it.
func (h *handing) aloneIn() bool {
	e := h.newest()
	alone := true
	for _, f := range h.fars {
		f.shared = f.shared || f.known.Commitment == e.origin.Commitment || h.hasLeft(f.known.Commitment)
		alone = alone && !f.shared
	}
	return alone
}

// follows tells that a far end is still in an origin that we shared with it
// and have left.
func (h *handing) follows(f *far) bool { return h.hasLeft(f.known.Commitment) }

// announce tells every far end what we hold now.
func (h *handing) announce(reason string, apart bool, now time.Time) {
	known := h.known()
	data := known.appendMessage(nil)
	for _, f := range h.fars {
		f.send(data)
		if h.isEntitled(f.member, f.instance) {
			f.settleAt = now.Add(h.delay() / 2)
		}
	}
	h.changed(reason, apart)
}

// tick does what is due and tells when to come again; zero: on news alone.
func (h *handing) tick(now time.Time) time.Time {
	h.expire(now)
	h.heed(now)
	h.next = time.Time{}
	var newcomers []*far
	for _, f := range h.fars {
		if f.entry() == nil {
			continue
		}
		switch h.owe(f.member, f.instance, &f.known) {
		case stepFound:
			if at := h.foundAt(f); at.After(now) {
				h.soonest(at)
				continue
			}
			h.renewNow(0, now)
			h.announce("founded", true, now)
			h.hand(f, now)
		case stepHand:
			if f.settleAt.After(now) {
				h.soonest(f.settleAt)
				continue
			}
			h.hand(f, now)
		case stepAdmit:
			if f.fresh(now) {
				newcomers = append(newcomers, f)
			}
		case stepRenew:
			h.lie(f, now)
		}
	}
	h.heal(now)
	if len(newcomers) > 0 {
		h.admit(newcomers, now)
	}
	h.renewInTime(now)
	for _, e := range h.held {
		h.soonest(e.until)
	}
	return h.next
}

// foundAt is when to found a room with a far end that has no epoch either.
func (h *handing) foundAt(f *far) time.Time {
	at := h.joined.Add(foundAfter)
	if h.meeting() {
		at = h.joined.Add(foundMost)
	}
	if f.responder {
		return at
	}
	at = at.Add(foundLater)
	if opened := f.opened.Add(foundLater + h.rtt()); opened.After(at) {
		at = opened
	}
	return at
}

func (h *handing) soonest(at time.Time) {
	if !at.IsZero() && (h.next.IsZero() || at.Before(h.next)) {
		h.next = at
	}
}

// hand gives the newest epoch to a far end that may have it.
func (h *handing) hand(f *far, now time.Time) {
	m := h.message()
	f.send(m.appendMessage(nil))
	h.entitle(f.member, f.instance)
	f.known = h.known() // unless it says otherwise
	f.shared = true
	f.settleAt = now.Add(h.delay())
}

// admit lets newcomers in, all with one change of the epoch. Changes follow
// each other by half the time that sending lags behind, so that whoever sends
// in an older one is within the epochs that all hold.
func (h *handing) admit(newcomers []*far, now time.Time) {
	crowded := h.members() >= bigRoom && now.Sub(h.changedAt) < bigRoomPause
	switch wait := h.changedAt.Add(h.delay() / 2); {
	case h.aloneIn():
		newcomers = h.change(newcomers, 0, now)
	case crowded && !h.witnessed:
		// They get the epoch as it is. Whoever has gone can follow no further by
		// that, and who says that somebody has, which may be a lie, makes no
		// more epochs than one in a bigRoomPause.
	case wait.After(now):
		h.soonest(wait)
		return
	default:
		if slices.ContainsFunc(newcomers, h.follows) {
			h.bypass(h.newest().number+1, now)
		}
		newcomers = h.change(newcomers, h.delay(), now)
	}
	h.let(newcomers, now)
	h.announce("someone was let in", false, now)
}

// let gives newcomers the newest epoch, after everybody has been told of them.
func (h *handing) let(newcomers []*far, now time.Time) {
	e := h.newest()
	for _, n := range newcomers {
		m := admitMessage{Number: e.number, Commitment: e.origin.Commitment, Entry: *n.entry()}
		data := m.appendMessage(nil)
		for _, f := range h.fars {
			if f != n && f.member != n.member {
				f.send(data)
			}
		}
	}
	for _, n := range newcomers {
		h.hand(n, now)
	}
}

// change moves to the next epoch and tells who is to be let into it. A fresh
// one is for all who are visible: those who may have it are handed it before
// anything else is said about it, the others are newcomers.
func (h *handing) change(newcomers []*far, delay time.Duration, now time.Time) []*far {
	if !h.mustRenew() {
		h.ratchet(now, delay)
		return newcomers
	}
	h.renewNow(delay, now)
	newcomers = nil
	for _, f := range h.fars {
		if f.entry() == nil {
			continue
		}
		switch h.owe(f.member, f.instance, &f.known) {
		case stepHand:
			h.hand(f, now)
		case stepAdmit:
			if f.fresh(now) {
				newcomers = append(newcomers, f)
			}
		}
	}
	return newcomers
}

func (h *handing) renewNow(delay time.Duration, now time.Time) {
	fresh := h.fresh()
	h.renew(now, delay, fresh, func(number uint32, parent commitment) origin {
		return newOrigin(h.room, number, parent, &fresh, h.key)
	})
}
