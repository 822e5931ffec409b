//go:build lab

package scenario

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"teahouse/internal/lab"
)

// mover is one of two who talk: it has a tone of its own, and records the
// other's.
type mover struct {
	*actor
	name  string
	host  *lab.Host
	other *mover
}

// step is what some of them do, and the time until the next thing happens.
type step struct {
	name string
	who  []*mover
	wait time.Duration
	most time.Duration // until each hears the other for good; 0: it is not judged
}

// TestMoves: two who talk move to other networks, shortly after each other, in
// both orders, and in the same moment, when neither has an address of the other
// that is of use and only the bootstrap, which stays, knows where they are.
func TestMoves(t *testing.T) {
	t.Parallel()
	s := newSoundStage(t)
	n := network(t, lab.Routed)
	s.bootstrap(t, host(t, n, "boot"))
	a, b := &mover{name: "a", host: host(t, n, "a")}, &mover{name: "b", host: host(t, n, "b")}
	a.other, b.other = b, a
	for i, m := range []*mover{b, a} {
		m.actor = s.on(t, m.host, m.name, "join", s.topic, "--network", s.network, "--peer", s.peer, "--allow-recording",
			"--mic", []string{"tone:440", "tone:523"}[i], "--speaker", "file:"+filepath.Join(s.dir, m.name+".wav"))
		m.speaker = filepath.Join(s.dir, m.name+".wav")
		m.event(t, "joined", nil)
	}
	for _, m := range []*mover{a, b} {
		m.hears(t, m.other.member(t))
	}
	time.Sleep(3 * time.Second) // a path by TCP stands by
	const settled, patient = 7 * time.Second, 12 * time.Second
	steps := []step{
		{"a moves", []*mover{a}, 2 * time.Second, 0},
		{"and then b", []*mover{b}, settled, 5 * time.Second},
		{"b moves", []*mover{b}, 2 * time.Second, 0},
		{"and then a", []*mover{a}, settled, 5 * time.Second},
		{"both move", []*mover{a, b}, patient, 10 * time.Second},
	}
	var at []time.Time
	for _, now := range steps {
		at = append(at, time.Now())
		for _, m := range now.who {
			must(t, m.host.Renumber(t.Context()))
		}
		time.Sleep(now.wait)
	}
	at = append(at, time.Now())
	for _, m := range []*mover{a, b} {
		events := tell(t, m.actor, m.other.member(t), at[0])
		if !slices.ContainsFunc(events, func(e lab.Event) bool {
			return e.Text("state") == "up" && strings.HasPrefix(e.Text("remote"), m.other.host.Addr().String()+":")
		}) {
			t.Errorf("no link event tells %s where %s has moved to", m.name, m.other.name)
		}
		m.leaves(t)
		m.heardAfter(t, steps, at)
	}
}

// heardAfter holds what a mover recorded against the steps, which began at these
// times and ended at the last.
func (m *mover) heardAfter(t *testing.T, steps []step, at []time.Time) {
	t.Helper()
	pcm, err := lab.ReadMono(m.speaker)
	must(t, err)
	begun := m.event(t, "joined", nil).Seen // the file is continuous from then on
	holes := silencesIn(pcm, 100*time.Millisecond)
	for i, s := range steps {
		from, to := at[i].Sub(begun), at[i+1].Sub(begun)
		if end := time.Duration(len(pcm)) * time.Second / lab.Rate; end < to-100*time.Millisecond {
			t.Fatalf("the recording of %s ends after %v: it tests nothing", m.name, end)
		}
		var back, silent time.Duration
		for _, h := range holes {
			if h.to > from && h.from < to {
				back = min(h.to, to) - from
				silent += min(h.to, to) - max(h.from, from)
			}
		}
		t.Logf("%s: %s hears the other for good after %v, silent for %v", s.name, m.name, back.Round(10*time.Millisecond), silent.Round(10*time.Millisecond))
		if s.most > 0 && back > s.most {
			t.Errorf("%s: %s hears the other only after %v", s.name, m.name, back)
		}
	}
}
