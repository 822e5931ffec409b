package room

import (
	"cmp"
	"context"
	"sync"
	"time"

	"teahouse/internal/mesh"
)

const (
	// While nobody has been met the DHT is asked again after findFirst,
	// doubling to findMost; once somebody has, each findCalm, in which groups
	// that began apart find each other.
	findFirst = 500 * time.Millisecond
	findMost  = 30 * time.Second
	findCalm  = time.Minute
	findTime  = 20 * time.Second // for one search
	// findReach is how many hours' keys to each side are looked up beside that
	// of the hour: a clock may be wrong by an hour. While nobody has been met it
	// is findWide: two may be wrong by an hour to both sides.
	findReach = 1
	findWide  = 2

	provideRetryFirst = time.Second
	provideRetryMost  = time.Minute

	// Beacons go out at join, after beaconSecond, then each beaconEvery with a
	// jitter of a fifth.
	beaconSecond = 2 * time.Second
	beaconEvery  = 30 * time.Second
	beaconLeast  = 5 * time.Second // between two, those out of turn included

	// maxCandidates is how many peers are remembered that may be in the room,
	// maxOpens how many sessions are being opened at once.
	maxCandidates = 512
	maxOpens      = 8
	openTime      = 15 * time.Second
	openFirst     = time.Second
	openMost      = time.Minute
	redialLeast   = time.Second // between two dials of one peer that lives
	// dialStale is after how long a dial is begun anew when its peer is heard
	// by another way.
	dialStale = 2 * time.Second
	// hearsayOpens is how many of these may go to peers that are known from
	// what members say of others alone; hearsayRate, a second, and
	// hearsayBurst are how many such one member may name.
	hearsayOpens = maxOpens / 2
	hearsayRate  = 0.5
	hearsayBurst = 2 * maxPeers
	// yield is how much later the larger peer id dials where both sides have
	// just heard of each other, so that one session is opened, not two.
	yield = 300 * time.Millisecond
)

// word is whose word it is that a peer may be in the room, and at which
// addresses. Better words replace worse ones, never the other way about.
type word int

const (
	wordHearsay word = iota // another member names it
	wordDHT                 // it has a record in the DHT
	wordOwn                 // it says so itself, signed or on its own session
)

// candidate is a peer that may be in the room.
type candidate struct {
	word    word
	addrs   []mesh.Addr
	heard   time.Time // when we last heard of it
	dialled time.Time // when we last began to
	opening bool
	giveUp  context.CancelFunc // while opening
	again   bool               // it was given up to be begun anew
	fails   int
	next    time.Time // not to be dialled before
}

// rendezvous is how a room finds its members: whom it has heard of, and when
// to look again. Owned by the room.
type rendezvous struct {
	candidates map[mesh.PeerID]*candidate
	opening    int
	hearsay    int // of these, known by hearsay alone
	dialAt     time.Time
	changed    bool // somebody may be due earlier than dialAt

	hour        int64
	stopProvide context.CancelFunc
	finding     bool
	findAt      time.Time
	findPause   time.Duration
	beaconAt    time.Time
	beacons     int
	shownAt     time.Time // when the last one went
	topicsAt    time.Time
}

func newRendezvous(now time.Time) rendezvous {
	return rendezvous{
		candidates: make(map[mesh.PeerID]*candidate), stopProvide: func() {},
		findAt: now, findPause: findFirst, beaconAt: now, topicsAt: now,
	}
}

// seek does what is due to find others, and tells when to come again.
func (r *Room) seek(now time.Time) (next time.Time) {
	v := &r.seeking
	clock := r.cfg.Now()
	if hour := clock.Unix() / 3600; hour != v.hour {
		v.hour = hour
		v.stopProvide()
		v.stopProvide = r.provide(clock)
	}
	if !v.topicsAt.After(now) {
		v.topicsAt = now.Add(time.Minute)
		r.gossip.retopic(clock)
	}
	if !v.beaconAt.After(now) {
		r.gossip.publish(r.sealBeacon)
		v.beacons++
		v.shownAt = now
		v.beaconAt = now.Add(r.jitter(beaconEvery, beaconEvery/5))
		if v.beacons == 1 {
			v.beaconAt = now.Add(beaconSecond)
		}
	}
	if !v.findAt.After(now) && !v.finding {
		r.find(clock)
	}
	next = sooner(v.topicsAt, v.beaconAt)
	next = sooner(next, now.Add(time.Unix((v.hour+1)*3600, 0).Sub(clock)))
	if !v.finding {
		next = sooner(next, v.findAt)
	}
	if v.changed || !v.dialAt.After(now) {
		v.changed = false
		if v.dialAt = r.dial(now); v.dialAt.IsZero() {
			v.dialAt = now.Add(time.Minute)
		}
	}
	return sooner(next, v.dialAt)
}

