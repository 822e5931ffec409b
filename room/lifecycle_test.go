package room

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"teahouse/internal/mesh"
)

func TestLeaving(t *testing.T) {
	onStage(t, lan, func(t *testing.T, s *stage) {
		a, b, c := s.enter("a"), s.enter("b"), s.enter("c")
		s.gather(3 * time.Second)
		events := a.room.Subscribe()
		defer events.Close()
		start := time.Now()
		b.leave()
		took := s.eventually(time.Second, "b is gone", func() bool {
			return len(a.room.Members()) == 2 && len(c.room.Members()) == 2 && len(a.room.Links()) == 1
		})
		if d := took + time.Since(start); d > time.Second {
			t.Errorf("gone after %v", d)
		}
		var out, down bool
		for _, e := range drain(t, events) {
			out = out || e.Kind == EventMember && e.Member == b.member() && e.State == stateOut
			down = down || e.Kind == EventLink && e.Member == b.member() && e.State == stateDown
		}
		if !out || !down {
			t.Errorf("events of b's going: out %v, link down %v", out, down)
		}
		s.talk(20, a, c)
		wantAll(t, "c hears a", c.numbers(a), 0, 20)
		// b comes back as a new instance of itself.
		b2 := s.enterOn(b.node, "b", func(c *Config) { c.Instance = 2 })
		s.gather(3 * time.Second)
		s.talk(20, b2)
		wantAll(t, "a hears b again", a.numbers(b2), 0, 20)
	})
}

// TestKilled: the others hear no gap, and the dead is gone within 15 s of the
// last sign of it.
func TestKilled(t *testing.T) {
	onStage(t, lan, func(t *testing.T, s *stage) {
		a, b, c := s.enter("a"), s.enter("b"), s.enter("c")
		s.gather(3 * time.Second)
		s.talk(10, a, c)
		b.kill()
		start := time.Now()
		for len(a.room.Members()) > 2 || len(c.room.Members()) > 2 {
			s.talk(1, a, c)
			if time.Since(start) > presenceGone+time.Second {
				t.Fatal("the dead is still shown")
			}
		}
		t.Logf("gone after %v", time.Since(start))
		wantAll(t, "c hears a", c.numbers(a), 0, a.said)
		wantAll(t, "a hears c", a.numbers(c), 0, c.said)
		before := a.room.Stats().Epoch
		d := s.enter("d")
		s.gather(3 * time.Second)
		s.talk(5, d)
		if a.room.Stats().Epoch <= before {
			t.Error("the epoch did not change when somebody came")
		}
		a.room.call(func() {
			if o := a.room.handing.newest().origin; o.Number <= before {
				t.Errorf("after a departure the next epoch was a ratchet of %d, not fresh", o.Number)
			}
		})
	})
}

// TestDeadAreNotShownAnew: members of a group that meets another do not let in
// somebody who has died meanwhile, whom the others would show for twice as
// long.
func TestDeadAreNotShownAnew(t *testing.T) {
	shown := 0
	for seed := range uint64(24) {
		onStage(t, mesh.MemoryConfig{Seed: seed, Wire: lan.Wire}, func(t *testing.T, s *stage) {
			var nodes []*mesh.MemoryNode
			for range 4 {
				nodes = append(nodes, s.memory.Node(nil))
			}
			s.memory.Partition([]mesh.PeerID{nodes[0].Self().ID, nodes[1].Self().ID})
			for i, n := range nodes {
				s.enterOn(n, fmt.Sprint("p", i))
			}
			time.Sleep(10 * time.Second)
			a, dead := s.people[0], s.people[1]
			dead.kill()
			killed := time.Now()
			time.Sleep(time.Duration(seed) * 500 * time.Millisecond) // a shows it still, for the most part
			s.memory.Heal()
			sees := func(p *person) bool {
				return slices.ContainsFunc(p.room.Members(), func(m MemberInfo) bool { return m.Member == dead.member() })
			}
			for ; time.Since(killed) < 40*time.Second; time.Sleep(50 * time.Millisecond) {
				for _, p := range s.present() {
					if !sees(p) {
						continue
					}
					if p != a {
						shown++
					}
					if took := time.Since(killed); took > 15*time.Second {
						t.Fatalf("%s shows the dead after %v", p.name, took)
					}
				}
			}
			s.gather(0)
		})
	}
	if shown == 0 {
		t.Error("nobody was told of the dead at all: this shows nothing")
	}
}

