package room

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"teahouse/internal/mesh"
)

// brittle is a network whose sessions' streams can be broken while their
// packets go on, as they do where datagrams have a way of their own.
type brittle struct {
	mesh.Network
	closed atomic.Bool // nobody can open a session

	mu       sync.Mutex
	sessions []*brittleSession
}

func breakable(into **brittle) func(*Config) {
	return func(c *Config) {
		*into = &brittle{Network: c.Network}
		c.Network = *into
	}
}

func (b *brittle) Open(ctx context.Context, p mesh.Peer, door mesh.Door) (mesh.Session, error) {
	if b.closed.Load() {
		return nil, errors.New("no way for streams")
	}
	s, err := b.Network.Open(ctx, p, door)
	if err != nil {
		return nil, err
	}
	return b.wrap(s), nil
}

func (b *brittle) Listen(door mesh.Door, accept func(mesh.Session)) (func(), error) {
	return b.Network.Listen(door, func(s mesh.Session) { accept(b.wrap(s)) })
}

func (b *brittle) wrap(s mesh.Session) mesh.Session {
	w := &brittleSession{Session: s, done: make(chan struct{})}
	b.mu.Lock()
	b.sessions = append(b.sessions, w)
	b.mu.Unlock()
	go func() { // ends with the session below
		<-s.Done()
		w.end(s.Err())
	}()
	return w
}

// shatter breaks the streams of all sessions there are.
func (b *brittle) shatter() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.sessions {
		s.end(errors.New("session broken"))
	}
}

// sent is how many packets have been sent on all sessions.
func (b *brittle) sent() (n uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.sessions {
		n += s.Stats().SentPackets
	}
	return n
}

type brittleSession struct {
	mesh.Session
	done chan struct{}
	mu   sync.Mutex
	err  error
}

func (s *brittleSession) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
		close(s.done)
	}
}

func (s *brittleSession) Done() <-chan struct{} { return s.done }

func (s *brittleSession) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *brittleSession) Send(class mesh.Priority, data []byte) error {
	if s.Err() != nil {
		return mesh.ErrClosed
	}
	return s.Session.Send(class, data)
}

func (s *brittleSession) Start(message func([]byte), packet func([]byte, time.Time)) {
	s.Session.Start(func(data []byte) {
		if s.Err() == nil {
			message(data)
		}
	}, packet)
}

