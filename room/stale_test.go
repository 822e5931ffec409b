package room

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// mesh connects everybody with everybody.
func (c *council) mesh() {
	for i, a := range c.seats {
		for _, b := range c.seats[:i] {
			c.connect(a, b)
		}
	}
	c.settle()
}

// dies has nobody but those who see it know that s has gone.
func (c *council) dies(s *seat, seen ...*seat) {
	for _, o := range c.seats {
		c.disconnect(s, o)
	}
	c.seats = slices.DeleteFunc(c.seats, func(o *seat) bool { return o == s })
	for _, o := range seen {
		o.sees(s)
	}
}

// sees has s see that o has gone.
func (s *seat) sees(o *seat) {
	delete(s.roster, o.entry.Member)
	s.depart(o.entry.Member, s.council.now)
}

// followed tells whether who once held e holds what s is in, by ratchets.
func (s *seat) followed(e epoch) bool {
	secret, now := e.secret, s.newest().secret
	for range 16 {
		if secret == now {
			return true
		}
		secret = secret.ratchet()
	}
	return false
}

// TestKnowerDies is seeds 507, 515 and 795 of churn: the newcomer never saw who
// has gone, the one that did dies, and the newcomer lets somebody in before it
// can have noticed that.
func TestKnowerDies(t *testing.T) {
	for name, play := range map[string]func(t *testing.T, c *council, a, dead, n *seat, held epoch){
		"told at once": func(_ *testing.T, c *council, a, dead, n *seat, _ epoch) {
			c.connect(n, a)
			c.settle()
			a.sees(dead)
			c.settle()
		},
		"told by a third": func(_ *testing.T, c *council, a, dead, n *seat, _ epoch) {
			c.connect(n, a)
			c.settle()
			b := c.sit("b")
			c.connect(b, n) // who never meets a
			c.settle()
			a.sees(dead)
			c.settle()
			c.dies(n)
			c.connect(b, c.sit("last of all"))
			c.settle()
		},
		"told while it ratchets": func(t *testing.T, c *council, a, dead, n *seat, held epoch) {
			c.connect(n, a)
			c.settle()
			a.sees(dead)
			word := c.pipes[[2]*seat{a, n}].queue
			c.pipes[[2]*seat{a, n}].queue = nil
			c.connect(n, c.sit("meanwhile")) // the ratchet
			c.pipes[[2]*seat{a, n}].queue = word
			c.deliver([2]*seat{a, n})
			c.dies(a) // which would have answered the ratchet
			c.settle()
			if n.followed(held) {
				t.Error("the dead can follow the ratchet that the word has met")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCouncil(t, 1)
			a, dead := c.sit("a"), c.sit("dead")
			c.connect(a, dead)
			c.settle()
			c.now = c.now.Add(time.Minute)
			held := *dead.newest()
			c.dies(dead)
			n := c.sit("newcomer")
			play(t, c, a, dead, n, held)
			c.dies(a)
			for len(c.full()) > 0 {
				c.step()
			}
			from := c.seats[0]
			c.now = c.now.Add(time.Second)
			last := c.sit("last")
			c.connect(last, from)
			c.settle()
			if last.followed(held) {
				t.Error("the dead can follow")
			}
		})
	}
}

// TestKnowerDiesUntold is what remains: who would have seen it has told nobody.
// Its own going counts then.
func TestKnowerDiesUntold(t *testing.T) {
	c := newCouncil(t, 1)
	a, dead, n := c.sit("a"), c.sit("dead"), c.sit("newcomer")
	c.connect(a, dead)
	c.settle()
	held := *dead.newest()
	c.dies(dead)
	c.connect(n, a)
	c.settle()
	c.dies(a)
	c.connect(c.sit("before it is noticed"), n)
	c.settle()
	if !n.followed(held) {
		t.Error("the dead cannot follow: docs/threat-model.md says too little")
	}
	n.sees(a)
	c.connect(c.sit("after"), n)
	c.settle()
	if n.followed(held) {
		t.Error("the dead can follow")
	}
}

