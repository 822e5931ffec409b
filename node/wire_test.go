package node

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"teahouse/internal/mesh"
	"teahouse/internal/seal"
)

// The expected bytes here were computed by another program from
// docs/protocol.md, in Python with its standard library and `cryptography`; the
// ad-hoc network id, which needs Argon2id, was not.

func hexOf(b []byte) string { return hex.EncodeToString(b) }

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func filled(b byte) (out [32]byte) {
	copy(out[:], bytes.Repeat([]byte{b}, 32))
	return out
}

func idOf(b byte) mesh.PeerID {
	key := filled(b)
	return mesh.PeerIDOf(key[:])
}

func TestNetworkGolden(t *testing.T) {
	lan := LAN()
	if lan.ID != "gzwzil22yluihns7cmnxfpqxmy" || !lan.LAN {
		t.Errorf("lan: %s", lan.ID)
	}
	if got := hexOf(lan.Secret[:]); got != "65c888e9820b3931d59fd81dec318c9e9c93b91afe9410bb2c009d80080ce505" {
		t.Errorf("lan secret %s", got)
	}
	if got := lan.hallwayTopic(); got != "neqvmowldndunfw2crwkmed56tbxxxbio7i3zjz3rvtpdrgd27bq" {
		t.Errorf("hallway %s", got)
	}
	for _, name := range []string{"tea house", " Tea  HOUSE\t", "ｔｅａ\u00a0house", "tea\u200b house"} {
		n, err := AdHocNetwork(name)
		if err != nil {
			t.Fatal(err)
		}
		if n.ID != "lhb7binzuzlmrcvis4us3e3oga" || n.LAN {
			t.Errorf("%q: %s", name, n.ID)
		}
	}
	if n, err := AdHocNetwork("LAN"); err != nil || n != lan {
		t.Errorf("lan by name: %v %v", n.ID, err)
	}
	for _, bad := range []string{"", " \u200b ", "a\x00b", "\xff", string(make([]byte, 300))} {
		if _, err := AdHocNetwork(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestSessionGolden(t *testing.T) {
	door := mesh.Door(filled(0x33))
	random := bytes.Repeat([]byte{0x44}, 16)
	i, r := idOf(0x11), idOf(0x22)
	tag := sessionTag(&door, i, r, random)
	if got := hexOf(tag[:]); got != "63a4e03cb298637a4c6c9f77c8e97f269b378d34a29cf3303a5a07fff739dba9" {
		t.Errorf("tag %s", got)
	}
	if got := hexOf(noisePrologue(&door, &tag)); got != hexOf(door[:])+hexOf(tag[:]) {
		t.Errorf("prologue %s", got)
	}
	hi := hello{lowest: 1, highest: 1, index: 0x01020304, secret: filled(0x55)}
	hr := hello{lowest: 1, highest: 1, features: 5, index: 0x0a0b0c0d, secret: filled(0x66)}
	for _, c := range []struct {
		h    hello
		want string
	}{
		{hi, "010100000000010203045555555555555555555555555555555555555555555555555555555555555555"},
		{hr, "0101000000050a0b0c0d6666666666666666666666666666666666666666666666666666666666666666"},
	} {
		if got := hexOf(c.h.marshal()); got != c.want {
			t.Errorf("hello %s", got)
		}
		back, err := parseHello(append(c.h.marshal(), 1, 2, 3)) // later versions may append
		if err != nil || back != c.h {
			t.Errorf("parsed %v, %v", back, err)
		}
	}
	binding := bindingOf(&tag, i, r, hi.marshal(), hr.marshal())
	if got := hexOf(binding[:]); got != "d1712f0ca0200b7b31c9581e1de75c84faa5e0e270a9cd1c2441d7ab514df7eb" {
		t.Errorf("binding %s", got)
	}
	ir, ri := hopKeys(&hi.secret, &hr.secret, &binding)
	if got := hexOf(ir[:]); got != "0eda004d27b0d15025822efffd67842ba3e4f24643e9e459f1f6735a0b807758" {
		t.Errorf("key I>R %s", got)
	}
	if got := hexOf(ri[:]); got != "b0df483981d76ce7f22c61975c30ab2caaf899c426f85e08cae2d8b2b22b47c3" {
		t.Errorf("key R>I %s", got)
	}
	if got := string(voicePrologue(&binding)); got != "teahouse voice 1"+string(binding[:]) {
		t.Errorf("voice prologue %x", got)
	}
	if got := keyCID([32]byte(unhex(t, "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"))).String(); got != "bafkreiaaaebagbafaydqqcikbmga2dqpcaireeyuculbogazdinryhi6d4" {
		t.Errorf("DHT key %s", got)
	}
}

func TestHelloRefused(t *testing.T) {
	good := hello{lowest: 1, highest: 1, index: 1}
	zero, turned := good, good
	zero.index, turned.lowest = 0, 2
	for name, b := range map[string][]byte{
		"empty": nil, "short": good.marshal()[:helloLen-1], "index 0": zero.marshal(), "versions turned": turned.marshal(),
		"long": make([]byte, maxHelloLen+1),
	} {
		if _, err := parseHello(b); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	for _, c := range []struct {
		a, b [2]uint8
		want uint8
	}{
		{[2]uint8{1, 1}, [2]uint8{1, 1}, 1},
		{[2]uint8{1, 3}, [2]uint8{2, 5}, 3},
		{[2]uint8{1, 1}, [2]uint8{2, 5}, 0},
		{[2]uint8{4, 9}, [2]uint8{1, 3}, 0},
	} {
		v, err := commonVersion(&hello{lowest: c.a[0], highest: c.a[1]}, &hello{lowest: c.b[0], highest: c.b[1]})
		if v != c.want || (err != nil) != (c.want == 0) {
			t.Errorf("%v and %v: %d, %v", c.a, c.b, v, err)
		}
	}
}

// hopPair is a sealer and the opener of the same key.
func hopPair(key [32]byte, index uint32) (*sealer, *opener) {
	return &sealer{key: seal.New(&key), index: index}, &opener{key: seal.New(&key)}
}

func TestDatagramGolden(t *testing.T) {
	key := [32]byte(unhex(t, "0eda004d27b0d15025822efffd67842ba3e4f24643e9e459f1f6735a0b807758"))
	s, o := hopPair(key, 0x0a0b0c0d)
	s.counter = 7
	b, err := s.seal(typePacket, []byte("voice"))
	if err != nil {
		t.Fatal(err)
	}
	if got := hexOf(b); got != "210a0b0c0d0000000000000007450630d50f95d6a33b71911081ef8b2fb3abacc1cb" {
		t.Errorf("datagram %s", got)
	}
	if index, ok := datagramIndex(b); !ok || index != 0x0a0b0c0d {
		t.Errorf("index %x %v", index, ok)
	}
	again := bytes.Clone(b)
	if p, err := o.open(b); err != nil || string(p) != "voice" {
		t.Errorf("opened %q, %v", p, err)
	}
	if _, err := o.open(again); !errors.Is(err, errReplayed) {
		t.Errorf("replay: %v", err)
	}
	s.counter = maxCounter
	if _, err := s.seal(typePacket, nil); !errors.Is(err, errWornOut) {
		t.Errorf("beyond the last counter: %v", err)
	}
}

func TestDatagramForged(t *testing.T) {
	for at := range headerLen + 5 + seal.Overhead {
		s, o := hopPair(filled(1), 42)
		b, err := s.seal(typePacket, []byte("voice"))
		if err != nil {
			t.Fatal(err)
		}
		good := bytes.Clone(b)
		b[at] ^= 0x80
		if _, err := o.open(b); err == nil {
			t.Errorf("opened with byte %d changed", at)
		}
		if _, err := o.open(good); err != nil {
			t.Errorf("a forgery at byte %d shut the real one out: %v", at, err)
		}
	}
}

func TestCheckGolden(t *testing.T) {
	for _, c := range []struct {
		c    check
		want string
	}{
		{check{token: 0x01020304}, "01010203040000000000000000"}, {check{answer: true, token: 5, tally: tally{7, 9}}, "02000000050000000700000009"},
	} {
		if got := hexOf(c.c.appendTo(nil)); got != c.want {
			t.Errorf("%+v: %s", c.c, got)
		}
	}
	if got := hexOf(appendCheckFrame(nil, check{token: 9})); got != "800001000000090000000000000000" {
		t.Errorf("frame %s", got)
	}
}

func FuzzHello(f *testing.F) {
	f.Add((&hello{lowest: 1, highest: 1, index: 7}).marshal())
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 60))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHello(b)
		if err != nil {
			return
		}
		if !bytes.Equal(h.marshal(), b[:helloLen]) || h.index == 0 || h.lowest > h.highest {
			t.Errorf("%x parsed as %+v", b, h)
		}
	})
}

