//go:build lab

package scenario

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"teahouse/internal/lab"
)

// sealed is what a nonce log tells: how often each pair of key and nonce was
// sealed with.
type sealed struct {
	seals, keys int
	repeats     []string
}

func readNonceLog(t *testing.T, file string) (s sealed) {
	t.Helper()
	f, err := os.Open(file)
	must(t, err)
	defer f.Close()
	seen, keys := make(map[string]bool), make(map[string]bool)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		key, nonce, ok := strings.Cut(lines.Text(), " ")
		if !ok || len(key) != 32 || len(nonce) != 24 && len(nonce) != 48 {
			t.Fatalf("line %q of the nonce log", lines.Text())
		}
		if seen[lines.Text()] {
			s.repeats = append(s.repeats, lines.Text())
		}
		seen[lines.Text()], keys[key] = true, true
		s.seals++
	}
	must(t, lines.Err())
	s.keys = len(keys)
	return s
}

// lives drives members through all the ways in which a life may end and begin
// again, with one log of every seal of all of them. A listener hears each.
func lives(t *testing.T, short bool, tags ...string) sealed {
	t.Helper()
	s := newStage(t, append([]string{"noncelog"}, tags...)...)
	log := filepath.Join(s.dir, "nonces")
	s.env = []string{"TEAHOUSE_NONCE_LOG=" + log}
	s.bootstrap(t, nil)
	listener := s.join(t, nil, "listener", "none", "none")
	listener.event(t, "joined", nil)

	var member string
	talk := func(a *actor) {
		t.Helper()
		m := a.member(t)
		if member == "" {
			member = m
		} else if m != member {
			t.Errorf("a home has become member %s, was %s", m, member)
		}
		a.event(t, "link", nil)
		time.Sleep(1200 * time.Millisecond) // 60 frames, more than the mutant's 50
		skip := len(listener.Events())
		_, err := listener.WaitEventFrom(soon(t), skip, func(e lab.Event) bool {
			return e.Name == "stats" && e.Text("member") == m && e.Number("kbit_s") > 20
		})
		must(t, err)
	}
	begin := func(home string, flags ...string) *actor {
		return s.join(t, nil, home, "tone:440", "none", flags...)
	}
	a := begin("a", "--keep-identity")
	talk(a)
	a.leaves(t)
	if short {
		return readNonceLog(t, log)
	}
	a = begin("a", "--keep-identity") // started again
	talk(a)
	a.Kill() // as the power goes
	a = begin("a", "--keep-identity")
	talk(a)
	a.leaves(t)

	// A copy of the home, alive beside the first one, with the same peer id,
	// where neither can know of the other.
	must(t, exec.CommandContext(t.Context(), "cp", "-r", a.home, filepath.Join(s.dir, "copy")).Run())
	must(t, os.RemoveAll(filepath.Join(s.dir, "copy", "state", "peers"))) // it would remember the way back
	elsewhere := *s
	b := elsewhere.start(t, nil, "bootstrap-2", "bootstrap")
	elsewhere.peer = b.event(t, "listening", nil).Texts("addrs")[0]
	other := elsewhere.join(t, nil, "listener-2", "none", "none")
	other.event(t, "joined", nil)
	copied := elsewhere.join(t, nil, "copy", "tone:440", "none", "--keep-identity")
	other.hears(t, copied.member(t))
	a = begin("a", "--keep-identity")
	talk(a)
	a.leaves(t)
	copied.leaves(t)

	// Both alive in one room: the one with the higher instance number stays,
	// the other one says so and ends.
	copied = begin("copy")
	talk(copied)
	a = s.join(t, nil, "a", "tone:440", "none")
	for a.event(t, "joined", nil); !a.Ended() && !copied.Ended(); time.Sleep(20 * time.Millisecond) {
		if !time.Now().Before(a.event(t, "joined", nil).Seen.Add(patience)) {
			t.Fatal("two instances of one member go on")
		}
	}
	gone, stays := a, copied
	if copied.Ended() {
		gone, stays = copied, a
	}
	gone.ends(t, 1)
	gone.event(t, "left", func(e lab.Event) bool { return e.Text("code") == "superseded" })
	time.Sleep(time.Second)
	stays.leaves(t)
	listener.leaves(t)
	return readNonceLog(t, log)
}

// Issue 2, item 5: over restart, kill -9, a copied home and two live
// instances, no key ever seals two things with one nonce.
func TestNoncesNeverRepeat(t *testing.T) {
	t.Parallel()
	s := lives(t, false)
	t.Logf("%d seals with %d keys, %d repeats", s.seals, s.keys, len(s.repeats))
	for _, r := range s.repeats {
		t.Errorf("sealed twice: %s", r)
	}
	// Six lives of about 60 frames, each sealed and hop-sealed.
	if s.seals < 720 || s.keys < 20 {
		t.Errorf("only %d seals with %d keys: the hook does not see them all", s.seals, s.keys)
	}
}

// The same test catches a build that uses counters again.
func TestRepeatedNoncesAreCaught(t *testing.T) {
	t.Parallel()
	s := lives(t, true, "mutant_nonce")
	t.Logf("%d seals with %d keys, %d repeats", s.seals, s.keys, len(s.repeats))
	if len(s.repeats) == 0 {
		t.Error("a counter that starts again was not caught")
	}
}
