package room

import (
	"bytes"
	"testing"

	"teahouse/internal/mesh"
)

// Each decoder is fuzzed with a property. Of those that are not sealed: what
// was decoded, encoded again, is the input (or its beginning, where a later
// version may append). Of those that are: nothing opens but what was sealed.

func fuzzSeeds(f *testing.F, seeds ...[]byte) {
	for _, s := range seeds {
		f.Add(s)
		f.Add(s[:len(s)/2])
		f.Add(append(bytes.Clone(s), 0, 0, 0))
	}
	f.Add([]byte{})
}

func FuzzEntry(f *testing.F) {
	fuzzSeeds(f, goldEntry(f).append(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, rest, err := decodeEntry(data)
		if err != nil {
			return
		}
		if again := e.append(nil); !bytes.Equal(again, data[:len(data)-len(rest)]) || len(again) > maxEntry {
			t.Errorf("%x decodes, but encodes as %x", data, again)
		}
		if e.verify(goldRoom()) == nil && e != *goldEntry(t) {
			t.Errorf("forged: %x", data)
		}
	})
}

// FuzzMessage takes whole messages, kind byte first.
func FuzzMessage(f *testing.F) {
	p := newProof(goldRoom(), roleInitiator, goldBinding(), goldKey(0x11))
	fresh, later := goldEpochMessage(0), goldEpochMessage(3)
	a := admitMessage{Number: 8, Entry: *goldEntry(f)}
	k := knownMessage{Number: 9, OriginNumber: 7, Epoch: epochID{1}, Flags: 0xfe | knownStale}
	fuzzSeeds(f, p.appendMessage(nil), fresh.appendMessage(nil), later.appendMessage(nil), a.appendMessage(nil), k.appendMessage(nil),
		goldEntry(f).appendMessage(nil), appendPeersMessage(nil, []mesh.Peer{{ID: goldPeer(), Addrs: []mesh.Addr{"/a", "/b"}}, {ID: goldPeer()}}))
	f.Fuzz(func(t *testing.T, data []byte) {
		kind, body, ok := splitMessage(data)
		if !ok {
			return
		}
		var again []byte
		switch kind {
		case kindProof:
			p, err := decodeProof(body)
			if err != nil {
				return
			}
			again = p.appendMessage(nil)
			if p.verify(goldRoom(), roleResponder, goldBinding()) == nil {
				t.Errorf("forged: %x", data)
			}
		case kindEntry:
			e, _, err := decodeEntry(body)
			if err != nil {
				return
			}
			again = e.appendMessage(nil)
		case kindEpoch:
			m, err := decodeEpoch(body)
			if err != nil {
				return
			}
			again = m.appendMessage(nil)
			if m.verify(goldRoom()) == nil && m.Origin != fresh.Origin {
				t.Errorf("forged: %x", data)
			}
		case kindAdmit:
			m, err := decodeAdmit(body)
			if err != nil {
				return
			}
			again = m.appendMessage(nil)
		case kindKnown:
			m, err := decodeKnown(body)
			if err != nil {
				return
			}
			again = m.appendMessage(nil)
		case kindPeers:
			peers, err := decodePeers(body)
			if err != nil {
				return
			}
			if again = appendPeersMessage(nil, peers); len(data) > mesh.MaxMessage {
				return
			}
		default:
			return
		}
		if !bytes.HasPrefix(data, again) {
			t.Errorf("%x decodes, but encodes as %x", data, again)
		}
	})
}

func FuzzBroadcast(f *testing.F) {
	topic, beacons, rosters := goldTopic(), goldBeaconBox(), newRosterBox(goldEpoch())
	beacon, roster := goldFile(f, "beacon.hex"), goldFile(f, "sealed_roster.hex")
	fuzzSeeds(f, beacon, roster)
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := beacons.open(topic, goldPeer(), data); err == nil && !bytes.Equal(cutBeaconTrailer(data), beacon) {
			t.Errorf("forged beacon: %x", data)
		}
		if _, err := rosters.open(topic, data); err == nil && !bytes.Equal(data, roster) {
			t.Errorf("forged roster: %x", data)
		}
	})
}

