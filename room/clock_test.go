package room

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"teahouse/internal/mesh"
)

// deaf is a network without gossip: what is found is found in the DHT.
type deaf struct{ mesh.Network }

type silentTopic struct{}

func (silentTopic) Publish([]byte) error { return nil }
func (silentTopic) Close() error         { return nil }

func (deaf) Join(string, mesh.Validator, func(mesh.PeerID, []byte)) (mesh.Topic, error) {
	return silentTopic{}, nil
}

// blind is a network without a DHT: what is found is found by gossip.
type blind struct{ mesh.Network }

func (blind) Find(context.Context, [32]byte, func(mesh.Peer)) error { return nil }

// offset is a clock that is wrong by so much.
func offset(by time.Duration) func(*Config) {
	return func(c *Config) { c.Now = func() time.Time { return time.Now().Add(by) } }
}

// TestClocksAnHourWrong: whoever comes with a clock that is wrong by an hour
// either way finds those whose clock is right, by each way alone, and they keep
// each other through all changes of the hour and the day.
func TestClocksAnHourWrong(t *testing.T) {
	ways := map[string]func(*Config){
		"DHT alone":    func(c *Config) { c.Network = deaf{c.Network} },
		"gossip alone": func(c *Config) { c.Network = blind{c.Network} },
	}
	// Virtual time begins at midnight, UTC. Everybody comes a minute and a half
	// before an hour ends.
	hours := []int{0, 1, 2, 12, 21, 22, 23, 24, 25}
	if brief() {
		hours = []int{0, 22, 23}
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			onStage(t, lan, func(t *testing.T, s *stage) {
				s.memory.Node(nil) // a bootstrap: somebody to keep the first record
				a := s.enter("right", way, offset(0))
				at := time.Now().Add(58*time.Minute + 30*time.Second)
				for _, h := range hours {
					time.Sleep(time.Until(at.Add(time.Duration(h) * time.Hour)))
					ahead := s.enter(fmt.Sprint("ahead", h), way, offset(time.Hour))
					behind := s.enter(fmt.Sprint("behind", h), way, offset(-time.Hour))
					s.gather(3 * time.Second)
					before := a.room.Stats()
					time.Sleep(3 * time.Minute)
					if why := together(s.present()); why != "" {
						t.Fatalf("after hour %d: %s", h, why)
					}
					if after := a.room.Stats(); after.Epoch != before.Epoch {
						t.Errorf("the epoch went from %d to %d although nobody came or went", before.Epoch, after.Epoch)
					}
					ahead.leave()
					behind.leave()
					time.Sleep(time.Second)
				}
			})
		})
	}
}

// TestClocksTwoHoursApart: of two who are alone one clock is wrong by an hour
// to one side, the other's to the other side.
func TestClocksTwoHoursApart(t *testing.T) {
	for name, way := range map[string]func(*Config){
		"DHT alone":    func(c *Config) { c.Network = deaf{c.Network} },
		"gossip alone": func(c *Config) { c.Network = blind{c.Network} },
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, lan, func(t *testing.T, s *stage) {
				s.memory.Node(nil)
				time.Sleep(30 * time.Minute)
				for range 25 {
					ahead, behind := s.enter("ahead", way, offset(time.Hour)), s.enter("behind", way, offset(-time.Hour))
					s.gather(3 * time.Second)
					ahead.leave()
					behind.leave()
					time.Sleep(time.Hour)
				}
			})
		})
	}
}

// TestNothingElseReadsTheClock: members whose clocks are years apart, and one
// whose clock jumps, stay together once they have met.
func TestNothingElseReadsTheClock(t *testing.T) {
	onStage(t, lan, func(t *testing.T, s *stage) {
		start := time.Now()
		wrong := func(c *Config) {
			c.Now = func() time.Time {
				if time.Since(start) < 5*time.Second {
					return time.Now()
				}
				return time.Now().Add(-3 * 365 * 24 * time.Hour)
			}
		}
		a, b := s.enter("a"), s.enter("b", wrong)
		s.gather(3 * time.Second)
		for range 40 {
			time.Sleep(30 * time.Second)
			if why := together(s.present()); why != "" {
				t.Fatalf("after %v: %s", time.Since(start), why)
			}
		}
		s.talk(20, a, b)
		wantAll(t, "a hears b", a.numbers(b), 0, 20)
		wantAll(t, "b hears a", b.numbers(a), 0, 20)
	})
}

// TestRandomIsSeeded: one seed gives one sequence, within the bounds.
func TestRandomIsSeeded(t *testing.T) {
	draw := func(source rand.Source) (all []time.Duration) {
		var s spread
		if source != nil {
			s.random = rand.New(source)
		}
		for range 50 {
			d := s.jitter(5*time.Second, time.Second)
			if d < 4*time.Second || d >= 6*time.Second {
				t.Errorf("%v", d)
			}
			all = append(all, d)
		}
		return all
	}
	one := draw(rand.NewPCG(1, 2))
	if !slices.Equal(one, draw(rand.NewPCG(1, 2))) {
		t.Error("one seed gave two sequences")
	}
	if slices.Equal(one, draw(rand.NewPCG(1, 3))) || slices.Equal(draw(nil), draw(nil)) {
		t.Error("two seeds gave one sequence")
	}
}