// TestStaleWordEnds: the word is of one origin, and does not go round. Of the
// fresh epoch that answers a departure those say it who saw that a moment
// before, of the next one nobody does.
func TestStaleWordEnds(t *testing.T) {
	c := newCouncil(t, 1)
	for i := range 5 {
		c.sit(fmt.Sprint("s", i))
	}
	c.mesh()
	c.goes(c.seats[4])
	c.settle()
	for i := range 6 {
		before := c.seats[0].newest().origin.Commitment
		c.connect(c.sit(fmt.Sprint("n", i)), c.seats[0])
		c.settle()
		c.mesh()
		if fresh := c.seats[0].newest().origin.Commitment != before; fresh != (i < 2) {
			t.Errorf("newcomer %d: fresh %v", i, fresh)
		}
		for _, s := range c.seats {
			if s.stale() != c.seats[0].stale() {
				t.Errorf("newcomer %d: %s and %s differ", i, s.name, c.seats[0].name)
			}
		}
		c.now = c.now.Add(presenceGone)
	}
}

// rest is settle where not all agree: a liar need not believe itself.
func (c *council) rest() {
	c.t.Helper()
	for range 2000 * (1 + len(c.seats)*len(c.seats)) {
		if !c.step() {
			return
		}
	}
	c.t.Fatal("there is no end of messages")
}

// lie has a liar say to everybody that the epoch is stale, at once after each change and
// as if it had known before the latest ratchet.
func (c *council) lie(liar *seat) {
	for s := range liar.fars {
		m := s.known()
		m.Flags = knownStale
		if m.Number > m.OriginNumber {
			m.Number--
		}
		s.takeKnown(s.fars[liar], &m, c.now)
	}
	c.rest()
}

// changes is how many epochs have been since number.
func (s *seat) changes(number uint32) uint32 { return s.newest().number - number }

// TestLiarSaysStale: who says for ever that somebody has gone has changes made
// fresh, one more for each that comes, and one in renewAfter.
func TestLiarSaysStale(t *testing.T) {
	c := newCouncil(t, 1)
	for i := range 6 {
		c.sit(fmt.Sprint("s", i))
	}
	c.mesh()
	liar, honest := c.seats[5], c.seats[0]
	before := honest.newest().number
	for range 60 {
		c.lie(liar)
		c.now = c.now.Add(renewAfter / 20)
	}
	if n := honest.changes(before); n < 2 || n > 3 {
		t.Errorf("%d changes in three times renewAfter", n)
	}
	before = honest.newest().number
	for i := range 10 {
		c.connect(c.sit(fmt.Sprint("n", i)), honest)
		c.settle()
		for range 20 {
			c.lie(liar)
			c.now = c.now.Add(100 * time.Millisecond)
		}
	}
	if n := honest.changes(before); n > 20 {
		t.Errorf("%d changes for 10 newcomers", n)
	}
	for _, s := range c.seats {
		if len(s.dismissed) > 0 {
			t.Errorf("%s dismissed somebody", s.name)
		}
	}
}

// TestStaleInABigRoom: what others say makes no more epochs than one in
// bigRoomPause, whoever comes; what we saw ourselves makes one at once.
func TestStaleInABigRoom(t *testing.T) {
	c := newCouncil(t, 1)
	for i := range 4 {
		s := c.sit(fmt.Sprint("s", i))
		members := s.members
		s.members = func() int { return members() + bigRoom }
	}
	c.mesh()
	c.now = c.now.Add(time.Minute)
	liar, honest := c.seats[3], c.seats[0]
	before := honest.newest().number
	for i := range 30 { // one a second
		c.lie(liar)
		n := c.sit(fmt.Sprint("n", i))
		c.connect(n, honest)
		c.rest()
		if n.newest() == nil || n.newest().secret != honest.newest().secret {
			t.Fatal("the newcomer is not let in")
		}
		c.now = c.now.Add(time.Second)
	}
	if n := honest.changes(before); n < 3 || n > 6 {
		t.Errorf("%d changes for 30 newcomers in 30 s", n)
	}
	for before = honest.newest().number; honest.newest().number == before; c.now = c.now.Add(time.Second) {
		c.connect(c.sit(fmt.Sprint("m", c.now)), honest)
		c.rest()
	}
	held := *honest.newest()
	honest.sees(c.seats[1])
	c.connect(c.sit("last"), honest)
	c.rest()
	if honest.followed(held) {
		t.Error("who was seen to go can follow")
	}
}

