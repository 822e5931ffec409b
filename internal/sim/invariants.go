package sim

import (
	"fmt"
	"slices"
	"time"

	"teahouse/internal/mesh"
	"teahouse/room"
)

// What may differ for a while, and for how long at most. Everything else that
// the invariants say holds at every look.
const (
	// lookEvery is how often it is looked at the least: at each step besides.
	lookEvery = time.Second
	// ghostMost is how long somebody who has gone, or is cut off, may be shown
	// while the network is neither cut nor healed: the silence after which a
	// member counts as gone (room: 14 s), and what is late on the worst wires.
	// What was said before a cut may arrive after it.
	ghostMost = 16 * time.Second
	// strangerMost is how long somebody may hold the epoch that another one
	// speaks in, in reach of them, and not have been shown to them yet.
	strangerMost = 10 * time.Second
	// heldMost is how long after somebody's end others may go on in an epoch
	// that they hold: 14 s until they are gone, 15 minutes until the others
	// renew what they can follow (DESIGN section 5), and a minute for those who
	// ought to have done it and went themselves.
	heldMost = 15*time.Minute + 75*time.Second
)

// The kinds of conditions.
const (
	ghosts    = "ghost"
	unseen    = "unseen"
	apart     = "apart"
	strangers = "stranger"
	past      = "past"
)

// view is what one life shows at one time.
type view struct {
	who    int
	number int // of the life
	peer   mesh.PeerID
	group  int // part of the network
	roster []room.MemberInfo
	known  known // what it said last that it holds; it says nothing when alone
}

// ended is a life that is over, and what it could open.
type ended struct {
	who, number int
	peer        mesh.PeerID
	at          time.Time
	held        map[[32]byte]uint32 // by origin, the highest number
}

// identity is who a peer id belongs to, and how far their instances have come.
type identity struct {
	who      int
	member   room.Member
	instance uint64 // the highest
	lives    int    // so far
}

// invariants is what must hold of all rooms together at any time, not only
// once they have settled. It is pure state: time and views are arguments. For
// one goroutine at a time.
//
//	soundness  a roster shows its owner, nobody twice, and nobody who never was
//	ghost      who has gone, or is cut off, is not shown for longer than ghostMost
//	unseen     who is in reach is shown after patience at most
//	apart      who see each other are in one epoch after patience at most
//	stranger   who holds the key that somebody speaks under was shown to them
//	past       who has gone cannot follow for longer than heldMost
type invariants struct {
	patience time.Duration
	whose    func(mesh.PeerID) (identity, bool)

	past  []*ended
	since map[condition]*lasting
	seen  map[seeing]bool // whom a life was ever shown
	worst map[string]time.Duration
}

// condition is something of two that must not last.
type condition struct {
	kind               string
	who, number        int // of the life that shows it
	other, otherNumber int // of the other life; a peer where its life is not known
	peer               mesh.PeerID
	cuts               int // of the network so far, where they matter
}

// lasting is a condition that holds.
type lasting struct {
	since, at time.Time // at: when it was found last
	told      bool
}

type seeing struct {
	who, number int
	peer        mesh.PeerID
}

func newInvariants(patience time.Duration, whose func(mesh.PeerID) (identity, bool)) *invariants {
	return &invariants{
		patience: patience, whose: whose, since: make(map[condition]*lasting), seen: make(map[seeing]bool),
		worst: make(map[string]time.Duration),
	}
}

// end notes a life that is over.
func (v *invariants) end(e *ended) { v.past = append(v.past, e) }

// check looks at everybody who is here and tells what must not be. cuts is how
// often the network was cut or healed.
func (v *invariants) check(now time.Time, cuts int, views []view) (wrong []string) {
	for i := range views {
		a := &views[i]
		wrong = append(wrong, v.soundness(a)...)
		for j := range a.roster {
			v.seen[seeing{a.who, a.number, a.roster[j].Peer}] = true
		}
		wrong = append(wrong, v.ghosts(now, cuts, a, views)...)
		alone := true
		for j := range views {
			if b := &views[j]; i != j && a.group == b.group {
				alone = false
				wrong = append(wrong, v.pair(now, a, b, i < j)...)
			}
		}
		if !alone { // who is alone says nothing of its epoch
			wrong = append(wrong, v.follows(now, a)...)
		}
	}
	for c, l := range v.since {
		if l.at != now {
			delete(v.since, c)
		}
	}
	v.past = slices.DeleteFunc(v.past, func(p *ended) bool { return now.Sub(p.at) > 2*heldMost })
	return wrong
}

