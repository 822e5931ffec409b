package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"text/tabwriter"
	"time"
)

// A soak is a talk on loopback into which people come and from which they go
// for as long as it lasts, with what it costs sampled while it rests:
//
//	a bootstrap node and one member, each a process of its own, there all the time
//	two members in this process, there all the time
//	three members in this process who come, talk, and leave with or without a goodbye
//	two processes that come, talk, and leave, or are killed with -9, and return with the same home
//
// Each round they come and go for some time; then all but the lasting ones are
// out, and once nobody sees them any more, this process counts its goroutines,
// descriptors and the heap after a collection, and /proc tells of the others.
const (
	soakChurn = 35 * time.Second // of a round
	soakRest  = 20 * time.Second // until the killed are missed: 15 s
	soakLook  = 6 * time.Second  // of which the calmest moment counts: those who are gone are still dialled now and then
	soakRound = soakChurn + soakRest + soakLook
	soakWarm  = 10 * time.Minute
	soakStay  = 12 * time.Second // at most
	soakAway  = 5 * time.Second  // at most
)

type soakCommand struct {
	For      time.Duration `default:"20m" help:"How long."`
	Seed     uint64        `help:"Who comes and goes when; 0 chooses one."`
	JSON     bool          `help:"One JSON object on standard output instead of a table."`
	Teahouse string        `placeholder:"FILE" help:"The program to measure; by default the teahouse beside this one."`
}

// soakReport is the JSON object. Fields may be added, never renamed.
type soakReport struct {
	Time    time.Time `json:"time"`
	Machine machine   `json:"machine"`
	Seconds float64   `json:"seconds"` // how long it ran
	Seed    uint64    `json:"seed"`
	// How often somebody came, left with a goodbye, was closed without one (in
	// this process), was ended by kill -9.
	Joined   int64   `json:"joined"`
	Left     int64   `json:"left"`
	Vanished int64   `json:"vanished"`
	Killed   int64   `json:"killed"`
	Samples  int     `json:"samples"` // after the warm-up
	Trends   []trend `json:"trends"`
	Flat     bool    `json:"flat"`
}

// soak is one run.
type soak struct {
	where    place
	dir      string
	teahouse string
	address  string // of the bootstrap
	random   *rand.Rand
	report   *soakReport
	lasting  crowd
	running  group
	watched  map[string]*program // by the names of their figures
	figures  map[string][]sample

	joined, left, vanished, killed atomic.Int64
}

// Run runs it.
func (c *soakCommand) Run(ctx context.Context) (err error) {
	if c.For < leastSamples*soakRound {
		return fmt.Errorf("%w: a soak of less than %v tells nothing", errUsage, leastSamples*soakRound)
	}
	if c.Seed == 0 {
		c.Seed = rand.Uint64()>>11 | 1 // a number that JSON carries
	}
	if c.Teahouse == "" {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find the program to measure: %w", err)
		}
		c.Teahouse = filepath.Join(filepath.Dir(self), "teahouse")
	}
	s := &soak{
		teahouse: c.Teahouse, random: rand.New(rand.NewPCG(c.Seed, 0)),
		report:  &soakReport{Time: time.Now().UTC().Truncate(time.Second), Machine: newReport(false).Machine, Seed: c.Seed},
		watched: map[string]*program{}, figures: map[string][]sample{},
	}
	if s.dir, err = os.MkdirTemp("", "teahouse-lab-"); err != nil {
		return fmt.Errorf("make homes: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	defer func() { err = errors.Join(err, s.lasting.close(), s.running.stop()) }()
	if err := s.begin(ctx); err != nil {
		return err
	}
	started := time.Now()
	for round := 1; time.Since(started)+soakRound <= c.For; round++ {
		if err := s.churn(ctx); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		if err := pause(ctx, soakRest); err != nil {
			return err
		}
		if err := s.whole(ctx); err != nil {
			return fmt.Errorf("after round %d: %w", round, err)
		}
		if err := s.look(ctx, time.Since(started)); err != nil {
			return err
		}
		fmt.Fprintf(os.Stderr, "%v: round %d, %d goroutines\n", time.Since(started).Round(time.Second), round, runtime.NumGoroutine())
	}
	s.report.Seconds = time.Since(started).Seconds()
	if err := s.judge(); err != nil {
		return err
	}
	if err := s.print(c.JSON); err != nil {
		return err
	}
	if !s.report.Flat {
		return errors.New("not everything stays flat")
	}
	return nil
}

// begin starts those who last.
func (s *soak) begin(ctx context.Context) (err error) {
	if s.where, err = newPlace(); err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	bootstrap, err := s.running.start(ctx, "the bootstrap node", s.teahouse, "bootstrap", "--json", "--network", s.where.name,
		"--home", filepath.Join(s.dir, "bootstrap"), "--listen", loopback, "--listen", "/ip4/127.0.0.1/tcp/0")
	if err != nil {
		return err
	}
	if s.address, err = bootstrap.address(within); err != nil {
		return err
	}
	member, err := s.running.start(ctx, "the lasting member", s.teahouse, s.joining("lasting")...)
	if err != nil {
		return err
	}
	if _, err := member.wait(within, "joined", ""); err != nil {
		return err
	}
	s.watched["bootstrap"], s.watched["member"] = bootstrap, member
	for i := range 2 {
		m, err := s.member(within, fmt.Sprintf("lasting %d", i+1))
		if err != nil {
			return err
		}
		s.lasting = append(s.lasting, m)
	}
	return s.whole(ctx)
}

// whole waits until the lasting ones, and nobody else, are in the room, and
// hear each other.
func (s *soak) whole(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, m := range s.lasting {
		for len(m.room.Members()) != len(s.lasting)+1 || m.room.Hearers() != len(s.lasting) {
			if err := pause(within, 50*time.Millisecond); err != nil {
				return fmt.Errorf("the room has %d members and %d hearers, not %d and %d: %w",
					len(m.room.Members()), m.room.Hearers(), len(s.lasting)+1, len(s.lasting), err)
			}
		}
	}
	return nil
}

// look samples everything, once a second for soakLook, and keeps the least of
// each figure.
func (s *soak) look(ctx context.Context, at time.Duration) error {
	least := map[string]float64{}
	note := func(name string, value float64) {
		if old, ok := least[name]; !ok || value < old {
			least[name] = value
		}
	}
	for end := time.Now().Add(soakLook); time.Now().Before(end); {
		if err := s.note(note); err != nil {
			return err
		}
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
	}
	for name, value := range least {
		s.figures[name] = append(s.figures[name], sample{at, value})
	}
	return nil
}

// note gives each figure as it is now.
func (s *soak) note(note func(name string, value float64)) error {
	note("goroutines", float64(runtime.NumGoroutine()))
	runtime.GC()
	runtime.GC() // what finalizers let go
	var heap runtime.MemStats
	runtime.ReadMemStats(&heap)
	note("heap", float64(heap.HeapInuse)/1e6)
	note("heap-live", float64(heap.HeapAlloc)/1e6)
	files, err := descriptors(os.Getpid())
	if err != nil {
		return err
	}
	note("descriptors", files)
	for name, p := range s.watched {
		pid := p.cmd.Process.Pid
		if files, err = descriptors(pid); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		use, err := p.use()
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		note(name+"-descriptors", files)
		note(name+"-memory", float64(use.rss)/1e6)
	}
	return nil
}

// descriptors is how many files a process has open.
func descriptors(pid int) (float64, error) {
	open, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "fd"))
	if err != nil {
		return 0, fmt.Errorf("descriptors of process %d: %w", pid, err)
	}
	return float64(len(open)), nil
}

