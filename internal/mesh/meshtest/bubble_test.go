package meshtest

import (
	"runtime"
	"sync"
	"testing"
	"time"
)

// TestBubble looks at timers that are due when they are made, from many
// goroutines at once: under the race detector synctest.Test alone dies of it
// within a tenth of a second.
func TestBubble(t *testing.T) {
	Bubble(t, func(t *testing.T) {
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 2000 {
					timer := time.NewTimer(0)
					select {
					case <-timer.C:
					case <-t.Context().Done():
						t.Error("the timer is not due")
					}
				}
			})
		}
		all.Wait()
	})
}

// TestBubblesSideBySide: the one processor lasts until the last has ended, and
// not longer.
func TestBubblesSideBySide(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	t.Run("all", func(t *testing.T) {
		for range 3 {
			t.Run("bubble", func(t *testing.T) {
				t.Parallel()
				Bubble(t, func(t *testing.T) {
					if n := runtime.GOMAXPROCS(0); raced && n != 1 {
						t.Errorf("%d processors", n)
					}
				})
			})
		}
	})
	if n := runtime.GOMAXPROCS(0); n != before {
		t.Errorf("%d processors afterwards, %d before", n, before)
	}
}
