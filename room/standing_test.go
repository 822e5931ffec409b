package room

import (
	"crypto/ed25519"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"teahouse/internal/mesh"
)

// deafness tells what keeps a room from hearing somebody whose session stands,
// or from being heard, although both sides hold what they need; "" for nothing.
// Who has a session that is open or fading is in the roster; its voice is the
// one of that instance, is not closed, and has the keys of all epochs that are
// held; and frames are sealed as the epochs say.
func (r *Room) deafness() (why string) {
	err := r.call(func() {
		if r.leaving {
			return
		}
		for s := range r.sessions {
			if (s.state == sessionOpen || s.state == sessionFading) != (s.far != nil) {
				why = fmt.Sprintf("a session in state %d has a far end: %v", s.state, s.far != nil)
				return
			}
			if s.far == nil {
				continue
			}
			p, v := r.roster.present[s.far.member], s.link.voice.Load()
			switch {
			case p == nil || p.entry.Instance != s.far.instance || p.entry.Peer != s.peer:
				why = "a session with somebody who is not in the roster"
				return
			case v == nil || v != r.voices[s.far.member] || v.instance != s.far.instance:
				why = "a session whose voice is not that of its member"
				return
			}
			v.mu.Lock()
			closed, keys := v.closed, len(v.keys)
			same := keys == len(r.handing.held)
			for i := 0; same && i < keys; i++ {
				same = v.keys[i].id == r.handing.held[i].id && v.keys[i].until.Equal(r.handing.held[i].until)
			}
			v.mu.Unlock()
			if closed || !same {
				why = fmt.Sprintf("a session whose voice is closed (%v), or has %d keys that are not those of %d epochs", closed, keys, len(r.handing.held))
				return
			}
		}
		r.plane.mu.Lock()
		defer r.plane.mu.Unlock()
		same := len(r.plane.sealers) == len(r.handing.held)
		for i := 0; same && i < len(r.handing.held); i++ {
			s, e := r.plane.sealers[i], r.handing.held[i]
			same = s.id == e.id && s.skip == e.skip && s.from.Equal(e.sendFrom)
		}
		if !same {
			why = "frames are not sealed as the epochs say"
			return
		}
		links := 0
		for s := range r.sessions {
			if s.far != nil {
				links++
			}
		}
		if links != len(r.plane.links) {
			why = fmt.Sprintf("%d sessions, but frames go to %d", links, len(r.plane.links))
		}
	})
	if err != nil {
		return "" // it has ended
	}
	return why
}

// TestNobodyIsDeafWhileSessionsStand: whatever people do, at no moment has a
// room a session whose voice it cannot hear or feed. It is looked at after each
// few milliseconds of joins, goodbyes, deaths, restarts on the same and on
// another peer id, before and after the others noticed, copies of homes,
// splits, and sessions that break or are opened anew.
func TestNobodyIsDeafWhileSessionsStand(t *testing.T) {
	seeds := uint64(8)
	if brief() {
		seeds = 3
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			wire := mesh.Wire{Latency: time.Duration(1+seed*7) * time.Millisecond, Jitter: 10 * time.Millisecond, Loss: 0.02}
			onStage(t, mesh.MemoryConfig{Seed: seed, Wire: wire}, func(t *testing.T, s *stage) {
				random := rand.New(rand.NewPCG(seed, 6))
				const homes = 5
				instances := make([]uint64, homes)
				living := make([]*person, homes)
				nets := make([]*brittle, homes)
				enter := func(i int) {
					instances[i]++
					key := testKey(fmt.Sprint("node ", i, " ", random.IntN(2)))
					id := mesh.PeerIDOf(key.Public().(ed25519.PublicKey))
					for _, p := range s.present() {
						if p.node.Self().ID == id {
							return // runs still, as a copy
						}
					}
					s.memory.Kill(id) // of who has left, if it runs
					living[i] = s.enterOn(s.memory.Node(key), fmt.Sprint("h", i), func(c *Config) {
						c.Instance = instances[i]
						c.Random = rand.NewPCG(seed, uint64(i))
					}, breakable(&nets[i]))
				}
				for i := range homes {
					enter(i)
				}
				for range 60 {
					i := random.IntN(homes)
					p := living[i]
					alive := p != nil && !p.gone && p.room.Err() == nil
					switch act := random.IntN(10); {
					case !alive:
						if p != nil && !p.gone {
							p.leave()
						}
						enter(i)
					case act < 2:
						p.leave()
					case act < 4:
						p.kill()
						if random.IntN(2) == 0 {
							enter(i)
						}
					case act < 5: // a copy of its home
						instances[i] -= uint64(random.IntN(2))
						enter(i)
					case act < 6:
						s.split()
					case act < 7:
						s.memory.Heal()
					case act < 8:
						nets[i].shatter()
					case act < 9:
						if o := living[random.IntN(homes)]; o != nil && o != p && !o.gone {
							if n, err := p.node.Open(t.Context(), o.node.Self(), s.secret.door()); err == nil {
								p.room.adopt(n)
							}
						}
					}
					for range 40 + random.IntN(400) {
						for _, p := range s.people {
							if p.gone || p.room.Err() != nil {
								continue
							}
							if why := p.room.deafness(); why != "" {
								t.Fatalf("%s: %s", p.name, why)
							}
						}
						time.Sleep(time.Duration(1+random.IntN(40)) * time.Millisecond)
						synctest.Wait()
					}
				}
			})
		})
	}
}
