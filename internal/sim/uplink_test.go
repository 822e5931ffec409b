package sim

import (
	"testing"
	"time"
)

func TestUplinkQueue(t *testing.T) {
	u := uplink{like: Uplink{Rate: 1_000_000, Queue: 100 * time.Millisecond}}
	now := begun
	sent, last := 0, time.Duration(0)
	for range 1000 { // all at once: 1 Mbit/s is 12.5 ms for 1,562 bytes
		wait, ok := u.take(now, 1562)
		if !ok {
			continue
		}
		if sent++; wait <= last {
			t.Fatalf("packet %d goes %v after, the one before %v", sent, wait, last)
		}
		last = wait
	}
	if sent < 8 || sent > 9 || last < 100*time.Millisecond || last > 115*time.Millisecond {
		t.Errorf("%d packets, the last after %v", sent, last)
	}
	if wait, ok := u.take(now.Add(time.Second), 125); !ok || wait != time.Millisecond {
		t.Errorf("later: %v %v", wait, ok)
	}
	u.set(Uplink{})
	if wait, ok := u.take(now, 1e6); !ok || wait != 0 {
		t.Errorf("without a limit: %v %v", wait, ok)
	}
}

// TestThinUplink: voice alone makes no queue on an uplink that carries it; where
// it does not, or not with all that repair would want, no more is lost than the
// path itself loses, and the thin flow makes room; and beside a TCP that fills the
// queue of a plain router neither starves the other.
func TestThinUplink(t *testing.T) {
	const queue = 300 * time.Millisecond
	for _, test := range []struct {
		name      string
		rate      int // kbit/s
		listeners int
		loss      float64
		upload    bool
		lost      float64 // part of frames, at most
		late      time.Duration
		uploaded  int // kbit/s, at least
	}{
		// Alone on 200 kbit/s QUIC may repeat a packet of 700 bytes again and
		// again: it takes 31 ms on the line, and small ones have measured round
		// trips of exactly 40.
		{"one, 200 kbit/s", 200, 1, 0, false, 0.05, queue + 25*time.Millisecond, 0},
		{"one, 200 kbit/s, very lossy", 200, 1, 0.2, false, 0.05, queue + 25*time.Millisecond, 0},
		{"one, 384 kbit/s, a TCP", 384, 1, 0, true, 0.07, queue + 25*time.Millisecond, 384 * 2 / 5},
		{"one, 384 kbit/s, lossy, a TCP", 384, 1, 0.05, true, 0.08, queue + 25*time.Millisecond, 384 * 2 / 5},
		{"one, 500 kbit/s, a TCP", 500, 1, 0, true, 0.04, queue + 25*time.Millisecond, 500 / 2},
		{"four, 320 kbit/s", 320, 4, 0, false, 0.06, queue + 25*time.Millisecond, 0},
		{"four, 384 kbit/s", 384, 4, 0, false, 0.05, queue + 25*time.Millisecond, 0},
		{"four, 512 kbit/s, lossy", 512, 4, 0.05, false, 0.07, queue + 25*time.Millisecond, 0},
		{"four, 700 kbit/s, very lossy", 700, 4, 0.2, false, 0.07, queue + 25*time.Millisecond, 0},
		{"four, 1 Mbit/s", 1000, 4, 0, false, 0.01, 25 * time.Millisecond, 0},
		{"four, 1 Mbit/s, lossy", 1000, 4, 0.05, false, 0.01, 40 * time.Millisecond, 0},
		{"four, 1 Mbit/s, a TCP", 1000, 4, 0, true, 0.06, queue + 25*time.Millisecond, 1000 * 2 / 5},
	} {
		if raceEnabled && test.listeners > 1 && test.rate != 384 {
			continue // what it could find is found by one of them
		}
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			u := ThinUplink{Uplink{Rate: test.rate * 1000, Queue: queue}, test.listeners, test.loss, test.upload}
			r := Run(t, u.Scenario())
			r.Report(t)
			f := u.Figures(r)
			t.Logf("%s: %.1f %% lost, %.1f %% thin, p95 %v beyond the path, upload %d kbit/s, %v", test.name, 100*f.Lost, 100*f.Thin, f.Late, f.Uploaded/1000, r.Links)
			if f.Frames < 1000 || f.Lost > test.lost || f.Late > test.late || f.Uploaded/1000 < test.uploaded || f.Uploaded/1000 > test.rate {
				t.Errorf("of %d frames", f.Frames)
			}
			// In a queue of 300 ms that begins within a second, on a path that loses
			// as well, a link may be taken for lost once; it is back at once, or more
			// would be lost.
			if broken(r) && !(test.upload && test.loss > 0 && r.Links["down: no way to the peer"] <= test.listeners) {
				t.Errorf("links: %v", r.Links)
			}
		})
	}
}
