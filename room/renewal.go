package room

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"time"
)

const (
	// Two secrets under one name are healed by a fresh epoch, by the member
	// with the lowest rank, then by the next renewStep later; at most this
	// often. A far end that differs again and again is not a victim.
	healPause = 10 * time.Second
	maxLies   = 3

	// Somebody who went leaves a secret behind that is replaced after this,
	// even where nobody comes: by the member with the lowest rank, then by the
	// next renewStep later.
	renewAfter = 15 * time.Minute
	renewStep  = 2 * time.Second
	// answerStep is the same for who knows of a departure when somebody who
	// does not (a newcomer, mostly) has ratcheted: whoever went can follow.
	answerStep = 250 * time.Millisecond
)

// reasonHealed is why an epoch was replaced of which two secrets were about.
const reasonHealed = "members held different keys under one name"

// lie notes that a far end and we hold different secrets of the newest origin.
// Which of us was deceived cannot be told, so the origin is replaced.
func (h *handing) lie(f *far, now time.Time) {
	e := h.newest()
	if f.lied != e.origin.Commitment {
		f.lied = e.origin.Commitment
		if f.lies++; f.lies >= maxLies {
			f.dismiss()
		}
	}
	if h.healOf != e.origin.Commitment {
		h.healOf = e.origin.Commitment
		h.healAt = now.Add(time.Duration(h.rank(e)) * renewStep)
		if again := h.healed.Add(healPause); again.After(h.healAt) {
			h.healAt = again
		}
	}
}

// heal replaces an epoch of which two secrets are about, when it is our turn
// and nobody else has.
func (h *handing) heal(now time.Time) {
	switch {
	case h.healAt.IsZero():
		return
	case h.newest().origin.Commitment != h.healOf:
		h.healAt = time.Time{} // somebody has
		return
	case h.healAt.After(now):
		h.soonest(h.healAt)
		return
	}
	h.healAt, h.healed = time.Time{}, now
	h.told = true // so the change is a fresh one
	h.let(h.change(nil, h.delay(), now), now)
	h.announce(reasonHealed, false, now)
}

// depart notes that a member has gone, and tells those who may not know of it:
// who lets somebody in by a ratchet, because it came after the one that has
// gone and never saw it, and we are dead by then.
func (h *handing) depart(m Member, now time.Time) {
	if h.epochs.depart(m, now) {
		h.warn()
	}
}

// warn tells those who have not said so themselves that our epoch is stale.
func (h *handing) warn() {
	e, known := h.newest(), h.known()
	data := known.appendMessage(nil)
	for _, f := range h.fars {
		if f.entry() != nil && (f.known.Commitment != e.origin.Commitment || !f.known.stale()) {
			f.send(data)
		}
	}
}

// heed believes far ends that our epoch is stale, and passes it on, once for
// each origin: who lies has the next change made fresh, where else it would be
// a ratchet, and one fresh epoch in renewAfter besides.
func (h *handing) heed(now time.Time) {
	e := h.newest()
	if e == nil || h.stale() {
		return
	}
	for _, f := range h.fars {
		if !f.known.stale() || f.known.Commitment != e.origin.Commitment || f.entry() == nil {
			continue
		}
		h.hearsay(now)
		if f.known.Number-e.origin.Number < e.steps() {
			h.answer(now) // it has been ratcheted since
		}
		h.warn()
		return
	}
}

// answer is called after a ratchet of somebody else's.
func (h *handing) answer(now time.Time) {
	if h.stale() && h.answerAt.IsZero() {
		h.answerAt = now.Add(time.Duration(h.rank(h.newest())) * answerStep)
	}
}

// renewInTime replaces the secret that somebody who went still has, where
// nobody came for so long that it was not replaced by the way.
func (h *handing) renewInTime(now time.Time) {
	e := h.newest()
	if e == nil || !h.stale() {
		h.answerAt = time.Time{}
		return
	}
	at := h.departedAt.Add(renewAfter)
	if !at.After(now) {
		at = at.Add(time.Duration(h.rank(e)) * renewStep)
	}
	at = sooner(at, h.answerAt)
	if at.After(now) {
		h.soonest(at)
		return
	}
	h.answerAt = time.Time{}
	h.let(h.change(nil, h.delay(), now), now)
	h.announce("renewed, because someone had left", false, now)
}

// rank is the place of this member among those who may have the epoch, in the
// order of HMAC(secret, member key), which nobody else can foresee.
func (h *handing) rank(e *epoch) (rank int) {
	of := func(m Member) []byte {
		mac := hmac.New(sha256.New, e.secret[:])
		mac.Write(m[:])
		return mac.Sum(nil)
	}
	own := of(h.self)
	before := make(map[Member]bool)
	for m := range h.entitled {
		before[m] = bytes.Compare(of(m), own) < 0
	}
	for _, f := range h.fars {
		before[f.member] = f.entry() != nil && bytes.Compare(of(f.member), own) < 0
	}
	for _, earlier := range before {
		if earlier {
			rank++
		}
	}
	return rank
}