// holds notes that a condition holds now; true, once: for longer than most.
func (v *invariants) holds(now time.Time, c condition, most time.Duration) (took time.Duration, tooLong bool) {
	l := v.since[c]
	if l == nil {
		l = &lasting{since: now}
		v.since[c] = l
	}
	l.at = now
	took = now.Sub(l.since)
	v.worst[c.kind] = max(v.worst[c.kind], took)
	tooLong = took > most && !l.told
	l.told = l.told || tooLong
	return took, tooLong
}

// soundness tells what of a roster never was.
func (v *invariants) soundness(a *view) (wrong []string) {
	selves := 0
	for i := range a.roster {
		m := &a.roster[i]
		id, ok := v.whose(m.Peer)
		switch {
		case !ok || id.member != m.Member:
			wrong = append(wrong, fmt.Sprintf("%v shows %x on %s, whom there never was", a, m.Member[:4], m.Peer.Short()))
			continue
		case m.Nick != fmt.Sprint("p", id.who):
			wrong = append(wrong, fmt.Sprintf("%v shows person %d as %q", a, id.who, m.Nick))
		case m.Instance > id.instance:
			wrong = append(wrong, fmt.Sprintf("%v shows instance %d of person %d, who has come to %d", a, m.Instance, id.who, id.instance))
		}
		if id.who == a.who {
			selves++
		}
		for j := range i {
			if a.roster[j].Member == m.Member || a.roster[j].Peer == m.Peer {
				wrong = append(wrong, fmt.Sprintf("%v shows person %d twice", a, id.who))
			}
		}
	}
	if selves != 1 || !shows(a.roster, a.peer) {
		wrong = append(wrong, fmt.Sprintf("%v shows itself %d times", a, selves))
	}
	return wrong
}

// ghosts tells whom a shows who cannot be reached.
func (v *invariants) ghosts(now time.Time, cuts int, a *view, views []view) (wrong []string) {
	for i := range a.roster {
		peer := a.roster[i].Peer
		if slices.ContainsFunc(views, func(b view) bool { return b.peer == peer && b.group == a.group }) {
			continue
		}
		if took, tooLong := v.holds(now, condition{kind: ghosts, who: a.who, number: a.number, peer: peer, cuts: cuts}, ghostMost); tooLong {
			id, _ := v.whose(peer)
			wrong = append(wrong, fmt.Sprintf("%v has shown person %d, who is gone or out of reach, for %v", a, id.who, took))
		}
	}
	return wrong
}

// pair tells what is wrong between two who can reach each other. both: what
// concerns both of them as well.
func (v *invariants) pair(now time.Time, a, b *view, both bool) (wrong []string) {
	c := condition{who: a.who, number: a.number, other: b.who, otherNumber: b.number}
	oneKey := a.known.id == b.known.id && a.known.id != ([16]byte{})
	if shows(a.roster, b.peer) {
		if c.kind = apart; both && !oneKey && shows(b.roster, a.peer) {
			if took, tooLong := v.holds(now, c, v.patience); tooLong {
				wrong = append(wrong, fmt.Sprintf("%v has been in %v and %v in %v for %v", a, a.known, b, b.known, took))
			}
		}
		return wrong
	}
	c.kind = unseen
	if took, tooLong := v.holds(now, c, v.patience); tooLong {
		wrong = append(wrong, fmt.Sprintf("%v has not shown %v for %v", a, b, took))
	}
	if c.kind = strangers; oneKey && !v.seen[seeing{a.who, a.number, b.peer}] {
		if took, tooLong := v.holds(now, c, strangerMost); tooLong {
			wrong = append(wrong, fmt.Sprintf("%v has been in %v for %v, which %v holds without ever having been shown", a, a.known, took, b))
		}
	}
	return wrong
}

// follows tells which of the past hold, after all that time, what a is in.
// Who has come back was let in anew.
func (v *invariants) follows(now time.Time, a *view) (wrong []string) {
	for _, p := range v.past {
		number, ok := p.held[a.known.origin]
		if id, _ := v.whose(p.peer); !ok || number > a.known.number || id.lives > p.number || now.Sub(p.at) <= heldMost {
			continue
		}
		c := condition{kind: past, who: a.who, number: a.number, other: p.who, otherNumber: p.number}
		if took, tooLong := v.holds(now, c, strangerMost); tooLong {
			wrong = append(wrong, fmt.Sprintf("%v is in %v, to which person %d can follow, gone for %v", a, a.known, p.who, heldMost+took))
		}
	}
	return wrong
}

func (a *view) String() string { return fmt.Sprintf("person %d (life %d)", a.who, a.number) }
