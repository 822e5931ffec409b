package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"teahouse/internal/sim"
)

// churnCommand plays random lives of a room in virtual time, one seed after the
// other, and watches what must never happen.
//
//	this process -- one child per job: virtual time is to be had inside a test alone
//	     |               plays its seeds, and writes a line for each to a pipe
//	  tally, progress on standard error, the result at the end
//
// A child that dies takes one seed with it; the next one goes on behind it.
type churnCommand struct {
	Hours   float64       `default:"1000" help:"Virtual hours to play at least."`
	Seed    uint64        `default:"0" help:"The first seed."`
	Members int           `default:"8" help:"How many people come and go, 3 to 32."`
	Each    time.Duration `default:"1h" help:"How long one seed lasts, without the time that the room gets to become one again."`
	Jobs    int           `default:"1" help:"Seeds to play side by side, each in a process of its own on one core."`
	JSON    bool          `help:"One JSON object on standard output instead of a table."`

	program string // that plays; empty: this one
}

// churnReport is the result.
type churnReport struct {
	Members int     `json:"members"`
	Wanted  float64 `json:"hours_wanted"`
	First   uint64  `json:"first_seed"`
	Took    float64 `json:"took_s"` // real time
	sim.Tally
}

// maxDeaths is how many processes may die before it is given up.
const maxDeaths = 5

// Run plays until enough hours have been played, or ctx ends: then it reports
// what there is.
func (c *churnCommand) Run(ctx context.Context) error {
	report, err := c.playHours(ctx)
	if report == nil {
		return err
	}
	if err := c.show(report); err != nil {
		return err
	}
	switch n := len(report.Violations); {
	case err != nil:
		return err
	case n > 0:
		return fmt.Errorf("%d violations", n)
	case ctx.Err() != nil:
		return fmt.Errorf("stopped after %.1f of %.1f hours", report.Hours, c.Hours)
	}
	return nil
}

// playHours gives what was seen, even where an error ended it early.
func (c *churnCommand) playHours(ctx context.Context) (*churnReport, error) {
	if c.Members < 3 || c.Members > 32 || c.Each < time.Minute || c.Each > 24*time.Hour || c.Jobs < 1 || c.Jobs > 256 || c.Hours <= 0 || c.Hours > 1e6 {
		return nil, fmt.Errorf("%w: --members takes 3 to 32, --each 1m to 24h, --jobs 1 to 256, --hours up to a million", errUsage)
	}
	seeds := uint64(math.Ceil(c.Hours / c.Each.Hours()))
	report := &churnReport{Members: c.Members, Wanted: c.Hours, First: c.Seed}
	started := time.Now()
	var mu sync.Mutex
	played := func(one *sim.Tally) {
		mu.Lock()
		defer mu.Unlock()
		report.Join(one)
		for _, v := range one.Violations {
			fmt.Fprintf(os.Stderr, "seed %d: %v: %s\n", v.Seed, time.Duration(v.At*float64(time.Second)).Round(time.Millisecond), v.What)
		}
		if report.Seeds%max(1, int(seeds/100)) == 0 {
			fmt.Fprintf(os.Stderr, "%d of %d seeds, %.1f hours in %v, %d violations\n",
				report.Seeds, seeds, report.Hours, time.Since(started).Round(time.Second), len(report.Violations))
		}
	}
	var jobs sync.WaitGroup
	errs := make([]error, c.Jobs)
	for job := range c.Jobs {
		jobs.Go(func() { errs[job] = c.playAll(ctx, uint64(job), seeds, played) })
	}
	jobs.Wait()
	report.Took = time.Since(started).Seconds()
	return report, errors.Join(errs...)
}

// playAll plays each Jobs-th of the seeds, in as many processes as it takes.
func (c *churnCommand) playAll(ctx context.Context, job, seeds uint64, played func(*sim.Tally)) error {
	deaths := 0
	for next := job; next < seeds && ctx.Err() == nil; {
		seed, err := c.play(ctx, c.Seed+next, c.Seed+seeds, func(one *sim.Tally) {
			next += uint64(c.Jobs)
			played(one)
		})
		if err == nil || ctx.Err() != nil {
			continue
		}
		deaths++
		played(&sim.Tally{Violations: []sim.SeedViolation{{Seed: seed, What: fmt.Sprintf("it cannot be played: %v", err)}}})
		if next += uint64(c.Jobs); deaths >= maxDeaths {
			return fmt.Errorf("given up after %d processes that died", deaths)
		}
	}
	return nil
}

