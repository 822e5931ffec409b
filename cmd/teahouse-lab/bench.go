package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

var errUsage = errors.New("wrong use")

// figure is one number that was measured.
type figure struct {
	Name  string  `json:"name"` // stable, of the form benchmark/what
	What  string  `json:"what"` // in words
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	// Budget is the most that Value may be; nil where nothing is promised.
	Budget *float64 `json:"budget"`
	// Everywhere tells that the budget holds on any machine (a count, a
	// ratio of two things measured in one run), not only on one like that of
	// docs/measurements.md.
	Everywhere bool `json:"everywhere"`
	Within     bool `json:"within"` // no budget, or inside it
}

// atMost gives f a budget.
func (f figure) atMost(budget float64) figure {
	f.Budget = &budget
	return f
}

// anywhere marks the budget of f as one that does not depend on the machine.
func (f figure) anywhere() figure {
	f.Everywhere = true
	return f
}

// benchmark measures one or more figures that belong together.
type benchmark struct {
	name string
	what string // in words, for a person who chooses
	run  func(context.Context, *bench) ([]figure, error)
}

// benchmarks is the registry: every benchmark there is, in the order in which
// they run and are shown.
func benchmarks() []benchmark {
	return []benchmark{
		{"opus", "Opus: encoding and decoding one frame", benchOpus},
		{"seal", "sealing and opening at the sizes of voice", benchSeal},
		{"packet", "framing and cryptography of one packet", benchPacket},
		{"simulated", "the network layer under loss, in virtual time", benchSimulated},
		{"join", "from joining to first audio", benchJoin},
		{"path", "the software path of a voice", benchPath},
		{"allocations", "allocations on a frame's whole way", benchAllocations},
		{"talker", "one talker who hears seven", benchTalker},
		{"idle", "an idle node beside a bare libp2p host with DHT and gossipsub", benchIdle},
	}
}

// bench is what every benchmark is given.
type bench struct {
	teahouse string // the program under test
	short    bool
	progress func(format string, args ...any)
}

// lasting is how long to measure: d, or a part of it with --short.
func (b *bench) lasting(d time.Duration) time.Duration {
	if b.short {
		return d / 5
	}
	return d
}

type benchCommand struct {
	Names    []string `arg:"" optional:"" name:"name" help:"Benchmarks to run; all of them if none is named. --list shows them."`
	JSON     bool     `help:"One JSON object on standard output instead of a table."`
	Out      string   `placeholder:"DIR" help:"Also write the tables into DIR/measurements.md, between its bench marks."`
	Short    bool     `help:"Measure for a fifth of the time: rougher, for a quick look."`
	List     bool     `help:"Say which benchmarks there are."`
	Teahouse string   `placeholder:"FILE" help:"The program to measure; by default the teahouse beside this one."`
}

// Run runs the benchmarks one after the other, so that none disturbs another.
func (c *benchCommand) Run(ctx context.Context) error {
	all := benchmarks()
	if c.List {
		for _, b := range all {
			fmt.Printf("%-12s %s\n", b.name, b.what)
		}
		return nil
	}
	chosen, err := choose(all, c.Names)
	if err != nil {
		return err
	}
	if c.Out != "" && (c.Short || len(c.Names) > 0) {
		return fmt.Errorf("%w: --out replaces all tables, so it takes all benchmarks at full length", errUsage)
	}
	b := &bench{teahouse: c.Teahouse, short: c.Short, progress: func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, format+"\n", args...)
	}}
	if b.teahouse == "" {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find the program to measure: %w", err)
		}
		b.teahouse = filepath.Join(filepath.Dir(self), "teahouse")
	}

	r := measure(ctx, b, chosen)
	if c.JSON {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(r); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
	} else {
		fmt.Print(r.table())
	}
	if c.Out != "" {
		if err := r.refresh(filepath.Join(c.Out, "measurements.md")); err != nil {
			return err
		}
	}
	return r.verdict()
}

func choose(all []benchmark, names []string) ([]benchmark, error) {
	if len(names) == 0 {
		return all, nil
	}
	var chosen []benchmark
	for _, name := range names {
		i := slices.IndexFunc(all, func(b benchmark) bool { return b.name == name })
		if i < 0 {
			return nil, fmt.Errorf("%w: there is no benchmark %q; --list shows them", errUsage, name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// measure runs the chosen benchmarks. One that cannot be run is noted, and
// the others go on.
func measure(ctx context.Context, b *bench, chosen []benchmark) *report {
	r := newReport(b.short)
	for _, one := range chosen {
		b.progress("%s: %s", one.name, one.what)
		figures, err := one.run(ctx, b)
		if err != nil {
			b.progress("%s: %v", one.name, err)
			r.Failed = append(r.Failed, failure{Benchmark: one.name, Error: err.Error()})
		}
		for _, f := range figures {
			f.Name = one.name + "/" + f.Name
			f.Within = f.Budget == nil || f.Value <= *f.Budget
			r.Figures = append(r.Figures, f)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return r
}

// verdict is an error where something could not be measured, or a budget that
// holds everywhere is not kept.
func (r *report) verdict() error {
	var bad []string
	for _, f := range r.Failed {
		bad = append(bad, f.Benchmark+" could not be run")
	}
	for _, f := range r.Figures {
		if f.Everywhere && !f.Within {
			bad = append(bad, fmt.Sprintf("%s is %s %s, over its budget of %s", f.Name, number(f.Value), f.Unit, number(*f.Budget)))
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return errors.New(strings.Join(bad, "; "))
}