// TestStaleAcrossOrigins: what is said of an origin that we are not in yet
// counts when we come to be in it, and what was said of ours does not.
func TestStaleAcrossOrigins(t *testing.T) {
	for _, theirs := range []bool{true, false} {
		c := newCouncil(t, 1)
		var sides [2][]*seat
		for i := range sides {
			for j := range 3 {
				sides[i] = append(sides[i], c.sit(fmt.Sprint("side ", i, " ", j)))
			}
			for j, a := range sides[i] {
				for _, b := range sides[i][:j] {
					c.connect(a, b)
					c.settle()
				}
			}
			c.now = c.now.Add(time.Minute)
		}
		winner, loser := sides[0], sides[1]
		if loser[0].newest().origin.beats(winner[0].newest().origin) {
			winner, loser = loser, winner
		}
		side := loser
		if theirs {
			side = winner
		}
		held := *side[2].newest()
		c.dies(side[2], side[0])
		c.settle()
		c.now = c.now.Add(presenceGone)
		for len(c.seats) < 6 {
			c.sit("filler")
		}
		c.connect(winner[1], loser[1])
		c.settle()
		c.mesh()
		last := c.seats[len(c.seats)-1]
		if last.followed(held) {
			t.Errorf("of the side that wins %v: the dead can follow", theirs)
		}
		if !theirs && c.seats[0].stale() {
			t.Error("what was said of an origin that lost is said of the one that won")
		}
	}
}

// TestKnowerIsKilled is TestKnowerDies with whole rooms: a newcomer that has
// just come when the dead one is missed lets another in while it still shows
// who told it, dead by then.
func TestKnowerIsKilled(t *testing.T) {
	onStage(t, lan, func(t *testing.T, s *stage) {
		a, dead := s.enter("a"), s.enter("dead")
		s.gather(3 * time.Second)
		var held epoch
		_ = dead.room.call(func() { held = *dead.room.handing.newest() })
		dead.kill()
		time.Sleep(2 * time.Second)
		n := s.enter("newcomer")
		s.eventually(3*time.Second, "the newcomer is let in", func() bool { return n.room.Stats().Epoch > held.number })
		if n.room.Stats().Epoch != held.number+1 || !n.follows(held) {
			t.Fatal("it was not let in by a ratchet: the test shows nothing")
		}
		s.gather(presenceGone + 2*time.Second) // a has missed the dead
		a.kill()
		time.Sleep(time.Second)
		last := s.enter("last")
		s.eventually(3*time.Second, "the last is let in", func() bool { return last.room.Stats().Epoch > 0 })
		if len(n.room.Members()) != 3 {
			t.Fatal("the newcomer has missed who told it: the test shows nothing")
		}
		if last.follows(held) || n.follows(held) {
			t.Error("the dead can follow")
		}
		s.gather(presenceGone + 2*time.Second)
	})
}

// follows tells whether who held e can follow to what p is in.
func (p *person) follows(e epoch) (can bool) {
	p.stage.t.Helper()
	err := p.room.call(func() {
		now := p.room.handing.newest()
		secret, ok := e.secret.ratchetBy(now.number - e.number)
		can = ok && secret == now.secret
	})
	if err != nil {
		p.stage.t.Fatal(err)
	}
	return can
}

// TestRestartCountsAsDeparture: an instance that gives way to a newer one is
// gone, and what it held; it may go on in a copy of its home.
func TestRestartCountsAsDeparture(t *testing.T) {
	onStage(t, lan, func(t *testing.T, s *stage) {
		a, b, c := s.enter("a"), s.enter("b"), s.enter("c")
		s.gather(3 * time.Second)
		var held epoch
		_ = b.room.call(func() { held = *b.room.handing.newest() })
		b.kill()
		s.enter("b", func(c *Config) { c.Instance = 2 }) // before anybody missed it
		s.gather(5 * time.Second)
		for _, p := range []*person{a, c} {
			if p.follows(held) {
				t.Errorf("the instance before can follow to what %s is in", p.name)
			}
		}
	})
}
