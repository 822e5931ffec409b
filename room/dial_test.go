package room

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"teahouse/internal/mesh"
)

// counted is a network that notes who is dialled and what is published.
type counted struct {
	mesh.Network
	mu      sync.Mutex
	dials   map[mesh.PeerID][]time.Time
	beacons []time.Time
	entries []time.Time
}

func count(into **counted) func(*Config) {
	return func(c *Config) {
		*into = &counted{Network: c.Network, dials: make(map[mesh.PeerID][]time.Time)}
		c.Network = *into
	}
}

func (c *counted) Open(ctx context.Context, p mesh.Peer, door mesh.Door) (mesh.Session, error) {
	c.mu.Lock()
	c.dials[p.ID] = append(c.dials[p.ID], time.Now())
	c.mu.Unlock()
	return c.Network.Open(ctx, p, door)
}

func (c *counted) Join(topic string, validate mesh.Validator, deliver func(mesh.PeerID, []byte)) (mesh.Topic, error) {
	t, err := c.Network.Join(topic, validate, deliver)
	return countedTopic{t, c}, err
}

type countedTopic struct {
	mesh.Topic
	by *counted
}

func (t countedTopic) Publish(data []byte) error {
	t.by.mu.Lock()
	if isBeacon(data) {
		t.by.beacons = append(t.by.beacons, time.Now())
	} else {
		t.by.entries = append(t.by.entries, time.Now())
	}
	t.by.mu.Unlock()
	return t.Topic.Publish(data)
}

// within counts the times from one on.
func within(times []time.Time, from time.Time) (n int) {
	for _, at := range times {
		if !at.Before(from) {
			n++
		}
	}
	return n
}

// split cuts the stage's people in two halves.
func (s *stage) split() {
	var left []mesh.PeerID
	for i, p := range s.people {
		if i%2 == 0 {
			left = append(left, p.node.Self().ID)
		}
	}
	s.memory.Partition(left)
}

// TestSplitHealsSoon: after splits of any length, those under the sessions'
// 15 s and those that see every back-off at its end included, one room stands
// soon.
func TestSplitHealsSoon(t *testing.T) {
	for i, apart := range []time.Duration{12, 16, 18, 20, 23, 30, 60, 200} {
		t.Run(fmt.Sprintf("%d s", apart), func(t *testing.T) {
			wire := mesh.Wire{Latency: time.Duration(10+5*i) * time.Millisecond, Jitter: 10 * time.Millisecond, Loss: 0.02}
			onStage(t, mesh.MemoryConfig{Seed: uint64(i), Wire: wire}, func(t *testing.T, s *stage) {
				for i := range 8 {
					s.enter(fmt.Sprint("p", i), func(c *Config) { c.Random = rand.NewPCG(uint64(i), 1) })
				}
				s.gather(10 * time.Second)
				s.split()
				time.Sleep(apart * time.Second)
				s.memory.Heal()
				t.Logf("one room after %v", s.gather(4*time.Second))
			})
		})
	}
}

// TestSplitHealsWithoutGossip: where the split has taken all gossip with it, as
// it does with the connections that bore it, those who vanished are found by
// the dials alone, and the first one found has the others sought at once.
func TestSplitHealsWithoutGossip(t *testing.T) {
	for _, apart := range []time.Duration{20, 30, 60} {
		onStage(t, lan, func(t *testing.T, s *stage) {
			s.memory.Node(nil)
			for i := range 8 {
				s.enter(fmt.Sprint("p", i), func(c *Config) {
					c.Random = rand.NewPCG(uint64(i), 1)
					c.Network = deaf{c.Network}
				})
			}
			s.gather(10 * time.Second)
			s.split()
			time.Sleep(apart * time.Second)
			s.memory.Heal()
			t.Logf("one room after %v", s.gather(6*time.Second))
		})
	}
}

