package room

import (
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"teahouse/internal/mesh"
)

// council is members who hand each other epochs over pipes: any pipe may be
// the next to deliver, but each keeps its order.
type council struct {
	t      testing.TB
	random *rand.Rand
	now    time.Time
	seats  []*seat
	pipes  map[[2]*seat]*pipe // from, to
	fresh  uint64
	gone   []*seat
	lies   bool // somebody lied: secrets may differ for a while
}

// seat is one member: its handing, and the least of a roster.
type seat struct {
	*handing
	council *council
	name    string
	entry   entry
	roster  map[Member]*entry
	fars    map[*seat]*far
	origins []origin // that it has been in, in order

	dismissed []*seat // who lied too often
}

// pipe carries the messages from one seat to another.
type pipe struct{ queue [][]byte }

func newCouncil(t testing.TB, seed uint64) *council {
	return &council{
		t: t, random: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1e9, 0), pipes: make(map[[2]*seat]*pipe),
	}
}

func (c *council) sit(name string) *seat {
	key := testKey(name)
	s := &seat{council: c, name: name, roster: make(map[Member]*entry), fars: make(map[*seat]*far)}
	s.entry = entry{
		Member: memberOf(key), Peer: mesh.PeerIDOf(key.Public().(ed25519.PublicKey)),
		Instance: 1, Sequence: 1, Nick: name,
	}
	s.handing = &handing{
		room: goldRoom(), self: s.entry.Member, key: key, epochs: newEpochs(),
		fresh: func() (secret epochSecret) {
			c.fresh++
			binary.BigEndian.PutUint64(secret[:], c.fresh)
			return secret
		},
		members: func() int { return len(s.roster) },
		rtt:     func() time.Duration { return 20 * time.Millisecond },
		changed: func(string, bool) { s.check() },
		meeting: func() bool { return false },
	}
	c.seats = append(c.seats, s)
	return s
}

// check holds what must be true after each change: no going back to an origin,
// and each new one beats the one before.
func (s *seat) check() {
	o := s.newest().origin
	if len(s.held) > maxEpochs {
		s.council.t.Fatalf("%s holds %d epochs", s.name, len(s.held))
	}
	if n := len(s.origins); n > 0 {
		if s.origins[n-1].Commitment == o.Commitment {
			return
		}
		if !o.beats(&s.origins[n-1]) {
			s.council.t.Fatalf("%s went over to an origin that loses", s.name)
		}
	}
	if slices.ContainsFunc(s.origins, func(p origin) bool { return p.Commitment == o.Commitment }) {
		s.council.t.Fatalf("%s went back to an origin", s.name)
	}
	s.origins = append(s.origins, *o)
}

// connect opens a session from a to b, past its greeting.
func (c *council) connect(a, b *seat) {
	if a == b || a.fars[b] != nil {
		return
	}
	for _, pair := range [][2]*seat{{a, b}, {b, a}} {
		c.pipes[pair] = &pipe{}
	}
	ka, kb := a.known(), b.known()
	a.meet(b, false, kb)
	b.meet(a, true, ka)
	// What changed between the greeting and the opening is told again.
	if k := a.known(); k != ka {
		c.pipes[[2]*seat{a, b}].queue = append(c.pipes[[2]*seat{a, b}].queue, k.appendMessage(nil))
	}
}

func (s *seat) meet(o *seat, responder bool, known knownMessage) {
	e := o.entry
	s.roster[e.Member] = &e
	p := s.council.pipes[[2]*seat{s, o}]
	f := &far{
		member: e.Member, instance: e.Instance, responder: responder, known: known,
		entry:   func() *entry { return s.roster[e.Member] },
		fresh:   func(time.Time) bool { return true },
		send:    func(m []byte) { p.queue = append(p.queue, slices.Clone(m)) },
		dismiss: func() { s.dismissed = append(s.dismissed, o) },
	}
	s.fars[o] = f
	s.open(f, s.council.now)
}

// disconnect ends the session of a and b, and loses what is on its way.
func (c *council) disconnect(a, b *seat) {
	for _, pair := range [][2]*seat{{a, b}, {b, a}} {
		if f := pair[0].fars[pair[1]]; f != nil {
			pair[0].drop(f)
			delete(pair[0].fars, pair[1])
		}
		delete(c.pipes, pair)
	}
}

// goes has everybody see that s is gone.
func (c *council) goes(s *seat) {
	for _, o := range c.seats {
		c.disconnect(s, o)
		if o != s && o.roster[s.entry.Member] != nil {
			delete(o.roster, s.entry.Member)
			o.depart(s.entry.Member, c.now)
		}
	}
	c.seats = slices.DeleteFunc(c.seats, func(o *seat) bool { return o == s })
	c.gone = append(c.gone, s)
}

