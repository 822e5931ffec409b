package room

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"teahouse/internal/mesh"
)

// wire is a mesh.Session that hands each packet to the far link at once, or
// keeps it.
type wire struct {
	mesh.Session // nil: nothing else of it is used
	to           *link
	peer         mesh.PeerID
	kept         [][]byte
	keep         bool
	drop         func(n int) bool
	stats        mesh.LinkStats
	path         mesh.Path
	sent         int
}

func (w *wire) SendPacket(data []byte) error {
	w.sent++
	if w.keep {
		w.kept = append(w.kept, bytes.Clone(data))
	}
	if w.drop != nil && w.drop(w.sent) {
		return nil
	}
	if w.to != nil {
		w.to.packet(data, time.Now())
	}
	return nil
}

func (w *wire) Peer() mesh.PeerID       { return w.peer }
func (w *wire) Stats() mesh.LinkStats   { return w.stats }
func (w *wire) Path() (mesh.Path, bool) { return w.path, true }

// voicePair is a plane that speaks and one that hears it, in one epoch.
type voicePair struct {
	speaker, hearer *plane
	counts          [2]counters
	wire            *wire
	link            *link // at the hearer
	voice           *voice
	heard           []heardFrame
}

func newVoicePair(heard func(Member, *Frame, time.Time)) *voicePair {
	p := &voicePair{wire: &wire{}}
	if heard == nil {
		heard = func(_ Member, f *Frame, at time.Time) {
			g := heardFrame{*f, at}
			g.Opus = bytes.Clone(f.Opus)
			p.heard = append(p.heard, g)
		}
	}
	p.speaker = newPlane(&Config{}, &p.counts[0])
	p.hearer = newPlane(&Config{Heard: heard}, &p.counts[1])
	p.voice = &voice{plane: p.hearer, member: goldMember(), instance: 7}
	p.link = &link{plane: p.hearer, net: &wire{}}
	p.link.voice.Store(p.voice)
	p.wire.to = p.link
	p.speaker.addLink(&link{plane: p.speaker, net: p.wire})
	p.epochs(testEpoch(1, 0))
	return p
}

func testEpoch(number uint32, from time.Duration) *epoch {
	e := &epoch{number: number, secret: epochSecret{byte(number)}, sendFrom: time.Now().Add(from)}
	e.id, e.tag = e.secret.id(), e.secret.tag()
	return e
}

// epochs has both sides hold these, newest first.
func (p *voicePair) epochs(held ...*epoch) {
	p.speaker.setEpochs(held, func(e *epoch) *sealer {
		return newSealer(&e.secret, goldRoom(), goldMember(), goldPeer(), goldSalt())
	})
	p.hearer.setEpochs(held, func(e *epoch) *sealer {
		return newSealer(&e.secret, goldRoom(), goldVoiceKey(), goldPeer(), goldSalt())
	})
	p.voice.setEpochs(held, func(e *epoch) *opener {
		return newOpener(&e.secret, goldRoom(), goldMember(), goldPeer(), goldSalt())
	})
}

func (p *voicePair) depth(n int) { p.speaker.links[0].depth.Store(int32(n)) }

func (p *voicePair) say(t testing.TB, text string) {
	t.Helper()
	if err := p.speaker.speak(&Frame{Level: 20, Opus: []byte(text)}); err != nil {
		t.Fatal(err)
	}
}

func (p *voicePair) words() (words []string) {
	for _, f := range p.heard {
		words = append(words, string(f.Opus))
	}
	p.heard = nil
	return words
}

func wantWords(t *testing.T, p *voicePair, want ...string) {
	t.Helper()
	if got := p.words(); !slices.Equal(got, want) {
		t.Errorf("heard %q, want %q", got, want)
	}
}

func TestReplaysAreDropped(t *testing.T) {
	p := newVoicePair(nil)
	p.wire.keep = true
	for _, w := range []string{"a", "b", "c"} {
		p.say(t, w)
	}
	wantWords(t, p, "a", "b", "c")
	for range 3 {
		for _, packet := range slices.Backward(p.wire.kept) {
			p.link.packet(packet, time.Now())
		}
	}
	wantWords(t, p)
	if n := p.counts[1].framesReplayed.Load(); n != 9 {
		t.Errorf("%d replays were counted, want 9", n)
	}
}

func TestReorderedFramesAreHeardOnce(t *testing.T) {
	p := newVoicePair(nil)
	p.wire.keep, p.wire.to = true, nil
	for _, w := range []string{"a", "b", "c", "d"} {
		p.say(t, w)
	}
	for _, i := range []int{2, 0, 3, 2, 1, 0} {
		p.link.packet(p.wire.kept[i], time.Now())
	}
	wantWords(t, p, "c", "a", "d", "b")
}

