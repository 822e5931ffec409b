//go:build lab

package scenario

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"teahouse/internal/lab"
)

// fault is something that befalls the path of a talk.
type fault struct {
	name string
	from time.Time // when it began
	back time.Time // when there was a way again
	most time.Duration
}

// talk is two people, one of whom speaks and one of whom records.
type talk struct {
	speaker, listener *actor
	member            string // of the speaker
	said              []float32
}

// tell is what a had of link events about a member since, logged.
func tell(t *testing.T, a *actor, member string, since time.Time) (events []lab.Event) {
	t.Helper()
	for _, e := range a.Events() {
		if e.Name != "link" || e.Text("member") != member || e.Seen.Before(since) {
			continue
		}
		events = append(events, e)
		t.Logf("  after %v: link %s, %s over %s to %s %s", e.Seen.Sub(since).Round(time.Millisecond), e.Text("state"), e.Text("path"), e.Text("transport"), e.Text("remote"), e.Text("reason"))
	}
	return events
}

// told is whether one of the link events has this state and, where asked for,
// path.
func told(events []lab.Event, state, path string) bool {
	return slices.ContainsFunc(events, func(e lab.Event) bool {
		return e.Text("state") == state && (path == "" || e.Text("path") == path)
	})
}

// flows waits until the speaker's voice comes at its full rate, by the figures
// of two seconds that follow each other. A fault that the talk does not survive
// fails the test, and lets the next one come.
func (k *talk) flows(t *testing.T, name string, since time.Time) {
	t.Helper()
	last, steady := -1.0, 0
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	_, err := k.listener.WaitEvent(ctx, func(e lab.Event) bool {
		if e.Name != "stats" || e.Text("member") != k.member || e.Seen.Before(since) {
			return false
		}
		n := e.Number("received")
		if steady++; last < 0 || n-last < 45 {
			steady = 0
		}
		last = n
		return steady >= 2
	})
	if err != nil {
		t.Errorf("%s: the voice does not come any more", name)
	}
}

// heard holds the recording against the speech: after each fault the voice is
// back in time, nothing is heard twice, and nothing long after its time.
func (k *talk) heard(t *testing.T, faults []fault) {
	t.Helper()
	pcm, err := lab.ReadMono(k.listener.speaker)
	must(t, err)
	begun := k.listener.event(t, "joined", nil).Seen // the file is continuous from then on
	// When the speech began, as the file has it.
	first := faults[0].from.Sub(begun)
	speech := opusAlone(t, k.said)
	c, err := lab.CompareWithin(speech[:lab.Rate*2], pcm[:int(first.Seconds()*lab.Rate)], 30*time.Millisecond)
	must(t, err)
	delay := c.Delay
	places, err := lab.Follow(speech, pcm, delay, 12*time.Second)
	must(t, err)
	// Silences that are longer than any pause of hers.
	pause := 500 * time.Millisecond
	for _, p := range silencesIn(speech, pause) {
		pause = max(pause, p.to-p.from+200*time.Millisecond)
	}
	holes := silencesIn(pcm, pause)
	t.Logf("silent for over %v: %v", pause, holes)
	for i, f := range faults {
		back, next := f.back.Sub(begun), time.Duration(len(pcm))*time.Second/lab.Rate
		if i+1 < len(faults) {
			next = faults[i+1].from.Sub(begun)
		}
		at := slices.IndexFunc(places, func(p lab.Place) bool { return p.At >= back && onTime(p.Behind()-delay) })
		if at < 0 || places[at].At >= next {
			t.Errorf("%s: the voice does not come back", f.name)
			continue
		}
		heard, whole := places[at].At-back, time.Duration(0)
		for _, h := range holes {
			if h.from < next-200*time.Millisecond { // else it may be the next one's, whose time is when it was asked for
				whole = max(whole, min(h.to, next)-back)
			}
		}
		t.Logf("%s, %v to %v of the recording, for %v: heard again after %v, whole after %v", f.name, back.Round(time.Millisecond), next.Round(time.Millisecond), f.back.Sub(f.from).Round(time.Millisecond), heard.Round(10*time.Millisecond), whole.Round(10*time.Millisecond))
		if d := max(heard, whole); d > f.most {
			t.Errorf("%s: the voice is back only after %v", f.name, d)
		}
	}
	for i, p := range places {
		if i > 0 && p.Of < places[i-1].Of {
			t.Errorf("at %v of the recording %v of the speech is heard again, after %v", p.At, p.Of, places[i-1].Of)
		}
		if !onTime(p.Behind() - delay) {
			t.Errorf("at %v of the recording the speech is %v late", p.At, p.Behind()-delay)
		}
	}
	t.Logf("%d half seconds of the speech were found, the last at %v", len(places), places[len(places)-1].At)
}

// silence is a part of a recording.
type silence struct{ from, to time.Duration }

// silencesIn are the silences of a recording that last at least so long.
func silencesIn(pcm []float32, least time.Duration) (found []silence) {
	const block = lab.Rate / 100
	begun := -1
	for at := 0; at <= len(pcm); at += block {
		quiet := at+block <= len(pcm) && energy(pcm[at:at+block]) < block*0.003*0.003 // comfort noise is below
		switch {
		case quiet && begun < 0:
			begun = at
		case !quiet && begun >= 0:
			if d := time.Duration(at-begun) * time.Second / lab.Rate; d >= least {
				found = append(found, silence{time.Duration(begun) * time.Second / lab.Rate, time.Duration(at) * time.Second / lab.Rate})
			}
			begun = -1
		}
	}
	return found
}

