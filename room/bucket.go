package room

import (
	"sync"
	"time"
)

// bucket is a token bucket (RFC 2697's idea): rate tokens a second, at most
// burst saved up.
type bucket struct {
	rate, burst float64
	tokens      float64
	at          time.Time
}

// wait takes one token and tells how long to wait for it.
func (b *bucket) wait(now time.Time) time.Duration {
	if b.at.IsZero() {
		b.tokens = b.burst
	} else {
		b.tokens = min(b.burst, b.tokens+b.rate*now.Sub(b.at).Seconds())
	}
	b.at = now
	b.tokens--
	if b.tokens >= 0 {
		return 0
	}
	return time.Duration(-b.tokens / b.rate * float64(time.Second))
}

// allowance is a bucket for several goroutines, which says no instead of
// having anybody wait.
type allowance struct {
	mu sync.Mutex
	bucket
}

func (a *allowance) allow(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.wait(now) > 0 {
		a.tokens++ // not taken
		return false
	}
	return true
}