// TestVoiceIsTheLinks: what one member said is not heard from another's link,
// under whatever tags it comes.
func TestVoiceIsTheLinks(t *testing.T) {
	p := newVoicePair(nil)
	p.wire.keep, p.wire.to = true, nil
	p.say(t, "stolen")
	other := &voice{plane: p.hearer, member: goldVoiceKey(), instance: 1}
	other.setEpochs([]*epoch{testEpoch(1, 0)}, func(e *epoch) *opener {
		return newOpener(&e.secret, goldRoom(), goldVoiceKey(), goldPeer(), goldSalt())
	})
	l := &link{plane: p.hearer, net: &wire{}}
	l.packet(p.wire.kept[0], time.Now()) // nobody has proven to be there
	l.voice.Store(other)
	l.packet(p.wire.kept[0], time.Now())
	forged := bytes.Clone(p.wire.kept[0])
	copy(forged[voiceHeadLen+4:], other.keys[0].sender[:])
	l.packet(forged, time.Now())
	wantWords(t, p)
	if n := p.counts[1].framesUnopened.Load(); n != 2 {
		t.Errorf("%d frames were counted as not opened, want 2", n)
	}
	p.link.packet(p.wire.kept[0], time.Now())
	wantWords(t, p, "stolen")
}

func TestRepairDepth(t *testing.T) {
	for depth := range maxDepth + 1 {
		p := newVoicePair(nil)
		p.depth(depth)
		p.wire.drop = func(n int) bool { return n%(depth+1) != 0 } // only each (depth+1)th arrives
		var want []string
		for i := range 12 {
			p.say(t, string(rune('a'+i)))
			want = append(want, string(rune('a'+i)))
		}
		for i, f := range p.heard {
			if newest := (i+1)%(depth+1) == 0; f.Repaired == newest {
				t.Errorf("depth %d: frame %d: repaired %v", depth, i, f.Repaired)
			}
		}
		wantWords(t, p, want...)
	}
}

// TestRepairAcrossEpochs: a frame that was lost under the old epoch is sent
// again, as it was, in a packet of the new one.
func TestRepairAcrossEpochs(t *testing.T) {
	p := newVoicePair(nil)
	p.depth(2)
	first := testEpoch(1, 0)
	p.epochs(first)
	p.wire.drop = func(n int) bool { return n < 3 }
	p.say(t, "a")
	p.say(t, "b")
	first.until = time.Now().Add(time.Minute)
	p.epochs(testEpoch(2, 0), first)
	p.say(t, "c")
	wantWords(t, p, "a", "b", "c")
}

func TestOldEpochsClose(t *testing.T) {
	p := newVoicePair(nil)
	p.wire.keep, p.wire.to = true, nil
	p.say(t, "in time")
	p.say(t, "late")
	old := testEpoch(1, 0)
	now := time.Now()
	old.until = now.Add(epochOpen)
	p.epochs(testEpoch(2, 0), old)
	p.link.packet(p.wire.kept[0], now.Add(epochOpen-time.Millisecond))
	p.link.packet(p.wire.kept[1], now.Add(epochOpen+time.Millisecond))
	wantWords(t, p, "in time")
}

// TestSendingLagsBehind: a new epoch is heard at once and sent in later; one
// that lost before its time is never sent in.
func TestSendingLagsBehind(t *testing.T) {
	p := newVoicePair(nil)
	one, two := testEpoch(1, 0), testEpoch(2, time.Hour)
	p.epochs(two, one)
	if got := p.speaker.sendTag(time.Now()); got != one.tag {
		t.Error("sends in the new epoch before its time")
	}
	if got := p.speaker.sendTag(time.Now().Add(2 * time.Hour)); got != two.tag {
		t.Error("does not send in the new epoch after its time")
	}
	two.skip = true
	p.epochs(two, one)
	if got := p.speaker.sendTag(time.Now().Add(2 * time.Hour)); got != one.tag {
		t.Error("sends in an epoch that lost")
	}
	p.epochs()
	if got := p.speaker.sendTag(time.Now()); got != (tag{}) {
		t.Error("sends without an epoch")
	}
	p.say(t, "nobody hears")
	wantWords(t, p)
}

// TestOneSealerForEachEpoch: being told of an epoch again must not begin its
// nonces anew.
func TestOneSealerForEachEpoch(t *testing.T) {
	p := newVoicePair(nil)
	first := p.speaker.sealers[0].sealer
	p.epochs(testEpoch(2, time.Hour), testEpoch(1, 0))
	if p.speaker.sealers[1].sealer != first {
		t.Error("a second sealer was made for one epoch")
	}
	p.say(t, "a")
	p.speaker.restart()
	if p.speaker.sent[0].counter != 0 || len(p.speaker.sealers) != 0 {
		t.Error("a new instance goes on with the keys or counters of the old one")
	}
}

func TestQuietIsQuiet(t *testing.T) {
	p := newVoicePair(nil)
	p.say(t, "a")
	p.speaker.setQuiet(true, false)
	p.say(t, "muted")
	p.speaker.setQuiet(false, true)
	p.say(t, "listening only")
	if p.wire.sent != 1 {
		t.Errorf("%d packets were sent", p.wire.sent)
	}
	p.speaker.setQuiet(false, false)
	p.say(t, "b")
	wantWords(t, p, "a", "b")
	if got := p.speaker.sent[0].counter; got != 2 {
		t.Errorf("%d counters were used for 2 frames", got)
	}
	p.speaker.close()
	if err := p.speaker.speak(&Frame{Opus: []byte("c")}); err != ErrClosed {
		t.Errorf("after close: %v", err)
	}
}