// soakTrends are the figures and what each may grow by. Memory may, a little:
// a node remembers for an hour whom it has met.
func soakTrends() []trend {
	return []trend{
		{Name: "goroutines", What: "two lasting members and this program, goroutines", Allowed: 8, Bound: 800},
		{Name: "heap-live", What: "the same, what lives after a collection", Unit: "MB", Allowed: 2, Bound: 32},
		{Name: "heap", What: "the same, heap in use, with what lies between", Unit: "MB", Allowed: 8, Bound: 96},
		{Name: "descriptors", What: "the same, open descriptors", Allowed: 3, Bound: 128},
		{Name: "member-memory", What: "the lasting member of its own process, memory", Unit: "MB", Allowed: 8, Bound: 96},
		{Name: "member-descriptors", What: "the same, open descriptors", Allowed: 3, Bound: 64},
		{Name: "bootstrap-memory", What: "the bootstrap node, memory", Unit: "MB", Allowed: 8, Bound: 96},
		{Name: "bootstrap-descriptors", What: "the same, open descriptors", Allowed: 3, Bound: 64},
	}
}

// judge takes the samples after the warm-up: ten minutes, for so long a room
// seeks those who have vanished, but at most half of the run.
func (s *soak) judge() error {
	r := s.report
	r.Joined, r.Left, r.Vanished, r.Killed = s.joined.Load(), s.left.Load(), s.vanished.Load(), s.killed.Load()
	r.Flat = true
	warm := min(soakWarm, time.Duration(r.Seconds/2*float64(time.Second)))
	for _, t := range soakTrends() {
		all := s.figures[t.Name]
		from := slices.IndexFunc(all, func(one sample) bool { return one.at >= warm })
		after := all[max(0, min(from, len(all)-leastSamples)):]
		if len(after) < leastSamples {
			return fmt.Errorf("%d samples tell nothing: the rounds took too long", len(after))
		}
		t.judge(after)
		r.Samples = len(after)
		r.Trends = append(r.Trends, t)
		r.Flat = r.Flat && t.Flat
	}
	return nil
}

func (s *soak) print(asJSON bool) error {
	if asJSON {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(s.report); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
		return nil
	}
	fmt.Print(s.report.table())
	return nil
}

// table is the report for a person at a terminal.
func (r *soakReport) table() string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%v, seed %d: %d came, %d left, %d vanished, %d were killed; %d samples after the warm-up\n",
		time.Duration(r.Seconds*float64(time.Second)).Round(time.Second), r.Seed, r.Joined, r.Left, r.Vanished, r.Killed, r.Samples)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, t := range r.Trends {
		verdict := "flat"
		if !t.Flat {
			verdict = "NOT FLAT"
		}
		fmt.Fprintf(w, "%s\t%s\t%s to %s %s\tgrowth %s ± %s of at most %s\t%s\n",
			t.Name, verdict, number(t.First), number(t.Last), t.Unit, number(t.Growth), number(t.Error), number(t.Allowed), t.What)
	}
	_ = w.Flush() // a bytes.Buffer takes everything
	return b.String()
}