// deliver hands over the first message of a pipe.
func (c *council) deliver(pair [2]*seat) {
	p, s := c.pipes[pair], pair[1]
	data := p.queue[0]
	p.queue = p.queue[1:]
	f := s.fars[pair[0]]
	kind, body, _ := splitMessage(data)
	switch kind {
	case kindKnown:
		m, err := decodeKnown(body)
		c.must(err)
		s.takeKnown(f, &m, c.now)
	case kindEpoch:
		m, err := decodeEpoch(body)
		c.must(err)
		c.must(m.verify(goldRoom()))
		if err := s.takeEpoch(f, &m, c.now); err != nil && !c.lies {
			c.t.Fatal(err)
		}
	case kindAdmit:
		m, err := decodeAdmit(body)
		c.must(err)
		present := false
		if m.Entry.Member != s.self {
			if e := s.newest(); e != nil && e.origin.Commitment == m.Commitment && s.roster[m.Entry.Member] == nil {
				s.roster[m.Entry.Member] = &m.Entry
			}
			present = s.roster[m.Entry.Member] != nil
		}
		s.takeAdmit(&m, present, c.now)
	default:
		c.t.Fatalf("message of kind %d", kind)
	}
}

func (c *council) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// full are the pipes with something in them, in a fixed order.
func (c *council) full() (pairs [][2]*seat) {
	for _, a := range c.seats {
		for _, b := range c.seats {
			if p := c.pipes[[2]*seat{a, b}]; p != nil && len(p.queue) > 0 {
				pairs = append(pairs, [2]*seat{a, b})
			}
		}
	}
	return pairs
}

// step delivers one message, or lets time pass; false: nothing is under way.
func (c *council) step() bool {
	if pairs := c.full(); len(pairs) > 0 {
		c.deliver(pairs[c.random.IntN(len(pairs))])
		return true
	}
	var next time.Time
	for _, s := range c.seats {
		next = sooner(next, s.tick(c.now))
	}
	if len(c.full()) > 0 {
		return true
	}
	if next.IsZero() || next.Sub(c.now) > time.Minute {
		return false
	}
	c.now = next
	return true
}

// settle delivers until nothing is under way, and checks that those who are
// connected, directly or not, hold one epoch.
func (c *council) settle() {
	c.t.Helper()
	limit := 2000 * (1 + len(c.seats)*len(c.seats))
	for range limit {
		if !c.step() {
			c.agree()
			return
		}
	}
	c.t.Fatalf("%d members still exchange messages after %d steps", len(c.seats), limit)
}

func (c *council) agree() {
	c.t.Helper()
	for _, s := range c.seats {
		for o := range s.fars {
			if a, b := s.known(), o.known(); a != b || a == (knownMessage{}) {
				c.t.Fatalf("%s is in %d of %x, %s in %d of %x", s.name, a.Number, a.Commitment[:4], o.name, b.Number, b.Commitment[:4])
			}
		}
	}
}

// TestHandingConverges does random things to members and lets messages cross
// in random order: whoever is connected ends in one epoch.
func TestHandingConverges(t *testing.T) {
	stale := 0
	for seed := range uint64(300) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { stale += randomCouncil(t, seed) })
	}
	if stale < 10 {
		t.Errorf("only %d times was there somebody who could follow: this shows little", stale)
	}
}

func FuzzHandingConverges(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { randomCouncil(t, seed) })
}

// randomCouncil gives how many of those who have gone could follow a ratchet in
// the end, which all of the others have to know.
func randomCouncil(t *testing.T, seed uint64) (stale int) {
	c := newCouncil(t, seed)
	made := 0
	for range 60 {
		n := len(c.seats)
		switch k := c.random.IntN(20); {
		case k < 5 && n < 8:
			c.sit(fmt.Sprint("seat ", made))
			made++
		case k < 11 && n >= 2:
			c.connect(c.seats[c.random.IntN(n)], c.seats[c.random.IntN(n)])
		case k == 11 && n >= 2:
			c.disconnect(c.seats[c.random.IntN(n)], c.seats[c.random.IntN(n)])
		case k == 12 && n > 2:
			c.goes(c.seats[c.random.IntN(n)])
		case k == 13:
			c.settle()
		default:
			for range c.random.IntN(20) {
				c.step()
			}
			c.now = c.now.Add(time.Duration(c.random.IntN(100)) * time.Millisecond)
		}
	}
	c.settle()
	for i, a := range c.seats { // a full mesh in the end: one room
		for _, b := range c.seats[:i] {
			c.connect(a, b)
		}
	}
	c.settle()
	for _, s := range c.seats {
		for _, g := range c.gone {
			if slices.ContainsFunc(g.origins, func(o origin) bool { return o.Commitment == s.newest().origin.Commitment }) {
				if stale++; !s.stale() {
					t.Errorf("%s does not know that %s, who has gone, can follow", s.name, g.name)
				}
			}
		}
	}
	return stale
}

