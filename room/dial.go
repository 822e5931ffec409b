package room

import (
	"cmp"
	"context"
	"slices"
	"time"

	"teahouse/internal/mesh"
)

const (
	// How many sessions are being opened at once: with those who are, or were
	// a moment ago, in the roster; with others; and of these with those who
	// are known from what members say of others alone.
	memberOpens   = 16
	strangerOpens = 8
	hearsayOpens  = strangerOpens / 2

	// A dial that failed is repeated after openFirst, doubling; at most after
	// openMissed with somebody who is missed, openLiving with who is heard by
	// another way, openMost with others, openLong after openTired failures.
	openTime    = 15 * time.Second
	openFirst   = time.Second
	openMissed  = 4 * time.Second
	openLiving  = 10 * time.Second
	openMost    = time.Minute
	openLong    = 10 * time.Minute
	openTired   = 10
	redialLeast = time.Second // between two dials of one peer that lives
	// dialFresh is how old a dial may be that goes on when its peer is heard
	// for the first time after a silence: an older one began while there was no
	// way, and waits for answers that were lost. dialStale is the same where
	// its peer was heard all the time.
	dialFresh = 300 * time.Millisecond
	dialStale = 5 * time.Second

	// Who is in the roster and has had no session with us for lostAfter may
	// not know where we are, nor we where it is: we show ourselves and ask the
	// DHT, after lostFirst, doubling to lostMost, for as long as that is so.
	lostAfter = 3 * time.Second
	lostFirst = 5 * time.Second
	lostMost  = time.Minute
)

// standing is why a candidate is dialled; each kind has slots of its own, so
// that nobody who is in the room waits behind those who may not be.
type standing int

const (
	standsHearsay standing = iota
	standsStranger
	standsMember
	standings
)

// dialling is how many sessions are being opened with whom.
type dialling [standings]int

func (d *dialling) any() bool { return *d != dialling{} }

func (d *dialling) may(s standing) bool {
	switch s {
	case standsMember:
		return d[standsMember] < memberOpens
	case standsHearsay:
		return d[standsHearsay] < hearsayOpens && d[standsHearsay]+d[standsStranger] < strangerOpens
	default:
		return d[standsHearsay]+d[standsStranger] < strangerOpens
	}
}

// dueDial is a candidate whose time has come.
type dueDial struct {
	id mesh.PeerID
	*candidate
	standing standing
}

// dial opens sessions with candidates whose time has come, and tells when the
// next one's does.
func (r *Room) dial(now time.Time) (next time.Time) {
	next = r.lookForLost(now)
	var due []dueDial
	for id, c := range r.seeking.candidates {
		switch {
		case r.sessionsWith(id):
		case c.opening && c.stale.IsZero():
		case c.opening && c.stale.After(now):
			next = sooner(next, c.stale)
		case c.opening:
			c.stale, c.again = time.Time{}, true
			c.giveUp()
		case c.next.After(now):
			next = sooner(next, c.next)
		default:
			due = append(due, dueDial{id: id, candidate: c})
		}
	}
	if len(due) == 0 {
		return next
	}
	here := r.herePeers()
	for i := range due {
		d := &due[i]
		switch {
		case here[d.id] || d.missed.After(now):
			d.standing = standsMember
		case d.word > wordHearsay:
			d.standing = standsStranger
		}
	}
	slices.SortFunc(due, func(a, b dueDial) int {
		return cmp.Or(cmp.Compare(b.standing, a.standing), cmp.Compare(a.fails, b.fails), b.spoke.Compare(a.spoke), cmp.Compare(a.id, b.id))
	})
	for _, d := range due {
		// Where there is no slot, one of those that are under way will have us
		// look again.
		if r.seeking.dialling.may(d.standing) && len(r.sessions) < maxSessions {
			r.open(d)
		}
	}
	return next
}

