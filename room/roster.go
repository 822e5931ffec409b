package room

import (
	"slices"
	"time"
)

const (
	// presenceEvery is how often an entry is signed again, with a jitter of
	// one second to each side; presenceGone is the silence after which a
	// member counts as gone. Two of its entries may be lost; and it is gone
	// from every roster within 15 s of its death, although the last sign of
	// life may still be on its way through gossip then.
	presenceEvery = 5 * time.Second
	presenceGone  = 14 * time.Second
	// presenceFresh is the same for somebody whose entry another member has
	// shown, which tells nothing of its age, and within what time an entry must
	// have come from somebody who is to be let in: who has died would be shown
	// for twice as long else.
	presenceFresh = presenceEvery + 2*time.Second
	// maxGone is how many departed members are remembered, so that what they
	// said once cannot be played again.
	maxGone = 2 * MaxMembers
)

// roster is who is here, this member excluded. It is pure state: entries that
// come in have been verified, and time is an argument. For one goroutine at a
// time.
type roster struct {
	present map[Member]*presence
	gone    map[Member]*departure
}

// presence is one member that is here.
type presence struct {
	entry entry
	since time.Time // when it came
	heard time.Time // when it last said something new itself
	until time.Time // when it is gone, should nothing more come
}

// hear notes a sign of life, by its own peer if that makes it stay presenceGone.
func (p *presence) hear(now time.Time, life time.Duration) {
	if life == presenceGone {
		p.heard = now
	}
	if until := now.Add(life); until.After(p.until) {
		p.until = until
	}
}

// fresh tells whether it has said something within presenceFresh.
func (p *presence) fresh(now time.Time) bool { return now.Sub(p.heard) < presenceFresh }

// departure is what is remembered of one that is not here any more.
type departure struct {
	entry entry // the last
	at    time.Time
}

func newRoster() *roster {
	return &roster{present: make(map[Member]*presence), gone: make(map[Member]*departure)}
}

// shown is what an entry meant to the roster.
type shown int

const (
	shownOld      shown = iota // nothing new: the same or an earlier one
	shownAgain                 // a sign of life, nothing else
	shownChanged               // something that people see has changed
	shownJoined                // has come
	shownRestart               // has come with a new instance in place of an old one
	shownLeft                  // says that it goes
	shownOutdated              // is of an instance older than one we know
	shownClash                 // is of an instance that another peer or salt has
	shownFull                  // is of somebody for whom there is no room
)

// show takes a verified entry that came from its own peer.
func (r *roster) show(e *entry, now time.Time) shown { return r.take(e, now, presenceGone) }

// showHearsay takes a verified entry that somebody else has shown.
func (r *roster) showHearsay(e *entry, now time.Time) shown { return r.take(e, now, presenceFresh) }

// take takes an entry; its member is here for so long at least.
func (r *roster) take(e *entry, now time.Time, life time.Duration) shown {
	if p := r.present[e.Member]; p != nil {
		return r.takePresent(p, e, now, life)
	}
	if d := r.gone[e.Member]; d != nil {
		switch {
		case e.Instance < d.entry.Instance:
			return shownOutdated
		case e.Instance == d.entry.Instance && !sameInstance(e, &d.entry):
			return shownClash
		case !e.newer(&d.entry) || d.entry.Instance == e.Instance && d.entry.Flags&entryLeaving != 0:
			return shownOld // who has said goodbye comes back as a new instance
		}
	}
	if e.Flags&entryLeaving != 0 {
		return shownOld
	}
	if len(r.present) >= MaxMembers-1 {
		return shownFull
	}
	delete(r.gone, e.Member)
	r.present[e.Member] = &presence{entry: *e, since: now, until: now}
	r.present[e.Member].hear(now, life)
	return shownJoined
}

func (r *roster) takePresent(p *presence, e *entry, now time.Time, life time.Duration) shown {
	switch {
	case e.Instance < p.entry.Instance:
		return shownOutdated
	case e.Instance == p.entry.Instance && !sameInstance(e, &p.entry):
		return shownClash
	case !e.newer(&p.entry):
		return shownOld
	}
	old := p.entry
	p.entry = *e
	p.hear(now, life)
	switch {
	case e.Flags&entryLeaving != 0:
		r.remove(e.Member, now)
		return shownLeft
	case e.Instance != old.Instance:
		p.since = now
		return shownRestart
	case e.Flags != old.Flags || e.Nick != old.Nick:
		return shownChanged
	}
	return shownAgain
}

// sameInstance tells whether two entries with one instance number are of one
// instance: within it, peer id and salt never change.
func sameInstance(a, b *entry) bool { return a.Peer == b.Peer && a.Salt == b.Salt }

// remove takes a member out and remembers how far it had come.
func (r *roster) remove(m Member, now time.Time) {
	p := r.present[m]
	if p == nil {
		return
	}
	delete(r.present, m)
	if len(r.gone) >= maxGone {
		r.forgetOldest()
	}
	r.gone[m] = &departure{entry: p.entry, at: now}
}

func (r *roster) forgetOldest() {
	var oldest Member
	var at time.Time
	for m, d := range r.gone {
		if at.IsZero() || d.at.Before(at) {
			oldest, at = m, d.at
		}
	}
	delete(r.gone, oldest)
}

// silent gives the members that have said nothing for too long, and when to
// ask again.
func (r *roster) silent(now time.Time) (gone []Member, next time.Time) {
	for m, p := range r.present {
		if !p.until.After(now) {
			gone = append(gone, m)
		} else {
			next = sooner(next, p.until)
		}
	}
	slices.SortFunc(gone, func(a, b Member) int { return slices.Compare(a[:], b[:]) })
	return gone, next
}

// last is the entry that we know of m, present or gone, or nil.
func (r *roster) last(m Member) *entry {
	if p := r.present[m]; p != nil {
		return &p.entry
	}
	if d := r.gone[m]; d != nil {
		return &d.entry
	}
	return nil
}

// info is what people see of an entry.
func (e *entry) info(since time.Time, self bool) MemberInfo {
	return MemberInfo{
		Member: e.Member, Peer: e.Peer, Nick: e.Nick, Instance: e.Instance, Self: self,
		Muted:          e.Flags&entryMuted != 0,
		ListenOnly:     e.Flags&entryListenOnly != 0,
		Recording:      e.Flags&entryRecording != 0,
		AllowRecording: e.Flags&entryAllowRecording != 0,
		Hand:           e.Flags&entryHand != 0,
		Role:           "speaker",
		Since:          since,
	}
}
