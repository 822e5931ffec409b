package room

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"teahouse/internal/mesh"
)

// lonely is a network on which nobody is found; it notes when one looked.
type lonely struct {
	mesh.Network
	mu     sync.Mutex
	looked []time.Time
}

func (l *lonely) Find(context.Context, [32]byte, func(mesh.Peer)) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); !slices.Contains(l.looked, now) { // three keys at a time
		l.looked = append(l.looked, now)
	}
	return nil
}

// Who is alone looks again after half a second, doubling to half a minute.
func TestLooksAgainWhileAlone(t *testing.T) {
	onStage(t, mesh.MemoryConfig{}, func(t *testing.T, s *stage) {
		var l *lonely
		s.enter("a", func(c *Config) {
			l = &lonely{Network: c.Network}
			c.Network = l
		})
		time.Sleep(2 * time.Minute)
		l.mu.Lock()
		defer l.mu.Unlock()
		pauses := []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second}
		if len(l.looked) <= len(pauses) {
			t.Fatalf("looked %d times in two minutes", len(l.looked))
		}
		for i, want := range pauses {
			if got := l.looked[i+1].Sub(l.looked[i]); got < want*8/10 || got > want*12/10 {
				t.Errorf("pause %d is %v, want about %v", i+1, got, want)
			}
		}
	})
}
