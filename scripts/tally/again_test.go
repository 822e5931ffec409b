package main

import (
	"errors"
	"io"
	"strings"
	"testing"
)

func TestAgain(t *testing.T) {
	fail := func(test string) string {
		return `{"Action":"fail","Package":"p","Test":"` + test + `"}` + "\n"
	}
	const end = `{"Action":"fail","Package":"p"}` + "\n"
	const late = `{"Action":"pass","Package":"p","Test":"TestA"}` + "\n" + `{"Action":"pass","Package":"p"}` + "\n"
	output := func(text string) string {
		return `{"Action":"output","Package":"p","Test":"TestA","Output":"` + text + `"}` + "\n"
	}
	for _, c := range []struct {
		name, first, second string
		passed, failed      int
		run                 string // what is run again; empty: nothing
	}{
		{"passes then", fail("TestA") + end, late, 1, 0, "^(TestA)$"},
		{"a subtest passes then", fail("TestA/x") + fail("TestA") + end, late, 1, 0, "^(TestA)$"},
		{"fails again", fail("TestA") + end, fail("TestA") + end, 0, 1, "^(TestA)$"},
		{"is not run", fail("TestA") + end, "", 0, 1, "^(TestA)$"},
		{"does not end", fail("TestA") + end, `{"Action":"run","Package":"p","Test":"TestA"}`, 0, 1, "^(TestA)$"},
		{"one of two passes", fail("TestA") + fail("TestB") + end, late, 0, 2, "^(TestA|TestB)$"},
		{"a race", output("WARNING: DATA RACE") + fail("TestA") + end, late, 0, 1, ""},
		{"a panic", output("panic: oh") + fail("TestA") + end, late, 0, 1, ""},
		{"a leak beside it", fail("TestA") + end + `{"Action":"fail","Package":"q"}` + "\n", late, 0, 2, ""},
		{
			"too many", fail("TestA") + fail("TestB") + fail("TestC") + fail("TestD") + fail("TestE") + end,
			late, 0, 5, "",
		},
		{"nothing failed", late, "", 1, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			tally := &tally{out: &out}
			if err := tally.read(strings.NewReader(c.first)); err != nil {
				t.Fatal(err)
			}
			run := ""
			err := tally.again(func(pkg, tests string) (io.Reader, error) {
				if pkg != "p" || run != "" {
					t.Errorf("ran %q of %s after %q", tests, pkg, run)
				}
				run = tests
				return strings.NewReader(c.second), nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if tally.passed != c.passed || tally.failed != c.failed || run != c.run {
				t.Errorf("%d passed, %d failed, %q again; want %d, %d, %q\n%s",
					tally.passed, tally.failed, run, c.passed, c.failed, c.run, out.String())
			}
		})
	}

	tally := &tally{out: io.Discard, failed: 1, failures: []failure{{"p", "TestA"}}}
	broken := errors.New("no go command")
	if err := tally.again(func(string, string) (io.Reader, error) { return nil, broken }); !errors.Is(err, broken) || tally.failed != 1 {
		t.Errorf("a second try that could not be: %v, %d failed", err, tally.failed)
	}
}
