package meshtest

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

// Bubble is [synctest.Test], which it calls with one processor where the race
// detector watches. The runtime gives all timers of a bubble one context of
// the detector; a timer that is due already when a goroutine looks at its
// channel runs on that goroutine's thread, and two at once corrupt the context
// and end the process with a SIGSEGV (Go 1.26, unlockAndRun in
// runtime/time.go). libp2p makes timers of no duration, and so do rooms.
// Races are found on one processor too: the detector goes by what is ordered
// before what, not by what happens to run at once.
func Bubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	if raced {
		one.begin()
		defer one.end()
	}
	synctest.Test(t, f)
}

// one is the one processor of all bubbles of this process.
var one oneProcessor

// oneProcessor lets Go run on one processor while anybody wants that.
type oneProcessor struct {
	mu     sync.Mutex
	wanted int
	before int
}

func (o *oneProcessor) begin() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.wanted++; o.wanted == 1 {
		o.before = runtime.GOMAXPROCS(1)
	}
}

func (o *oneProcessor) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.wanted--; o.wanted == 0 {
		runtime.GOMAXPROCS(o.before)
	}
}
