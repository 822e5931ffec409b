// Command tally reads the output of `go test -json` and says what it comes
// to: each failed test with what it printed, each skipped one with its reason,
// a line per package, and a sum.
//
//	go test -json ./... | tally [-strict] [-skips FILE] [-counts FILE] [-again FLAGS]
//
// It counts top-level tests, and a package that failed without a failing test
// (it did not build, it panicked, it leaked) as one. It ends with 1 if anything
// failed. With -strict, nothing may be left out silently: a skipped test, and a
// package that has tests and ran none, count as failed unless the skips file
// names them with a reason. With -again, up to four tests that failed are run
// once more, alone, by `go test` with these flags; what passes then counts as
// passed and is told. Panics, races, leaks and what hangs have no second try.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

func main() {
	strict := flag.Bool("strict", false, "a skipped test is a failed one, unless the skips file allows it")
	skips := flag.String("skips", "", "`file` of tests that may be skipped, each with a reason")
	counts := flag.String("counts", "", "`file` to which a line \"passed failed\" is added")
	again := flag.String("again", "", "`flags` of go test, parted by spaces, for a second try of failed tests; empty: none")
	flag.Parse()
	failed, err := run(*strict, *skips, *counts, *again)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "tally:", err)
		os.Exit(2)
	case failed > 0:
		os.Exit(1)
	}
}

func run(strict bool, skips, counts, again string) (failed int, err error) {
	t := &tally{out: os.Stdout, strict: strict}
	if skips != "" {
		text, err := os.ReadFile(skips)
		if err != nil {
			return 0, fmt.Errorf("skips: %w", err)
		}
		if t.allowed, err = parseSkips(string(text)); err != nil {
			return 0, fmt.Errorf("skips: %s: %w", skips, err)
		}
	}
	if err := t.read(os.Stdin); err != nil {
		return 0, err
	}
	if again != "" {
		if err := t.again(goTest(again)); err != nil {
			return 0, err
		}
	}
	t.sum()
	if counts == "" {
		return t.failed, nil
	}
	f, err := os.OpenFile(counts, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return t.failed, fmt.Errorf("counts: %w", err)
	}
	if _, err := fmt.Fprintln(f, t.passed, t.failed); err != nil {
		return t.failed, fmt.Errorf("counts: %w", err)
	}
	return t.failed, f.Close()
}

// goTest runs tests of one package with the flags, and returns the events.
func goTest(flags string) func(pkg, tests string) (io.Reader, error) {
	return func(pkg, tests string) (io.Reader, error) {
		args := append([]string{"test", "-json", "-count=1"}, strings.Fields(flags)...)
		cmd := exec.Command("go", append(args, "-run", tests, pkg)...)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if _, failed := errors.AsType[*exec.ExitError](err); failed {
			err = nil // the events tell
		}
		return bytes.NewReader(out), err
	}
}