func TestSpeakRefusesBadFrames(t *testing.T) {
	p := newVoicePair(nil)
	for name, f := range map[string]Frame{
		"empty":     {},
		"too long":  {Opus: make([]byte, MaxOpus+1)},
		"flow":      {Flow: flows, Opus: []byte{1}},
		"too quiet": {Level: 128, Opus: []byte{1}},
	} {
		if err := p.speaker.speak(&f); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	p.depth(maxDepth)
	for range 5 { // the longest frames leave no room for repair, but fit
		if err := p.speaker.speak(&Frame{Opus: make([]byte, MaxOpus)}); err != nil {
			t.Fatal(err)
		}
	}
	if len(p.heard) != 5 {
		t.Errorf("%d of 5 long frames were heard", len(p.heard))
	}
}

// TestBundlesAreRefused: no link has been granted forwarding.
func TestBundlesAreRefused(t *testing.T) {
	p := newVoicePair(nil)
	p.link.packet(goldBundle(t), time.Now())
	p.link.packet([]byte{packetBundle}, time.Now())
	p.link.packet([]byte{77, 1, 2}, time.Now())
	p.link.packet([]byte{packetVoice, 0}, time.Now())
	p.link.packet([]byte{packetReport, 0}, time.Now())
	p.link.packet(nil, time.Now())
	wantWords(t, p)
	if n := p.counts[1].packetsRefused.Load(); n != 5 {
		t.Errorf("%d packets were counted as refused, want 5", n)
	}
}

func TestClosedVoiceIsSilent(t *testing.T) {
	p := newVoicePair(nil)
	p.voice.close()
	p.say(t, "a")
	wantWords(t, p)
}

func TestVoicePacketsArePadded(t *testing.T) {
	p := newVoicePair(nil)
	p.wire.keep = true
	for n := range 40 {
		if err := p.speaker.speak(&Frame{Opus: make([]byte, n+1)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, packet := range p.wire.kept {
		if len(packet)%paddingStep != 0 {
			t.Errorf("a packet has %d bytes", len(packet))
		}
	}
}

func TestPlaneDoesNotAllocate(t *testing.T) {
	for depth := range maxDepth + 1 {
		n := 0
		p := newVoicePair(func(Member, *Frame, time.Time) { n++ })
		p.depth(depth)
		f := Frame{Level: 20, Opus: make([]byte, 80)}
		allocs := testing.AllocsPerRun(1000, func() {
			if err := p.speaker.speak(&f); err != nil {
				t.Fatal(err)
			}
		})
		if allocs != 0 {
			t.Errorf("depth %d: %v allocations a frame", depth, allocs)
		}
		if n != 1001 {
			t.Errorf("depth %d: %d frames were heard", depth, n)
		}
	}
}

func TestReportsDoNotAllocate(t *testing.T) {
	p := newVoicePair(nil)
	l := p.speaker.links[0]
	p.link.sent.Acknowledged = 1 // nothing to answer at once
	l.voice.Store(&voice{plane: p.speaker})
	now := time.Now()
	if n := testing.AllocsPerRun(100, func() { l.sendReport(l.voice.Load(), now, true) }); n != 0 {
		t.Errorf("%v allocations a report", n)
	}
}

func BenchmarkSpeak(b *testing.B) {
	for _, links := range []int{1, 7} {
		for _, depth := range []int{0, 3} {
			b.Run(benchName(links, depth), func(b *testing.B) {
				p := newVoicePair(nil)
				p.speaker.links = nil
				for range links {
					l := &link{plane: p.speaker, net: &wire{}}
					l.depth.Store(int32(depth))
					p.speaker.addLink(l)
				}
				f := Frame{Level: 20, Opus: make([]byte, 80)}
				b.ReportAllocs()
				for b.Loop() {
					if err := p.speaker.speak(&f); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkHear(b *testing.B) {
	for _, depth := range []int{0, 3} {
		b.Run(benchName(1, depth), func(b *testing.B) {
			p := newVoicePair(func(Member, *Frame, time.Time) {})
			p.depth(depth)
			p.wire.keep, p.wire.to = true, nil
			f := Frame{Level: 20, Opus: make([]byte, 80)}
			for range 20000 {
				if err := p.speaker.speak(&f); err != nil {
					b.Fatal(err)
				}
			}
			now, i := time.Now(), 0
			b.ReportAllocs()
			for b.Loop() {
				if i == len(p.wire.kept) {
					b.StopTimer()
					p.voice.keys = nil
					p.epochs(testEpoch(1, 0))
					i = 0
					b.StartTimer()
				}
				p.link.packet(p.wire.kept[i], now)
				i++
			}
		})
	}
}

func benchName(links, depth int) string {
	return string([]byte{'0' + byte(links)}) + "links,depth" + string([]byte{'0' + byte(depth)})
}
