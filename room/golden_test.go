package room

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"testing"
	"time"

	"teahouse/internal/mesh"
)

// A format is pinned as its fields in order, so that a person can check each
// against docs/protocol.md.
type goldField struct{ name, hex string }

func checkGold(t *testing.T, got []byte, fields []goldField) {
	t.Helper()
	at := 0
	for _, f := range fields {
		want := unhex(t, f.hex)
		end := min(at+len(want), len(got))
		if !bytes.Equal(got[at:end], want) {
			t.Errorf("%s at byte %d:\n got %x\nwant %x", f.name, at, got[at:end], want)
		}
		at = end
	}
	if at != len(got) {
		t.Errorf("%d bytes more than the fields: %x", len(got)-at, got[at:])
	}
}

const (
	goldMemberHex   = "d04ab232742bb4ab3a1368bd4615e4e6d0224ab71a016baf8520a332c9778737"
	goldVoiceHex    = "17cb79fb2b4120f2b1ec65e4198d6e08b28e813feb01e4a400839b85e18080ce"
	goldPeerHex     = "002408011220a09aa5f47a6759802ff955f8dc2d2a14a5c99d23be97f864127ff9383455a4f0"
	goldEpochTagHex = "1692d4e0"
	goldSenderHex   = "4879c918"
	goldEpochIDHex  = "682118d495856fdf1b2e23eeb3c58804"
	goldCommitHex   = "628f0e9f100b604bb30c99ea894a317ba8abd1d129f9acad5cc062afc554dc04"
	goldNewerHex    = "67234e11201149cde883775e9ed06a4752adbf8c6da5c2c7e0e953"
	goldOlderHex    = "d60fb8b7c65798bc58057f7b6e1636773bd5e26801dc2e"
	zeros32         = "0000000000000000000000000000000000000000000000000000000000000000"
)

// goldEntryFields are the bytes of goldEntry.
var goldEntryFields = []goldField{
	{"member key", goldMemberHex},
	{"length of peer id", "0026"},
	{"peer id", goldPeerHex},
	{"instance", "0102030405060708"},
	{"salt", "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf"},
	{"sequence", "0000000000000009"},
	{"flags", "0013"},
	{"voice key", goldVoiceHex},
	{"voice epoch", goldEpochIDHex},
	{"length of nick", "0007"},
	{"nick", "e88cb620416461"},
	{"member signature", "02e72b7996b0c716791a7d92021acf435678a64e756f89176b857b5d7e4fcde3be4f0f383a0dec5fb09a5ace9b94eeb4c412fd0a0e2d553f7b411968c720f605"},
	{"host signature", "05e793f79bfc5e53a94b013d9e278e92c86cc4bb4d6efa9fada88e5ae1b955816b3058a2c851f456323ec49ad65ceee9559482339a8a5906ad2c3eb43cd54802"},
}

func TestGoldenKeys(t *testing.T) {
	open, err := OpenSecret(" Tea \t HOUSE ", [32]byte(run(0, 32)))
	if err != nil {
		t.Fatal(err)
	}
	secret, epoch := goldSecret(), goldEpoch()
	at := time.Unix(1_700_000_000, 0)
	dht := secret.dhtKeyAt(at)
	topic, _ := secret.gossipTopics(at)
	next := epoch.ratchet()
	commit, etag, eid, door, room := epoch.commitment(goldRoom(), 7), epoch.tag(), epoch.id(), secret.door(), goldRoom()
	_, sender := epoch.frameKey(goldRoom(), goldMember(), goldPeer(), goldSalt())
	for _, g := range []struct {
		name string
		got  []byte
		want string
	}{
		{"room_secret", open[:], "769f4e8a8e65382584a59e0b0d2469bdc03dbf7228df60ee9f23d3bba3896f91"},
		{"room id", room[:], "97f7c5fc20fdbfb18ab5084f94e4f76a"},
		{"DHT key", dht[:], "6eee827a0d312095874bd691f2f66cfe557ea176e1ad5a67c6721705179c3ff0"},
		{"topic", []byte(topic), hex.EncodeToString([]byte("4b3flzpwx6onalggcxej6f5gft5dj5b6b4lqxi22vqfemxbvbuca"))},
		{"door", door[:], "9d1c8aab8294669bb6c8e698326bf517d0b264d2e41444238efaa745fdc77c9c"},
		{"ratchet", next[:], "59fc8f2ad62cd66312acb4d5b2b4f0d9fd05305c2b8e295e03796a3f3ac2b794"},
		{"epoch tag", etag[:], goldEpochTagHex},
		{"epoch id", eid[:], goldEpochIDHex},
		{"commitment", commit[:], goldCommitHex},
		{"sender tag", sender[:], goldSenderHex},
	} {
		if hex.EncodeToString(g.got) != g.want {
			t.Errorf("%s: got %x, want %s", g.name, g.got, g.want)
		}
	}
	if got, want := room.String(), "s734l7ba7w73dcvvbbhzjzhxni"; got != want {
		t.Errorf("room id as text: got %s, want %s", got, want)
	}
}

func TestGoldenEntry(t *testing.T) {
	e := goldEntry(t)
	checkGold(t, e.append(nil), goldEntryFields)
	checkGold(t, e.appendMessage(nil), append([]goldField{{"kind", "02"}}, goldEntryFields...))
	got, rest, err := decodeEntry(append(e.append(nil), "later"...))
	if err != nil || string(rest) != "later" || !reflect.DeepEqual(got, *e) {
		t.Errorf("decoded %+v, rest %q, %v", got, rest, err)
	}
}

