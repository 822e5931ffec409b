package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestChurnPlays: the seeds are played, by as many processes as were asked
// for, and all that they saw is in the report.
func TestChurnPlays(t *testing.T) {
	program := filepath.Join(t.TempDir(), "teahouse-lab")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	c := &churnCommand{Hours: 0.15, Seed: 3, Members: 4, Each: 3 * time.Minute, Jobs: 2, program: program}
	r, err := c.playHours(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if r.Seeds != 3 || r.Hours < 0.15 || r.Hours > 3 || r.First != 3 || r.Members != 4 {
		t.Errorf("%d seeds, %v hours from %d with %d", r.Seeds, r.Hours, r.First, r.Members)
	}
	if r.Joins < 6 || r.Looks < 540 || r.Rounds < 3 || r.Sealed < 100 || r.Reunion <= 0 || r.ReunionSeed < 3 || r.ReunionSeed > 5 ||
		r.Longest["ghost"] <= 0 || r.Peak["Room.sessions"] < 1 {
		t.Errorf("%+v", r)
	}
	for _, v := range r.Violations {
		t.Errorf("%+v", v)
	}
	table := r.table()
	for _, want := range []string{"3 from 3 on, with 4 people", "worst reunion", "peak", "violations               0"} {
		if !strings.Contains(table, want) {
			t.Errorf("no %q in\n%s", want, table)
		}
	}
}

// TestChurnSurvivesItsProcesses: a process that dies is a violation in the seed
// that it was playing, and the next goes on behind it; not for ever.
func TestChurnSurvivesItsProcesses(t *testing.T) {
	program := filepath.Join(t.TempDir(), "plays")
	const script = `#!/bin/sh
echo '{"seeds":1,"hours":1}' >&3
echo "panic: something is wrong" >&2
exit 2
`
	if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	for hours, want := range map[float64]struct {
		seeds  int
		broken []uint64
		err    bool
	}{
		1: {1, nil, false}, 4: {2, []uint64{11, 13}, false}, 100: {5, []uint64{11, 13, 15, 17, 19}, true},
	} {
		c := &churnCommand{Hours: hours, Seed: 10, Members: 8, Each: time.Hour, Jobs: 1, program: program}
		r, err := c.playHours(t.Context())
		if (err != nil) != want.err || r.Seeds != want.seeds || len(r.Violations) < len(want.broken) {
			t.Errorf("%v hours: %v, %d seeds, %v", hours, err, r.Seeds, r.Violations)
			continue
		}
		for i, seed := range want.broken {
			if v := r.Violations[i]; v.Seed != seed || !strings.Contains(v.What, "panic: something is wrong") {
				t.Errorf("%v hours: %+v, want seed %d", hours, v, seed)
			}
		}
	}
}

// TestChurnStops: what was seen before an interruption is reported.
func TestChurnStops(t *testing.T) {
	program := filepath.Join(t.TempDir(), "plays")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho '{\"seeds\":1}' >&3\nexec sleep 600\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c := &churnCommand{Hours: 2, Members: 8, Each: time.Hour, Jobs: 1, program: program}
	go func() {
		time.Sleep(100 * time.Millisecond) // the line may come or not
		cancel()
	}()
	if r, err := c.playHours(ctx); err != nil || r == nil || r.Seeds > 1 || len(r.Violations) > 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestChurnUsage(t *testing.T) {
	right := churnCommand{Hours: 1, Members: 8, Each: time.Hour, Jobs: 1}
	for name, wrong := range map[string]func(c *churnCommand){
		"hours": func(c *churnCommand) { c.Hours = 0 }, "members": func(c *churnCommand) { c.Members = 2 },
		"many members": func(c *churnCommand) { c.Members = 33 }, "each": func(c *churnCommand) { c.Each = time.Second },
		"long": func(c *churnCommand) { c.Each = 48 * time.Hour }, "jobs": func(c *churnCommand) { c.Jobs = 0 },
	} {
		c := right
		wrong(&c)
		if err := c.Run(t.Context()); !errors.Is(err, errUsage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTailKeepsBothEnds(t *testing.T) {
	var end tail
	_, _ = end.Write([]byte("panic: at the beginning\n"))
	for range 1000 {
		_, _ = end.Write([]byte(strings.Repeat("x", 99) + "\n"))
	}
	_, _ = end.Write([]byte("at the end"))
	if s := end.text(); len(s) > 2*tailMost || !strings.HasPrefix(s, "panic: at the beginning") || !strings.HasSuffix(s, "at the end") {
		t.Errorf("%d bytes: %.40q … %q", len(s), s, s[len(s)-20:])
	}
}
