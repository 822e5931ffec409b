package room

import (
	"crypto/ed25519"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"teahouse/internal/mesh"
)

// intruder is a node that speaks the protocol by hand, and notes all it gets.
type intruder struct {
	stage  *stage
	node   *mesh.MemoryNode
	key    ed25519.PrivateKey
	secret Secret

	mu         sync.Mutex
	sessions   []mesh.Session
	messages   map[mesh.Session][][]byte
	packets    int
	broadcasts [][]byte
}

// intrude subscribes to everything, provides, listens and dials everyone; with
// each session it does what act says.
func (s *stage) intrude(secret Secret, act func(x *intruder, n mesh.Session)) *intruder {
	s.t.Helper()
	x := &intruder{
		stage: s, node: s.memory.Node(nil), key: testKey("mallory"), secret: secret,
		messages: make(map[mesh.Session][][]byte),
	}
	take := func(n mesh.Session) {
		x.mu.Lock()
		x.sessions = append(x.sessions, n)
		x.mu.Unlock()
		n.Start(func(data []byte) {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.messages[n] = append(x.messages[n], slices.Clone(data))
		}, func([]byte, time.Time) {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.packets++
		})
		act(x, n)
	}
	door := secret.door()
	if _, err := x.node.Listen(door, take); err != nil {
		s.t.Fatal(err)
	}
	_, topics := secret.gossipTopics(time.Now())
	for i, topic := range topics {
		joined, err := x.node.Join(topic, nil, func(_ mesh.PeerID, data []byte) {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.broadcasts = append(x.broadcasts, slices.Clone(data))
		})
		if err != nil {
			s.t.Fatal(err)
		}
		if i == 0 { // so that the others dial it
			if err := joined.Publish(newBeaconBox(&secret).seal(topic, x.node.Self())); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	time.Sleep(time.Second)
	key := secret.dhtKeyAt(time.Now())
	if err := x.node.Provide(s.t.Context(), key); err != nil {
		s.t.Fatal(err)
	}
	for _, p := range s.present() {
		n, err := x.node.Open(s.t.Context(), p.node.Self(), door)
		if err == nil {
			take(n)
		} else if !errors.Is(err, mesh.ErrRefused) {
			s.t.Fatal(err)
		}
	}
	return x
}

func (x *intruder) entry() *entry {
	e := &entry{Peer: x.node.Self().ID, Instance: 1, Salt: newSalt(), Sequence: 1, Nick: "mallory"}
	if err := e.sign(x.secret.ID(), x.key, x.node.SignAsHost); err != nil {
		x.stage.t.Error(err)
	}
	return e
}

func (x *intruder) proof(n mesh.Session) proof {
	role := uint8(roleResponder)
	if n.Initiator() {
		role = roleInitiator
	}
	return newProof(x.secret.ID(), role, n.Binding(), x.key)
}

func (x *intruder) send(n mesh.Session, messages ...[]byte) {
	for _, m := range messages {
		_ = n.Send(mesh.Urgent, m) // refused once the session has ended, as it should
	}
}

// got counts the messages of a kind.
func (x *intruder) got(kind uint8) (n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, messages := range x.messages {
		for _, m := range messages {
			if m[0] == kind {
				n++
			}
		}
	}
	return n
}

// stolen is the first message of a kind that the intruder was sent on another
// session than this.
func (x *intruder) stolen(kind uint8, not mesh.Session) []byte {
	x.mu.Lock()
	defer x.mu.Unlock()
	for n, messages := range x.messages {
		for _, m := range messages {
			if n != not && m[0] == kind {
				return m
			}
		}
	}
	if not.Initiator() {
		x.stage.t.Error("there was nothing to steal")
	}
	return nil
}

// TestNobodyHearsUnseen is promise P2: whoever is not shown in the roster is
// handed no epoch and not one packet of voice, whatever it does.
func TestNobodyHearsUnseen(t *testing.T) {
	none := (&knownMessage{}).appendMessage(nil)
	forged := func(x *intruder, change func(*entry)) []byte {
		e := x.entry()
		change(e)
		return e.appendMessage(nil)
	}
	tests := []struct {
		name string
		act  func(x *intruder, n mesh.Session)
		seen bool // the control: it shows itself, is seen, and hears
	}{
		{name: "says nothing", act: func(*intruder, mesh.Session) {}},
		{name: "proves but shows no entry", act: func(x *intruder, n mesh.Session) {
			p := x.proof(n)
			x.send(n, p.appendMessage(nil), none)
		}},
		{name: "shows an entry but proves nothing", act: func(x *intruder, n mesh.Session) {
			x.send(n, x.entry().appendMessage(nil), none)
		}},
		{name: "signs its entry wrongly", act: func(x *intruder, n mesh.Session) {
			p := x.proof(n)
			x.send(n, p.appendMessage(nil), forged(x, func(e *entry) { e.MemberSig[3] ^= 1 }), none)
		}},
		{name: "has no host's signature", act: func(x *intruder, n mesh.Session) {
			p := x.proof(n)
			x.send(n, p.appendMessage(nil), forged(x, func(e *entry) { e.HostSig[3] ^= 1 }), none)
		}},
		{name: "claims another's peer id", act: func(x *intruder, n mesh.Session) {
			p, e := x.proof(n), x.entry()
			e.Peer = x.stage.people[0].node.Self().ID
			if err := e.sign(x.secret.ID(), x.key, x.node.SignAsHost); err != nil {
				x.stage.t.Error(err)
			}
			x.send(n, p.appendMessage(nil), e.appendMessage(nil), none)
		}},
		{name: "proves the wrong role", act: func(x *intruder, n mesh.Session) {
			role := uint8(roleInitiator)
			if n.Initiator() {
				role = roleResponder
			}
			p := newProof(x.secret.ID(), role, n.Binding(), x.key)
			x.send(n, p.appendMessage(nil), x.entry().appendMessage(nil), none)
		}},
		{name: "proves for another room", act: func(x *intruder, n mesh.Session) {
			role := uint8(roleResponder)
			if n.Initiator() {
				role = roleInitiator
			}
			p := newProof(ID{1}, role, n.Binding(), x.key)
			x.send(n, p.appendMessage(nil), x.entry().appendMessage(nil), none)
		}},
		{name: "plays again what another proved", act: func(x *intruder, n mesh.Session) {
			if p, e := x.stolen(kindProof, n), x.stolen(kindEntry, n); p != nil {
				x.send(n, p, e, none)
			}
		}},
		{name: "proves as itself and shows another's entry", act: func(x *intruder, n mesh.Session) {
			p := x.proof(n)
			if e := x.stolen(kindEntry, n); e != nil {
				x.send(n, p.appendMessage(nil), e, none)
			}
		}},
		{name: "says that it leaves", act: func(x *intruder, n mesh.Session) {
			p, e := x.proof(n), x.entry()
			e.Flags = entryLeaving
			if err := e.sign(x.secret.ID(), x.key, x.node.SignAsHost); err != nil {
				x.stage.t.Error(err)
			}
			x.send(n, p.appendMessage(nil), e.appendMessage(nil), none)
		}},
		{name: "hands out an epoch of its own", act: func(x *intruder, n mesh.Session) {
			fresh := newEpochSecret()
			m := epochMessage{1 << 20, fresh, newOrigin(x.secret.ID(), 1<<20, commitment{}, &fresh, x.key)}
			x.send(n, m.appendMessage(nil), none)
		}},
		{name: "says that it knows the epoch", act: func(x *intruder, n mesh.Session) {
			if known := x.stolen(kindKnown, n); known != nil {
				x.send(n, known)
			}
		}},
		{name: "shows itself", seen: true, act: func(x *intruder, n mesh.Session) {
			p := x.proof(n)
			x.send(n, p.appendMessage(nil), x.entry().appendMessage(nil), none)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			onStage(t, lan, func(t *testing.T, s *stage) {
				a, b := s.enter("a"), s.enter("b")
				s.gather(3 * time.Second)
				x := s.intrude(s.secret, tt.act)
				before := a.room.Stats().Epoch
				for range 3 { // it is dialled too, and again
					time.Sleep(2 * time.Second)
					s.talk(50, a, b)
				}
				if tt.seen {
					if len(a.room.Members()) != 3 || x.got(kindEpoch) == 0 || x.packets == 0 {
						t.Fatalf("the control is not a member: %d members, %d EPOCH, %d packets",
							len(a.room.Members()), x.got(kindEpoch), x.packets)
					}
					return
				}
				for _, kind := range []uint8{kindEpoch, kindAdmit, kindPeers} {
					if n := x.got(kind); n != 0 {
						t.Errorf("it was sent %d messages of kind %d", n, kind)
					}
				}
				if x.packets != 0 {
					t.Errorf("it was sent %d packets", x.packets)
				}
				if n := len(a.room.Members()); n != 2 {
					t.Errorf("%d members are shown", n)
				}
				if a.room.Stats().Epoch != before {
					t.Error("it moved the epoch")
				}
				// What it was shown as a listener by those who dialled it is a
				// PROOF, an ENTRY and a KNOWN each, and those who were dialled
				// answered nothing.
				for n, messages := range x.messages {
					if n.Initiator() && len(messages) != 0 {
						t.Errorf("a responder said %d messages of kind %d", len(messages), messages[0][0])
					}
				}
				wantAll(t, "b hears a", b.numbers(a), 0, a.said)
				x.wantNoVoiceIn(t, a, b)
			})
		})
	}
}

// wantNoVoiceIn checks that no broadcast opens under a key that follows from
// the room's secret, but the beacons.
func (x *intruder) wantNoVoiceIn(t *testing.T, people ...*person) {
	t.Helper()
	box, rosters := newBeaconBox(&x.secret), 0
	topic, _ := x.secret.gossipTopics(time.Now())
	for _, data := range x.broadcasts {
		if !isBeacon(data) {
			rosters++
			continue
		}
		known := slices.ContainsFunc(people, func(p *person) bool {
			_, err := box.open(topic, p.node.Self().ID, data)
			return err == nil
		})
		if !known {
			t.Error("a beacon of somebody unknown")
		}
	}
	if rosters == 0 {
		t.Error("no sealed roster was seen: the test sees nothing")
	}
}

// TestWithoutTheTopic: who does not know the room's secret learns nothing from
// trying.
func TestWithoutTheTopic(t *testing.T) {
	onStage(t, lan, func(t *testing.T, s *stage) {
		a, b := s.enter("a"), s.enter("b")
		s.gather(3 * time.Second)
		x := s.intrude(Secret{6, 6, 6}, func(x *intruder, n mesh.Session) {
			p := x.proof(n)
			x.send(n, p.appendMessage(nil), x.entry().appendMessage(nil))
		})
		s.talk(500, a, b)
		if len(x.sessions) != 0 || len(x.broadcasts) != 0 || x.packets != 0 {
			t.Errorf("%d sessions, %d broadcasts, %d packets", len(x.sessions), len(x.broadcasts), x.packets)
		}
	})
}

// TestMisbehaviourIsAnswered: malformed messages end the session and cost the
// peer its standing; strange ones are dropped and counted.
func TestMisbehaviourIsAnswered(t *testing.T) {
	tests := []struct {
		name     string
		message  []byte
		penalty  bool
		sessions int // that are still open
	}{
		{"a cut PROOF", []byte{kindProof, 1, 2}, true, 0},
		{"a cut EPOCH", []byte{kindEpoch}, true, 0},
		{"a cut KNOWN", []byte{kindKnown, 0}, true, 0},
		{"too many peers", []byte{kindPeers, 17}, true, 0},
		{"an unknown kind", []byte{200, 1, 2, 3}, false, 1},
		{"a keep-alive", nil, false, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			onStage(t, lan, func(t *testing.T, s *stage) {
				a := s.enter("a")
				x := s.intrude(s.secret, func(x *intruder, n mesh.Session) {
					if n.Initiator() {
						x.send(n, tt.message)
					}
				})
				time.Sleep(time.Second)
				synctest.Wait()
				open := 0
				for _, n := range x.sessions {
					if n.Initiator() && n.Err() == nil {
						open++
					}
				}
				if open != tt.sessions {
					t.Errorf("%d sessions are open, want %d", open, tt.sessions)
				}
				if got := a.node.Penalties(x.node.Self().ID); (got > 0) != tt.penalty {
					t.Errorf("penalised %d times", got)
				}
				if st := a.room.Stats(); (st.MessagesBad > 0) != (tt.message != nil) {
					t.Errorf("%d bad messages were counted", st.MessagesBad)
				}
			})
		})
	}
}

// TestSilentSessionsAreClosed: a session that does not say who it is ends, and
// one peer cannot hold many.
func TestSilentSessionsAreClosed(t *testing.T) {
	onStage(t, lan, func(t *testing.T, s *stage) {
		a := s.enter("a")
		x := s.intrude(s.secret, func(*intruder, mesh.Session) {})
		for range 5 {
			if n, err := x.node.Open(t.Context(), a.node.Self(), x.secret.door()); err == nil {
				x.mu.Lock()
				x.sessions = append(x.sessions, n)
				x.mu.Unlock()
			}
		}
		time.Sleep(time.Second)
		open := func() (n int) {
			x.mu.Lock()
			defer x.mu.Unlock()
			for _, s := range x.sessions {
				if s.Initiator() && s.Err() == nil {
					n++
				}
			}
			return n
		}
		if n := open(); n > 1 {
			t.Errorf("one peer holds %d sessions without a word", n)
		}
		time.Sleep(greetingTime + time.Second)
		if n := open(); n != 0 {
			t.Errorf("%d sessions are open after %v without a word", n, greetingTime)
		}
	})
}

// TestBadBroadcasts: what is not sealed right is not passed on.
func TestBadBroadcasts(t *testing.T) {
	onStage(t, lan, func(t *testing.T, s *stage) {
		a, b := s.enter("a"), s.enter("b")
		s.gather(3 * time.Second)
		x := s.intrude(s.secret, func(*intruder, mesh.Session) {})
		topic, _ := s.secret.gossipTopics(time.Now())
		box := newBeaconBox(&x.secret)
		good := box.seal(topic, x.node.Self())
		bad := [][]byte{
			{},
			{1},
			{9, 9},
			good[:len(good)-1],
			box.seal("another topic", x.node.Self()),
			box.seal(topic, a.node.Self()), // of somebody else
		}
		before := b.room.Stats().BroadcastsBad
		for _, data := range bad {
			if b.room.validBroadcast(topic, x.node.Self().ID, data) == mesh.Accept {
				t.Errorf("a bad broadcast of %d bytes passed", len(data))
			}
		}
		if got := b.room.Stats().BroadcastsBad - before; got != uint64(len(bad)) {
			t.Errorf("%d counted, want %d", got, len(bad))
		}
		if b.room.validBroadcast(topic, a.node.Self().ID, good) != mesh.Reject {
			t.Error("who brought a bad beacon was not held to it")
		}
		if b.room.validBroadcast(topic, x.node.Self().ID, good) != mesh.Accept {
			t.Error("a good beacon did not pass")
		}
		// A sealed roster under our epoch, by somebody else than it names.
		var sealed []byte
		e := x.entry()
		err := a.room.call(func() { sealed = newRosterBox(&a.room.handing.newest().secret).seal(topic, e) })
		if err != nil {
			t.Fatal(err)
		}
		if b.room.validBroadcast(topic, x.node.Self().ID, sealed) != mesh.Accept {
			t.Error("a good sealed roster did not pass")
		}
		if b.room.validBroadcast(topic, a.node.Self().ID, sealed) != mesh.Ignore {
			t.Error("a sealed roster of another than its sender passed")
		}
		// Of epochs that we do not hold a few pass, many do not.
		unknown := newEpochSecret()
		strange, passed := newRosterBox(&unknown).seal(topic, e), 0
		for range 1000 {
			switch b.room.validBroadcast(topic, x.node.Self().ID, strange) {
			case mesh.Accept:
				passed++
			case mesh.Reject:
				t.Fatal("who passes on the epochs of others was held to it")
			}
		}
		if passed == 0 || passed > 120 {
			t.Errorf("%d of 1000 broadcasts under an unknown epoch passed", passed)
		}
	})
}

// TestReplayedEntriesDoNotSupersede: what others show of our own key is no sign of life of
// another instance: it must not throw us out.
func TestReplayedEntriesDoNotSupersede(t *testing.T) {
	onStage(t, lan, func(t *testing.T, s *stage) {
		a := s.enter("a")
		b := s.enter("b", func(c *Config) { c.Instance = 5 })
		s.gather(3 * time.Second)
		old := entry{Peer: a.node.Self().ID, Instance: 9, Salt: newSalt(), Sequence: 3, Nick: "b"}
		if err := old.sign(b.room.id, b.cfg.Key, a.node.SignAsHost); err != nil {
			t.Fatal(err)
		}
		err := a.room.call(func() { // a plays what b said long ago, before b's home was restored
			known := a.room.handing.known()
			m := admitMessage{Number: known.Number, Commitment: known.Commitment, Entry: old}
			for n := range a.room.sessions {
				n.send(mesh.Urgent, m.appendMessage(nil))
				n.send(mesh.Urgent, old.appendMessage(nil))
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if err := b.room.Err(); err != nil {
			t.Fatalf("b was thrown out: %v", err)
		}
		time.Sleep(2 * presenceGone)
		s.gather(10 * time.Second)
		if !slices.Equal(b.raised, []uint64{10}) {
			t.Errorf("raised %v, want 10: above what was shown", b.raised)
		}
	})
}

// TestOwnWordWins: what members say of others does not replace what these say
// of themselves, and is bounded.
func TestOwnWordWins(t *testing.T) {
	onStage(t, lan, func(t *testing.T, s *stage) {
		a, b := s.enter("a"), s.enter("b")
		s.gather(3 * time.Second)
		time.Sleep(time.Minute)
		var junk []mesh.Peer
		for i := range byte(200) {
			junk = append(junk, mesh.Peer{ID: mesh.PeerIDOf(goldKey(i).Public().(ed25519.PublicKey)), Addrs: []mesh.Addr{"/memory/junk"}})
		}
		s.intrude(s.secret, func(x *intruder, n mesh.Session) {
			p := x.proof(n)
			none := (&knownMessage{}).appendMessage(nil)
			x.send(n, p.appendMessage(nil), x.entry().appendMessage(nil), none)
			if n.Peer() != a.node.Self().ID {
				return
			}
			time.Sleep(50 * time.Millisecond) // until it is a member
			x.send(n, appendPeersMessage(nil, []mesh.Peer{{ID: b.node.Self().ID, Addrs: []mesh.Addr{"/memory/trap"}}}))
			for i := 0; i < len(junk); i += maxPeers {
				x.send(n, appendPeersMessage(nil, junk[i:min(i+maxPeers, len(junk))]))
			}
		})
		time.Sleep(2 * time.Second)
		synctest.Wait()
		err := a.room.call(func() {
			if c := a.room.seeking.candidates[b.node.Self().ID]; c == nil || !slices.Equal(c.addrs, b.node.Self().Addrs) {
				t.Errorf("a knows b as %+v", c)
			}
			named := 0
			for _, c := range a.room.seeking.candidates {
				if slices.Contains(c.addrs, "/memory/junk") {
					named++
				}
			}
			if named == 0 || named > hearsayBurst+5 {
				t.Errorf("a took %d of %d peers on one member's word", named, len(junk))
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

// TestGreetingsMakeRoom: peers that say nothing do not keep others out.
func TestGreetingsMakeRoom(t *testing.T) {
	onStage(t, lan, func(t *testing.T, s *stage) {
		a := s.enter("a")
		for range 2 * maxGreeting {
			n, err := s.memory.Node(nil).Open(s.t.Context(), a.node.Self(), s.secret.door())
			if err != nil {
				t.Fatal(err)
			}
			n.Start(func([]byte) {}, func([]byte, time.Time) {})
		}
		synctest.Wait()
		b := s.enter("b")
		s.gather(time.Second)
		s.talk(5, b)
		wantAll(t, "a hears b", a.numbers(b), 0, 5)
	})
}

// TestTooManyWordsBeforeTheGreeting: each costs a verification.
func TestTooManyWordsBeforeTheGreeting(t *testing.T) {
	onStage(t, lan, func(t *testing.T, s *stage) {
		a := s.enter("a")
		none := (&knownMessage{}).appendMessage(nil)
		x := s.intrude(s.secret, func(x *intruder, n mesh.Session) {
			for range greetingMost + 1 {
				x.send(n, none)
			}
		})
		time.Sleep(time.Second)
		synctest.Wait()
		for _, n := range x.sessions {
			if n.Initiator() && n.Err() == nil {
				t.Error("the session is still open")
			}
		}
		if a.node.Penalties(x.node.Self().ID) == 0 {
			t.Error("not penalised")
		}
	})
}
