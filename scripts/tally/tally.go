package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// event is one line of `go test -json` (go doc test2json).
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build-output and build-fail
	Test        string
	Elapsed     float64 // seconds
	Output      string
	FailedBuild string
}

// skip is one line of the skips file: which test may be skipped, and why.
type skip struct{ pkg, test, reason string }

// parseSkips reads lines "package test reason in words"; package and test are
// patterns of path.Match. Empty lines and those that begin with # are left out.
func parseSkips(text string) ([]skip, error) {
	var all []skip
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Fields(line)
		if len(fields) < 3 {
			return nil, fmt.Errorf("%q: a package, a test and a reason are wanted", line)
		}
		s := skip{pkg: fields[0], test: fields[1], reason: strings.Join(fields[2:], " ")}
		for _, pattern := range []string{s.pkg, s.test} {
			if _, err := path.Match(pattern, ""); err != nil {
				return nil, fmt.Errorf("%q: %w", line, err)
			}
		}
		all = append(all, s)
	}
	return all, nil
}

// tally is what the events come to so far. Not for several goroutines.
type tally struct {
	out     io.Writer
	strict  bool
	allowed []skip

	passed, failed, skipped int
	packages                int
	second                  int             // of passed: at the second try
	failures                []failure       // top-level tests, each once
	grave                   []string        // packages with a failure that has no second try
	open                    map[string]*pkg // packages that have not ended
	builds                  map[string]*strings.Builder
}

// pkg is one package under test.
type pkg struct {
	output  strings.Builder             // outside of tests
	tests   map[string]*strings.Builder // output of tests that have not ended
	ran     int                         // top-level tests that ended
	failed  int                         // of them
	noFiles bool
}

// read takes events until r ends. A line that is no event (the go command
// itself speaks) is shown as it is.
func (t *tally) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil && e.Action != "" {
				t.add(e)
			} else {
				fmt.Fprintf(t.out, "%s\n", strings.TrimRight(string(line), "\n"))
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read events: %w", err)
		}
	}
}

func (t *tally) add(e event) {
	switch e.Action {
	case "build-output":
		if t.builds == nil {
			t.builds = map[string]*strings.Builder{}
		}
		b := t.builds[e.ImportPath]
		if b == nil {
			b = new(strings.Builder)
			t.builds[e.ImportPath] = b
		}
		b.WriteString(e.Output)
		return
	case "build-fail":
		return // the package's own fail event names it
	}
	p := t.open[e.Package]
	if p == nil {
		p = &pkg{tests: map[string]*strings.Builder{}}
		if t.open == nil {
			t.open = map[string]*pkg{}
		}
		t.open[e.Package] = p
	}
	if e.Test == "" {
		t.addPackage(e, p)
		return
	}
	t.addTest(e, p)
}

func (t *tally) addTest(e event, p *pkg) {
	out := p.tests[e.Test]
	if out == nil {
		out = new(strings.Builder)
		p.tests[e.Test] = out
	}
	top := !strings.Contains(e.Test, "/")
	switch e.Action {
	case "output":
		out.WriteString(e.Output)
		if grave(e.Output) {
			t.grave = append(t.grave, e.Package)
		}
		return
	case "pass":
		if top {
			p.ran++
			t.passed++
		}
	case "fail":
		if top {
			p.ran++
			p.failed++
			t.failed++
			t.failures = append(t.failures, failure{e.Package, e.Test})
		}
		fmt.Fprintf(t.out, "FAIL  %s %s (%.1f s)\n%s", e.Package, e.Test, e.Elapsed, indent(out.String()))
	case "skip":
		if top {
			p.ran++
		}
		t.addSkip(e, p, out.String())
	default: // start, run, pause, cont, bench
		return
	}
	delete(p.tests, e.Test)
}

func (t *tally) addSkip(e event, p *pkg, output string) {
	t.skipped++
	for _, s := range t.allowed {
		inPackage, _ := path.Match(s.pkg, e.Package) // the patterns were tried by parseSkips
		named, _ := path.Match(s.test, e.Test)
		if inPackage && named {
			fmt.Fprintf(t.out, "skip  %s %s: %s\n", e.Package, e.Test, s.reason)
			return
		}
	}
	if !t.strict {
		fmt.Fprintf(t.out, "skip  %s %s\n%s", e.Package, e.Test, indent(output))
		return
	}
	t.failed++
	p.failed++
	fmt.Fprintf(t.out, "FAIL  %s %s was skipped, and no list of skips allows it\n%s", e.Package, e.Test, indent(output))
}

func (t *tally) addPackage(e event, p *pkg) {
	switch e.Action {
	case "output":
		if strings.Contains(e.Output, "[no test files]") {
			p.noFiles = true
		}
		p.output.WriteString(e.Output)
		if grave(e.Output) {
			t.grave = append(t.grave, e.Package)
		}
	case "skip": // there is no test file
		delete(t.open, e.Package)
	case "pass":
		delete(t.open, e.Package)
		if p.noFiles {
			return
		}
		t.packages++
		if p.ran == 0 && t.strict {
			t.failed++
			fmt.Fprintf(t.out, "FAIL  %s has tests and ran none\n%s", e.Package, indent(p.output.String()))
			return
		}
		fmt.Fprintf(t.out, "ok    %s: %d tests, %.1f s\n", e.Package, p.ran, e.Elapsed)
	case "fail":
		delete(t.open, e.Package)
		t.packages++
		if p.failed > 0 && len(p.tests) == 0 {
			fmt.Fprintf(t.out, "FAIL  %s: %d of %d tests, %.1f s\n", e.Package, p.failed, p.ran, e.Elapsed)
			return
		}
		t.failed++
		fmt.Fprintf(t.out, "FAIL  %s (%.1f s)\n", e.Package, e.Elapsed)
		if b := t.builds[e.FailedBuild]; b != nil {
			fmt.Fprint(t.out, indent(b.String()))
		}
		for _, name := range sortedKeys(p.tests) { // a panic or the time limit: they never ended
			fmt.Fprint(t.out, indent(p.tests[name].String()))
		}
		fmt.Fprint(t.out, indent(p.output.String()))
	}
}

// sum counts packages that never ended (go test itself was killed) as failed,
// and prints the last line.
func (t *tally) sum() {
	for _, name := range sortedKeys(t.open) {
		t.failed++
		fmt.Fprintf(t.out, "FAIL  %s did not come to an end\n", name)
	}
	clear(t.open)
	if t.second > 0 {
		fmt.Fprintf(t.out, "%d passed at the second try\n", t.second)
	}
	fmt.Fprintf(t.out, "%d tests passed, %d failed, %d skipped, in %d packages\n", t.passed, t.failed, t.skipped, t.packages)
	if t.passed+t.failed == 0 {
		t.failed++ // nothing at all was tested: never a success
		fmt.Fprintln(t.out, "FAIL  no test was run")
	}
}

// indent sets each line of a test's output apart, without the frame that
// `go test` puts around it.
func indent(output string) string {
	var b strings.Builder
	for line := range strings.Lines(output) {
		trimmed := strings.TrimSpace(line)
		if strings.HasPrefix(trimmed, "=== ") || strings.HasPrefix(trimmed, "--- ") {
			continue
		}
		b.WriteString("      ")
		b.WriteString(strings.TrimRight(line, "\n"))
		b.WriteByte('\n')
	}
	return b.String()
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