// TestRestartAfterKill: the same home starts again, on a new peer id and on
// the same one, before the others have noticed its death.
func TestRestartAfterKill(t *testing.T) {
	for _, sameNode := range []bool{false, true} {
		t.Run(fmt.Sprintf("same peer id %v", sameNode), func(t *testing.T) {
			onStage(t, lan, func(t *testing.T, s *stage) {
				key := testKey("node of b")
				a, b := s.enter("a"), s.enterOn(s.memory.Node(key), "b")
				s.gather(3 * time.Second)
				s.talk(30, a, b)
				wantAll(t, "a hears b", a.numbers(b), 0, 30)
				b.kill()
				time.Sleep(time.Second)
				if !sameNode {
					key = nil
				}
				b2 := s.enterOn(s.memory.Node(key), "b", func(c *Config) { c.Instance = 2 })
				t.Logf("together after %v", s.gather(3*time.Second))
				s.forget()
				s.talk(30, a, b2)
				wantAll(t, "a hears b", a.numbers(b2), 0, 30)
				if len(b2.raised) != 0 {
					t.Errorf("the instance number was raised: %v", b2.raised)
				}
			})
		})
	}
}

// TestTwoLiveInstances: the newer one stays, the older one says so and leaves.
func TestTwoLiveInstances(t *testing.T) {
	onStage(t, lan, func(t *testing.T, s *stage) {
		a, b := s.enter("a"), s.enter("b")
		s.gather(3 * time.Second)
		events := b.room.Subscribe()
		b2 := s.enter("b", func(c *Config) { c.Instance = 2 })
		s.eventually(3*time.Second, "the older has left", func() bool { return errors.Is(b.room.Err(), ErrSuperseded) })
		b.gone = true
		s.gather(3 * time.Second)
		s.talk(20, a, b2)
		wantAll(t, "a hears the newer", a.numbers(b2), 0, 20)
		var said, left bool
		for _, e := range drain(t, events) {
			said = said || e.Kind == EventError && e.Code == "superseded"
			left = left || e.Kind == EventLeft && errors.Is(e.Err, ErrSuperseded)
		}
		if !said || !left {
			t.Errorf("events at the older: error %v, left %v", said, left)
		}
	})
}

// TestStaleHome: a home that was restored from an old copy is shown a higher
// instance. Alive, that one keeps the place; dead, ours takes the next number.
func TestStaleHome(t *testing.T) {
	t.Run("the other lives", func(t *testing.T) {
		onStage(t, lan, func(t *testing.T, s *stage) {
			a, b := s.enter("a"), s.enter("b", func(c *Config) { c.Instance = 9 })
			s.gather(3 * time.Second)
			stale := s.enter("b", func(c *Config) { c.Instance = 5 })
			s.eventually(20*time.Second, "the stale one gives way", func() bool { return errors.Is(stale.room.Err(), ErrSuperseded) })
			stale.gone = true
			s.gather(time.Second)
			s.forget()
			s.talk(10, a, b)
			wantAll(t, "a hears b", a.numbers(b), 0, 10)
			if len(stale.raised) != 0 {
				t.Errorf("raised %v", stale.raised)
			}
		})
	})
	t.Run("the other was killed", func(t *testing.T) {
		onStage(t, lan, func(t *testing.T, s *stage) {
			a, b := s.enter("a"), s.enter("b", func(c *Config) { c.Instance = 9 })
			s.gather(3 * time.Second)
			b.kill()
			stale := s.enter("b", func(c *Config) { c.Instance = 5 })
			t.Logf("together after %v", s.gather(40*time.Second))
			if !slices.Equal(stale.raised, []uint64{10}) {
				t.Errorf("raised %v, want 10 once", stale.raised)
			}
			s.talk(10, a, stale)
			wantAll(t, "a hears b", a.numbers(stale), 0, 10)
		})
	})
	t.Run("the other has left", func(t *testing.T) {
		onStage(t, lan, func(t *testing.T, s *stage) {
			a, b := s.enter("a"), s.enter("b", func(c *Config) { c.Instance = 9 })
			s.gather(3 * time.Second)
			b.leave()
			stale := s.enter("b", func(c *Config) { c.Instance = 5 })
			if took := s.gather(5 * time.Second); took > 3*time.Second {
				t.Errorf("took %v", took)
			}
			if !slices.Equal(stale.raised, []uint64{10}) {
				t.Errorf("raised %v, want 10 once", stale.raised)
			}
			s.talk(10, a, stale)
			wantAll(t, "a hears b", a.numbers(stale), 0, 10)
		})
	})
	t.Run("the number cannot be stored", func(t *testing.T) {
		onStage(t, lan, func(t *testing.T, s *stage) {
			s.enter("a")
			b := s.enter("b", func(c *Config) { c.Instance = 9 })
			s.gather(3 * time.Second)
			b.leave()
			full := errors.New("disk full")
			stale := s.enter("b", func(c *Config) {
				c.Instance = 5
				c.RaiseInstance = func(uint64) error { return full }
			})
			s.eventually(5*time.Second, "it leaves", func() bool { return errors.Is(stale.room.Err(), full) })
		})
	})
}

