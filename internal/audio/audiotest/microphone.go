package audiotest

import (
	"errors"
	"io"
	"math"
	"testing"
	"time"

	"teahouse/internal/audio"
)

// Microphone holds the microphones that open makes to the contract. open may
// fail the test; each check opens one of its own and closes it.
func Microphone(t *testing.T, c Config, open func(*testing.T) audio.Microphone) {
	run(t, c, "shape", func(t *testing.T) { micShape(t, open(t)) })
	if !c.Mute {
		run(t, c, "pace", func(t *testing.T) { micPace(t, c, open(t)) })
		run(t, c, "sizes", func(t *testing.T) { micSizes(t, open(t)) })
	}
	run(t, c, "close while reading", func(t *testing.T) { micCloseWhileReading(t, c, open(t)) })
	run(t, c, "close before reading", func(t *testing.T) { micCloseFirst(t, open(t)) })
	if c.Blocks > 0 {
		run(t, c, "end", func(t *testing.T) { micEnd(t, c, open(t)) })
	}
}

func micShape(t *testing.T, m audio.Microphone) {
	if n := m.Channels(); n != 1 && n != 2 {
		t.Errorf("%d channels", n)
	}
	checkLatency(t, m.Latency())
	closeOften(t, m)
}

// micPace: a block each 10 ms, never before it has been heard, with time
// stamps to match and samples that are sound.
func micPace(t *testing.T, c Config, m audio.Microphone) {
	defer closeOften(t, m)
	blocks := 200
	if c.Blocks > 0 {
		blocks = c.Blocks
	}
	block := make([]float32, audio.BlockFrames*m.Channels())
	for until := time.Now().Add(c.Settle); time.Now().Before(until); {
		if _, err := m.Read(block); err != nil {
			t.Fatal(err)
		}
	}
	var first, last time.Time
	var returned time.Time
	for i := range blocks {
		at, err := m.Read(block)
		if err != nil {
			t.Fatalf("block %d: %v", i, err)
		}
		returned = time.Now()
		if ahead := at.Add(audio.BlockDuration).Sub(returned); ahead > c.Spacing {
			t.Errorf("block %d came %v before its last sample was captured", i, ahead)
		}
		if i == 0 {
			first = at
		} else {
			step, most := at.Sub(last), audio.BlockDuration+c.Spacing
			if !c.Virtual {
				most = audio.BlockDuration + c.Slack // sound was lost: that is what time stamps tell
			}
			if step < audio.BlockDuration-c.Spacing || step > most {
				t.Errorf("block %d has a time stamp %v after the one before", i, step)
			}
		}
		last = at
		for _, x := range block {
			if math.IsNaN(float64(x)) || x > 1 || x < -1 {
				t.Fatalf("block %d has a sample of %v", i, x)
			}
		}
	}
	near(t, "duration by time stamps", last.Sub(first), time.Duration(blocks-1)*audio.BlockDuration, c.Slack)
	near(t, "duration by the clock", returned.Sub(first), time.Duration(blocks)*audio.BlockDuration+m.Latency(), c.Slack)
	checkLatency(t, m.Latency())
}

// micSizes: a block of a wrong length is refused, and does no harm.
func micSizes(t *testing.T, m audio.Microphone) {
	defer closeOften(t, m)
	n := audio.BlockFrames * m.Channels()
	for _, wrong := range []int{0, 1, n - 1, n + 1, 2*n + 1} {
		if _, err := m.Read(make([]float32, wrong)); err == nil || errors.Is(err, io.EOF) || errors.Is(err, audio.ErrClosed) {
			t.Errorf("Read of %d samples, not %d: %v", wrong, n, err)
		}
	}
	if _, err := m.Read(make([]float32, n)); err != nil {
		t.Errorf("Read afterwards: %v", err)
	}
}

func micCloseWhileReading(t *testing.T, c Config, m audio.Microphone) {
	result := make(chan error, 1)
	reading := make(chan struct{})
	go func() {
		block := make([]float32, audio.BlockFrames*m.Channels())
		close(reading)
		for {
			if _, err := m.Read(block); err != nil {
				result <- err
				return
			}
		}
	}()
	<-reading
	time.Sleep(25 * time.Millisecond) // in the middle of a block
	select {
	case err := <-result:
		t.Fatalf("Read gave %v before Close", err)
	default:
	}
	start := time.Now()
	closeOften(t, m)
	select {
	case err := <-result:
		if !errors.Is(err, audio.ErrClosed) {
			t.Errorf("the waiting Read gave %v", err)
		}
	case <-time.After(patience):
		t.Fatal("Close did not end the waiting Read")
	}
	if took := time.Since(start); c.Virtual && took != 0 {
		t.Errorf("Close took %v", took)
	}
}

func micCloseFirst(t *testing.T, m audio.Microphone) {
	closeOften(t, m)
	for range 2 {
		if _, err := m.Read(make([]float32, audio.BlockFrames*m.Channels())); !errors.Is(err, audio.ErrClosed) {
			t.Errorf("Read after Close: %v", err)
		}
	}
}

func micEnd(t *testing.T, c Config, m audio.Microphone) {
	defer closeOften(t, m)
	block := make([]float32, audio.BlockFrames*m.Channels())
	for i := range c.Blocks {
		if _, err := m.Read(block); err != nil {
			t.Fatalf("block %d of %d: %v", i, c.Blocks, err)
		}
	}
	start := time.Now()
	for range 3 {
		if _, err := m.Read(block); !errors.Is(err, io.EOF) {
			t.Fatalf("after %d blocks: %v", c.Blocks, err)
		}
	}
	near(t, "Read at the end", time.Since(start), 0, c.Slack)
}