// FuzzDatagram: nothing that was not sealed opens, and what was does once.
func FuzzDatagram(f *testing.F) {
	f.Add([]byte("voice"), []byte{0x21, 0, 0, 0, 42}, uint8(0))
	f.Add([]byte{}, bytes.Repeat([]byte{0x22}, 60), uint8(20))
	f.Add(make([]byte, mesh.MaxPacket), make([]byte, 1300), uint8(12))
	f.Fuzz(func(t *testing.T, packet, noise []byte, at uint8) {
		if len(packet) > mesh.MaxPacket {
			packet = packet[:mesh.MaxPacket]
		}
		s, o := hopPair(filled(1), 42)
		if index, ok := datagramIndex(noise); ok && index == 42 {
			if _, err := o.open(bytes.Clone(noise)); err == nil {
				t.Fatal("noise opened")
			}
		}
		b, err := s.seal(typePacket, packet)
		if err != nil {
			t.Fatal(err)
		}
		if index, ok := datagramIndex(b); !ok || index != 42 {
			t.Fatal("own datagram not known")
		}
		bent := bytes.Clone(b)
		bent[int(at)%len(bent)] ^= 1
		if _, err := o.open(bent); err == nil {
			t.Fatal("a bent datagram opened")
		}
		if got, err := o.open(bytes.Clone(b)); err != nil || !bytes.Equal(got, packet) {
			t.Fatalf("opened %x, %v", got, err)
		}
		if _, err := o.open(b); err == nil {
			t.Fatal("opened twice")
		}
	})
}