// redial has dial look again at whom it is time to dial.
func (r *Room) redial() {
	r.seeking.changed = true
	r.wake()
}

func (r *Room) sealBeacon(topic string) []byte {
	return append(r.beacons.seal(topic, r.cfg.Network.Self()), beaconTrailer(r.cfg.Nick)...)
}

// provide announces us in the DHT for as long as the hour is this one.
func (r *Room) provide(clock time.Time) context.CancelFunc {
	key := r.cfg.Secret.dhtKeyAt(clock)
	ctx, cancel := context.WithCancel(r.ctx)
	r.spawn(func() {
		for pause := provideRetryFirst; ; pause = min(2*pause, provideRetryMost) {
			attempt, end := context.WithCancel(ctx) // the network goes on with one that did not succeed
			err := r.cfg.Network.Provide(attempt, key)
			if err == nil || ctx.Err() != nil {
				context.AfterFunc(ctx, end)
				return
			}
			end()
			r.log.Debug("the DHT did not take our record", "err", err)
			if !r.sleep(r.jitter(pause, pause/5), ctx.Done()) {
				return
			}
		}
	})
	return cancel
}

// find looks for others under the keys of this hour and its neighbours.
func (r *Room) find(clock time.Time) {
	r.seeking.finding = true
	reach := findReach
	if !r.hasLink() {
		reach = findWide
	}
	keys := r.cfg.Secret.dhtKeysAround(clock, reach)
	r.spawn(func() {
		ctx, cancel := context.WithTimeout(r.ctx, findTime)
		defer cancel()
		var searches sync.WaitGroup
		for _, key := range keys {
			searches.Go(func() {
				err := r.cfg.Network.Find(ctx, key, func(p mesh.Peer) {
					r.post(ctx.Done(), func() { r.heardOf(p, wordDHT, false) })
				})
				if err != nil {
					r.log.Debug("search in the DHT", "err", err)
				}
			})
		}
		searches.Wait()
		r.post(nil, r.found)
	})
}

// found sets the time of the next search.
func (r *Room) found() {
	v := &r.seeking
	v.finding = false
	pause := v.findPause
	switch {
	case r.hasLink() || v.findPause >= findMost:
		v.findPause, pause = findMost, findCalm
	default:
		v.findPause = min(2*v.findPause, findMost)
	}
	v.findAt = time.Now().Add(r.jitter(pause, pause/10))
	r.wake()
}

// heardOf takes note of a peer that may be in the room, on somebody's word.
// both: it will hear of us at the same time.
func (r *Room) heardOf(p mesh.Peer, by word, both bool) {
	if p.ID == r.peer {
		return
	}
	if _, ok := p.ID.PublicKey(); !ok {
		return
	}
	now := time.Now()
	c := r.seeking.candidates[p.ID]
	switch {
	case c == nil:
		if len(r.seeking.candidates) >= maxCandidates && !r.dropCandidate(by) {
			return
		}
		c = &candidate{word: by}
		if both && r.peer > p.ID {
			c.next = now.Add(yield)
		}
		r.seeking.candidates[p.ID] = c
		r.redial()
	case by == wordOwn:
		r.lives(p.ID, now)
	}
	c.heard = now
	if len(c.addrs) > 0 && (by < c.word || by == wordHearsay && c.fails == 0) {
		return
	}
	c.word = max(c.word, by)
	if len(p.Addrs) > 0 {
		c.addrs = p.Addrs[:min(len(p.Addrs), mesh.MaxAddrs)]
	}
}

// lives is told that a peer has just said something in one of our topics. One
// that we cannot reach is dialled again soon, instead of after a minute; and
// one that we have not heard of, or not for long, may not know of us either.
func (r *Room) lives(id mesh.PeerID, now time.Time) {
	c := r.seeking.candidates[id]
	if (c == nil || now.Sub(c.heard) >= presenceGone) && !r.sessionsWith(id) {
		r.showBeacon(now)
	}
	if c == nil {
		return
	}
	c.heard = now
	if r.sessionsWith(id) {
		return
	}
	if c.opening {
		if now.Sub(c.dialled) >= dialStale {
			c.again = true // it began while there was no way
			c.giveUp()
		}
		return
	}
	at := c.dialled.Add(redialLeast)
	if at.Before(now) {
		at = now
	}
	if at.Before(c.next) {
		c.fails, c.next = min(c.fails, 2), at
		r.redial()
	}
}

// showBeacon publishes our beacon out of turn, though not often.
func (r *Room) showBeacon(now time.Time) {
	if v := &r.seeking; now.Sub(v.shownAt) >= beaconLeast {
		v.beaconAt = now
		r.wake()
	}
}