// TestNewcomersLearnNothingEarlier: whoever is let in gets a secret that did
// not exist before, and from which those before cannot be had.
func TestNewcomersLearnNothingEarlier(t *testing.T) {
	c := newCouncil(t, 1)
	a, b := c.sit("a"), c.sit("b")
	c.connect(a, b)
	c.settle()
	c.now = c.now.Add(time.Minute)
	before := *a.newest()

	n := c.sit("n")
	c.connect(n, b)
	c.settle()
	for _, e := range n.held {
		if e.secret == before.secret {
			t.Error("the newcomer was given the epoch before its time")
		}
	}
	if got := n.newest(); got.secret != before.secret.ratchet() || got.number != before.number+1 {
		t.Errorf("the newcomer is in epoch %d, want the ratchet of %d", got.number, before.number)
	}

	// After a departure no ratchet of what the departed knew leads on.
	known := *a.newest()
	c.goes(n)
	c.now = c.now.Add(time.Minute)
	m := c.sit("m")
	c.connect(m, a)
	c.settle()
	for secret, i := known.secret, 0; i < 8; i++ {
		if secret = secret.ratchet(); secret == a.newest().secret {
			t.Error("who has left can follow")
		}
	}
	if a.newest().origin.Parent != known.origin.Commitment {
		t.Error("the fresh epoch does not descend from the one before")
	}
}

// TestLyingAdmitter: a member that hands a newcomer a wrong secret is found
// out, and the room agrees again.
func TestLyingAdmitter(t *testing.T) {
	c := newCouncil(t, 1)
	a, b := c.sit("a"), c.sit("b")
	c.connect(a, b)
	c.settle()
	n := c.sit("n")
	m := b.message()
	m.Number++
	m.Secret = epochSecret{6, 6, 6}
	n.roster[b.entry.Member] = &b.entry
	if _, err := n.take(&m, b.entry.Member, 1, c.now, 0); err != nil {
		t.Fatal(err)
	}
	n.check()
	c.connect(n, a)
	a.ratchet(c.now, 0)
	a.announce("test", false, c.now)
	c.settle()
	c.connect(n, b)
	c.settle()
	if a.newest().secret == (epochSecret{6, 6, 6}) {
		t.Error("the wrong secret won")
	}
}

// TestRenewInTime: the secret of who has left is replaced though nobody comes,
// by one of those who stay.
func TestRenewInTime(t *testing.T) {
	c := newCouncil(t, 1)
	a, b, d := c.sit("a"), c.sit("b"), c.sit("d")
	c.connect(a, b)
	c.connect(a, d)
	c.connect(b, d)
	c.settle()
	before := a.known()
	c.goes(d)
	c.settle()
	if a.known().Commitment != before.Commitment {
		t.Error("renewed at once")
	}
	c.now = c.now.Add(renewAfter - time.Second)
	c.settle()
	if a.known().Commitment == before.Commitment {
		t.Error("not renewed in time")
	}
	if a.known().Number != before.Number+1 {
		t.Errorf("renewed %d times", a.known().Number-before.Number)
	}
}

// TestOneHeals: a member that says to all that it holds another secret makes
// one of them renew, not each; and is dismissed when it goes on.
func TestOneHeals(t *testing.T) {
	c := newCouncil(t, 1)
	for i := range 6 {
		s := c.sit(fmt.Sprint("s", i))
		for _, o := range c.seats[:i] {
			c.connect(s, o)
			c.settle()
			c.now = c.now.Add(time.Second)
		}
	}
	liar := c.seats[5]
	for round := range maxLies {
		before := c.seats[0].known()
		lie := liar.known()
		lie.Epoch[0] ^= 1
		for o := range liar.fars {
			o.takeKnown(o.fars[liar], &lie, c.now)
		}
		for c.step() {
		}
		if now := c.seats[0].known(); now.Number != before.Number+1 {
			t.Errorf("round %d: the epoch went from %d to %d", round, before.Number, now.Number)
		}
		c.agree()
		c.now = c.now.Add(time.Minute)
	}
	for _, s := range c.seats[:5] {
		if !slices.Equal(s.dismissed, []*seat{liar}) {
			t.Errorf("%s dismissed %d", s.name, len(s.dismissed))
		}
	}
	if len(liar.dismissed) != 0 {
		t.Error("the liar dismissed somebody")
	}
}

