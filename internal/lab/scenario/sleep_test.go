//go:build lab && linux && amd64

package scenario

import (
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"teahouse/internal/lab"
)

// sleeper is a member of a talk whose machine sleeps.
type sleeper struct {
	*actor
	name  string
	sleep time.Duration // for how long
	// stands is whether its monotonic clock stands still in sleep, as it does
	// when a laptop is closed, or goes on, as under a stopped process.
	stands bool
	woken  time.Time
}

// sleeps stops the process for its time.
func (z *sleeper) sleeps() error {
	if err := z.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	time.Sleep(z.sleep)
	if z.stands {
		if err := overwriteClock(z.Pid(), 0, -int64(z.sleep/time.Second)); err != nil {
			return err
		}
	}
	z.woken = time.Now()
	return z.Signal(syscall.SIGCONT)
}

// Issue 3, item 4, and DESIGN section 8: machines sleep in mid-talk, for 20 s
// and for 40 s, when the others have given them up (15 s). Within 5 s after
// they wake they hear, and are heard; what was said meanwhile is not played
// afterwards.
func TestSleepAndWake(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	said, wav := speech(t, s.dir, "demo-instruct", 72*time.Second)
	s.bootstrap(t, nil)
	// Of the speech alone: they do not allow to be recorded themselves.
	all := []*sleeper{
		{name: "napper", sleep: 20 * time.Second},
		{name: "sleeper", sleep: 40 * time.Second},
		{name: "laptop", sleep: 20 * time.Second, stands: true},
	}
	for _, z := range all {
		z.actor = s.skew(t, 0, z.name, "join", s.topic, "--peer", s.peer, "--mic", "tone:440", "--speaker", "file:"+filepath.Join(s.dir, z.name+".wav"))
		z.event(t, "joined", nil)
	}
	speaker := s.join(t, nil, "speaker", "file:"+wav, "none", "--mic-after", "3")
	member := speaker.member(t)
	for _, z := range all {
		z.hears(t, member)
		speaker.hears(t, z.member(t))
	}
	time.Sleep(3 * time.Second)

	asleep := time.Now()
	var night sync.WaitGroup
	for _, z := range all {
		night.Go(func() {
			if err := z.sleeps(); err != nil {
				t.Error(err)
			}
		})
	}
	night.Wait()
	time.Sleep(7 * time.Second)
	for _, z := range all {
		if z.Ended() {
			t.Errorf("%s has ended", z.name)
		}
		if e := speaker.from(t, 0, "member", of(z.member(t), "out")); e.Seen.Before(asleep) || e.Seen.After(z.woken) {
			t.Errorf("%s was given up at %v, slept at %v and woke at %v", z.name, e.Seen, asleep, z.woken)
		}
		again := speaker.from(t, 0, "speaking", func(e lab.Event) bool {
			return e.Text("member") == z.member(t) && e.True("on") && e.Seen.After(z.woken)
		})
		t.Logf("%s is heard %v after it woke", z.name, again.Seen.Sub(z.woken).Round(time.Millisecond))
		if d := again.Seen.Sub(z.woken); d > 5*time.Second {
			t.Errorf("%s is heard only %v after it woke", z.name, d)
		}
	}
	if speaker.Ended() {
		t.Fatal("the speech is over: the test tests nothing")
	}
	speaker.leaves(t)
	for _, z := range all {
		z.leaves(t)
	}

	speech := opusAlone(t, said)
	for _, z := range all {
		z.heardTheRest(t, speech, asleep)
	}
}

// heardTheRest holds what a sleeper recorded against the speech: there in time
// before the sleep and 5 s after it, and never anything old.
func (z *sleeper) heardTheRest(t *testing.T, speech []float32, asleep time.Time) {
	t.Helper()
	pcm, err := lab.ReadMono(filepath.Join(filepath.Dir(z.home), z.name+".wav"))
	must(t, err)
	begun := z.event(t, "joined", nil).Seen
	slept := asleep.Sub(begun)
	c, err := lab.CompareWithin(speech[:2*lab.Rate], pcm[:int(slept.Seconds()*lab.Rate)], 30*time.Millisecond)
	must(t, err)
	woke, delay := z.woken.Sub(begun), c.Delay
	if z.stands { // its recording goes with its clock
		woke -= z.sleep
		delay -= z.sleep
	}
	// From a second before it slept.
	from := min(slept, woke) - time.Second
	places, err := lab.Follow(speech, pcm[int(from.Seconds()*lab.Rate):], delay-from, z.sleep+5*time.Second)
	must(t, err)
	var last lab.Place
	back := false
	for _, p := range places {
		p.At += from
		switch late := p.Behind() - delay; {
		case p.Of < last.Of:
			t.Errorf("%s: at %v of the recording %v of the speech is heard again, after %v", z.name, p.At, p.Of, last.Of)
		case p.At >= woke && !onTime(late):
			t.Errorf("%s: at %v of the recording, %v after waking, the speech is %v late", z.name, p.At, p.At-woke, late)
		case p.At >= woke && !back:
			back = true
			t.Logf("%s hears again %v after it woke", z.name, (p.At - woke).Round(10*time.Millisecond))
			if p.At-woke > 5*time.Second {
				t.Errorf("%s hears again only %v after it woke", z.name, p.At-woke)
			}
		}
		last = p
	}
	if !back {
		t.Errorf("%s does not hear again", z.name)
	}
}
