package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// report is the JSON object of `bench --json`. Fields may be added, never
// renamed.
type report struct {
	Time    time.Time `json:"time"`
	Machine machine   `json:"machine"`
	Short   bool      `json:"short"`
	Figures []figure  `json:"figures"`
	Failed  []failure `json:"failed"`
}

// machine is what the figures depend on.
type machine struct {
	CPU  string `json:"cpu"`
	CPUs int    `json:"cpus"`
	OS   string `json:"os"`
	Arch string `json:"arch"`
	Go   string `json:"go"`
	// Load is how many threads wanted to run in the minute before (the load
	// average); 0 where the system does not tell. Beyond a part of CPUs,
	// figures of delay say more about the machine than about Teahouse.
	Load float64 `json:"load"`
}

// failure is a benchmark that could not be run.
type failure struct {
	Benchmark string `json:"benchmark"`
	Error     string `json:"error"`
}

func newReport(short bool) *report {
	return &report{
		Time:    time.Now().UTC().Truncate(time.Second),
		Machine: machine{CPU: cpuModel(), CPUs: runtime.NumCPU(), OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version(), Load: loadAverage()},
		Short:   short,
		Figures: []figure{}, // an empty list, not null
		Failed:  []failure{},
	}
}

// cpuModel is the name that the processor gives itself, "" where it has none.
func cpuModel() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// loadAverage is that of the last minute (proc_loadavg(5)).
func loadAverage() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), " ")
	load, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0
	}
	return load
}

// table is the report for a person at a terminal.
func (r *report) table() string {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, f := range r.Figures {
		fmt.Fprintf(w, "%s\t%s %s\t%s\t%s\n", f.Name, number(f.Value), f.Unit, budgetInWords(f), f.What)
	}
	_ = w.Flush() // a bytes.Buffer takes everything
	for _, f := range r.Failed {
		fmt.Fprintf(&b, "%s could not be run: %s\n", f.Benchmark, f.Error)
	}
	return b.String()
}

func budgetInWords(f figure) string {
	switch {
	case f.Budget == nil:
		return ""
	case f.Within:
		return "of at most " + number(*f.Budget)
	default:
		return "OVER " + number(*f.Budget)
	}
}

// number shows three significant digits, and whole numbers whole.
func number(v float64) string {
	if v == float64(int64(v)) || v >= 1000 || v <= -1000 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

// markdown is the report as it stands in docs/measurements.md.
func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured on %s: %s, %d CPUs, %s/%s, %s, load average before the start %.1f.\n",
		r.Time.Format(time.DateOnly), orUnknown(r.Machine.CPU), r.Machine.CPUs, r.Machine.OS, r.Machine.Arch, r.Machine.Go, r.Machine.Load)
	if r.Machine.Load > float64(r.Machine.CPUs)/2 {
		b.WriteString("**The machine was busy with other work:** delays are longer than they are on one that is not.\n")
	}
	b.WriteByte('\n')
	b.WriteString("| figure | measured | budget | name |\n|---|---:|---:|---|\n")
	for _, f := range r.Figures {
		budget := ""
		if f.Budget != nil {
			budget = number(*f.Budget) + " " + f.Unit
			if !f.Within {
				budget += ", **missed**"
			}
		}
		fmt.Fprintf(&b, "| %s | %s %s | %s | `%s` |\n", f.What, number(f.Value), f.Unit, budget, f.Name)
	}
	for _, f := range r.Failed {
		fmt.Fprintf(&b, "\n`%s` could not be run: %s\n", f.Benchmark, f.Error)
	}
	return b.String()
}

func orUnknown(s string) string {
	if s == "" {
		return "unknown processor"
	}
	return s
}

// What stands between these two lines of docs/measurements.md is ours; the
// rest is written by hand.
const (
	markBegin = "<!-- bench: everything down to the next mark is written by `teahouse-lab bench --out docs` -->\n"
	markEnd   = "<!-- /bench -->\n"
)

// refresh puts the report between the marks of a file, or writes the file.
func (r *report) refresh(name string) error {
	old, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		old, err = []byte("# Measurements\n\n"+markBegin+markEnd), nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	text, err := between(string(old), r.markdown())
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// between replaces what stands between the marks of text.
func between(text, replacement string) (string, error) {
	before, rest, ok := strings.Cut(text, markBegin)
	if !ok {
		return "", errors.New("the mark where the tables begin is missing")
	}
	_, after, ok := strings.Cut(rest, markEnd)
	if !ok {
		return "", errors.New("the mark where the tables end is missing")
	}
	return before + markBegin + "\n" + replacement + "\n" + markEnd + after, nil
}