// TestCopiedHome: two copies of one home took the same instance number. One of
// them takes a higher one and stays.
func TestCopiedHome(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			onStage(t, mesh.MemoryConfig{Seed: seed, Wire: lan.Wire}, func(t *testing.T, s *stage) {
				random := rand.New(rand.NewPCG(seed, 2))
				a := s.enter("a")
				c := s.enter("c")
				one := s.enter("b", func(c *Config) { c.Instance = 3 })
				time.Sleep(time.Duration(random.IntN(1000)) * time.Millisecond)
				two := s.enter("b", func(c *Config) { c.Instance = 3 })
				ended := func(p *person) bool { return errors.Is(p.room.Err(), ErrSuperseded) }
				s.eventually(30*time.Second, "one of the two has left", func() bool { return ended(one) != ended(two) })
				one.gone, two.gone = ended(one), ended(two)
				s.gather(10 * time.Second)
				stays := one
				if one.gone {
					stays = two
				}
				s.forget()
				s.talk(10, a, stays)
				wantAll(t, "c hears b", c.numbers(stays), stays.said-10, stays.said)
			})
		})
	}
}

// TestConverge: people join at once, over wires of any length, and are soon in
// one epoch, whoever founded.
func TestConverge(t *testing.T) {
	seeds := uint64(100)
	if brief() {
		seeds = 10
	}
	var worst time.Duration
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 3))
			cfg := mesh.MemoryConfig{Seed: seed, Wire: mesh.Wire{
				Latency: time.Duration(1+random.IntN(60)) * time.Millisecond,
				Jitter:  time.Duration(random.IntN(40)) * time.Millisecond,
				Loss:    random.Float64() * 0.2,
			}}
			onStage(t, cfg, func(t *testing.T, s *stage) {
				n := 2 + random.IntN(6)
				for i := range n {
					s.enter(fmt.Sprint("p", i))
					if random.IntN(2) == 0 {
						time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond)
					}
				}
				took := s.gather(10 * time.Second)
				worst = max(worst, took)
				s.talk(10, s.people...)
				for _, p := range s.people {
					if st := p.room.Stats(); st.FramesUnopened != 0 {
						t.Errorf("%s could not open %d frames", p.name, st.FramesUnopened)
					}
					for _, q := range s.people {
						if p != q && len(p.numbers(q)) == 0 {
							t.Errorf("%s does not hear %s", p.name, q.name)
						}
					}
				}
			})
		})
	}
	t.Logf("the slowest of %d took %v", seeds, worst)
}

