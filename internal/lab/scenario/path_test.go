//go:build lab

package scenario

import (
	"context"
	"slices"
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

// links are the link events about the speaker that the listener had since.
func (k *talk) links(since time.Time) (events []lab.Event) {
	for _, e := range k.listener.Events() {
		if e.Name == "link" && e.Text("member") == k.member && e.Seen.After(since) {
			events = append(events, e)
		}
	}
	return events
}

// tell is links, logged.
func (k *talk) tell(t *testing.T, since time.Time) []lab.Event {
	t.Helper()
	events := k.links(since)
	for _, e := range events {
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
	for _, f := range faults {
		back := f.back.Sub(begun)
		i := slices.IndexFunc(places, func(p lab.Place) bool { return p.At >= back && onTime(p.Behind()-delay) })
		if i < 0 {
			t.Errorf("%s: the voice does not come back", f.name)
			continue
		}
		t.Logf("%s, for %v: heard again %v after", f.name, f.back.Sub(f.from).Round(time.Millisecond), (places[i].At - back).Round(10*time.Millisecond))
		if d := places[i].At - back; d > f.most {
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

// onTime is whether a delay is one of playout: at most 400 ms longer than at
// first, or a little shorter.
func onTime(more time.Duration) bool {
	return more > -100*time.Millisecond && more < 450*time.Millisecond
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
	if !told(k.tell(t, f.from), "up", "stream") {
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
	if told(k.tell(t, f.from), "down", "") {
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
	if events := k.tell(t, f.from); !told(events, "down", "") || !told(events, "up", "") {
		t.Error("no link event tells that the link was down")
	}
	faults = append(faults, f)

	// Each moves to another network.
	for i, name := range []string{"the speaker moves", "the listener moves"} {
		f = fault{name: name, from: time.Now(), most: 5 * time.Second}
		must(t, []*lab.Host{a, b}[i].Renumber(t.Context()))
		f.back = time.Now()
		k.flows(t, f.name, f.from.Add(time.Second))
		if !told(k.tell(t, f.from), "up", "") {
			t.Errorf("%s: no link event tells it", name)
		}
		faults = append(faults, f)
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