func energy(pcm []float32) (sum float64) {
	for _, s := range pcm {
		sum += float64(s) * float64(s)
	}
	return sum
}

// onTime is whether a delay is one of playout: at most 400 ms and the 60 ms
// that a spurt may begin late longer than at first, or a little shorter.
func onTime(more time.Duration) bool {
	return more > -100*time.Millisecond && more < 500*time.Millisecond
}

// Issue 3, item 4: one talk, and all that befalls its path. What people would
// type: they listen wherever they can.
func TestPathFaults(t *testing.T) {
	t.Parallel()
	s := newSoundStage(t)
	n := network(t, lab.Routed)
	boot, a, b := host(t, n, "boot"), host(t, n, "a"), host(t, n, "b")
	said, wav := speech(t, s.dir, "demo-instruct", 72*time.Second)
	s.bootstrap(t, boot)
	k := &talk{said: said}
	k.listener = s.on(t, b, "listener", "join", s.topic, "--network", s.network, "--peer", s.peer,
		"--mic", "none", "--speaker", "file:"+s.dir+"/listener.wav", "--allow-recording")
	k.listener.speaker = s.dir + "/listener.wav"
	k.listener.event(t, "joined", nil)
	k.speaker = s.on(t, a, "speaker", "join", s.topic, "--network", s.network, "--peer", s.peer,
		"--mic", "file:"+wav, "--speaker", "none", "--allow-recording")
	k.member = k.speaker.member(t)
	k.listener.hears(t, k.member)
	k.flows(t, "the beginning", time.Now())
	time.Sleep(2 * time.Second) // a path by TCP stands by
	var faults []fault

	// UDP is blocked, and free again.
	f := fault{name: "UDP blocked", from: time.Now(), most: time.Second}
	before := k.listener.lastStats(k.member)
	must(t, a.BlockUDP(t.Context(), true))
	must(t, b.BlockUDP(t.Context(), true))
	f.back = time.Now() // by TCP
	k.flows(t, f.name, f.from)
	k.flows(t, f.name, f.from.Add(3*time.Second))
	during := k.listener.lastStats(k.member)
	if lost := during.Number("lost") - before.Number("lost"); lost > 10 {
		t.Errorf("%v frames of 20 ms were lost where another path stood", lost)
	}
	t.Logf("UDP blocked: %v frames lost, %v ms concealed", during.Number("lost")-before.Number("lost"), during.Number("concealed_ms")-before.Number("concealed_ms"))
	if !told(tell(t, k.listener, k.member, f.from), "up", "stream") {
		t.Error("no link event tells that the voice comes by a stream")
	}
	faults = append(faults, f)
	f = fault{name: "UDP free again", from: time.Now(), most: time.Second}
	must(t, a.BlockUDP(t.Context(), false))
	must(t, b.BlockUDP(t.Context(), false))
	f.back = time.Now()
	k.listener.event(t, "link", func(e lab.Event) bool {
		return e.Text("member") == k.member && e.Seen.After(f.from) && e.Text("state") == "up" && e.Text("path") == "datagram"
	})
	time.Sleep(1500 * time.Millisecond)
	if told(tell(t, k.listener, k.member, f.from), "down", "") {
		t.Error("UDP free again: the link was down, though one way or the other stood all the time")
	}
	faults = append(faults, f)

	// Ten seconds without a network.
	f = fault{name: "link down", from: time.Now(), most: 5 * time.Second}
	must(t, b.Unplug(t.Context(), true))
	time.Sleep(10 * time.Second)
	must(t, b.Unplug(t.Context(), false))
	f.back = time.Now()
	k.flows(t, f.name, f.back)
	if events := tell(t, k.listener, k.member, f.from); !told(events, "down", "") || !told(events, "up", "") {
		t.Error("no link event tells that the link was down")
	}
	faults = append(faults, f)
	time.Sleep(3 * time.Second) // there has to be speech to tell it by before the next fault

	// Each moves to another network, which the other one is told of: first who
	// was dialled, so that the second one's connection leads to where it was.
	for _, m := range []struct {
		name   string
		host   *lab.Host
		other  *actor
		member string
	}{
		{"the speaker moves", a, k.listener, k.member},
		{"the listener moves", b, k.speaker, k.listener.member(t)},
	} {
		f = fault{name: m.name, from: time.Now(), most: 5 * time.Second}
		must(t, m.host.Renumber(t.Context()))
		f.back = time.Now()
		k.flows(t, f.name, f.from.Add(time.Second))
		if !slices.ContainsFunc(tell(t, m.other, m.member, f.from), func(e lab.Event) bool {
			return e.Text("state") == "up" && strings.HasPrefix(e.Text("remote"), m.host.Addr().String()+":")
		}) {
			t.Errorf("%s: no link event tells it", f.name)
		}
		faults = append(faults, f)
		time.Sleep(4 * time.Second) // one thing at a time: they tell others where they are
	}

	time.Sleep(2 * time.Second)
	if k.speaker.Ended() {
		t.Fatal("the speech is over: the test tests nothing")
	}
	stats := k.listener.lastStats(k.member)
	k.speaker.leaves(t)
	k.listener.leaves(t)
	t.Logf("received %v of %v frames, lost %v, late %v", stats.Number("received"), stats.Number("sent"), stats.Number("lost"), stats.Number("late"))
	if stats.Number("received") > stats.Number("sent") {
		t.Error("frames were counted twice")
	}
	k.heard(t, faults)
}