// TestShowsItselfWithinBounds: somebody who makes up peers that are heard for
// the first time does not have others publish without end.
func TestShowsItselfWithinBounds(t *testing.T) {
	onStage(t, lan, func(t *testing.T, s *stage) {
		var net *counted
		s.enter("a", count(&net))
		s.enter("b")
		s.gather(3 * time.Second)
		time.Sleep(30 * time.Second)
		start := time.Now()
		box := newBeaconBox(&s.secret)
		topic, _ := s.secret.gossipTopics(start)
		for range 300 {
			x := s.memory.Node(nil)
			joined, err := x.Join(topic, nil, func(mesh.PeerID, []byte) {})
			if err != nil {
				t.Fatal(err)
			}
			// Of an epoch that nobody holds, from one that nobody knows.
			if err := joined.Publish(sealBroadcast(box.key, topic, []byte{broadcastRoster, 1, 2, 3, 4}, nil)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
			if err := x.Close(); err != nil {
				t.Fatal(err)
			}
		}
		net.mu.Lock()
		defer net.mu.Unlock()
		// 30 s: two at once, then one each 5 s; an entry with each and one
		// after it; and what goes without news.
		shown := surfaceBurst + 6
		if n := within(net.beacons, start); n < surfaceBurst || n > shown+2 {
			t.Errorf("%d beacons in 30 s, at most %d are allowed", n, shown+2)
		}
		if n := within(net.entries, start); n > 2*shown+8 {
			t.Errorf("%d entries in 30 s, at most %d are allowed", n, 2*shown+8)
		}
	})
}

// TestDialsOfTheAbsent: who was killed is sought eagerly for a while, then less
// and less; who said goodbye hardly at all; and both are forgotten.
func TestDialsOfTheAbsent(t *testing.T) {
	for _, killed := range []bool{true, false} {
		t.Run(fmt.Sprintf("killed %v", killed), func(t *testing.T) {
			onStage(t, lan, func(t *testing.T, s *stage) {
				var net *counted
				a, b, _ := s.enter("a", count(&net)), s.enter("b"), s.enter("c")
				s.gather(3 * time.Second)
				time.Sleep(time.Minute)
				id, start := b.node.Self().ID, time.Now()
				most := [2]int{30, 40} // in the first 3 minutes, in 4 hours
				if killed {
					b.kill()
				} else {
					b.leave()
					most = [2]int{4, 30}
				}
				dials := func() int {
					net.mu.Lock()
					defer net.mu.Unlock()
					return within(net.dials[id], start)
				}
				time.Sleep(3 * time.Minute)
				if n := dials(); n > most[0] || killed && n < 10 {
					t.Errorf("dialled %d times in 3 minutes, at most %d are due", n, most[0])
				}
				if brief() {
					return
				}
				time.Sleep(2*time.Hour + 15*time.Minute) // its record in the DHT lives for two
				if n := dials(); n > most[1] {
					t.Errorf("dialled %d times in all, at most %d are due", n, most[1])
				}
				err := a.room.call(func() {
					if a.room.seeking.candidates[id] != nil {
						t.Error("it is remembered still")
					}
				})
				if err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// forgetAddrs has a member not know any more where a peer is.
func forgetAddrs(r *Room, id mesh.PeerID) error {
	return r.call(func() {
		if c := r.seeking.candidates[id]; c != nil {
			c.addrs = nil
		}
	})
}

// TestLostInTheRoster: two who see each other in the roster, but know no
// address of each other, have a session soon.
func TestLostInTheRoster(t *testing.T) {
	ways := map[string]func(*Config){
		"by the DHT":  func(c *Config) { c.Network = deafToBeacons{c.Network} },
		"by a beacon": func(c *Config) { c.Network = blind{c.Network} },
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			onStage(t, lan, func(t *testing.T, s *stage) {
				a, _ := s.enter("a", way), s.enter("c", way)
				s.gather(3 * time.Second)
				time.Sleep(10 * time.Minute) // back-offs and searches are at their longest
				// b is let in by c alone, while the wire to a is cut, and
				// neither has learnt an address of the other.
				b := s.enterOn(s.memory.Node(nil), "b", way, func(c *Config) {
					s.memory.Partition([]mesh.PeerID{a.node.Self().ID})
				})
				time.Sleep(5 * time.Second) // the beacons of its coming are over
				for _, pair := range [][2]*person{{a, b}, {b, a}} {
					if err := forgetAddrs(pair[0].room, pair[1].node.Self().ID); err != nil {
						t.Fatal(err)
					}
				}
				s.memory.Heal()
				t.Logf("together after %v", s.gather(20*time.Second))
			})
		})
	}
}

// deafToBeacons is a network whose beacons are lost.
type deafToBeacons struct{ mesh.Network }

func (d deafToBeacons) Join(topic string, validate mesh.Validator, deliver func(mesh.PeerID, []byte)) (mesh.Topic, error) {
	return d.Network.Join(topic, validate, func(from mesh.PeerID, data []byte) {
		if !isBeacon(data) {
			deliver(from, data)
		}
	})
}

// TestSlotsForMembers: whoever makes up any number of peers does not keep
// those in the roster from being dialled.
func TestSlotsForMembers(t *testing.T) {
	var d dialling
	for range strangerOpens {
		if !d.may(standsStranger) {
			t.Fatal("no slot for a stranger")
		}
		d[standsStranger]++
	}
	if d.may(standsStranger) || d.may(standsHearsay) || !d.may(standsMember) {
		t.Error("strangers have taken others' slots, or less than their own")
	}
	d = dialling{standsHearsay: hearsayOpens}
	if d.may(standsHearsay) || !d.may(standsStranger) {
		t.Error("hearsay has taken others' slots, or less than its own")
	}
	onStage(t, lan, func(t *testing.T, s *stage) {
		a, b := s.enter("a"), s.enter("b")
		s.gather(3 * time.Second)
		time.Sleep(time.Minute)
		s.split()
		time.Sleep(18 * time.Second) // the sessions have broken, and each looks for the other
		err := a.room.call(func() {
			for i := range byte(100) {
				a.room.heardOf(mesh.Peer{
					ID: mesh.PeerIDOf(goldKey(i).Public().(ed25519.PublicKey)), Addrs: []mesh.Addr{"/memory/junk"},
				}, wordOwn, false)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		s.memory.Heal()
		synctest.Wait()
		t.Logf("together after %v", s.gather(4*time.Second))
		_ = b
	})
}

// moving is a network whose addresses change.
type moving struct {
	mesh.Network
	at atomic.Pointer[mesh.Addr]
}

func (m *moving) Self() mesh.Peer {
	p := m.Network.Self()
	if at := m.at.Load(); at != nil {
		p.Addrs = []mesh.Addr{*at}
	}
	return p
}

// TestNewAddressesAreTold: within a presence the others know where somebody is
// whose addresses have changed, by its session, without gossip.
func TestNewAddressesAreTold(t *testing.T) {
	onStage(t, lan, func(t *testing.T, s *stage) {
		var m *moving
		s.memory.Node(nil)
		a := s.enter("a", func(c *Config) {
			m = &moving{Network: deaf{c.Network}}
			c.Network = m
		})
		b := s.enter("b", func(c *Config) { c.Network = deaf{c.Network} })
		s.gather(5 * time.Second)
		time.Sleep(20 * time.Second)
		moved := mesh.Addr("/memory/elsewhere")
		m.at.Store(&moved)
		s.eventually(presenceEvery+2*time.Second, "b knows a's new address", func() (ok bool) {
			err := b.room.call(func() {
				c := b.room.seeking.candidates[a.node.Self().ID]
				ok = c != nil && slices.Equal(c.addrs, []mesh.Addr{moved})
			})
			return ok && err == nil
		})
	})
}
