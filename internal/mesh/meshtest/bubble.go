package meshtest

import (
	"runtime"
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
//
// Tests that call it must not run in parallel.
func Bubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	if raced {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	}
	synctest.Test(t, f)
}
