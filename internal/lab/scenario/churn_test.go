//go:build lab

package scenario

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"teahouse/internal/lab"
)

// guest starts a member of the room who does not allow recording: everybody
// hears it, and it is in nobody's file. It has no urgency: how it starts, with
// seconds of deriving keys, must not be heard in a talk on the same machine.
func (s *stage) guest(t *testing.T, home, mic, peer string) *actor {
	t.Helper()
	return s.startOn(t, home, listenOn("127.0.0.1"),
		"join", s.topic, "--peer", peer, "--mic", mic, "--speaker", "none", "--nick", home)
}

// startOn starts teahouse on addresses of its own.
func (s *stage) startOn(t *testing.T, home string, listen []string, args ...string) *actor {
	t.Helper()
	a := &actor{home: filepath.Join(s.dir, home)}
	args = append(args, "--json", "--home", a.home, "--network", s.network)
	p, err := lab.Start(lab.Spec{Path: s.program, Args: append(args, listen...), Dir: s.dir, Env: s.env})
	must(t, err)
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s %s: standard error %q", home, args[0], p.Stderr())
			for _, e := range p.Events() {
				if e.Name != "stats" {
					t.Logf("  %s %v %v", e.Seen.Format("05.000"), e.Name, e.Fields)
				}
			}
		}
	})
	a.Process = p
	return a
}

// addr is where others can start from this actor.
func (a *actor) addr(t *testing.T) string {
	t.Helper()
	return a.event(t, "listening", nil).Texts("addrs")[0]
}

// from waits for an event after the first skip ones.
func (a *actor) from(t *testing.T, skip int, name string, want func(lab.Event) bool) lab.Event {
	t.Helper()
	e, err := a.WaitEventFrom(soon(t), skip, func(e lab.Event) bool { return e.Name == name && want(e) })
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return e
}

func of(member, state string) func(lab.Event) bool {
	return func(e lab.Event) bool { return e.Text("member") == member && e.Text("state") == state }
}

// instance is the instance number in the home's only member file, 0 if there
// is none yet. A file that is neither whole nor absent fails the test.
func instance(t *testing.T, home string) uint64 {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(home, "data", "members", "[0-9a-f]*"))
	must(t, err)
	if len(files) == 0 {
		return 0
	}
	text, err := os.ReadFile(files[0])
	must(t, err)
	fields := strings.Fields(string(text))
	if len(files) != 1 || len(fields) != 3 || fields[0] != "teahouse-member-1" || len(fields[1]) != 80 || len(fields[2]) != 16 {
		t.Fatalf("%d member files, the first %d bytes long with %d fields", len(files), len(text), len(fields))
	}
	n, err := strconv.ParseUint(fields[1][64:], 16, 64)
	must(t, err)
	return n
}

// concealed is how much of a member's voice was made up at a so far, in ms, by
// the next figures.
func (a *actor) concealed(t *testing.T, member string) float64 {
	t.Helper()
	e := a.from(t, len(a.Events()), "stats", func(e lab.Event) bool { return e.Text("member") == member })
	return e.Number("concealed_ms")
}

// hearsOn holds that of a member's voice no 20 ms are made up at a by what
// happens, for d after it, by the figures of each second.
func (a *actor) hearsOn(t *testing.T, member string, d time.Duration, happens func()) {
	t.Helper()
	before := a.concealed(t, member)
	happens()
	for begun := time.Now(); time.Since(begun) < d; {
		if after := a.concealed(t, member); after-before > 20 {
			t.Errorf("%v after it happened %.0f ms of the talk were made up, %.0f before", time.Since(begun).Round(time.Millisecond), after, before)
			before = after
		}
	}
}

