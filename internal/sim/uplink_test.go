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

// thin is two people, one of whom talks for half a minute over a thin uplink.
func thin(like Uplink, listeners int, loss Loss, upload bool) Scenario {
	all := make([]int, listeners+1)
	for i := range all {
		all[i] = i
	}
	s := Scenario{
		Name: "thin uplink", Seed: 1, People: listeners + 1, Ground: Internet, Wire: Wire{Delay: 20 * time.Millisecond},
		Steps: []Step{
			{0, Join{all}},
			{time.Second, Settle{Within: 10 * time.Second}},
			{time.Second, SetWires{Wire{Delay: 20 * time.Millisecond, Loss: loss}}},
			{time.Second, SetUplink{0, like}},
			{time.Second, Talk{[]int{0}}},
			{10 * time.Second, Mark{"talk"}},
			{40 * time.Second, Talk{}},
			{41 * time.Second, Upload{Who: 0}},
			{41 * time.Second, Settle{Within: 20 * time.Second}},
		},
		For: 42 * time.Second,
	}
	if upload {
		s.Steps = append(s.Steps[:5:5], append([]Step{{6 * time.Second, Upload{Who: 0, RTT: 40 * time.Millisecond}}}, s.Steps[5:]...)...)
	}
	return s
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
		{"one, 200 kbit/s", 200, 1, 0, false, 0, 15 * time.Millisecond, 0},
		{"one, 200 kbit/s, very lossy", 200, 1, 0.2, false, 0.05, 200 * time.Millisecond, 0},
		{"one, 384 kbit/s, a TCP", 384, 1, 0, true, 0.04, queue + 30*time.Millisecond, 384 / 2},
		{"one, 384 kbit/s, lossy, a TCP", 384, 1, 0.05, true, 0.07, queue + 30*time.Millisecond, 384 / 2},
		{"one, 500 kbit/s, a TCP", 500, 1, 0, true, 0.04, queue + 30*time.Millisecond, 500 / 2},
		{"four, 320 kbit/s", 320, 4, 0, false, 0.06, queue + 30*time.Millisecond, 0},
		{"four, 384 kbit/s", 384, 4, 0, false, 0.02, queue + 30*time.Millisecond, 0},
		{"four, 512 kbit/s, lossy", 512, 4, 0.05, false, 0.07, queue + 30*time.Millisecond, 0},
		{"four, 700 kbit/s, very lossy", 700, 4, 0.2, false, 0.05, queue + 30*time.Millisecond, 0},
		{"four, 1 Mbit/s", 1000, 4, 0, false, 0, 15 * time.Millisecond, 0},
		{"four, 1 Mbit/s, lossy", 1000, 4, 0.05, false, 0.02, 30 * time.Millisecond, 0},
		{"four, 1 Mbit/s, a TCP", 1000, 4, 0, true, 0.06, queue + 30*time.Millisecond, 1000 / 4},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := Run(t, thin(Uplink{Rate: test.rate * 1000, Queue: queue}, test.listeners, Loss{Rate: test.loss}, test.upload))
			r.Report(t)
			h, first, _ := r.Window("talk").All()
			lost, late := float64(h.Lost)/float64(h.Expected), first.Quantile(0.95)-20*time.Millisecond
			uploaded := r.Uploaded[0] * 8 / 40 / 1000
			t.Logf("%s: %.1f %% lost, %.1f %% thin, p95 %v beyond the path, upload %d kbit/s, %v", test.name, 100*lost, 100*float64(h.Thin)/float64(h.Expected), late, uploaded, r.Links)
			if h.Expected < 1000 || lost > test.lost || late > test.late || uploaded < test.uploaded || uploaded > test.rate {
				t.Errorf("of %d frames", h.Expected)
			}
			if broken(r) {
				t.Errorf("links: %v", r.Links)
			}
		})
	}
}
