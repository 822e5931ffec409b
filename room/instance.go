package room

import (
	"errors"
	"time"

	"teahouse/internal/mesh"
)

// rival is another instance of this member key that others know of, and that
// keeps us out.
type rival struct {
	entry *entry    // the newest that was shown; nil: none
	first uint64    // the sequence that was shown first
	since time.Time // when that was
	heard time.Time // when its sequence last rose
}

const (
	// A rival whose sequence has risen by rivalSigns after rivalDoubt lives:
	// what is left of a dead one in others' rosters differs by less.
	rivalSigns = 2
	rivalDoubt = presenceEvery + 2*time.Second
)

// shownSelf is shown an entry of our own member key. live: it is known to be
// here now, by its own PROOF or by what that very peer has just signed; an
// entry that others show may be long dead. The newer instance stays, the older one goes (DESIGN section 5).
func (r *Room) shownSelf(e *entry, live bool) {
	if r.leaving || e.Instance < r.own.Instance || e.Instance == r.own.Instance && sameInstance(e, &r.own) {
		return
	}
	if e.Instance == r.own.Instance {
		// A copy of our home took the same number. One of the two takes a
		// higher one; both would be wrong to, so they take different ones.
		raise := e.Instance + 1
		if r.peer < e.Peer {
			raise++
		}
		r.raise(raise)
		return
	}
	if e.Flags&entryLeaving != 0 {
		r.raise(e.Instance + 1)
		return
	}
	if live {
		r.superseded()
		return
	}
	now := time.Now()
	v := &r.rival
	r.wake()
	switch {
	case v.entry == nil || e.Instance > v.entry.Instance:
		*v = rival{entry: e, first: e.Sequence, since: now, heard: now}
	case e.newer(v.entry):
		v.entry, v.heard = e, now
		if e.Sequence >= v.first+rivalSigns && now.Sub(v.since) >= rivalDoubt {
			r.superseded()
		}
	}
}

// checkRival takes a rival's place once it has fallen silent.
func (r *Room) checkRival(now time.Time) (next time.Time) {
	if r.rival.entry == nil {
		return time.Time{}
	}
	at := r.rival.heard.Add(presenceGone)
	if at.After(now) {
		return at
	}
	r.raise(r.rival.entry.Instance + 1)
	return time.Time{}
}

func (r *Room) superseded() {
	if r.dying {
		return
	}
	r.emitError("superseded", ErrSuperseded.Error())
	r.die(ErrSuperseded)
}

// raise makes us a new instance, once its number is safely stored.
func (r *Room) raise(to uint64) {
	if r.raising {
		return
	}
	r.rival = rival{}
	if r.cfg.RaiseInstance == nil {
		r.superseded()
		return
	}
	r.raising = true
	r.spawn(func() {
		err := r.cfg.RaiseInstance(to)
		r.post(nil, func() {
			r.raising = false
			if err != nil {
				r.emitError("instance", "the instance number cannot be stored: "+err.Error())
				r.die(errors.Join(ErrSuperseded, err))
				return
			}
			r.restart(to)
		})
	})
}

// restart goes on as a new instance, as if the program had been started again:
// with nobody met and no key but its own.
func (r *Room) restart(instance uint64) {
	if r.leaving {
		return
	}
	for s := range r.sessions {
		r.endSession(s, "we begin anew")
	}
	for m := range r.voices {
		r.silence(m)
	}
	now := time.Now()
	gone := r.roster
	r.roster = newRoster()
	r.own.Instance, r.own.Salt, r.own.Sequence = instance, newSalt(), 0
	r.plane.restart()
	r.handing = r.newHanding()
	r.keysChanged()
	for _, c := range r.seeking.candidates {
		c.fails, c.next = 0, now.Add(closeAfter)
	}
	r.redial()
	r.membersChanged()
	for m, p := range gone.present {
		r.emit(Event{Kind: EventMember, Member: m, Info: p.entry.info(p.since, false), State: stateOut, Reason: "we begin anew"})
	}
	r.freshEntry()
}

// meetSelf meets another living instance of our own member key.
func (r *Room) meetSelf(s *session, e *entry) {
	switch {
	case e.Instance > r.own.Instance:
		r.superseded()
	case e.Instance < r.own.Instance:
		if e := r.freshEntry(); e != nil && !s.initiator {
			s.send(mesh.Urgent, e.appendMessage(nil))
		}
	default:
		r.shownSelf(e, true)
		s.send(mesh.Urgent, r.own.appendMessage(nil))
	}
	r.refuse(s, "another instance of this member")
}