// Promise P6 with real processes. While one talks and one listens: the
// bootstrap dies, and no 20 ms of the talk are made up; a newcomer comes in by
// a member's address; a member dies and is gone from every roster within 15 s,
// then comes back by the same home; another dies and is back before anybody
// has missed it; each way of leaving is seen within a second. Not in parallel
// with other tests: what they start would be heard in the talk.
func TestChurn(t *testing.T) {
	s := newSoundStage(t)
	said, wav := speech(t, s.dir, "demo-instruct", 10*time.Second)
	boot := s.bootstrap(t, nil)
	listener := s.join(t, nil, "listener", "none", "record")
	listener.event(t, "joined", nil)
	victim := s.guest(t, "victim", "tone:440", s.peer)
	hasty := s.guest(t, "hasty", "tone:550", s.peer)
	dead, quick := victim.member(t), hasty.member(t)
	listener.hears(t, dead)
	listener.hears(t, quick)
	speaker := s.join(t, nil, "speaker", "file:"+wav, "none", "--mic-after", "3")
	member := speaker.member(t)
	listener.hears(t, member)

	// The bootstrap dies in mid-talk.
	listener.hearsOn(t, member, 4*time.Second, boot.Kill)

	// Newcomers come in through those who remain.
	newcomer := s.guest(t, "newcomer", "tone:660", listener.addr(t))
	fresh := newcomer.member(t)
	newcomer.hears(t, dead)
	listener.hears(t, fresh)
	victim.hears(t, fresh)

	// Two deaths.
	all := []*actor{listener, speaker, newcomer}
	old := map[*actor]uint64{victim: instance(t, victim.home), hasty: instance(t, hasty.home)}
	skips := map[*actor]int{}
	for _, a := range all {
		skips[a] = len(a.Events())
	}
	victim.Kill()
	hasty.Kill()
	killed := time.Now()

	// One is back at once, before it was missed.
	back := s.guest(t, "hasty", "tone:550", newcomer.addr(t))
	returned(t, back, quick, old[hasty], all, skips, fresh)
	t.Logf("back in the talk %v after kill -9", time.Since(killed).Round(time.Millisecond))

	// The other one is gone from every roster.
	for _, a := range all {
		out := a.from(t, skips[a], "member", of(dead, "out"))
		took := out.Seen.Sub(killed)
		t.Logf("out of a roster %v after kill -9", took.Round(time.Millisecond))
		if took > 15*time.Second {
			t.Errorf("a roster held a dead member for %v", took)
		}
		skips[a] = len(a.Events())
	}
	again := s.guest(t, "victim", "tone:440", listener.addr(t))
	returned(t, again, dead, old[victim], all, skips, fresh)

	// Goodbyes, one of each kind.
	terminal := s.inTerminal(t, "terminal", listener.addr(t))
	inTerminal := listener.event(t, "member", func(e lab.Event) bool { return e.Text("nick") == "terminal" }).Text("member")
	for _, c := range []struct {
		name, member string
		leave        func() error
		gone         *actor
	}{
		{"SIGTERM", fresh, func() error { return newcomer.Signal(syscall.SIGTERM) }, newcomer},
		{"ctl leave", dead, func() error {
			return exec.CommandContext(t.Context(), s.program, "ctl", "leave", "--home", again.home).Run()
		}, again},
		{"leave on standard input", quick, func() error { return back.Write("leave\n") }, back},
		{"the key q", inTerminal, func() error { return terminal.Write("q") }, terminal},
	} {
		asked := time.Now()
		must(t, c.leave())
		for _, a := range []*actor{listener, speaker} {
			took := a.from(t, skips[a], "member", of(c.member, "out")).Seen.Sub(asked)
			t.Logf("%s: seen after %v", c.name, took.Round(time.Millisecond))
			if took > time.Second {
				t.Errorf("%s was seen only after %v", c.name, took)
			}
		}
		c.gone.ends(t, 0)
	}
	speaker.leaves(t)
	listener.leaves(t)
	heard, err := lab.ReadMono(listener.speaker)
	must(t, err)
	c, err := lab.Compare(opusAlone(t, said), heard)
	must(t, err)
	t.Logf("the talk over the bootstrap's death: %v", c)
	if c.Median < 0.9 || len(c.Gaps) > 0 || len(c.Windows) < 8 {
		t.Errorf("the talk has not come through whole: %v", c)
	}
	for _, w := range c.Windows {
		if w.Correlation < 0.8 {
			t.Logf("at %v: correlation %.3f, lag %v", w.At, w.Correlation, w.Lag)
		}
	}
}

// returned checks that a member who was killed is back without harm: the same
// member, a higher instance, heard by all, hearing another.
func returned(t *testing.T, back *actor, member string, before uint64, all []*actor, skips map[*actor]int, otherMember string) {
	t.Helper()
	if got := back.member(t); got != member {
		t.Errorf("a home has become member %s, was %s", got, member)
	}
	if now := instance(t, back.home); now <= before {
		t.Errorf("instance %d after %d", now, before)
	}
	back.hears(t, otherMember)
	// "speaking" need not come again: who is back within a pause for breath has
	// not stopped speaking. What counts is that frames come.
	figures := func(e lab.Event) bool { return e.Text("member") == member && e.Number("kbit_s") > 20 }
	now, first := map[*actor]int{}, map[*actor]float64{}
	for _, a := range all {
		a.from(t, skips[a], "link", of(member, "up"))
		now[a] = len(a.Events())
	}
	for _, a := range all {
		first[a] = a.from(t, now[a], "stats", figures).Number("received")
	}
	for _, a := range all {
		a.from(t, now[a], "stats", func(e lab.Event) bool { return figures(e) && e.Number("received") >= first[a]+40 })
	}
}

// inTerminal starts a member in a terminal of its own, as people have it.
func (s *stage) inTerminal(t *testing.T, home, peer string) *actor {
	t.Helper()
	a := &actor{home: filepath.Join(s.dir, home)}
	command := fmt.Sprintf("stty cols 80 rows 24; exec '%s' join '%s' --home '%s' --network '%s' --listen /ip4/127.0.0.1/udp/0/quic-v1 --peer '%s' --mic silence --speaker none --nick %s",
		s.program, s.topic, a.home, s.network, peer, home)
	p, err := lab.Start(lab.Spec{Path: "script", Args: []string{"-qec", command, "/dev/null"}, Dir: s.dir, Env: []string{"TERM=xterm", "SHELL=/bin/sh"}})
	must(t, err)
	t.Cleanup(p.Kill)
	a.Process = p
	return a
}
