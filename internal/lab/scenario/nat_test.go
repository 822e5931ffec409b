//go:build lab

package scenario

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"teahouse/internal/lab"
)

var (
	reachAll  = flag.Bool("reach.all", false, "TestReach: every pair of kinds instead of a few")
	reachOut  = flag.String("reach.out", "", "TestReach: write the table into this file")
	reachWait = flag.Duration("reach.wait", 3*time.Second, "TestReach: how long two who need a relay are given to find another way")
)

// ownAddress is the place of somebody without a router, beside the kinds of
// routers.
const ownAddress lab.NATKind = "public"

// places are those that two people are tried in.
func places() []lab.NATKind { return append([]lab.NATKind{ownAddress}, lab.NATKinds()...) }

// pair is who is in the room, and who comes.
type pair struct{ first, second lab.NATKind }

// direct is what has to work without a relay. Of two behind routers, one must
// let in what comes from where it has sent to, at whatever port the other's
// router shows there: so not two that choose a port for each, nor one of these
// and one that looks at the port, as the routers that block UDP do with TCP.
func (p pair) direct() bool {
	strict := func(k lab.NATKind) bool { return k == lab.PortRestricted || k == lab.UDPBlocked }
	switch {
	case p.first == lab.Symmetric:
		return p.second != lab.Symmetric && !strict(p.second)
	case p.second == lab.Symmetric:
		return !strict(p.first)
	}
	return true
}

// pairs are all of them, or those that CI has time for.
func pairs() (all []pair) {
	for _, first := range places() {
		for _, second := range places() {
			all = append(all, pair{first, second})
		}
	}
	if *reachAll {
		return all
	}
	return []pair{
		{ownAddress, ownAddress},
		{lab.Symmetric, ownAddress},
		{ownAddress, lab.UDPBlocked},
		{lab.Symmetric, lab.AddressRestricted},
		{lab.PortRestricted, lab.PortRestricted},
		{lab.Symmetric, lab.Symmetric},
		{lab.PortRestricted, lab.UDPBlocked},
	}
}

// reached is what came of a pair: the zero value if they did not hear each
// other.
type reached struct {
	by       string        // how the voice goes in the end, as the second one shows it
	voice    time.Duration // from the second one's start until both hear
	upgraded time.Duration // from the first way to the last one, 0 if that is one
}

func (r reached) String() string {
	switch {
	case r.by == "":
		return "–"
	case r.upgraded > 0:
		return fmt.Sprintf("%s, %.1f s, changed after %.1f s", r.by, r.voice.Seconds(), r.upgraded.Seconds())
	}
	return fmt.Sprintf("%s, %.1f s", r.by, r.voice.Seconds())
}

// internet makes an internet, removed with the test.
func internet(t *testing.T, text string) *lab.Internet {
	t.Helper()
	plan, err := lab.ParsePlan(t.Name(), text)
	must(t, err)
	x, err := lab.NewInternet(t.Context(), plan, lab.InternetOptions{})
	if errors.Is(err, lab.ErrNotRoot) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	must(t, err)
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

// place is the text of one person's place on an internet.
func place(name string, kind lab.NATKind) string {
	if kind == ownAddress {
		return "public " + name + " delay 10ms\n"
	}
	return fmt.Sprintf("home home-%s nat %s delay 10ms\nhost %s in home-%s\n", name, kind, name, name)
}

// meets lets two people who know the same bootstrap come into a room, one after
// the other, and waits until they hear each other, or a while.
func meets(t *testing.T, p pair) (r reached) {
	t.Helper()
	x := internet(t, "public boot delay 5ms\n"+place("one", p.first)+place("two", p.second))
	v := newVillageOn(t, x.Named("boot"))
	boot := v.types(t, v.founder, "founder", v.next["founder"])
	boot.event(t, "listening", nil)
	sits := func(name string) *actor {
		return v.types(t, x.Named(name), name, v.next["guest"], "--mic", "tone:440", "--speaker", "none")
	}
	one := sits("one")
	first := one.member(t)
	begun := time.Now()
	two := sits("two")
	second := two.member(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, listens := range []struct {
		who  *actor
		whom string
	}{{one, second}, {two, first}} {
		heard, err := listens.who.WaitEvent(ctx, func(e lab.Event) bool {
			return e.Name == "speaking" && e.Text("member") == listens.whom && e.True("on")
		})
		if err != nil {
			t.Fatalf("%s and %s do not hear each other: %v", p.first, p.second, err)
		}
		r.voice = max(r.voice, heard.Seen.Sub(begun))
	}
	if p.direct() {
		_, _ = two.WaitEvent(ctx, func(e lab.Event) bool {
			return e.Name == "link" && e.Text("member") == first && e.Text("state") == "up" && e.Text("path") != "relay"
		})
	} else {
		time.Sleep(*reachWait) // for a better way
	}
	var begin time.Time // of the first way
	for _, e := range two.Events() {
		if e.Name != "link" || e.Text("member") != first || e.Text("state") != "up" {
			continue
		}
		by := e.Text("path") + " over " + e.Text("transport")
		switch r.by {
		case by: // as before, to another address
			continue
		case "":
			begin = e.Seen
		default:
			r.upgraded = e.Seen.Sub(begin)
		}
		r.by = by
	}
	if r.by == "" {
		t.Fatal("they hear each other, and there is no link")
	}
	if p.direct() && r.by[:5] == "relay" {
		t.Errorf("%s and %s stay on a relay: %v", p.first, p.second, r)
	}
	one.leaves(t)
	two.leaves(t)
	boot.leaves(t)
	return r
}

// Issue 5: who reaches whom, by what, and how soon, for each kind of router.
//
//	go test -tags lab,nolibopusfile ./internal/lab/scenario -run TestReach -v -reach.all -reach.out reach.md
func TestReach(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	results := make(map[pair]reached)
	t.Run("pairs", func(t *testing.T) {
		for _, p := range pairs() {
			t.Run(fmt.Sprintf("%s and %s", p.first, p.second), func(t *testing.T) {
				t.Parallel()
				r := meets(t, p)
				mu.Lock()
				defer mu.Unlock()
				results[p] = r
			})
		}
	})
	table := reachTable(results)
	t.Logf("from the second one's start until both hear each other:\n%s", table)
	if *reachOut != "" {
		must(t, os.WriteFile(*reachOut, []byte(table), 0o644))
	}
	for p, r := range results {
		if !p.direct() && !strings.HasPrefix(r.by, "relay") {
			t.Logf("%s and %s reach each other directly, which was not asked for: direct can ask for it", p.first, p.second)
		}
	}
}

// reachTable is a row for each place of who was first, and a column for each
// of who came; pairs that were not tried are empty.
func reachTable(results map[pair]reached) string {
	var b strings.Builder
	b.WriteString("| |")
	for _, kind := range places() {
		fmt.Fprintf(&b, " %s |", kind)
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(places())) + "\n")
	for _, first := range places() {
		fmt.Fprintf(&b, "| %s |", first)
		for _, second := range places() {
			cell := ""
			if r, ok := results[pair{first, second}]; ok {
				cell = r.String()
			}
			fmt.Fprintf(&b, " %s |", cell)
		}
		b.WriteString("\n")
	}
	return b.String()
}
