package audiotest

import (
	"errors"
	"testing"
	"time"

	"teahouse/internal/audio"
)

// Speaker holds the speakers that open makes to the contract. open may fail
// the test; each check opens one of its own and closes it.
func Speaker(t *testing.T, c Config, open func(*testing.T) audio.Speaker) {
	run(t, c, "shape", func(t *testing.T) {
		s := open(t)
		checkLatency(t, s.Latency())
		closeOften(t, s)
	})
	run(t, c, "pace", func(t *testing.T) { speakerPace(t, c, open(t)) })
	run(t, c, "sizes", func(t *testing.T) { speakerSizes(t, open(t)) })
	run(t, c, "stall", func(t *testing.T) { speakerStall(t, c, open(t)) })
	run(t, c, "close while writing", func(t *testing.T) { speakerCloseWhileWriting(t, c, open(t)) })
	run(t, c, "close before writing", func(t *testing.T) { speakerCloseFirst(t, open(t)) })
}

func play(t *testing.T, s audio.Speaker, blocks int) {
	t.Helper()
	block := stereo()
	for i := range blocks {
		if err := s.Write(block); err != nil {
			t.Fatalf("block %d: %v", i, err)
		}
	}
}

// speakerPace: once its buffer is full it takes a block each 10 ms, and a
// writer that is always there makes no underruns.
func speakerPace(t *testing.T, c Config, s audio.Speaker) {
	defer closeOften(t, s)
	start := time.Now()
	play(t, s, int((c.Lead+c.Settle)/audio.BlockDuration))
	near(t, "filling the buffer", time.Since(start), c.Settle, c.Lead+c.Slack)
	const blocks = 200
	before := s.Underruns()
	start = time.Now()
	play(t, s, blocks)
	near(t, "200 blocks", time.Since(start), blocks*audio.BlockDuration, c.Slack)
	start = time.Now()
	for i := range blocks / 5 {
		if err := s.Write(stereo()[:2*audio.PlayFrames]); err != nil {
			t.Fatalf("half a block, %d: %v", i, err)
		}
	}
	near(t, "40 halves of blocks", time.Since(start), blocks/10*audio.BlockDuration, c.Slack)
	checkLatency(t, s.Latency())
	if n := s.Underruns() - before; c.Virtual && n != 0 {
		t.Errorf("%d underruns", n)
	}
}

func speakerSizes(t *testing.T, s audio.Speaker) {
	defer closeOften(t, s)
	for _, wrong := range []int{0, 1, audio.PlayFrames, 2*audio.PlayFrames + 2, 2*audio.BlockFrames - 1, 2*audio.BlockFrames + 1} {
		if err := s.Write(make([]float32, wrong)); err == nil || errors.Is(err, audio.ErrClosed) {
			t.Errorf("Write of %d samples: %v", wrong, err)
		}
	}
	play(t, s, 1)
}

// speakerStall: a writer that stays away for long is noticed, once, and may
// go on. Where the clock is real, one that was late before its stall makes one
// stall of both: then another is tried.
func speakerStall(t *testing.T, c Config, s audio.Speaker) {
	defer closeOften(t, s)
	tries := 1
	if !c.Virtual {
		tries = 5
	}
	for range tries {
		play(t, s, 5+int((c.Lead+c.Settle)/audio.BlockDuration))
		before := s.Underruns()
		time.Sleep(300*time.Millisecond + c.Lead)
		play(t, s, 50)
		got := s.Underruns() - before
		if c.Virtual && got > 1 {
			t.Fatalf("%d underruns in one stall", got)
		}
		if got > 0 {
			return
		}
	}
	t.Errorf("no underruns in %d stalls of 300 ms", tries)
}

func speakerCloseWhileWriting(t *testing.T, c Config, s audio.Speaker) {
	result := make(chan error, 1)
	writing := make(chan struct{})
	go func() {
		block := stereo()
		close(writing)
		for {
			if err := s.Write(block); err != nil {
				result <- err
				return
			}
		}
	}()
	<-writing
	time.Sleep(25 * time.Millisecond)
	select {
	case err := <-result:
		t.Fatalf("Write gave %v before Close", err)
	default:
	}
	start := time.Now()
	closeOften(t, s)
	select {
	case err := <-result:
		if !errors.Is(err, audio.ErrClosed) {
			t.Errorf("the waiting Write gave %v", err)
		}
	case <-time.After(patience):
		t.Fatal("Close did not end the waiting Write")
	}
	if took := time.Since(start); c.Virtual && took != 0 {
		t.Errorf("Close took %v", took)
	}
}

func speakerCloseFirst(t *testing.T, s audio.Speaker) {
	closeOften(t, s)
	for range 2 {
		if err := s.Write(stereo()); !errors.Is(err, audio.ErrClosed) {
			t.Errorf("Write after Close: %v", err)
		}
	}
}