// TestCircleOfOrigins: numbers compare modulo 2^32, so a liar can lead two
// members round in a circle; they still end in one epoch.
func TestCircleOfOrigins(t *testing.T) {
	c := newCouncil(t, 1)
	c.lies = true
	x, y, liar := c.sit("x"), c.sit("y"), c.sit("liar")
	var circle []epochMessage
	for i := range uint32(3) {
		secret := c.seats[0].fresh()
		number := 10 + i*1400000000
		circle = append(circle, epochMessage{number, secret, newOrigin(goldRoom(), number, commitment{}, &secret, liar.key)})
	}
	for s, order := range map[*seat][]int{x: {0, 1}, y: {1, 2, 0}} {
		for _, i := range order {
			if _, err := s.take(&circle[i], liar.self, 1, c.now, 0); err != nil {
				t.Fatal(err)
			}
		}
		s.origins = nil
	}
	c.connect(x, y)
	c.settle()
}

// TestLateDepartureCounts: a fresh epoch of somebody who may not have known of
// the latest departure does not settle it.
func TestLateDepartureCounts(t *testing.T) {
	s := newEpochs()
	now := time.Unix(1e9, 0)
	secret := epochSecret{1}
	sign := func(number uint32, parent commitment) origin {
		return newOrigin(goldRoom(), number, parent, &secret, goldKey(1))
	}
	s.renew(now, 0, secret, sign)
	first := s.newest().origin.Commitment
	s.depart(Member{2}, now)
	s.depart(Member{3}, now.Add(16*time.Second))
	other := epochSecret{2}
	m := epochMessage{2, other, newOrigin(goldRoom(), 2, first, &other, goldKey(1))}
	if _, err := s.take(&m, Member{4}, 1, now.Add(17*time.Second), 0); err != nil {
		t.Fatal(err)
	}
	if !s.mustRenew() {
		t.Error("who left a second ago can follow the next ratchet")
	}
}

// TestSkippedEpochsAreHeld: news of an epoch may overtake news of the one
// before, in which somebody may be sending already.
func TestSkippedEpochsAreHeld(t *testing.T) {
	now := time.Unix(1e9, 0)
	for _, steps := range []uint32{1, 3, maxEpochs - 1, 100, maxRatchets} {
		s := newEpochs()
		secret := epochSecret{1}
		s.renew(now, 0, secret, func(number uint32, parent commitment) origin {
			return newOrigin(goldRoom(), number, parent, &secret, goldKey(1))
		})
		if !s.raise(s.newest().origin.Commitment, 1+steps, now, time.Second) {
			t.Fatalf("not raised by %d", steps)
		}
		for i, e := range s.held {
			want, _ := secret.ratchetBy(steps - uint32(i))
			if e.number != 1+steps-uint32(i) || e.secret != want {
				t.Errorf("raised by %d: epoch %d is number %d", steps, i, e.number)
			}
		}
		if want := min(int(steps)+1, maxEpochs); len(s.held) != want {
			t.Errorf("raised by %d: %d epochs are held, want %d", steps, len(s.held), want)
		}
		if s.raise(s.newest().origin.Commitment, 1+maxRatchets+1, now, 0) {
			t.Error("raised over the end of the ratchet")
		}
	}
}

// TestRatchetOfTheIgnorant: somebody who came while a member was dead, but not
// yet gone, knows nothing of its going and lets another in by a ratchet, which
// the dead one's key can follow. Those who know answer with a fresh epoch.
func TestRatchetOfTheIgnorant(t *testing.T) {
	c := newCouncil(t, 1)
	a, b, dead := c.sit("a"), c.sit("b"), c.sit("dead")
	c.connect(a, b)
	c.connect(b, dead)
	c.settle()
	c.now = c.now.Add(time.Minute)
	c.disconnect(b, dead) // killed; nobody knows yet
	n := c.sit("newcomer")
	c.connect(n, a)
	c.settle()
	followed := *a.newest()
	for _, s := range []*seat{a, b} {
		delete(s.roster, dead.entry.Member)
		s.depart(dead.entry.Member, c.now)
	}
	c.seats = slices.DeleteFunc(c.seats, func(s *seat) bool { return s == dead })
	if n.stale() {
		t.Fatal("the newcomer knows: the test sees nothing")
	}
	c.now = c.now.Add(time.Minute)
	last := c.sit("last")
	c.connect(last, n)
	c.settle()
	if got := last.newest().origin; got.Commitment == followed.origin.Commitment {
		t.Error("the dead can follow")
	}
}