// dropCandidate forgets the candidate that promises least, and no more than
// one of the given word does: known on the worst word, then one that could not
// be reached, then heard of longest ago; false: there is none.
func (r *Room) dropCandidate(by word) bool {
	here := make(map[mesh.PeerID]bool, len(r.roster.present))
	for _, p := range r.roster.present {
		here[p.entry.Peer] = true
	}
	var worst mesh.PeerID
	var w *candidate
	for id, c := range r.seeking.candidates {
		if c.opening || c.word > by || here[id] || r.sessionsWith(id) {
			continue
		}
		if w == nil || cmp.Or(cmp.Compare(w.word, c.word), cmp.Compare(c.fails, w.fails), w.heard.Compare(c.heard)) > 0 {
			worst, w = id, c
		}
	}
	if w == nil {
		return false
	}
	delete(r.seeking.candidates, worst)
	return true
}

// dial opens sessions with candidates whose time has come, and tells when the
// next one's does.
func (r *Room) dial(now time.Time) (next time.Time) {
	for _, p := range r.roster.present {
		if r.seeking.candidates[p.entry.Peer] == nil && !r.sessionsWith(p.entry.Peer) {
			r.heardOf(mesh.Peer{ID: p.entry.Peer}, wordHearsay, true)
		}
	}
	for id, c := range r.seeking.candidates {
		if c.opening || r.sessionsWith(id) {
			continue
		}
		if c.next.After(now) {
			next = sooner(next, c.next)
			continue
		}
		if r.seeking.opening >= maxOpens || len(r.sessions) >= maxSessions ||
			c.word == wordHearsay && r.seeking.hearsay >= hearsayOpens {
			continue // one of those that are under way will have us look again
		}
		r.open(mesh.Peer{ID: id, Addrs: c.addrs}, c)
	}
	return next
}

func (r *Room) open(p mesh.Peer, c *candidate) {
	hearsay := c.word == wordHearsay
	ctx, cancel := context.WithTimeout(r.ctx, openTime)
	c.opening, c.dialled, c.giveUp, c.again = true, time.Now(), cancel, false
	r.seeking.opening++
	if hearsay {
		r.seeking.hearsay++
	}
	r.spawn(func() {
		defer cancel()
		s, err := r.cfg.Network.Open(ctx, p, r.door)
		if err != nil {
			r.log.Debug("open a session", "peer", p.ID, "err", err)
		}
		posted := r.post(nil, func() {
			r.seeking.opening--
			if hearsay {
				r.seeking.hearsay--
			}
			c.opening = false
			if r.backOff(c, time.Now()); c.again && err != nil {
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
func (r *Room) backOff(c *candidate, now time.Time) {
	pause := min(openFirst<<min(c.fails, 10), openMost)
	c.fails++
	c.next = now.Add(r.jitter(pause, pause/4))
}

// met is told that a session with a peer has been opened in full.
func (r *Room) met(id mesh.PeerID) {
	if c := r.seeking.candidates[id]; c != nil {
		c.fails = 0
	} else {
		r.heardOf(mesh.Peer{ID: id}, wordOwn, true)
	}
}

// parted is told that a session with a peer has ended: it is dialled again,
// but not at once, because it may be going.
func (r *Room) parted(id mesh.PeerID) {
	if c := r.seeking.candidates[id]; c != nil && !c.opening {
		r.backOff(c, time.Now())
	}
	r.redial()
}

func (r *Room) sessionsWith(id mesh.PeerID) bool {
	return r.peers[id] > 0
}

// peersFor is the PEERS for one session: ourselves, and where to find others.
func (r *Room) peersFor(to *session) []byte {
	peers := []mesh.Peer{r.cfg.Network.Self()}
	for s := range r.sessions {
		if s == to || s.state != sessionOpen || s.peer == to.peer || len(peers) >= maxPeers {
			continue
		}
		if c := r.seeking.candidates[s.peer]; c != nil && len(c.addrs) > 0 {
			peers = append(peers, mesh.Peer{ID: s.peer, Addrs: c.addrs})
		}
	}
	return appendPeersMessage(nil, peers)
}

// takePeers takes PEERS, and passes on where the one that sent it is.
func (s *session) takePeers(peers []mesh.Peer) {
	if s.state != sessionOpen {
		return
	}
	r := s.room
	for _, p := range peers {
		c := r.seeking.candidates[p.ID]
		if p.ID != s.peer {
			if c == nil && s.others.wait(time.Now()) > 0 {
				s.others.tokens++ // not taken: it has named enough for now
				continue
			}
			r.heardOf(p, wordHearsay, true)
			continue
		}
		news := len(p.Addrs) > 0 && (c == nil || c.word != wordOwn || len(c.addrs) == 0)
		r.heardOf(p, wordOwn, true)
		if !news {
			continue
		}
		data := appendPeersMessage(nil, []mesh.Peer{p})
		for o := range r.sessions {
			if o != s && o.state == sessionOpen {
				o.send(mesh.Roster, data)
			}
		}
	}
}

// sooner is the earlier of two times, of which zero is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