// sessionStates counts a room's sessions by state.
func sessionStates(t *testing.T, r *Room) (n [sessionClosing + 1]int) {
	t.Helper()
	err := r.call(func() {
		for s := range r.sessions {
			n[s.state]++
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestVoiceOutlivesTheStream: when only the stream of a session breaks, nothing
// of what is said is lost, until a new session stands and after.
func TestVoiceOutlivesTheStream(t *testing.T) {
	onStage(t, mesh.MemoryConfig{Wire: mesh.Wire{Latency: 40 * time.Millisecond}}, func(t *testing.T, s *stage) {
		var na, nb *brittle
		a, b := s.enter("a", breakable(&na)), s.enter("b", breakable(&nb))
		s.gather(3 * time.Second)
		events := a.room.Subscribe()
		defer events.Close()
		drain(t, events)
		s.talk(50, a, b)
		na.closed.Store(true)
		nb.closed.Store(true)
		na.shatter()
		time.Sleep(700 * time.Millisecond) // the two sides do not notice at once
		nb.shatter()
		for range 5 { // for 8 of the 15 s: the next dial comes within 5 s
			s.talk(50, a, b)
			if a.room.Hearers() != 1 || b.room.Hearers() != 1 || len(a.room.Links()) != 1 {
				t.Errorf("heard by %d and %d, %d links", a.room.Hearers(), b.room.Hearers(), len(a.room.Links()))
			}
		}
		if n := sessionStates(t, a.room); n[sessionFading] != 1 || n[sessionOpen] != 0 {
			t.Fatalf("sessions by state: %v", n)
		}
		na.closed.Store(false)
		nb.closed.Store(false)
		s.talk(400, a, b)
		wantAll(t, "a hears b", a.numbers(b), 0, b.said)
		wantAll(t, "b hears a", b.numbers(a), 0, a.said)
		for _, p := range []*person{a, b} {
			if n := sessionStates(t, p.room); n[sessionFading] != 0 || n[sessionOpen] != 1 {
				t.Errorf("%s: sessions by state: %v", p.name, n)
			}
		}
		for _, e := range drain(t, events) {
			if e.Kind == EventLink && e.State == stateDown || e.Kind == EventMember && e.State == stateOut {
				t.Errorf("a view was told of %s %s: %s", e.Kind, e.State, e.Reason)
			}
		}
	})
}

// TestBrokenSessionsEnd: the voice of a broken session ends after 15 s where no
// new one stands, although its member is still to be seen by gossip.
func TestBrokenSessionsEnd(t *testing.T) {
	onStage(t, lan, func(t *testing.T, s *stage) {
		var na, nb *brittle
		a, b := s.enter("a", breakable(&na)), s.enter("b", breakable(&nb))
		s.gather(3 * time.Second)
		events := a.room.Subscribe()
		defer events.Close()
		drain(t, events)
		na.closed.Store(true)
		nb.closed.Store(true)
		na.shatter()
		nb.shatter()
		broken := time.Now()
		time.Sleep(brokenFor - 100*time.Millisecond)
		if len(a.room.Links()) != 1 {
			t.Error("the link has ended too early")
		}
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		if len(a.room.Links()) != 0 || len(b.room.Links()) != 0 {
			t.Errorf("links are up %v after the sessions broke", time.Since(broken))
		}
		before := na.sent()
		s.talk(20, a)
		if n := na.sent(); n != before {
			t.Errorf("%d packets were sent after that", n-before)
		}
		if n := len(a.room.Members()); n != 2 {
			t.Errorf("%d members, want b to be seen by gossip", n)
		}
		down := 0
		for _, e := range drain(t, events) {
			if e.Kind == EventLink && e.State == stateDown {
				down++
			}
		}
		if down != 1 {
			t.Errorf("told %d times that the link is down", down)
		}
	})
}

// TestFadingLinksEndWithTheMember: who has left, or fallen silent, gets nothing
// more, although the voice of its broken session had a way; and the link alone
// keeps nobody in the roster for longer than it fades.
func TestFadingLinksEndWithTheMember(t *testing.T) {
	t.Run("left", func(t *testing.T) {
		onStage(t, lan, func(t *testing.T, s *stage) {
			var na, nb *brittle
			a, b := s.enter("a", breakable(&na)), s.enter("b", breakable(&nb))
			s.gather(3 * time.Second)
			time.Sleep(20 * time.Second)
			na.closed.Store(true)
			nb.closed.Store(true)
			na.shatter()
			nb.shatter()
			s.talk(10, a)
			wantAll(t, "b hears a", b.numbers(a), 0, 10)
			// b says goodbye, by gossip as it must, and goes on listening.
			if err := b.room.call(func() {
				b.room.own.Flags |= entryLeaving
				b.room.announceSelf()
			}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
			synctest.Wait()
			before := na.sent()
			s.talk(20, a)
			if n := na.sent(); n != before || len(b.numbers(a)) != 0 || len(a.room.Links()) != 0 {
				t.Errorf("%d packets went to who had left", n-before)
			}
		})
	})
	t.Run("silent", func(t *testing.T) {
		onStage(t, lan, func(t *testing.T, s *stage) {
			var na, nb *brittle
			a := s.enter("a", breakable(&na), func(c *Config) { c.Network = deaf{c.Network} })
			s.enter("b", breakable(&nb), func(c *Config) { c.Network = deaf{c.Network} })
			s.memory.Node(nil)
			s.gather(8 * time.Second)
			na.closed.Store(true)
			nb.closed.Store(true)
			na.shatter() // and with it all entries
			nb.shatter()
			took := s.eventually(brokenFor+presenceGone+time.Second, "b is gone", func() bool { return len(a.room.Members()) == 1 })
			if took <= brokenFor || took > brokenFor+presenceGone || len(a.room.Links()) != 0 {
				t.Errorf("gone after %v, %d links", took, len(a.room.Links()))
			}
			before := na.sent()
			s.talk(20, a)
			if n := na.sent(); n != before {
				t.Errorf("%d packets went to who is not in the roster", n-before)
			}
		})
	})
}

// TestReplacedWithoutAGap: when a session gives way to a new one, on either
// side's wish, no frame is lost, over wires on which packets overtake the
// stream; and for no longer than that is anything sent twice.
func TestReplacedWithoutAGap(t *testing.T) {
	for _, opens := range []int{0, 1} {
		onStage(t, mesh.MemoryConfig{Wire: mesh.Wire{Latency: 60 * time.Millisecond, Jitter: 30 * time.Millisecond}}, func(t *testing.T, s *stage) {
			a, b := s.enter("a"), s.enter("b")
			s.gather(3 * time.Second)
			for range 5 {
				s.talk(600, a, b) // longer than pairWindow
				from, to := s.people[opens], s.people[1-opens]
				n, err := from.node.Open(t.Context(), to.node.Self(), s.secret.door())
				if err != nil {
					t.Fatal(err)
				}
				from.room.adopt(n)
			}
			s.talk(100, a, b)
			// Jitter is longer than the distance of frames, so order is not kept.
			for _, pair := range [][2]*person{{a, b}, {b, a}} {
				if lost := gaps(pair[0].numbers(pair[1]), 0, pair[1].said); len(lost) != 0 {
					t.Errorf("%s lost %v of %s", pair[0].name, lost, pair[1].name)
				}
			}
			for _, p := range s.people {
				if n := sessionStates(t, p.room); n[sessionFading] != 0 || n[sessionOpen] != 1 {
					t.Errorf("%s: sessions by state: %v", p.name, n)
				}
				if replayed := p.room.Stats().FramesReplayed; replayed == 0 || replayed > 5*100 {
					t.Errorf("%s got %d frames twice", p.name, replayed)
				}
			}
		})
	}
}

// TestFadingPathsAreNotTold: what becomes of the path of a session that another
// one has taken the place of is not told as the member's.
func TestFadingPathsAreNotTold(t *testing.T) {
	onStage(t, lan, func(t *testing.T, s *stage) {
		a, b := s.enter("a"), s.enter("b")
		s.gather(3 * time.Second)
		events := a.room.Subscribe()
		defer events.Close()
		s.talk(600, a, b) // longer than pairWindow
		n, err := a.node.Open(t.Context(), b.node.Self(), s.secret.door())
		if err != nil {
			t.Fatal(err)
		}
		a.room.adopt(n)
		for range 100 {
			if n := sessionStates(t, a.room); n[sessionFading] == 1 && n[sessionOpen] == 1 && n[sessionGreeting] == 0 {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
		drain(t, events)
		changes := func(state sessionState) (told int) {
			if err := a.room.call(func() {
				for o := range a.room.sessions {
					if o.state == state {
						a.room.pathChanged(o, mesh.Path{Carrier: mesh.Relayed}, true)
					}
				}
			}); err != nil {
				t.Fatal(err)
			}
			for _, e := range drain(t, events) {
				if e.Kind == EventLink {
					told++
				}
			}
			return told
		}
		if n := sessionStates(t, a.room); n[sessionFading] != 1 || n[sessionOpen] != 1 {
			t.Fatalf("sessions by state: %v", n)
		}
		if n := changes(sessionFading); n != 0 {
			t.Errorf("the path of the session that fades was told %d times", n)
		}
		if n := changes(sessionOpen); n != 1 {
			t.Errorf("the path of the session that stands was told %d times", n)
		}
	})
}

// TestFadingIsBounded: who opens sessions without end is not sent everything
// many times.
func TestFadingIsBounded(t *testing.T) {
	onStage(t, lan, func(t *testing.T, s *stage) {
		a := s.enter("a")
		x := s.intrude(s.secret, func(x *intruder, n mesh.Session) {
			p := x.proof(n)
			none := (&knownMessage{}).appendMessage(nil)
			x.send(n, p.appendMessage(nil), x.entry().appendMessage(nil), none)
		})
		for range 30 {
			time.Sleep(pairWindow / 10)
			n, err := x.node.Open(t.Context(), a.node.Self(), s.secret.door())
			if err != nil {
				continue
			}
			n.Start(func([]byte) {}, func([]byte, time.Time) {})
			p := x.proof(n)
			e := x.entry()
			e.Sequence = uint64(time.Now().Unix())
			if err := e.sign(x.secret.ID(), x.key, x.node.SignAsHost); err != nil {
				t.Fatal(err)
			}
			x.send(n, p.appendMessage(nil), e.appendMessage(nil), (&knownMessage{}).appendMessage(nil))
			synctest.Wait()
			if n := sessionStates(t, a.room); n[sessionFading] > 1 || n[sessionOpen] > 1 {
				t.Fatalf("sessions by state: %v", n)
			}
		}
	})
}

// TestReportsAreSignsOfLife: whose entries wait in a dead stream is here as
// long as reports come by the session's voice, and gone 14 s after the last.
func TestReportsAreSignsOfLife(t *testing.T) {
	onStage(t, lan, func(t *testing.T, s *stage) {
		a, b := s.enter("a"), s.enter("b")
		s.gather(8 * time.Second)
		for range 20 { // as if no entry had come for long
			a.room.post(nil, func() {
				for _, p := range a.room.roster.present {
					p.until = time.Now()
				}
				a.room.wake()
			})
			time.Sleep(200 * time.Millisecond)
			synctest.Wait()
			if n := len(a.room.Members()); n != 2 {
				t.Fatalf("%d members", n)
			}
		}
		s.memory.Kill(b.node.Self().ID)
		took := s.eventually(presenceGone+time.Second, "b is gone", func() bool { return len(a.room.Members()) == 1 })
		if took > presenceGone || took < presenceGone-2*reportEvery {
			t.Errorf("gone %v after it was killed", took)
		}
	})
}
