package meshtest

import (
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