// TestMerge: groups that were apart become one room when the network heals,
// and the same one on all sides.
func TestMerge(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			onStage(t, mesh.MemoryConfig{Seed: seed, Wire: mesh.Wire{Latency: 10 * time.Millisecond}}, func(t *testing.T, s *stage) {
				random := rand.New(rand.NewPCG(seed, 4))
				groups := make([][]mesh.PeerID, 2)
				var nodes []*mesh.MemoryNode
				for i := range 6 {
					n := s.memory.Node(nil)
					nodes = append(nodes, n)
					groups[i%2] = append(groups[i%2], n.Self().ID)
				}
				s.memory.Partition(groups...)
				for i, n := range nodes {
					s.enterOn(n, fmt.Sprint("p", i))
					time.Sleep(time.Duration(random.IntN(500)) * time.Millisecond)
				}
				time.Sleep(5 * time.Second)
				for g := range groups {
					var group []*person
					for i, p := range s.people {
						if i%2 == g {
							group = append(group, p)
						}
					}
					if why := together(group); why != "" {
						t.Fatalf("group %d: %s", g, why)
					}
				}
				s.memory.Heal()
				start := time.Now()
				for synctest.Wait(); together(s.people) != ""; synctest.Wait() {
					if time.Since(start) > 90*time.Second {
						t.Fatalf("not one room: %s", together(s.people))
					}
					for _, p := range s.people {
						p.say()
					}
					time.Sleep(20 * time.Millisecond)
				}
				t.Logf("one room %v after the network had healed", time.Since(start))
				s.talk(50, s.people...)
				for i, p := range s.people { // nobody loses a word of their own group
					for j, q := range s.people {
						if i != j && i%2 == j%2 {
							wantAll(t, p.name+" hears "+q.name, p.numbers(q), 0, q.said)
						}
					}
				}
				s.forget()
				for _, p := range s.people {
					p.said = 0
				}
				s.talk(20, s.people...)
				for _, p := range s.people {
					for _, q := range s.people {
						if p != q {
							wantAll(t, p.name+" hears "+q.name, p.numbers(q), 0, 20)
						}
					}
				}
			})
		})
	}
}

// TestPartition: a room that is cut in two for long goes on in both halves and
// becomes one again.
func TestPartition(t *testing.T) {
	onStage(t, lan, func(t *testing.T, s *stage) {
		for i := range 4 {
			s.enter(fmt.Sprint("p", i))
		}
		s.gather(5 * time.Second)
		var left []mesh.PeerID
		for _, p := range s.people[:2] {
			left = append(left, p.node.Self().ID)
		}
		s.memory.Partition(left)
		s.eventually(presenceGone+2*time.Second, "each half sees itself alone", func() bool {
			return together(s.people[:2]) == "" && together(s.people[2:]) == ""
		})
		s.memory.Heal()
		t.Logf("one room %v after the network had healed", s.gather(90*time.Second))
	})
}

// TestStaysFoundOverHoursAndDays: keys of the DHT change by the hour, topics by
// the day.
func TestStaysFoundOverHoursAndDays(t *testing.T) {
	hours := 30
	if brief() {
		hours = 3
	}
	onStage(t, lan, func(t *testing.T, s *stage) {
		a := s.enter("a")
		for h := range hours {
			time.Sleep(time.Hour)
			b := s.enter(fmt.Sprint("b", h))
			s.gather(3 * time.Second)
			b.leave()
			time.Sleep(time.Second)
		}
		if n := len(a.room.Members()); n != 1 {
			t.Errorf("%d members are left", n)
		}
	})
}

func TestTwoRoomsInOneProcess(t *testing.T) {
	onStage(t, lan, func(t *testing.T, s *stage) {
		other := Secret{1, 2, 3}
		in := func(c *Config) { c.Secret, c.Key = other, testKey("other "+c.Nick) }
		n1, n2 := s.memory.Node(nil), s.memory.Node(nil)
		a1, b1 := s.enterOn(n1, "a1"), s.enterOn(n2, "b1")
		a2, b2 := s.enterOn(n1, "a2", in), s.enterOn(n2, "b2", in)
		s.eventually(3*time.Second, "both rooms are complete", func() bool {
			return together([]*person{a1, b1}) == "" && together([]*person{a2, b2}) == ""
		})
		s.talk(20, a1, b2)
		wantAll(t, "b1 hears a1", b1.numbers(a1), 0, 20)
		wantAll(t, "a2 hears b2", a2.numbers(b2), 0, 20)
		for _, p := range []*person{a2, b2} {
			if n := len(p.numbers(a1)); n != 0 {
				t.Errorf("%s heard %d frames of the other room", p.name, n)
			}
		}
		if a1.room.ID() == a2.room.ID() || a1.member() == a2.member() {
			t.Error("two rooms share an id or a member key")
		}
	})
}

