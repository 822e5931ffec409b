package main

import (
	"strings"
	"testing"
)

func TestTally(t *testing.T) {
	const pass = `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"hello\n"}
{"Action":"pass","Package":"p","Test":"TestA","Elapsed":0.1}
`
	const skipped = `{"Action":"run","Package":"p","Test":"TestB/x"}
{"Action":"output","Package":"p","Test":"TestB/x","Output":"    b_test.go:3: needs root\n"}
{"Action":"skip","Package":"p","Test":"TestB/x"}
{"Action":"pass","Package":"p","Test":"TestB"}
`
	const ok = `{"Action":"pass","Package":"p","Elapsed":0.2}
`
	for _, c := range []struct {
		name, in       string
		strict         bool
		skips          string
		passed, failed int
		shows          string
	}{
		{name: "pass", in: pass + ok, passed: 1, shows: "ok    p: 1 tests, 0.2 s"},
		{
			name: "fail", passed: 1, failed: 1, shows: "it is wrong",
			in: pass + `{"Action":"output","Package":"p","Test":"TestC","Output":"it is wrong\n"}
{"Action":"fail","Package":"p","Test":"TestC"}
{"Action":"fail","Package":"p"}
`,
		},
		{
			name: "a failing subtest counts once, with its parent", failed: 1, shows: "p TestC/x",
			in: `{"Action":"fail","Package":"p","Test":"TestC/x"}
{"Action":"fail","Package":"p","Test":"TestC"}
{"Action":"fail","Package":"p"}
`,
		},
		{
			name: "panic", failed: 1, shows: "panic: oh",
			in: `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"panic: oh\n"}
{"Action":"fail","Package":"p"}
`,
		},
		{
			name: "a panic after a failed test is not lost", failed: 2, shows: "panic: oh",
			in: `{"Action":"fail","Package":"p","Test":"TestC"}
{"Action":"output","Package":"p","Test":"TestA","Output":"panic: oh\n"}
{"Action":"fail","Package":"p"}
`,
		},
		{
			name: "does not build", failed: 1, shows: "undefined: x",
			in: `{"ImportPath":"p [p.test]","Action":"build-output","Output":"a.go:1: undefined: x\n"}
{"ImportPath":"p [p.test]","Action":"build-fail"}
{"Action":"output","Package":"p","Output":"FAIL\tp [build failed]\n"}
{"Action":"fail","Package":"p","FailedBuild":"p [p.test]"}
`,
		},
		{name: "killed", in: pass, passed: 1, failed: 1, shows: "p did not come to an end"},
		{name: "nothing", in: "", failed: 1, shows: "no test was run"},
		{name: "words of the go command", in: "go: no such thing\n", failed: 1, shows: "go: no such thing"},
		{name: "skip", in: skipped + ok, passed: 1, shows: "needs root"},
		{name: "skip, strict", in: skipped + ok, strict: true, passed: 1, failed: 1, shows: "needs root"},
		{name: "skip, allowed", in: skipped + ok, strict: true, skips: "p TestB/* has a reason", passed: 1, shows: "has a reason"},
		{name: "skip, another allowed", in: skipped + ok, strict: true, skips: "q TestB/* has a reason", passed: 1, failed: 1},
		{
			name: "no test files", strict: true, passed: 1,
			in: pass + ok + `{"Action":"output","Package":"q","Output":"?   \tq\t[no test files]\n"}
{"Action":"skip","Package":"q"}
`,
		},
		{
			name: "tests that were not run", strict: true, failed: 1, shows: "ran none",
			in: `{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s [no tests to run]\n"}
` + ok,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			allowed, err := parseSkips(c.skips)
			if err != nil {
				t.Fatal(err)
			}
			tally := &tally{out: &out, strict: c.strict, allowed: allowed}
			if err := tally.read(strings.NewReader(c.in)); err != nil {
				t.Fatal(err)
			}
			tally.sum()
			if tally.passed != c.passed || tally.failed != c.failed {
				t.Errorf("%d passed, %d failed; want %d, %d", tally.passed, tally.failed, c.passed, c.failed)
			}
			if !strings.Contains(out.String(), c.shows) {
				t.Errorf("does not show %q", c.shows)
			}
			if t.Failed() {
				t.Log(out.String())
			}
		})
	}
}

func TestParseSkips(t *testing.T) {
	if _, err := parseSkips("p TestA"); err == nil {
		t.Error("a skip without a reason was allowed")
	}
	if _, err := parseSkips("p[ TestA why"); err == nil {
		t.Error("a broken pattern was allowed")
	}
	if s, err := parseSkips("# a comment\n\n p  TestA  this is why\n"); err != nil || len(s) != 1 || s[0] != (skip{"p", "TestA", "this is why"}) {
		t.Errorf("%v, %v", s, err)
	}
}
