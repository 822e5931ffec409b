package room

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// flowStage is a plane with links of which each keeps what it is sent.
func flowStage(t *testing.T, n int) (*voicePair, []*link, []*wire) {
	t.Helper()
	p := newVoicePair(nil)
	links, wires := []*link{p.speaker.links[0]}, []*wire{p.wire}
	p.wire.keep = true
	for range n - 1 {
		w := &wire{keep: true}
		l := &link{plane: p.speaker, net: w}
		p.speaker.addLink(l)
		links, wires = append(links, l), append(wires, w)
	}
	return p, links, wires
}

func speakFlow(t *testing.T, p *plane, flow uint8, media uint32) {
	t.Helper()
	if err := p.speak(&Frame{Flow: flow, MediaTime: media, Opus: make([]byte, 80)}); err != nil {
		t.Fatal(err)
	}
}

// TestFlowsArePerLink: a link takes the one flow that it wants, from when it is
// given it on, and another link's is not touched.
func TestFlowsArePerLink(t *testing.T) {
	p, links, wires := flowStage(t, 3)
	both := func() {
		speakFlow(t, p.speaker, FlowBase, 0)
		speakFlow(t, p.speaker, FlowThin, 0)
	}
	flows := func() (got []uint8) {
		for _, w := range wires {
			if len(w.kept) != 1 {
				t.Fatalf("%d packets where one flow of two is taken", len(w.kept))
			}
			var packet voicePacket
			if err := packet.decode(w.kept[0]); err != nil || packet.Count != 1 {
				t.Fatalf("%v, %d groups", err, packet.Count)
			}
			got = append(got, packet.Groups[0].Flow)
			w.kept = nil
		}
		return got
	}
	both()
	if got := flows(); !slices.Equal(got, []uint8{0, 0, 0}) {
		t.Errorf("at first links take %v", got)
	}
	links[1].wantThin.Store(true)
	links[1].loss.Store(30)
	links[2].depth.Store(2)
	if got, want := p.speaker.flows(), (Flows{Base: 2, Thin: 1, Change: true, Depth: 2, Loss: 30}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	both()
	if got := flows(); !slices.Equal(got, []uint8{0, 0, 0}) {
		t.Errorf("before the switch links take %v", got)
	}
	p.speaker.switchFlows()
	both()
	if got := flows(); !slices.Equal(got, []uint8{0, 1, 0}) {
		t.Errorf("after it links take %v", got)
	}
	links[1].wantThin.Store(false)
	p.speaker.switchFlows()
	both()
	if got := flows(); !slices.Equal(got, []uint8{0, 0, 0}) {
		t.Errorf("back again links take %v", got)
	}
	if got := p.speaker.flows(); got.Change || got.Base != 3 || got.Thin != 0 || got.Loss != 0 {
		t.Errorf("%+v", got)
	}
}

// TestShortOnlyWhereAllAre: one link that is not short makes frames longer for
// all on base; one on thin, or that fades, does not count.
func TestShortOnlyWhereAllAre(t *testing.T) {
	p, links, _ := flowStage(t, 3)
	short := func(want bool) {
		t.Helper()
		if got := p.speaker.flows().Short; got != want {
			t.Errorf("short: %v, want %v", got, want)
		}
	}
	short(false)
	links[0].short.Store(true)
	links[1].short.Store(true)
	short(false)
	links[2].wantThin.Store(true)
	short(true)
	links[2].wantThin.Store(false)
	links[2].fading.Store(true)
	short(true)
	for _, l := range links {
		l.wantThin.Store(true)
	}
	short(false) // nobody takes it
	for _, l := range links {
		p.speaker.removeLink(l)
	}
	if got := p.speaker.flows(); got != (Flows{}) {
		t.Errorf("without links %+v", got)
	}
}

// TestCoverPassesTheMute: silence goes out though muted, nothing else does, and
// nothing at all where there is no microphone.
func TestCoverPassesTheMute(t *testing.T) {
	p, _, wires := flowStage(t, 1)
	say := func(cover bool) int {
		wires[0].kept = nil
		if err := p.speaker.speak(&Frame{Cover: cover, Opus: make([]byte, 80)}); err != nil {
			t.Fatal(err)
		}
		return len(wires[0].kept)
	}
	p.speaker.setQuiet(true, false)
	if n := say(false); n != 0 {
		t.Errorf("%d packets of voice leave while muted", n)
	}
	if n := say(true); n != 1 {
		t.Errorf("%d packets of cover leave while muted", n)
	}
	p.speaker.setQuiet(false, true)
	if n := say(true); n != 0 {
		t.Errorf("%d packets of cover leave from somebody who listens only", n)
	}
}

// TestQuality: short and clean after five seconds without a fault, and not a
// report longer than it lasts.
func TestQuality(t *testing.T) {
	now := time.Now()
	var q quality
	var in report
	step := func(rtt time.Duration, lost uint32, jitter time.Duration) (short bool, loss int) {
		now = now.Add(reportEvery)
		in.Received += 25
		in.LostBeforeRepair += lost
		in.Jitter = uint32(jitter.Microseconds())
		return q.report(now, &in, rtt)
	}
	faults := map[string]func() (bool, int){
		"none":     func() (bool, int) { return step(5*time.Millisecond, 0, time.Millisecond) },
		"far":      func() (bool, int) { return step(shortTrip, 0, time.Millisecond) },
		"unknown":  func() (bool, int) { return step(0, 0, time.Millisecond) },
		"loss":     func() (bool, int) { return step(5*time.Millisecond, 1, time.Millisecond) },
		"jittered": func() (bool, int) { return step(5*time.Millisecond, 0, shortJitter) },
	}
	for name, fault := range faults {
		after := 0
		for short := false; !short; after++ {
			if short, _ = faults["none"](); after > 20 {
				t.Fatal("never short")
			}
		}
		if want := int(shortAfter / reportEvery); name != "none" && after > want+1 {
			t.Errorf("short after %d reports", after)
		}
		if short, _ := fault(); short != (name == "none") {
			t.Errorf("%s: short %v", name, short)
		}
		if name == "none" {
			continue
		}
		for i := range int(shortAfter / reportEvery) {
			if short, _ := faults["none"](); short {
				t.Fatalf("short again %d reports after %q", i+1, name)
			}
		}
	}
	q, in = quality{}, report{}
	random := rand.New(rand.NewPCG(3, 4))
	loss := 0
	for range 100 {
		lost := uint32(0)
		for range 25 {
			if random.IntN(100) < 30 {
				lost++
			}
		}
		_, loss = step(50*time.Millisecond, lost, 0)
	}
	if loss < 20 || loss > 40 {
		t.Errorf("%d %% is told of a loss of 30 %%", loss)
	}
	// Counts of another flow are no losses of this one.
	in.Flow, in.Received, in.LostBeforeRepair = FlowThin, in.Received+10, in.LostBeforeRepair+1000
	if _, now := q.report(now, &in, 0); now > loss {
		t.Errorf("%d %% after a change of the flow", now)
	}
}

// TestOtherFlowIsNotLost: while a link takes the other flow the counters of
// this one go on for others, and nothing of that is counted as lost.
func TestOtherFlowIsNotLost(t *testing.T) {
	p, links, wires := flowStage(t, 2)
	wires[0].keep, wires[1].keep = false, false
	media := uint32(0)
	talk := func(rounds int) {
		for range rounds {
			speakFlow(t, p.speaker, FlowBase, media)
			speakFlow(t, p.speaker, FlowBase, media+960)
			speakFlow(t, p.speaker, FlowThin, media)
			media += 1920
		}
	}
	for i := range 6 {
		links[0].wantThin.Store(i%2 == 1)
		links[0].depth.Store(int32(i % 3))
		p.speaker.switchFlows()
		talk(100)
		var out report
		p.voice.describe(&out)
		if want := uint8(i % 2); out.Flow != want || out.Lost != 0 || out.LostBeforeRepair != 0 || out.Received == 0 {
			t.Errorf("stint %d: %+v", i, out)
		}
	}
	counted := p.voice.receptions[FlowBase].received + p.voice.receptions[FlowThin].received
	if heard := uint64(len(p.heard)); counted > heard || counted < heard-6*maxDepth {
		t.Errorf("%d frames were heard, %d counted", heard, counted)
	}
	wires[0].drop = func(n int) bool { return n%4 == 0 }
	talk(100)
	var out report
	if p.voice.describe(&out); out.Flow != FlowThin || out.LostBeforeRepair < 15 {
		t.Errorf("with a quarter lost: %+v", out)
	}
}
