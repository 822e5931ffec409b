//go:build lab

package scenario

import (
	"syscall"
	"testing"
	"time"

	"teahouse/internal/lab"
)

// Promise P6 and DESIGN section 8: the bootstrap dies, then a member, both as
// kill -9 does it. The others hear no gap; the dead member is out of the
// roster within 15 s, and one who leaves properly within 1 s. A second signal
// ends at once.
func TestDeathsAndGoodbyes(t *testing.T) {
	s := newSoundStage(t)
	said, wav := speech(t, s.dir, "demo-instruct", 8*time.Second)
	boot := s.bootstrap(t, nil)
	victim := s.join(t, nil, "victim", "tone:3000", "none", "--muted")
	listener := s.join(t, nil, "listener", "none", "record")
	listener.event(t, "member", nil)
	speaker := s.join(t, nil, "speaker", "file:"+wav, "none")
	member, dead := speaker.member(t), victim.member(t)
	listener.hears(t, member)
	time.Sleep(2 * time.Second)
	boot.Kill()
	time.Sleep(2 * time.Second)
	victim.Kill()
	killed := time.Now()
	out := listener.event(t, "member", func(e lab.Event) bool { return e.Text("member") == dead && e.Text("state") == "out" })
	t.Logf("out of the roster %v after kill -9", out.Seen.Sub(killed).Round(time.Millisecond))
	if d := out.Seen.Sub(killed); d > 15*time.Second {
		t.Errorf("the roster held a dead member for %v", d)
	}
	must(t, speaker.Signal(syscall.SIGINT))
	asked := time.Now()
	out = listener.event(t, "member", func(e lab.Event) bool { return e.Text("member") == member && e.Text("state") == "out" })
	t.Logf("out of the roster %v after a goodbye", out.Seen.Sub(asked).Round(time.Millisecond))
	if d := out.Seen.Sub(asked); d > time.Second {
		t.Errorf("a goodbye took %v", d)
	}
	speaker.ends(t, 0)
	listener.leaves(t)
	for _, e := range listener.Events() {
		if e.Name == "stats" && e.Text("member") == member {
			t.Logf("%v frames, %v lost, %v late, %v skipped, %v ms made up, %v ms stretched; delay %v ms, jitter %v ms",
				e.Number("sent"), e.Number("lost"), e.Number("late"), e.Number("skipped"), e.Number("concealed_ms"), e.Number("stretched_ms"), e.Number("delay_ms"), e.Number("jitter_ms"))
		}
	}
	t.Logf("over both deaths: %v", checkSpeech(t, said, listener.speaker))
}
