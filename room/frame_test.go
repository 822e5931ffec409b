package room

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"teahouse/internal/mesh"
	"teahouse/internal/seal"
)

func TestFrameRoundTrip(t *testing.T) {
	k, o := goldSealer(), goldOpener()
	for i, f := range []Frame{
		{Opus: []byte{0}},
		{Flow: 1, Counter: 0xffffffff, MediaTime: 0xffffffff, Level: 127, SpurtStart: true, SpurtEnd: true, Opus: bytes.Repeat([]byte{0xff}, MaxOpus)},
		{Counter: 77, SpurtEnd: true, Opus: []byte("opus")},
	} {
		sealed, err := k.seal(nil, &f)
		if err != nil || len(sealed) != len(f.Opus)+22 {
			t.Fatalf("%d: %d bytes, %v", i, len(sealed), err)
		}
		var got Frame
		if err := o.open(&got, frameHeader{k.epoch, k.sender, f.Flow, f.Counter}, sealed); err != nil || !reflect.DeepEqual(got, f) {
			t.Errorf("%d: got %+v, %v", i, got, err)
		}
	}
}

func TestFrameRefusedWhenSealing(t *testing.T) {
	k := goldSealer()
	for name, f := range map[string]Frame{
		"no Opus":       {},
		"too much Opus": {Opus: make([]byte, MaxOpus+1)},
		"level":         {Level: 128, Opus: []byte{1}},
		"flow":          {Flow: flows, Opus: []byte{1}},
	} {
		if out, err := k.seal(nil, &f); err == nil || len(out) != 0 {
			t.Errorf("%s: sealed", name)
		}
	}
}

// A sealer uses no counter of a flow twice, whatever it is given. (This and
// the next test fail in a build with mutant_nonce, as they should.)
func TestSealerGuardsNonces(t *testing.T) {
	k := goldSealer()
	try := func(flow uint8, counter uint32) error {
		_, err := k.seal(nil, &Frame{Flow: flow, Counter: counter, Opus: []byte{1}})
		return err
	}
	for _, c := range []struct {
		flow    uint8
		counter uint32
		ok      bool
	}{
		{0, 10, true},
		{0, 10, false}, // again
		{1, 10, true},  // the other flow has nonces of its own
		{0, 9, false},  // back
		{0, 11, true},
		{0, 10 + 1<<31, true},
		{0, 11, false}, // round, past where it began
		{0, 9, true},   // round to just before
		{0, 10, false}, // where it began
		{1, 11, true},
	} {
		if err := try(c.flow, c.counter); (err == nil) != c.ok || err != nil && !errors.Is(err, errNonceSpent) {
			t.Errorf("flow %d counter %d: %v", c.flow, c.counter, err)
		}
	}
}

func TestNextCounter(t *testing.T) {
	for _, c := range []uint32{0, 48, 49, 50, 1<<31 - 1, 0xffffffff} {
		if nextCounter(c) != c+1 {
			t.Errorf("after %d comes %d", c, nextCounter(c))
		}
	}
}

// Each thing that a frame key is made of makes another key and tag.
func TestFrameKeysDiffer(t *testing.T) {
	next := goldEpoch().ratchet()
	otherPeer := mesh.PeerIDOf(bytes.Repeat([]byte{7}, 32))
	sealers := []*sealer{
		goldSealer(),
		newSealer(&next, goldRoom(), goldMember(), goldPeer(), goldSalt()),
		newSealer(goldEpoch(), ID{}, goldMember(), goldPeer(), goldSalt()),
		newSealer(goldEpoch(), goldRoom(), goldVoiceKey(), goldPeer(), goldSalt()),
		newSealer(goldEpoch(), goldRoom(), goldMember(), otherPeer, goldSalt()),
		newSealer(goldEpoch(), goldRoom(), goldMember(), goldPeer(), salt{}),
	}
	seen := map[string]int{}
	for i, k := range sealers {
		sealed, err := k.seal(nil, &Frame{Opus: []byte("same")})
		if err != nil {
			t.Fatal(err)
		}
		for _, what := range []string{string(sealed), fmt.Sprintf("%x", k.sender)} {
			if j, twice := seen[what]; twice {
				t.Errorf("keys %d and %d are one", i, j)
			}
			seen[what] = i
		}
		// Though the header be forged to match, another's key opens nothing.
		h := frameHeader{goldOpener().epoch, goldOpener().sender, 0, 0}
		if err := goldOpener().open(&Frame{}, h, sealed); (err == nil) != (i == 0) {
			t.Errorf("key %d: %v", i, err)
		}
	}
}

func TestFrameEveryBitCounts(t *testing.T) {
	_, sealed := goldSealed(t)
	o, f := goldOpener(), goldFrames()[1]
	h := frameHeader{o.epoch, o.sender, f.Flow, f.Counter}
	var got Frame
	flips(sealed, func(changed []byte, bit int) {
		if err := o.open(&got, h, changed); !errors.Is(err, seal.ErrOpen) {
			t.Errorf("bit %d: %v", bit, err)
		}
	})
	head := append(append(o.epoch[:4:4], o.sender[:]...), h.Flow, 0, 0, 0, 0)
	be.PutUint32(head[9:], h.Counter)
	flips(head, func(c []byte, bit int) {
		if err := o.open(&got, frameHeader{tag(c), tag(c[4:]), c[8], be.Uint32(c[9:])}, sealed); err == nil {
			t.Errorf("header bit %d may change", bit)
		}
	})
	for n := range sealed {
		if o.open(&got, h, sealed[:n]) == nil {
			t.Errorf("passes when cut to %d", n)
		}
	}
	if o.open(&got, h, make([]byte, maxSealed+1)) == nil {
		t.Error("too long passes")
	}
	if !reflect.DeepEqual(got, Frame{}) {
		t.Errorf("what did not open has left %+v", got)
	}
}

// A member who holds the key may still not say what the format has no words for.
func TestFrameBodyBounds(t *testing.T) {
	k, o := goldSealer(), goldOpener()
	h := frameHeader{k.epoch, k.sender, 0, 5}
	frameNonce(&k.nonce, h.Flow, h.Counter)
	frameAD(&k.ad, k.epoch, k.sender, h.Flow, h.Counter)
	for name, c := range map[string]struct {
		body []byte
		ok   bool
	}{
		"good":         {[]byte{0, 0, 0, 0, 3, 127, 1}, true},
		"unknown flag": {[]byte{0, 0, 0, 0, 4, 0, 1}, false},
		"high flag":    {[]byte{0, 0, 0, 0, 128, 0, 1}, false},
		"level 128":    {[]byte{0, 0, 0, 0, 0, 128, 1}, false},
		"no Opus":      {[]byte{0, 0, 0, 0, 0, 0}, false},
		"long Opus":    {make([]byte, maxFrameBody+1), false},
	} {
		sealed := k.key.Seal(nil, k.nonce[:], c.body, k.ad[:])
		if err := o.open(&Frame{}, h, sealed); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	secret, epoch := goldSecret(), goldEpoch()
	m := epochMessage{Secret: *epoch}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%d", "%q", "%o", "%b"} {
		for _, v := range []any{secret, &secret, *epoch, epoch, struct{ S Secret }{secret}, m} {
			got := fmt.Sprintf(verb, v)
			for _, bad := range []string{"4041", "64 65 66", "64,", "0x40, 0x41", "8081", "128 129", "0x80, 0x81", "@AB"} {
				if bytes.Contains([]byte(got), []byte(bad)) {
					t.Errorf("%s of %T prints %s", verb, v, got)
				}
			}
		}
	}
}
