package room

import (
	"math/rand/v2"
	"sync"
	"time"
)

// spread draws what timers are spread by, so that people who came together do
// not do everything together. It may be used from several goroutines at once.
type spread struct {
	mu     sync.Mutex
	random *rand.Rand // nil: the generator of math/rand/v2
}

// jitter spreads d evenly by up to by to each side.
func (s *spread) jitter(d, by time.Duration) time.Duration {
	if by <= 0 {
		return d
	}
	if s.random == nil {
		return d - by + rand.N(2*by)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return d - by + time.Duration(s.random.Int64N(int64(2*by)))
}

func (r *Room) jitter(d, by time.Duration) time.Duration { return r.spread.jitter(d, by) }