func FuzzCheck(f *testing.F) {
	f.Add([]byte{1, 0, 0, 0, 9})
	f.Add([]byte{3, 0, 0, 0, 9, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, ok := parseCheck(b); ok && !bytes.Equal(c.appendTo(nil), b) {
			t.Errorf("%x parsed as %+v", b, c)
		}
	})
}

// FuzzFrame: a frame is read whole, within its limit, and nothing beyond it.
func FuzzFrame(f *testing.F) {
	f.Add(appendL(nil, []byte("hello")), uint16(100))
	f.Add([]byte{0xff, 0xff, 1}, uint16(10))
	f.Fuzz(func(t *testing.T, b []byte, limit uint16) {
		r := bytes.NewReader(b)
		got, err := readFrame(r, int(limit))
		if err != nil {
			return
		}
		if len(got) > int(limit) || !bytes.Equal(appendL(nil, got), b[:2+len(got)]) || r.Len() != len(b)-2-len(got) {
			t.Errorf("%x gave %x", b, got)
		}
	})
}

// FuzzReplay compares the window with a set that forgets nothing.
func FuzzReplay(f *testing.F) {
	f.Add([]byte{0, 0, 1, 255, 3})
	f.Add([]byte{200, 100, 250, 7, 7, 0, 128})
	f.Fuzz(func(t *testing.T, steps []byte) {
		var w replayWindow
		seen := make(map[uint64]bool)
		var highest uint64
		at := uint64(0)
		for i, step := range steps {
			// Small steps about the highest, and now and then far ones.
			switch {
			case step < 200:
				at = highest + uint64(step%8) - min(highest, uint64(step/8))
			case step < 240:
				at = highest + uint64(step-200)*97
			default:
				at = highest - min(highest, uint64(step-239)*90)
			}
			want := !seen[at] && (highest < replayWidth || at > highest-replayWidth)
			if got := w.fresh(at); got != want {
				t.Fatalf("step %d: counter %d after %d: fresh %v", i, at, highest, got)
			}
			if want {
				w.mark(at)
				seen[at] = true
				highest = max(highest, at)
			}
		}
	})
}

// FuzzAddr: no address that needs a name looked up is ever taken, and each
// that is taken says by which transport.
func FuzzAddr(f *testing.F) {
	for _, s := range []string{
		"/ip4/1.2.3.4/udp/7654/quic-v1", "/ip6/::1/tcp/1", "/dns4/example.org/tcp/1", "/dnsaddr/x", "/ip4/1.2.3.4/tcp/80/ws",
		"/ip4/1.2.3.4/udp/7654/quic-v1/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp", "/memory/1", "",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := parseAddr(s)
		if err != nil {
			return
		}
		if bytes.Contains([]byte(a.String()), []byte("dns")) {
			t.Errorf("%q was taken", s)
		}
	})
}
