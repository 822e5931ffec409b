package room

import (
	"testing"

	"teahouse/internal/mesh"
)

// voicePath is one frame's way from encoder to socket and back, at a repair
// depth: 80 bytes of Opus, 32 kbit/s in 20 ms frames.
type voicePath struct {
	sealer *sealer
	opener *opener
	frame  Frame
	sealed [maxGroupFrames][maxSealed]byte
	sent   [maxGroupFrames][]byte // newest first
	out    voicePacket
	in     voicePacket
	data   []byte
	window replayWindow
	got    Frame
}

func newVoicePath() *voicePath {
	return &voicePath{
		sealer: goldSealer(), opener: goldOpener(),
		frame: Frame{Opus: make([]byte, 80)}, data: make([]byte, 0, mesh.MaxPacket),
	}
}

// send seals the next frame and makes the packet.
func (p *voicePath) send(tb testing.TB, depth int) {
	p.frame.Counter++
	copy(p.sent[1:], p.sent[:maxGroupFrames-1])
	buf := p.sealed[p.frame.Counter%maxGroupFrames][:0]
	var err error
	if p.sent[0], err = p.sealer.seal(buf, &p.frame); err != nil {
		tb.Fatal(err)
	}
	p.out.Count = 1
	g := &p.out.Groups[0]
	g.Epoch, g.Sender, g.Newest = p.sealer.epoch, p.sealer.sender, p.frame.Counter
	g.Count, g.Frames = uint8(min(depth+1, int(p.frame.Counter))), p.sent
	if p.data, err = p.out.append(p.data[:0], 40); err != nil {
		tb.Fatal(err)
	}
}

// receive takes the packet apart and opens what is new in it.
func (p *voicePath) receive(tb testing.TB) {
	if err := p.in.decode(p.data); err != nil {
		tb.Fatal(err)
	}
	g := &p.in.Groups[0]
	for i := range g.Frames[:g.Count] {
		h := g.header(i)
		if p.window.seen(h.Counter) {
			continue
		}
		if err := p.opener.open(&p.got, h, g.Frames[i]); err != nil {
			tb.Fatal(err)
		}
		p.window.accept(h.Counter)
	}
}

func TestVoicePathDoesNotAllocate(t *testing.T) {
	p := newVoicePath()
	if n := testing.AllocsPerRun(1000, func() { p.send(t, 3); p.receive(t) }); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
	r := goldReport()
	data := make([]byte, 0, reportLen)
	if n := testing.AllocsPerRun(100, func() { data = r.append(data[:0]); _ = r.decode(data) }); n != 0 {
		t.Errorf("%v allocations a report", n)
	}
	b, bundled := bundle{}, goldBundle(t)
	if n := testing.AllocsPerRun(100, func() { _ = b.decode(bundled) }); n != 0 {
		t.Errorf("%v allocations a bundle", n)
	}
}

func benchmarkSend(b *testing.B, depth int) {
	p := newVoicePath()
	b.ReportAllocs()
	for b.Loop() {
		p.send(b, depth)
	}
}

func BenchmarkSealAndPacketDepth0(b *testing.B) { benchmarkSend(b, 0) }
func BenchmarkSealAndPacketDepth3(b *testing.B) { benchmarkSend(b, 3) }

func benchmarkReceive(b *testing.B, depth int) {
	p := newVoicePath()
	for range 10 {
		p.send(b, depth)
	}
	b.ReportAllocs()
	for b.Loop() {
		p.window = replayWindow{begun: true, highest: p.frame.Counter - 1} // the newest frame is new, the others are not
		for i := range p.window.bits {
			p.window.bits[i] = ^uint64(0)
		}
		word, bit := replayBit(p.frame.Counter)
		p.window.bits[word] &^= bit
		p.receive(b)
	}
}

func BenchmarkOpenAndDecodeDepth0(b *testing.B) { benchmarkReceive(b, 0) }
func BenchmarkOpenAndDecodeDepth3(b *testing.B) { benchmarkReceive(b, 3) }

func BenchmarkBundleSign(b *testing.B) {
	older, newer := goldSealed(b)
	s, data := newBundleSigner(goldRoom(), goldKey(0x33)), make([]byte, 0, mesh.MaxPacket)
	in := bundle{Count: 2, Frames: [maxBundleFrames][]byte{older, newer}}
	b.ReportAllocs()
	for b.Loop() {
		data, _ = s.append(data[:0], &in)
	}
}

func BenchmarkBundleVerify(b *testing.B) {
	v, data, key := newBundleVerifier(goldRoom()), goldBundle(b), goldVoiceKey()
	b.ReportAllocs()
	for b.Loop() {
		if err := v.verify(data, (*[32]byte)(&key)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEntryVerify(b *testing.B) {
	e := goldEntry(b)
	for b.Loop() {
		if err := e.verify(goldRoom()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpenSecret(b *testing.B) {
	for b.Loop() {
		if _, err := OpenSecret("tea", [32]byte{}); err != nil {
			b.Fatal(err)
		}
	}
}
