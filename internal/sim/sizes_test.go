package sim

import (
	"strings"
	"testing"
	"time"
)

// holder has collections in all the places that sizes goes to.
type holder struct {
	list  []int
	table map[string]*holder
	queue chan int
	ring  [3][]string
	deep  *holder
	other *strings.Builder // of another package
	any   any
	bytes []byte
}

func TestSizes(t *testing.T) {
	h := &holder{list: make([]int, 3), table: map[string]*holder{"a": {list: make([]int, 5)}, "b": nil}, queue: make(chan int, 9), bytes: make([]byte, 7)}
	h.queue <- 1
	h.ring[2] = make([]string, 4)
	h.deep = h // round and round
	h.other = new(strings.Builder)
	h.any = &holder{list: make([]int, 100)}
	found := sizes(h)
	for path, want := range map[string]int{
		"holder.list": 3, "holder.table": 2, "holder.table.list": 5, "holder.queue": 1, "holder.ring": 4, "holder.bytes (bytes)": 7,
	} {
		if n, ok := found[path]; !ok || n != want {
			t.Errorf("%s: %d, want %d", path, n, want)
		}
	}
	for path, n := range found {
		if n > 7 || strings.Contains(path, "other") {
			t.Errorf("%s: %d", path, n)
		}
	}
	if wrong := oversized(found, 0); len(wrong) > 0 {
		t.Error(wrong)
	}
	h.list = make([]int, 33)
	if wrong := oversized(sizes(h), 0); len(wrong) != 1 || !strings.Contains(wrong[0], "holder.list holds 33") {
		t.Error(wrong)
	}
}

// TestRoomsAreMeasured: what rooms hold is seen, and goroutines are counted,
// those of this scenario alone.
func TestRoomsAreMeasured(t *testing.T) {
	s := three(Memory)
	r := Run(t, s)
	r.Report(t)
	for path, least := range map[string]int{
		"Room.roster.present": 2, "Room.sessions": 2, "Room.handing.epochs.held": 1, "Room.seeking.candidates": 2, "sessions": 2, "goroutines": 5,
	} {
		if r.Peak[path] < least {
			t.Errorf("%s: %d, want %d at least: %v", path, r.Peak[path], least, r.Peak)
		}
	}
	if r.Peak["goroutines"] > 40 {
		t.Errorf("%d goroutines for each person", r.Peak["goroutines"])
	}
}

// TestGoroutinesAreFound: what is left running is told.
func TestGoroutinesAreFound(t *testing.T) {
	s := three(Memory)
	s.Steps = s.Steps[:1]
	s.Steps = append(s.Steps, Step{time.Second, Look{func(p *Present) {
		for range 3*goroutinesMost + 6*goroutinesLink {
			p.world.wg.Go(func() { time.Sleep(time.Minute) })
		}
	}}}, Step{time.Second, Settle{Within: 5 * time.Second}})
	r := Run(t, s)
	if len(r.Violations) != 1 || !strings.Contains(r.Violations[0].What, "goroutines run for 3 people") {
		t.Errorf("%v", r.Violations)
	}
}

// TestSkew: people whose clocks are an hour apart, ahead and behind, find each
// other, and talk on while the day changes for each at another time.
func TestSkew(t *testing.T) {
	s := Scenario{
		Name: "skew", Seed: 1, People: 4, Wire: Wire{Delay: 20 * time.Millisecond}, Clock: 22*time.Hour + 50*time.Minute,
		Steps: []Step{
			{0, Skew{0, time.Hour}},
			{0, Skew{1, -time.Hour}},
			{0, Join{[]int{0, 1}}},
			{0, Settle{Within: 40 * time.Second}},
			{10 * time.Second, Join{[]int{2}}},
			{10 * time.Second, Settle{Within: 5 * time.Second}},
			{20 * time.Second, Talk{[]int{0, 1, 2}}},
			{30 * time.Second, Skew{0, -time.Hour}},
			{30 * time.Second, Skew{1, time.Hour}},
			{40 * time.Second, Talk{}},
			{41 * time.Second, Hark{}},
		},
	}
	// Those who come late find the others at any time of the night.
	for at := 20 * time.Minute; at < 5*time.Hour; at += 20 * time.Minute {
		by := map[time.Duration]time.Duration{0: 0, 20 * time.Minute: time.Hour, 40 * time.Minute: -time.Hour}[at%time.Hour]
		s.Steps = append(s.Steps, Step{at, Skew{3, by}}, Step{at, Join{[]int{3}}}, Step{at + time.Second, Settle{Within: 10 * time.Second}},
			Step{at + time.Minute, Leave{3}})
	}
	s.For = 5 * time.Hour
	r := Run(t, s)
	r.Report(t)
	if len(r.Settled) < 15 || r.Lives < 15 {
		t.Errorf("%d settled, %d lives", len(r.Settled), r.Lives)
	}
}