// TestVoiceFlowsThroughChanges: people talk without a pause while others come,
// go and die; nobody who was there all the time loses a frame.
func TestVoiceFlowsThroughChanges(t *testing.T) {
	for _, latency := range []time.Duration{time.Millisecond, 40 * time.Millisecond, 150 * time.Millisecond} {
		t.Run(latency.String(), func(t *testing.T) {
			onStage(t, mesh.MemoryConfig{Wire: mesh.Wire{Latency: latency}}, func(t *testing.T, s *stage) {
				for i := range 3 {
					s.enter(fmt.Sprint("p", i))
				}
				s.gather(10 * time.Second)
				talkers := s.people[:3:3]
				before := talkers[0].room.Stats().Epoch
				var others []*person
				for i := range 12 {
					switch i % 4 {
					case 0, 1:
						others = append(others, s.enter(fmt.Sprint("q", i)))
					case 2:
						others[0].leave()
						others = others[1:]
					case 3:
						others[0].kill()
						others = others[1:]
					}
					for range 100 {
						for _, p := range talkers {
							p.say()
						}
						time.Sleep(20 * time.Millisecond)
					}
				}
				time.Sleep(time.Second)
				synctest.Wait()
				if now := talkers[0].room.Stats().Epoch; now < before+6 {
					t.Errorf("the epoch went from %d to %d only", before, now)
				}
				for _, p := range talkers {
					for _, q := range talkers {
						if p != q {
							wantAll(t, p.name+" hears "+q.name, p.numbers(q), 0, q.said)
						}
					}
					if st := p.room.Stats(); st.FramesUnopened != 0 {
						t.Errorf("%s could not open %d frames", p.name, st.FramesUnopened)
					}
				}
			})
		})
	}
}

// TestCrowdJoinsWhileTalking: many come within a moment; those who talk lose
// nothing between each other.
func TestCrowdJoinsWhileTalking(t *testing.T) {
	onStage(t, mesh.MemoryConfig{Wire: mesh.Wire{Latency: 20 * time.Millisecond}}, func(t *testing.T, s *stage) {
		a, b := s.enter("a"), s.enter("b")
		s.gather(5 * time.Second)
		for i := range 150 {
			a.say()
			b.say()
			if i >= 20 && i < 32 {
				s.enter(fmt.Sprint("q", i))
			}
			time.Sleep(20 * time.Millisecond)
		}
		s.gather(10 * time.Second)
		wantAll(t, "a hears b", a.numbers(b), 0, 150)
		wantAll(t, "b hears a", b.numbers(a), 0, 150)
	})
}

func TestNothingIsLeftBehind(t *testing.T) {
	defer goleak.VerifyNone(t)
	memory := mesh.NewMemory(mesh.MemoryConfig{})
	defer memory.Close()
	var rooms []*Room
	for i := range 3 {
		r, err := Join(context.Background(), Config{
			Network: memory.Node(nil), Secret: Secret{9}, Key: testKey(fmt.Sprint(i)), Instance: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		rooms = append(rooms, r)
	}
	for end := time.Now().Add(10 * time.Second); rooms[0].Hearers() < 2 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if n := rooms[0].Hearers(); n != 2 {
		t.Errorf("heard by %d", n)
	}
	for _, r := range rooms {
		if err := r.Leave(context.Background()); err != nil {
			t.Error(err)
		}
		if err := r.Leave(context.Background()); err != nil {
			t.Errorf("a second Leave: %v", err)
		}
	}
}
