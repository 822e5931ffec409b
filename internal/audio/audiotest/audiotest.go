// Package audiotest is the one conformance suite for every microphone and
// every speaker of Teahouse, synthetic or real.
package audiotest

import (
	"bytes"
	"runtime/pprof"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"teahouse/internal/audio"
)

// Config says what a device is held to.
type Config struct {
	// Virtual runs each check in a bubble of virtual time (testing/synctest),
	// where pace and time stamps must be exact; a goroutine that is left
	// behind fails the check.
	Virtual bool
	// Blocks after which a microphone ends in io.EOF; 0 if it never does.
	// Not 1 to 5.
	Blocks int
	// Mute is a microphone that gives no blocks at all.
	Mute bool
	// Slack is what a real device may be off by, over a whole check; 0 in
	// virtual time.
	Slack time.Duration
	// Spacing is what one time stamp may be off by, from the one before and
	// 10 ms.
	Spacing time.Duration
	// Lead is how much sound a speaker takes before it keeps time.
	Lead time.Duration
	// Settle is how much of the beginning of a real device is left out.
	Settle time.Duration
}

// patience is the longest that anything may take that should be at once.
const patience = 5 * time.Second

func run(t *testing.T, c Config, name string, check func(*testing.T)) {
	t.Run(name, func(t *testing.T) {
		if c.Virtual {
			synctest.Test(t, check)
			return
		}
		before := goroutines()
		check(t)
		for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			left := left(before)
			if len(left) == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d goroutines are left after Close:\n%s", len(left), strings.Join(left, "\n\n"))
			}
		}
	})
}

// goroutines are those there are, by the words that begin their stacks. One
// that has not run yet does not show whose it is.
func goroutines() map[string]bool {
	all := map[string]bool{}
	for stack := range strings.SplitSeq(stacks(), "\n\n") {
		name, _, _ := strings.Cut(stack, " [")
		all[name] = true
	}
	return all
}

// left are the goroutines that run something of internal/audio and are not
// among those before.
func left(before map[string]bool) (left []string) {
	for stack := range strings.SplitSeq(stacks(), "\n\n") {
		name, _, _ := strings.Cut(stack, " [")
		if !before[name] && strings.Contains(stack, "teahouse/internal/audio") && !strings.Contains(stack, "testing.tRunner") {
			left = append(left, stack)
		}
	}
	return left
}

func stacks() string {
	var b bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&b, 2)
	return b.String()
}

// latency is plausible for any device.
func checkLatency(t *testing.T, d time.Duration) {
	t.Helper()
	if d < 0 || d > time.Second {
		t.Errorf("Latency is %v", d)
	}
}

// closer closes d many times at once; all must return.
func closeOften(t *testing.T, d interface{ Close() error }) {
	t.Helper()
	done := make(chan error)
	for range 3 {
		go func() { done <- d.Close() }()
	}
	for range 3 {
		if err := <-done; err != nil {
			t.Errorf("Close: %v", err)
		}
	}
	if err := d.Close(); err != nil {
		t.Errorf("Close again: %v", err)
	}
}

// near fails unless got is want, give or take.
func near(t *testing.T, what string, got, want, give time.Duration) {
	t.Helper()
	if d := got - want; d < -give || d > give {
		t.Errorf("%s: %v, not %v ± %v", what, got, want, give)
	}
}

func stereo() []float32 { return make([]float32, 2*audio.BlockFrames) }
