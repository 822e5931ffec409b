package room

import (
	"cmp"
	"context"
	"slices"
	"time"

	"teahouse/internal/mesh"
)

const (
	// maxCandidates is how many peers are remembered that may be in the room;
	// candidateLife is for how long after anybody last named one.
	maxCandidates = 512
	candidateLife = 10 * time.Minute
	// hearsayRate, a second, and hearsayBurst are how many peers one member
	// may name that nobody else has.
	hearsayRate  = 0.5
	hearsayBurst = 2 * maxPeers
	// yield is how much later the larger peer id dials where both sides have
	// just heard of each other, so that one session is opened, not two.
	yield = 300 * time.Millisecond
	// silence is after how long without a word from a peer the next one is
	// news: a way to it has just opened, or it has just come. Somebody who is
	// there speaks every presenceEvery.
	silence = presenceEvery + 3*time.Second
	// missedFor is how long somebody is sought eagerly whose session has
	// broken, or who has fallen silent, without a goodbye.
	missedFor = 2 * time.Minute
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
	word   word
	addrs  []mesh.Addr
	heard  time.Time // when we last heard of it, by whomever
	spoke  time.Time // when it last said something itself
	missed time.Time // until when it is sought eagerly
	// vanished: it was here, and ceased to be without a goodbye.
	vanished bool
	parted   time.Time // when a session with it last ended

	opening bool
	dialled time.Time          // when we last began to
	giveUp  context.CancelFunc // while opening
	stale   time.Time          // while opening: when to begin anew; zero: not
	again   bool               // while opening: it was given up to be begun anew
	fails   int
	next    time.Time // not to be dialled before
}

// soon has a candidate dialled as soon as may be, as if it had never failed.
func (r *Room) soon(c *candidate, now time.Time) {
	c.fails = 0
	if at := c.dialled.Add(redialLeast); at.After(now) {
		now = at
	}
	if c.next.After(now) {
		c.next = now
		r.redial()
	}
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
		if by == wordOwn {
			c.spoke = now
		}
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
	if len(p.Addrs) == 0 {
		return
	}
	addrs := p.Addrs[:min(len(p.Addrs), mesh.MaxAddrs)]
	news := len(c.addrs) == 0 || by == wordOwn && !slices.Equal(c.addrs, addrs)
	c.addrs = addrs
	if news && c.fails > 0 && !c.opening {
		r.soon(c, now) // it could not be reached without
	}
}

// lives is told that a peer has just said something in one of our topics.
// Where that is news it is dialled at once, and a dial that began while there
// was no way is begun anew; and it may not know of us either.
func (r *Room) lives(id mesh.PeerID, now time.Time) {
	c := r.seeking.candidates[id]
	together := r.sessionsWith(id)
	news := c == nil || now.Sub(c.spoke) >= silence
	if news && !together {
		r.surface(now)
	}
	if c == nil {
		return
	}
	c.heard, c.spoke = now, now
	if news && c.vanished {
		r.reappeared(c, now)
	}
	switch {
	case together:
	case news:
		r.hurry(c, now)
	case c.opening:
		if now.Sub(c.dialled) >= dialStale {
			c.stale = now
			r.redial()
		}
	case c.next.Sub(now) > openLiving:
		c.next = now.Add(r.jitter(openLiving/2, openLiving/2))
		r.redial()
	}
}

// hurry is soon, and begins a dial anew that began while there was no way.
func (r *Room) hurry(c *candidate, now time.Time) {
	if c.opening {
		c.stale = c.dialled.Add(dialFresh)
		r.redial()
		return
	}
	r.soon(c, now)
}

// miss is told that somebody is not there any more who said no goodbye.
func (r *Room) miss(id mesh.PeerID, now time.Time) {
	if c := r.seeking.candidates[id]; c != nil {
		c.vanished, c.missed = true, now.Add(missedFor)
	}
}

// reappeared is told that somebody who had vanished is there again: so are,
// maybe, the others that vanished, for one reason; and they may not know of us.
func (r *Room) reappeared(c *candidate, now time.Time) {
	c.vanished = false
	r.surface(now)
	for id, o := range r.seeking.candidates {
		if o != c && o.vanished && !r.sessionsWith(id) {
			r.hurry(o, now)
		}
	}
}

// farewell is told that a peer said it goes, or that it is not to be met
// again soon: it is not sought, until it speaks.
func (r *Room) farewell(id mesh.PeerID) {
	if c := r.seeking.candidates[id]; c != nil {
		c.spoke, c.missed, c.vanished, c.fails = time.Time{}, time.Time{}, false, openTired
	}
}

// dropCandidate forgets the candidate that promises least, and no more than
// one of the given word does: known on the worst word, then one that could not
// be reached, then heard of longest ago; false: there is none.
func (r *Room) dropCandidate(by word) bool {
	here := r.herePeers()
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

// forgetCandidates drops those that nobody has named for long.
func (r *Room) forgetCandidates(now time.Time) {
	here := r.herePeers()
	for id, c := range r.seeking.candidates {
		if !c.opening && now.Sub(c.heard) >= candidateLife && !here[id] && !r.sessionsWith(id) {
			delete(r.seeking.candidates, id)
		}
	}
}

// herePeers are the peers of those in the roster.
func (r *Room) herePeers() map[mesh.PeerID]bool {
	here := make(map[mesh.PeerID]bool, len(r.roster.present))
	for _, p := range r.roster.present {
		here[p.entry.Peer] = true
	}
	return here
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
