package room

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"teahouse/internal/mesh"
)

// What the golden values of these tests are made of. testdata/golden.py makes
// the same values with nothing of ours but docs/protocol.md.

// run is the n bytes from, from+1, …
func run(from byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = from + byte(i)
	}
	return b
}

func goldSecret() Secret      { return Secret(run(0x40, 32)) }
func goldEpoch() *epochSecret { s := epochSecret(run(0x80, 32)); return &s }
func goldSalt() salt          { return salt(run(0xa0, 16)) }
func goldBinding() [32]byte   { return [32]byte(run(0xc0, 32)) }
func goldPeer() mesh.PeerID   { return mesh.PeerIDOf(goldKey(0x22).Public().(ed25519.PublicKey)) }
func goldTopic() string       { s := goldSecret(); return s.gossipTopic(19675) }
func goldRoom() ID            { s := goldSecret(); return s.ID() }
func goldSealer() *sealer {
	return newSealer(goldEpoch(), goldRoom(), goldMember(), goldPeer(), goldSalt())
}

func goldOpener() *opener {
	return newOpener(goldEpoch(), goldRoom(), goldMember(), goldPeer(), goldSalt())
}
func goldMember() Member       { return memberOf(goldKey(0x11)) }
func goldVoiceKey() (k Member) { return memberOf(goldKey(0x33)) }

func goldKey(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func goldHost(context string, message []byte) ([]byte, error) {
	return goldKey(0x22).Sign(nil, message, &ed25519.Options{Hash: crypto.Hash(0), Context: context})
}

func goldEntry(t testing.TB) *entry {
	e := &entry{
		Peer: goldPeer(), Instance: 0x0102030405060708, Salt: goldSalt(), Sequence: 9,
		Flags:    entryListenOnly | entryHand | entryMuted,
		VoiceKey: goldVoiceKey(), VoiceEpoch: goldEpoch().id(), Nick: "茶 Ada",
	}
	if err := e.sign(goldRoom(), goldKey(0x11), goldHost); err != nil {
		t.Fatal(err)
	}
	return e
}

// goldFrames are two frames of one voice, older first.
func goldFrames() [2]Frame {
	return [2]Frame{
		{Counter: 0x01020303, MediaTime: 0x0a0b090d, SpurtEnd: true, Level: 127, Opus: []byte("x")},
		{Counter: 0x01020304, MediaTime: 0x0a0b0c0d, SpurtStart: true, Level: 30, Opus: []byte("opus!")},
	}
}

func goldSealed(t testing.TB) (older, newer []byte) {
	k, f := goldSealer(), goldFrames()
	older, err := k.seal(nil, &f[0])
	if err != nil {
		t.Fatal(err)
	}
	if newer, err = k.seal(nil, &f[1]); err != nil {
		t.Fatal(err)
	}
	return older, newer
}

func goldPacket(t testing.TB) *voicePacket {
	older, newer := goldSealed(t)
	k := goldSealer()
	p := &voicePacket{Count: 1}
	p.Groups[0] = group{
		Epoch: k.epoch, Sender: k.sender, Newest: 0x01020304, Count: 2,
		Frames: [maxGroupFrames][]byte{newer, older},
	}
	return p
}

func goldBundle(t testing.TB) []byte {
	older, newer := goldSealed(t)
	k := goldSealer()
	data, err := newBundleSigner(goldRoom(), goldKey(0x33)).append(nil, &bundle{
		Stream: 0x51525354, Epoch: k.epoch, Sender: k.sender, First: 0x01020303, Count: 2,
		Frames: [maxBundleFrames][]byte{older, newer},
	})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func goldReport() *report {
	return &report{
		SentAt: 0x01020304, Echo: 0x11121314, Held: 0x21222324, Sequence: 0x31323334, Acknowledged: 0x41424344,
		Flags: reportHears, Depth: 3, Flow: 1, Highest: 0x51525354, Received: 0x61626364, Lost: 0x71727374,
		LostBeforeRepair: 0x81828384, Late: 0x91929394, Jitter: 0xa1a2a3a4, LongestBurst: 0xb1b2, MeanBurst: 0xc1c2,
		Epoch: tag{0xd1, 0xd2, 0xd3, 0xd4},
	}
}

func unhex(t testing.TB, s string) []byte {
	b, err := hex.DecodeString(strings.TrimSpace(s))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func goldFile(t testing.TB, name string) []byte {
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return unhex(t, string(b))
}

// flips calls try with data changed in each single bit, in turn.
func flips(data []byte, try func(changed []byte, bit int)) {
	changed := bytes.Clone(data)
	for bit := range 8 * len(data) {
		changed[bit/8] ^= 1 << (bit % 8)
		try(changed, bit)
		changed[bit/8] ^= 1 << (bit % 8)
	}
}