// FuzzBroadcastBody is what someone who knows the room may do: any body, well
// sealed.
func FuzzBroadcastBody(f *testing.F) {
	beacons, rosters, topic := goldBeaconBox(), newRosterBox(goldEpoch()), goldTopic()
	body, _ := beacons.key.Open(nil, goldFile(f, "beacon.hex")[1:25], goldFile(f, "beacon.hex")[25:], append([]byte(topic), broadcastBeacon))
	fuzzSeeds(f, body, goldEntry(f).append(nil))
	f.Fuzz(func(t *testing.T, body []byte) {
		if len(body) > broadcastBody {
			return
		}
		padded := append(bytes.Clone(body), make([]byte, broadcastBody-len(body))...)
		reopen := func(box *[]byte, head int, data []byte) {
			key := beacons.key
			if head == 5 {
				key = rosters.key
			}
			plain, err := openBroadcast(key, topic, data[:head], data[head:])
			if err != nil {
				t.Fatal(err)
			}
			*box = plain
		}
		var again []byte
		if peer, err := beacons.open(topic, goldPeer(), sealBroadcast(beacons.key, topic, []byte{broadcastBeacon}, body)); err == nil {
			if reopen(&again, 1, beacons.seal(topic, peer)); !bytes.Equal(again, padded) {
				t.Errorf("%x becomes %x", padded, again)
			}
		}
		head := append([]byte{broadcastRoster}, rosters.epoch[:]...)
		if e, err := rosters.open(topic, sealBroadcast(rosters.key, topic, head, body)); err == nil {
			if reopen(&again, 5, rosters.seal(topic, &e)); !bytes.Equal(again, padded) {
				t.Errorf("%x becomes %x", padded, again)
			}
		}
	})
}

func FuzzVoicePacket(f *testing.F) {
	plain, _ := goldPacket(f).append(nil, 0)
	padded, _ := goldPacket(f).append(nil, 64)
	fuzzSeeds(f, plain, padded)
	o := goldOpener()
	older, newer := goldSealed(f)
	var p voicePacket
	f.Fuzz(func(t *testing.T, data []byte) {
		if p.decode(data) != nil {
			return
		}
		again, err := p.append(nil, 0)
		if err != nil || !bytes.HasPrefix(data, again) || !zeros(data[len(again):]) {
			t.Errorf("%x decodes, but encodes as %x, %v", data, again, err)
		}
		for i := range p.Groups[:p.Count] {
			g := &p.Groups[i]
			for j, sealed := range g.Frames[:g.Count] {
				if o.open(&Frame{}, g.header(j), sealed) == nil && !bytes.Equal(sealed, older) && !bytes.Equal(sealed, newer) {
					t.Errorf("forged frame %x", sealed)
				}
			}
		}
	})
}

func FuzzBundle(f *testing.F) {
	gold := goldBundle(f)
	fuzzSeeds(f, gold)
	s, v, key := newBundleSigner(goldRoom(), goldKey(0x33)), newBundleVerifier(goldRoom()), goldVoiceKey()
	var b bundle
	f.Fuzz(func(t *testing.T, data []byte) {
		if b.decode(data) != nil {
			return
		}
		again, err := s.append(nil, &b)
		if n := len(data) - 64; err != nil || !bytes.Equal(again[:n], data[:n]) {
			t.Errorf("%x decodes, but encodes as %x, %v", data, again, err)
		}
		if v.verify(data, (*[32]byte)(&key)) == nil && !bytes.Equal(data, gold) {
			t.Errorf("forged: %x", data)
		}
	})
}

func FuzzReport(f *testing.F) {
	fuzzSeeds(f, goldReport().append(nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		var p report
		if p.decode(data) == nil && !bytes.Equal(p.append(nil), data) {
			t.Errorf("%x decodes, but encodes as %x", data, p.append(nil))
		}
	})
}

// FuzzFrameBody is what a member may do who holds the key: any body, well
// sealed.
func FuzzFrameBody(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 3, 127, 'o', 'p', 'u', 's'}, uint8(1), uint32(7))
	f.Add([]byte{0, 0, 0, 0, 4, 0, 1}, uint8(0), uint32(0xffffffff))
	f.Fuzz(func(t *testing.T, body []byte, flow uint8, counter uint32) {
		k, o := goldSealer(), goldOpener()
		frameNonce(&k.nonce, flow, counter)
		frameAD(&k.ad, k.epoch, k.sender, flow, counter)
		sealed := k.key.Seal(nil, k.nonce[:], body, k.ad[:])
		var got Frame
		if o.open(&got, frameHeader{k.epoch, k.sender, flow, counter}, sealed) != nil {
			return
		}
		again, err := goldSealer().seal(nil, &got)
		if err != nil || !bytes.Equal(again, sealed) {
			t.Errorf("body %x opens as %+v, which seals otherwise: %v", body, got, err)
		}
	})
}

// FuzzReplay drives the window with any counters against the model.
func FuzzReplay(f *testing.F) {
	f.Add(uint32(0xfffffff0), []byte{1, 2, 3, 1, 255, 0, 128, 7})
	f.Fuzz(func(t *testing.T, start uint32, steps []byte) {
		var w replayWindow
		slow := slowWindow{taken: map[uint64]bool{}}
		at := 1<<33 + uint64(start)
		for _, s := range steps {
			c := at + uint64(s)*uint64(s)/16 - 300 // 300 back to 3,764 ahead
			if slow.accept(c) != w.accept(uint32(c)) {
				t.Fatalf("start %d, steps %v: not as the model", start, steps)
			}
			at = slow.highest
		}
	})
}
