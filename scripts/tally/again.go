package main

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// mostAgain is how many failed tests get a second try; where more fail, the
// machine is not to blame.
const mostAgain = 4

// failure is a top-level test that failed in the ordinary way.
type failure struct{ pkg, test string }

// grave tells of a failure that no second try forgives: a test's end by panic,
// which took with it all tests that had not run, and a data race.
func grave(output string) bool {
	for _, sign := range []string{"panic: ", "fatal error: ", "WARNING: DATA RACE"} {
		if strings.Contains(output, sign) {
			return true
		}
	}
	return false
}

// again gives the failed tests of a run a second try, where they are few and
// nothing else failed. rerun runs the named tests of one package alone and
// returns their events. What passes then counts as passed, and is told. It is
// for tests that wait for real time on a machine that others use too; what
// lives in virtual time has no such excuse.
func (t *tally) again(rerun func(pkg, tests string) (io.Reader, error)) error {
	if len(t.failures) == 0 || len(t.failures) > mostAgain || t.failed != len(t.failures) {
		return nil
	}
	tests := map[string][]string{}
	for _, f := range t.failures {
		if slices.Contains(t.grave, f.pkg) {
			return nil
		}
		tests[f.pkg] = append(tests[f.pkg], regexp.QuoteMeta(f.test))
	}
	for _, pkg := range sortedKeys(tests) {
		fmt.Fprintf(t.out, "again %s, alone: %s\n", pkg, strings.Join(tests[pkg], ", "))
		events, err := rerun(pkg, "^("+strings.Join(tests[pkg], "|")+")$")
		if err != nil {
			return fmt.Errorf("second try of %s: %w", pkg, err)
		}
		second := &tally{out: t.out, strict: t.strict, allowed: t.allowed}
		if err := second.read(events); err != nil {
			return fmt.Errorf("second try of %s: %w", pkg, err)
		}
		if second.failed > 0 || len(second.open) > 0 || second.passed != len(tests[pkg]) {
			continue
		}
		t.failed -= second.passed
		t.passed += second.passed
		t.second += second.passed
	}
	return nil
}
