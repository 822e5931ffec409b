package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func madeUp(f ...figure) benchmark {
	return benchmark{name: "made", what: "up", run: func(context.Context, *bench) ([]figure, error) { return f, nil }}
}

func quiet() *bench { return &bench{progress: func(string, ...any) {}} }

func TestVerdict(t *testing.T) {
	broken := benchmark{name: "broken", run: func(context.Context, *bench) ([]figure, error) { return nil, errors.New("oh") }}
	for _, c := range []struct {
		name   string
		chosen []benchmark
		wants  string // "" for no error
	}{
		{"no budget", []benchmark{madeUp(figure{Name: "a", Value: 9})}, ""},
		{"within", []benchmark{madeUp(figure{Name: "a", Value: 9}.atMost(9).anywhere())}, ""},
		{"over, on this machine", []benchmark{madeUp(figure{Name: "a", Value: 10}.atMost(9))}, ""},
		{"over, anywhere", []benchmark{madeUp(figure{Name: "a", Value: 10, Unit: "things"}.atMost(9).anywhere())}, "made/a is 10 things, over its budget of 9"},
		{"could not be run", []benchmark{broken, madeUp(figure{Name: "a"})}, "broken could not be run"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := measure(t.Context(), quiet(), c.chosen)
			err := r.verdict()
			if (err == nil) != (c.wants == "") || err != nil && err.Error() != c.wants {
				t.Errorf("%v, want %q", err, c.wants)
			}
			if len(r.Figures)+len(r.Failed) != len(c.chosen) {
				t.Errorf("%d figures and %d failures of %d benchmarks", len(r.Figures), len(r.Failed), len(c.chosen))
			}
		})
	}
}

// The JSON is read by others: its names are pinned here.
func TestJSON(t *testing.T) {
	r := measure(t.Context(), quiet(), []benchmark{madeUp(
		figure{Name: "a", What: "w", Value: 1.5, Unit: "ms"}.atMost(2).anywhere(), figure{Name: "b"})})
	text, err := json.Marshal(r.Figures)
	if err != nil {
		t.Fatal(err)
	}
	const want = `[{"name":"made/a","what":"w","value":1.5,"unit":"ms","budget":2,"everywhere":true,"within":true},` +
		`{"name":"made/b","what":"","value":0,"unit":"","budget":null,"everywhere":false,"within":true}]`
	if string(text) != want {
		t.Errorf("%s\nwant %s", text, want)
	}
}

func TestRefreshKeepsWhatPeopleWrote(t *testing.T) {
	name := filepath.Join(t.TempDir(), "measurements.md")
	r := measure(t.Context(), quiet(), []benchmark{madeUp(figure{Name: "a", What: "first", Value: 1})})
	if err := r.refresh(name); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte("By hand.\n"+string(text)+"\nMore by hand.\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.Figures[0].What = "second"
	if err := r.refresh(name); err != nil {
		t.Fatal(err)
	}
	if text, err = os.ReadFile(name); err != nil {
		t.Fatal(err)
	}
	got := string(text)
	if !strings.HasPrefix(got, "By hand.\n") || !strings.HasSuffix(got, "\nMore by hand.\n") ||
		!strings.Contains(got, "| second |") || strings.Contains(got, "| first |") {
		t.Error(got)
	}
	if err := os.WriteFile(name, []byte("no marks"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.refresh(name); err == nil {
		t.Error("a file without marks was written over")
	}
}

func TestOutTakesEverything(t *testing.T) {
	for _, c := range []benchCommand{{Short: true}, {Names: []string{"opus"}}} {
		c.Out = t.TempDir()
		if err := c.Run(t.Context()); !errors.Is(err, errUsage) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 12: "12", 0.2461: "0.246", 18.84: "18.8", 1234.5: "1234", 0.00012345: "0.000123"} {
		if got := number(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}

func TestCostOfCountsAllocations(t *testing.T) {
	var keep []byte
	if c := costOf(20*time.Millisecond, func() { keep = make([]byte, 100) }); c.allocs != 1 || c.time <= 0 {
		t.Errorf("one allocation a call: %+v", c)
	}
	if c := costOf(20*time.Millisecond, func() { keep[0]++ }); c.allocs != 0 {
		t.Errorf("no allocation: %+v", c)
	}
}

// A benchmark's name is its address: unique, and listed.
func TestRegistry(t *testing.T) {
	seen := map[string]bool{}
	for _, b := range benchmarks() {
		if b.name == "" || b.what == "" || b.run == nil || seen[b.name] || strings.ContainsAny(b.name, "/ ") {
			t.Errorf("%+v", b)
		}
		seen[b.name] = true
	}
	if _, err := choose(benchmarks(), []string{"no such"}); !errors.Is(err, errUsage) {
		t.Error(err)
	}
}
