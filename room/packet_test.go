package room

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"

	"teahouse/internal/mesh"
)

// randomPacket is any valid packet that fits.
func randomPacket(random *rand.Rand) *voicePacket {
	p := &voicePacket{Count: uint8(1 + random.IntN(maxGroups))}
	for i := range p.Groups[:p.Count] {
		g := &p.Groups[i]
		be.PutUint32(g.Epoch[:], random.Uint32())
		be.PutUint32(g.Sender[:], random.Uint32())
		g.Flow, g.Newest = uint8(random.IntN(256)), random.Uint32()
		g.Count = uint8(1 + random.IntN(maxGroupFrames))
		for j := range g.Frames[:g.Count] {
			g.Frames[j] = make([]byte, minSealed+random.IntN(10))
			for k := range g.Frames[j] {
				g.Frames[j][k] = byte(random.Uint32())
			}
		}
	}
	return p
}

func TestPacketRoundTrip(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	var got voicePacket // kept, so that what one packet leaves behind would show in the next
	for range 2000 {
		p := randomPacket(random)
		step := []int{0, 1, 2, 40, 64, 1000, 5000}[random.IntN(7)]
		data, err := p.append([]byte("before"), step)
		if p.size() > mesh.MaxPacket {
			if err == nil || string(data) != "before" {
				t.Fatalf("a packet of %d bytes is made", p.size())
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		data = data[len("before"):]
		if len(data) > mesh.MaxPacket || step > 1 && len(data)%step != 0 && len(data) != mesh.MaxPacket || step <= 1 && len(data) != p.size() {
			t.Fatalf("%d bytes, step %d, size %d", len(data), step, p.size())
		}
		if err := got.decode(data); err != nil {
			t.Fatal(err)
		}
		if got.Count != p.Count || !reflect.DeepEqual(got.Groups[:got.Count], p.Groups[:p.Count]) {
			t.Fatalf("got %+v, want %+v", got, *p)
		}
	}
}

func TestPacketRefused(t *testing.T) {
	good, err := goldPacket(t).append(nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	change := func(at int, to byte) []byte {
		b := bytes.Clone(good)
		b[at] = to
		return b
	}
	var p voicePacket
	for name, data := range map[string][]byte{
		"empty":            {},
		"kind alone":       {packetVoice},
		"another kind":     change(0, packetReport),
		"no group":         change(1, 0),
		"two groups":       change(1, 2),
		"nine groups":      change(1, 9),
		"no frame":         change(15, 0),
		"three frames":     change(15, 3),
		"five frames":      change(15, 5),
		"a short frame":    change(17, minSealed-1),
		"a frame too long": change(16, 5),
		"padding not zero": append(bytes.Clone(good), 0, 0, 1),
		"a byte too much":  append(bytes.Clone(good), make([]byte, mesh.MaxPacket+1-len(good))...),
	} {
		if p.decode(data) == nil {
			t.Errorf("%s: passes", name)
		}
		if p.Count != 0 {
			t.Errorf("%s: leaves groups behind", name)
		}
	}
	for n := range good {
		if p.decode(good[:n]) == nil {
			t.Errorf("passes when cut to %d", n)
		}
	}
	if err := p.decode(append(bytes.Clone(good), make([]byte, mesh.MaxPacket-len(good))...)); err != nil {
		t.Errorf("padded to the full: %v", err)
	}
}

func TestPacketNotMade(t *testing.T) {
	for name, f := range map[string]func(p *voicePacket){
		"no group":     func(p *voicePacket) { p.Count = 0 },
		"nine groups":  func(p *voicePacket) { p.Count = 9 },
		"no frame":     func(p *voicePacket) { p.Groups[0].Count = 0 },
		"five frames":  func(p *voicePacket) { p.Groups[0].Count = 5 },
		"a nil frame":  func(p *voicePacket) { p.Groups[0].Frames[1] = nil },
		"a long frame": func(p *voicePacket) { p.Groups[0].Frames[1] = make([]byte, maxSealed+1) },
		"too large": func(p *voicePacket) {
			p.Groups[0].Frames[0], p.Groups[0].Frames[1] = make([]byte, 600), make([]byte, 600)
		},
	} {
		p := goldPacket(t)
		f(p)
		if out, err := p.append([]byte{9}, 0); err == nil || len(out) != 1 {
			t.Errorf("%s: %x", name, out)
		}
	}
	// The largest frame fits with its packet.
	p := goldPacket(t)
	p.Groups[0].Count, p.Groups[0].Frames[0] = 1, make([]byte, maxSealed)
	if _, err := p.append(nil, 0); err != nil {
		t.Errorf("the largest frame: %v", err)
	}
}

// Of a packet that bears real frames no bit may change: it is refused, or what
// it bears does not open, or names no key that there is.
func TestPacketEveryBitCounts(t *testing.T) {
	data, err := goldPacket(t).append(nil, 40)
	if err != nil {
		t.Fatal(err)
	}
	o, p := goldOpener(), &voicePacket{}
	opened := func(data []byte) (frames int, good bool) {
		if p.decode(data) != nil {
			return 0, false
		}
		good = true
		for i := range p.Groups[:p.Count] {
			g := &p.Groups[i]
			for j := range g.Frames[:g.Count] {
				err := o.open(&Frame{}, g.header(j), g.Frames[j])
				good, frames = good && err == nil, frames+1
			}
		}
		return frames, good
	}
	if frames, good := opened(data); frames != 2 || !good {
		t.Fatalf("%d frames, %v", frames, good)
	}
	flips(data, func(changed []byte, bit int) {
		// One bit takes a frame away whole, and then the rest is no padding.
		if _, good := opened(changed); good {
			t.Errorf("bit %d may change", bit)
		}
	})
}

func TestGroupHeadersWrap(t *testing.T) {
	g := group{Newest: 1, Count: 4}
	b := bundle{First: 0xfffffffe, Count: 4}
	for i, want := range []uint32{1, 0, 0xffffffff, 0xfffffffe} {
		if got := g.header(i).Counter; got != want {
			t.Errorf("group: frame %d has counter %d", i, got)
		}
		if got := b.header(3 - i).Counter; got != want {
			t.Errorf("bundle: frame %d has counter %d", i, got)
		}
	}
}

func TestBundle(t *testing.T) {
	data, key := goldBundle(t), goldVoiceKey()
	v := newBundleVerifier(goldRoom())
	var b bundle
	if err := b.decode(data); err != nil || b.Count != 2 {
		t.Fatal(err)
	}
	if err := v.verify(data, (*[32]byte)(&key)); err != nil {
		t.Fatal(err)
	}
	o, want := goldOpener(), goldFrames()
	for i := range b.Frames[:b.Count] {
		var f Frame
		if err := o.open(&f, b.header(i), b.Frames[i]); err != nil || !reflect.DeepEqual(f, want[i]) {
			t.Errorf("frame %d: %+v, %v", i, f, err)
		}
	}
	flips(data, func(changed []byte, bit int) {
		if b.decode(changed) == nil && v.verify(changed, (*[32]byte)(&key)) == nil {
			t.Errorf("bit %d may change", bit)
		}
	})
	for n := range data {
		if b.decode(data[:n]) == nil && v.verify(data[:n], (*[32]byte)(&key)) == nil {
			t.Errorf("passes when cut to %d", n)
		}
	}
	if b.decode(append(bytes.Clone(data), 0)) == nil {
		t.Error("a byte after the signature passes")
	}
	member := goldMember()
	for name, err := range map[string]error{
		"no voice key": v.verify(data, new([32]byte)),
		"another key":  v.verify(data, (*[32]byte)(&member)),
		"another room": newBundleVerifier(ID{}).verify(data, (*[32]byte)(&key)),
		"empty":        v.verify(nil, (*[32]byte)(&key)),
	} {
		if err == nil {
			t.Errorf("%s: passes", name)
		}
	}
}

func TestBundleBounds(t *testing.T) {
	s := newBundleSigner(goldRoom(), goldKey(0x33))
	for name, b := range map[string]*bundle{
		"no frame":      {},
		"seven frames":  {Count: 7},
		"a nil frame":   {Count: 1},
		"a long frame":  {Count: 1, Frames: [maxBundleFrames][]byte{make([]byte, maxSealed+1)}},
		"over a packet": {Count: 2, Frames: [maxBundleFrames][]byte{make([]byte, 600), make([]byte, 600)}},
	} {
		if out, err := s.append([]byte{9}, b); err == nil || len(out) != 1 {
			t.Errorf("%s: %x", name, out)
		}
	}
	b := &bundle{Count: maxBundleFrames}
	for i := range b.Frames {
		b.Frames[i] = make([]byte, minSealed)
	}
	data, err := s.append(nil, b)
	var got bundle
	if err != nil || got.decode(data) != nil || got.Count != maxBundleFrames {
		t.Errorf("six frames: %v", err)
	}
}

func TestReport(t *testing.T) {
	data := goldReport().append(nil)
	var p report
	if err := p.decode(data); err != nil || p != *goldReport() || len(data) != reportLen {
		t.Errorf("got %+v, %v", p, err)
	}
	for name, at := range map[string]int{"kind": 0, "depth": 22, "zero": 24, "first zero": 57, "last zero": 63} {
		b := bytes.Clone(data)
		b[at] ^= 0x84
		if p.decode(b) == nil || p != (report{}) {
			t.Errorf("%s changed: passes", name)
		}
	}
	if p.decode(data[:63]) == nil || p.decode(append(data, 0)) == nil || p.decode(nil) == nil {
		t.Error("another length passes")
	}
}