func (r *Room) open(d dueDial) {
	c, v := d.candidate, &r.seeking
	ctx, cancel := context.WithTimeout(r.ctx, openTime)
	c.opening, c.dialled, c.giveUp, c.stale, c.again = true, time.Now(), cancel, time.Time{}, false
	v.dialling[d.standing]++
	p := mesh.Peer{ID: d.id, Addrs: c.addrs}
	r.spawn(func() {
		defer cancel()
		s, err := r.cfg.Network.Open(ctx, p, r.door)
		if err != nil {
			r.log.Debug("open a session", "peer", p.ID, "err", err)
		}
		posted := r.post(nil, func() {
			v.dialling[d.standing]--
			c.opening = false
			if r.backOff(d.id, c, time.Now()); c.again && err != nil {
				c.next = time.Now()
			}
			if err == nil {
				r.begin(r.newSession(s))
			}
			r.redial()
		})
		if !posted && err == nil {
			_ = s.Close() // the room has ended; nothing is left to be told
		}
	})
}

// backOff sets when a candidate may be dialled again, should there be no
// session with it then.
func (r *Room) backOff(id mesh.PeerID, c *candidate, now time.Time) {
	most := openMost
	switch {
	case c.missed.After(now):
		most = openMissed
	case now.Sub(c.spoke) < presenceGone || r.isHere(id):
		most = openLiving
	case c.fails >= openTired && r.hasLink():
		most = openLong
	}
	pause := min(openFirst<<min(c.fails, openTired), most)
	c.fails++
	c.next = now.Add(r.jitter(pause, pause/4))
}

// isHere tells whether somebody in the roster is on this peer.
func (r *Room) isHere(id mesh.PeerID) bool {
	for _, p := range r.roster.present {
		if p.entry.Peer == id {
			return true
		}
	}
	return false
}

// lookForLost makes candidates of those in the roster, and looks for them by
// other ways where dialling alone has not led to a session.
func (r *Room) lookForLost(now time.Time) (next time.Time) {
	v := &r.seeking
	lost := false
	for _, p := range r.roster.present {
		id := p.entry.Peer
		if r.sessionsWith(id) {
			continue
		}
		c := v.candidates[id]
		if c == nil {
			r.heardOf(mesh.Peer{ID: id}, wordHearsay, true)
			c = v.candidates[id]
		}
		since := p.since
		if c != nil && c.parted.After(since) {
			since = c.parted
		}
		if at := since.Add(lostAfter); at.After(now) {
			next = sooner(next, at)
			continue
		}
		lost = true
	}
	switch {
	case !lost:
		v.lostPause, v.lostAt = lostFirst, time.Time{}
	case v.lostAt.After(now):
		next = sooner(next, v.lostAt)
	default:
		v.lostAt = now.Add(r.jitter(v.lostPause, v.lostPause/5))
		v.lostPause = min(2*v.lostPause, lostMost)
		next = sooner(next, v.lostAt)
		r.surface(now)
		if !v.finding {
			v.findAt = now
		}
	}
	return next
}

// redial has dial look again at whom it is time to dial.
func (r *Room) redial() {
	r.seeking.changed = true
	r.wake()
}

// met is told that a session with a peer has been opened in full.
func (r *Room) met(id mesh.PeerID) {
	now := time.Now()
	c := r.seeking.candidates[id]
	if c == nil {
		r.heardOf(mesh.Peer{ID: id}, wordOwn, true)
		return
	}
	if c.vanished && now.Sub(c.spoke) >= silence {
		r.reappeared(c, now)
	}
	c.heard, c.spoke = now, now
	c.fails, c.missed, c.vanished = 0, time.Time{}, false
}

// parted is told that a session with a peer has ended: it is dialled again,
// but not at once, because it may be going.
func (r *Room) parted(id mesh.PeerID) {
	now := time.Now()
	c := r.seeking.candidates[id]
	if c == nil {
		return
	}
	c.parted = now
	if c.fails < openTired && r.isHere(id) {
		r.miss(id, now)
	}
	if !c.opening {
		r.backOff(id, c, now)
	}
	r.redial()
}

// broke is told that a session with a peer has ended by nobody's will.
func (r *Room) broke(id mesh.PeerID) {
	now := time.Now()
	c := r.seeking.candidates[id]
	if c == nil {
		return
	}
	r.miss(id, now)
	c.parted, c.fails = now, 0
	if !c.opening {
		if c.next = now; r.peer > id {
			c.next = now.Add(yield)
		}
	}
	r.redial()
}

func (r *Room) sessionsWith(id mesh.PeerID) bool {
	return r.peers[id] > 0
}
