package room

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"teahouse/internal/mesh"
)

// lan is a network with 1 ms from each to each.
var lan = mesh.MemoryConfig{Wire: mesh.Wire{Latency: time.Millisecond}}

func TestTwoPeopleTalk(t *testing.T) {
	onStage(t, lan, func(t *testing.T, s *stage) {
		a := s.enter("ada")
		time.Sleep(5 * time.Second)
		b := s.enter("bob")
		took := s.gather(time.Second)
		t.Logf("together %v after the second had joined", took)
		if took > 150*time.Millisecond {
			t.Errorf("took %v", took)
		}
		s.talk(100, a, b)
		wantAll(t, "bob hears ada", b.numbers(a), 0, 100)
		wantAll(t, "ada hears bob", a.numbers(b), 0, 100)
		if st := a.room.Stats(); st.FramesUnopened+st.FramesReplayed+st.PacketsRefused+st.MessagesBad+st.EntriesRefused+st.BroadcastsBad != 0 {
			t.Errorf("something went wrong on the way: %+v", st)
		}
	})
}

func TestManyPeopleTalk(t *testing.T) {
	for _, n := range []int{5, 16} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			onStage(t, lan, func(t *testing.T, s *stage) {
				for i := range n {
					s.enter(fmt.Sprintf("p%02d", i))
					time.Sleep(50 * time.Millisecond)
				}
				t.Logf("together %v after the last had joined", s.gather(5*time.Second))
				s.talk(50, s.people...)
				for _, a := range s.people {
					for _, b := range s.people {
						if a != b {
							wantAll(t, a.name+" hears "+b.name, a.numbers(b), 0, 50)
						}
					}
				}
			})
		})
	}
}

func TestJoinRefusesBadConfigs(t *testing.T) {
	onStage(t, lan, func(t *testing.T, s *stage) {
		good := Config{Network: s.memory.Node(nil), Secret: s.secret, Key: testKey("x"), Instance: 1}
		for name, change := range map[string]func(*Config){
			"no network":  func(c *Config) { c.Network = nil },
			"no key":      func(c *Config) { c.Key = nil },
			"no instance": func(c *Config) { c.Instance = 0 },
			"bad nick":    func(c *Config) { c.Nick = "a\nb" },
		} {
			cfg := good
			change(&cfg)
			if _, err := Join(context.Background(), cfg); err == nil {
				t.Errorf("%s: joined", name)
			}
		}
		r, err := Join(context.Background(), good)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Join(context.Background(), good); err == nil {
			t.Error("one room was joined twice on one node")
		}
		if err := r.Leave(context.Background()); err != nil {
			t.Error(err)
		}
		if err := r.Speak(&Frame{Opus: []byte{1}}); !errors.Is(err, ErrClosed) {
			t.Errorf("Speak after Leave: %v", err)
		}
		if err := r.SetMuted(true); !errors.Is(err, ErrClosed) {
			t.Errorf("SetMuted after Leave: %v", err)
		}
	})
}