func TestGoldenMessages(t *testing.T) {
	room, key := goldRoom(), goldKey(0x11)
	p := newProof(room, roleInitiator, goldBinding(), key)
	checkGold(t, p.appendMessage(nil), []goldField{
		{"kind", "01"},
		{"role", "01"},
		{"member key", goldMemberHex},
		{"signature", "f86379bf2bbc9f912324c749b581a7d2669913fbec389f567ae7f8607992110f63f06e6b8086d95cf9bf7802047e84a3173deeb46469bfb11c0f58338696850e"},
	})

	originFields := []goldField{
		{"origin's number", "00000007"},
		{"removals", "0000"},
		{"parent", zeros32},
		{"commitment", goldCommitHex},
		{"op-log heads", zeros32},
		{"author", goldMemberHex},
		{"signature", "19287dc60ce03a6c4d937e2c9f768b1cb298caf76e71815b42acb80a426b1b6496205c8fd47cd3b0226350afd93a07ec65c8780dea5486332a58bbdbe302370b"},
	}
	m := epochMessage{Number: 7, Secret: *goldEpoch(), Origin: newOrigin(room, 7, commitment{}, goldEpoch(), key)}
	checkGold(t, m.appendMessage(nil), append([]goldField{
		{"kind", "03"},
		{"number", "00000007"},
		{"secret", "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"},
	}, originFields...))

	a := admitMessage{Number: 8, Commitment: m.Origin.Commitment, Entry: *goldEntry(t)}
	checkGold(t, a.appendMessage(nil), append([]goldField{
		{"kind", "04"},
		{"number", "00000008"},
		{"commitment", goldCommitHex},
	}, goldEntryFields...))

	k := knownMessage{Number: 9, OriginNumber: 7, Removals: 0x0102, Commitment: m.Origin.Commitment, Epoch: goldEpoch().id(), Flags: knownStale}
	checkGold(t, k.appendMessage(nil), []goldField{
		{"kind", "05"},
		{"number", "00000009"},
		{"origin's number", "00000007"},
		{"removals", "0102"},
		{"commitment", goldCommitHex},
		{"epoch id", goldEpochIDHex},
		{"flags", "01"},
	})

	checkGold(t, appendPeersMessage(nil, []mesh.Peer{{ID: goldPeer(), Addrs: []mesh.Addr{"/ip4/192.0.2.1", "/m"}}}), []goldField{
		{"kind", "06"},
		{"peers", "01"},
		{"length of peer id", "0026"},
		{"peer id", goldPeerHex},
		{"addresses", "02"},
		{"length", "000e"},
		{"/ip4/192.0.2.1", "2f6970342f3139322e302e322e31"},
		{"length", "0002"},
		{"/m", "2f6d"},
	})
}

func TestGoldenBroadcasts(t *testing.T) {
	secret := goldSecret()
	self, err := newBeaconBox(&secret).open(goldTopic(), goldPeer(), goldFile(t, "beacon.hex"))
	want := mesh.Peer{ID: goldPeer(), Addrs: []mesh.Addr{"/ip4/192.0.2.1/udp/7654/quic-v1", "/ip6/2001:db8::1/tcp/7654"}}
	if err != nil || !reflect.DeepEqual(self, want) {
		t.Errorf("beacon: got %q, %v", self, err)
	}
	e, err := newRosterBox(goldEpoch()).open(goldTopic(), goldFile(t, "sealed_roster.hex"))
	if err != nil || !reflect.DeepEqual(e, *goldEntry(t)) {
		t.Errorf("sealed roster: got %+v, %v", e, err)
	}
}

func TestGoldenPackets(t *testing.T) {
	older, newer := goldSealed(t)
	checkGold(t, older, []goldField{{"older frame", goldOlderHex}})
	checkGold(t, newer, []goldField{{"newer frame", goldNewerHex}})

	p, err := goldPacket(t).append(nil, 40)
	if err != nil {
		t.Fatal(err)
	}
	groupFields := []goldField{
		{"kind", "01"},
		{"groups", "01"},
		{"epoch tag", goldEpochTagHex},
		{"sender tag", goldSenderHex},
		{"flow", "00"},
		{"newest counter", "01020304"},
		{"frames", "02"},
		{"length", "001b"},
		{"newest frame", goldNewerHex},
		{"length", "0017"},
		{"older frame", goldOlderHex},
		{"padding from 70 to 80", "00000000000000000000"},
	}
	checkGold(t, p, groupFields)

	checkGold(t, goldBundle(t), []goldField{
		{"kind", "03"},
		{"stream id", "51525354"},
		{"epoch tag", goldEpochTagHex},
		{"sender tag", goldSenderHex},
		{"flow", "00"},
		{"first counter", "01020303"},
		{"frames", "02"},
		{"length", "0017"},
		{"older frame", goldOlderHex},
		{"length", "001b"},
		{"newer frame", goldNewerHex},
		{"signature", "ac573743a6714c0a26ca875bfa1f1c6de7ad0e53b59d5c1329d6fc296914a8d1e3fac3c03af0c64b72b0d6405d3f2ca7e2e53f718fe21340ff8f3d34351b1b09"},
	})

	checkGold(t, goldReport().append(nil), []goldField{
		{"kind", "02"},
		{"sent at", "01020304"},
		{"echo", "11121314"},
		{"held", "21222324"},
		{"sequence", "31323334"},
		{"acknowledged", "41424344"},
		{"flags", "01"},
		{"depth", "03"},
		{"flow", "01"},
		{"zero", "00"},
		{"highest counter", "51525354"},
		{"received", "61626364"},
		{"lost", "71727374"},
		{"lost before repair", "81828384"},
		{"late", "91929394"},
		{"jitter", "a1a2a3a4"},
		{"longest burst", "b1b2"},
		{"mean burst", "c1c2"},
		{"epoch tag", "d1d2d3d4"},
		{"zeros", "00000000000000"},
	})
}