// play has one process play seeds from first up to before end, and tells of
// each. If it fails, seed is the one that was being played.
func (c *churnCommand) play(ctx context.Context, first, end uint64, played func(*sim.Tally)) (seed uint64, err error) {
	program := c.program
	if program == "" {
		if program, err = os.Executable(); err != nil {
			return first, fmt.Errorf("find this program: %w", err)
		}
	}
	results, write, err := os.Pipe()
	if err != nil {
		return first, fmt.Errorf("make a pipe: %w", err)
	}
	defer results.Close()
	child := exec.CommandContext(ctx, program, "churn-play", fmt.Sprint("--first=", first), fmt.Sprint("--end=", end), fmt.Sprint("--step=", c.Jobs),
		fmt.Sprint("--members=", c.Members), fmt.Sprint("--each=", c.Each))
	child.ExtraFiles = []*os.File{write} // its descriptor 3
	// One bubble is busy with one thing at a time, and makes much garbage.
	child.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=400")
	var said tail
	child.Stdout, child.Stderr = &said, &said
	err = child.Start()
	_ = write.Close() // the child has its own
	if err != nil {
		return first, fmt.Errorf("start a process to play in: %w", err)
	}
	seed = first
	lines := bufio.NewScanner(results)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var one sim.Tally
		if err = json.Unmarshal(lines.Bytes(), &one); err != nil {
			break
		}
		seed += uint64(c.Jobs)
		played(&one)
	}
	if err = errors.Join(err, lines.Err()); err != nil {
		_ = child.Process.Kill() // it is waited for below
	}
	if ended := child.Wait(); ended != nil {
		return seed, fmt.Errorf("%w\n%s", ended, said.text())
	}
	return seed, err
}

// tail keeps the end of what is written to it. A panic says what it is at its
// beginning, so it keeps that too.
type tail struct{ head, rest []byte }

const tailMost = 4 << 10

func (t *tail) Write(b []byte) (int, error) {
	n := min(len(b), tailMost-len(t.head))
	t.head = append(t.head, b[:n]...)
	t.rest = append(t.rest, b[n:]...)
	if over := len(t.rest) - tailMost; over > 0 {
		t.rest = append(t.rest[:0], t.rest[over:]...)
	}
	return len(b), nil
}

func (t *tail) text() string { return strings.TrimSpace(string(t.head) + string(t.rest)) }

// show writes the result.
func (c *churnCommand) show(r *churnReport) error {
	if r.Violations == nil {
		r.Violations = []sim.SeedViolation{}
	}
	if c.JSON {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(r); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
		return nil
	}
	fmt.Print(r.table())
	return nil
}

func (r *churnReport) table() string {
	var b strings.Builder
	line := func(what, format string, args ...any) {
		fmt.Fprintf(&b, "%-24s %s\n", what, fmt.Sprintf(format, args...))
	}
	line("virtual hours", "%.1f of %g, in %v", r.Hours, r.Wanted, time.Duration(r.Took*float64(time.Second)).Round(time.Second))
	line("seeds", "%d from %d on, with %d people", r.Seeds, r.First, r.Members)
	line("rounds, looks", "%d, %d", r.Rounds, r.Looks)
	line("joins, leaves, kills", "%d, %d, %d", r.Joins, r.Leaves, r.Kills)
	line("partitions, heals", "%d, %d", r.Splits, r.Heals)
	line("clocks set, wires", "%d, %d", r.Skews, r.Wires)
	line("seals watched, keys", "%d, %d", r.Sealed, r.Keys)
	line("epochs handed", "%d", r.Handed)
	line("worst reunion", "%.2f s, seed %d", r.Reunion, r.ReunionSeed)
	for _, what := range slices.Sorted(maps.Keys(r.Longest)) {
		line("longest "+what, "%.2f s", r.Longest[what])
	}
	for _, what := range slices.Sorted(maps.Keys(r.Peak)) {
		if r.Peak[what] > 0 && !strings.HasSuffix(what, "(bytes)") {
			line("peak", "%d %s", r.Peak[what], what)
		}
	}
	line("violations", "%d", len(r.Violations))
	for _, v := range r.Violations {
		line("", "seed %d: %v: %s", v.Seed, time.Duration(v.At*float64(time.Second)).Round(time.Millisecond), v.What)
	}
	return b.String()
}
