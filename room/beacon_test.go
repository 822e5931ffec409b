package room

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"teahouse/internal/mesh"
)

func goldBeaconBox() *beaconBox { s := goldSecret(); return newBeaconBox(&s) }

func TestBeacon(t *testing.T) {
	box, topic := goldBeaconBox(), goldTopic()
	long := mesh.Addr("/" + strings.Repeat("a", maxAddr-1))
	for _, c := range []struct {
		name      string
		addrs, is []mesh.Addr
	}{
		{"none", nil, nil},
		{"two", []mesh.Addr{"/a", "/b"}, []mesh.Addr{"/a", "/b"}},
		{"nine", nineAddrs(), nineAddrs()[:8]},
		{"what does not fit is left out", []mesh.Addr{long, long, "/c", long, "/d"}, []mesh.Addr{long, long, "/c", "/d"}},
		{"bad ones are left out", []mesh.Addr{"", "/a b", "/ü", "/a\n", long + "a", "/ok"}, []mesh.Addr{"/ok"}},
	} {
		data := box.seal(topic, mesh.Peer{ID: goldPeer(), Addrs: c.addrs})
		if len(data) != beaconLen || !isBeacon(data) {
			t.Errorf("%s: %d bytes", c.name, len(data))
		}
		got, err := box.open(topic, goldPeer(), data)
		if err != nil || got.ID != goldPeer() || !reflect.DeepEqual(got.Addrs, c.is) {
			t.Errorf("%s: got %q, %v", c.name, got, err)
		}
	}
}

func nineAddrs() (addrs []mesh.Addr) {
	for i := range 9 {
		addrs = append(addrs, mesh.Addr([]byte{'/', 'a' + byte(i)}))
	}
	return addrs
}

func TestBeaconRefused(t *testing.T) {
	box, topic := goldBeaconBox(), goldTopic()
	good := box.seal(topic, mesh.Peer{ID: goldPeer()})
	other := mesh.PeerIDOf(bytes.Repeat([]byte{7}, 32))
	another := Secret{1}
	for name, err := range map[string]error{
		"another signer": second(box.open(topic, other, good)),
		"another topic":  second(box.open(topic[1:]+"a", goldPeer(), good)),
		"another room":   second(newBeaconBox(&another).open(topic, goldPeer(), good)),
		"cut":            second(box.open(topic, goldPeer(), good[:len(good)-1])),
		"empty":          second(box.open(topic, goldPeer(), nil)),
		"a roster":       second(box.open(topic, goldPeer(), newRosterBox(goldEpoch()).seal(topic, goldEntry(t)))),
	} {
		if err == nil {
			t.Errorf("%s: passes", name)
		}
	}

	// Sealed by someone who knows the room, but not as we seal.
	head := []byte{broadcastBeacon}
	peer := appendLP(nil, string(goldPeer()))
	for name, body := range map[string][]byte{
		"padding not zero":  append(append(append([]byte{}, peer...), make([]byte, 100)...), 1),
		"nine addresses":    append(append([]byte{}, peer...), append([]byte{9}, bytes.Repeat([]byte{0, 1, '/'}, 9)...)...),
		"an empty address":  append(append([]byte{}, peer...), 1, 0, 0),
		"an address beyond": append(append([]byte{}, peer...), 1, 1, 0),
		"a strange address": append(append([]byte{}, peer...), 1, 0, 1, 0x1b),
		"no peer":           {},
		"a short peer":      {0, 2, 1, 2, 0},
	} {
		if got, err := box.open(topic, goldPeer(), sealBroadcast(box.key, topic, head, body)); err == nil {
			t.Errorf("%s: passes as %q", name, got)
		}
	}
}

func TestSealedRoster(t *testing.T) {
	topic, e := goldTopic(), goldEntry(t)
	e.Nick = strings.Repeat("n", MaxNick)
	if err := e.sign(goldRoom(), goldKey(0x11), goldHost); err != nil {
		t.Fatal(err)
	}
	box := newRosterBox(goldEpoch())
	data := box.seal(topic, e)
	if epoch, ok := sealedRosterEpoch(data); !ok || epoch != goldEpoch().tag() || len(data) != rosterLen {
		t.Errorf("epoch %x, %v, %d bytes", epoch, ok, len(data))
	}
	if got, err := box.open(topic, data); err != nil || got != *e {
		t.Errorf("got %+v, %v", got, err)
	}

	next := goldEpoch().ratchet()
	retagged := newRosterBox(&next)
	retagged.epoch = box.epoch
	for name, err := range map[string]error{
		"another topic":           second(box.open(topic+"a", data)),
		"another epoch":           second(newRosterBox(&next).open(topic, data)),
		"another epoch, same tag": second(retagged.open(topic, data)),
		"a beacon":                second(box.open(topic, goldBeaconBox().seal(topic, mesh.Peer{ID: goldPeer()}))),
		"padding not zero": second(box.open(topic, sealBroadcast(box.key, topic, data[:5],
			append(e.append(nil), 0, 1)))),
		"no entry": second(box.open(topic, sealBroadcast(box.key, topic, data[:5], nil))),
		"cut":      second(box.open(topic, data[:rosterLen-1])),
		"empty":    second(box.open(topic, nil)),
	} {
		if err == nil {
			t.Errorf("%s: passes", name)
		}
	}
}

func TestBroadcastsEveryBitCounts(t *testing.T) {
	topic, secret := goldTopic(), goldBeaconBox()
	flips(goldFile(t, "beacon.hex"), func(changed []byte, bit int) {
		if _, err := secret.open(topic, goldPeer(), changed); err == nil {
			t.Errorf("beacon: bit %d may change", bit)
		}
	})
	roster := newRosterBox(goldEpoch())
	flips(goldFile(t, "sealed_roster.hex"), func(changed []byte, bit int) {
		if _, err := roster.open(topic, changed); err == nil {
			t.Errorf("sealed roster: bit %d may change", bit)
		}
	})
}

// What a beacon says can be read by those who know the room and by nobody else.
// (Fails in a build with mutant_leak, as it should.)
func TestBroadcastsShowNothing(t *testing.T) {
	e := goldEntry(t)
	topic := goldTopic()
	for _, data := range [][]byte{
		append(goldBeaconBox().seal(topic, mesh.Peer{ID: goldPeer(), Addrs: []mesh.Addr{"/ip4/192.0.2.1"}}), beaconTrailer(e.Nick)...),
		newRosterBox(goldEpoch()).seal(topic, e),
	} {
		for name, b := range map[string][]byte{"nick": []byte(e.Nick), "member": e.Member[:], "peer": []byte(e.Peer)[6:], "address": []byte("192.0.2.1")} {
			if bytes.Contains(data, b) {
				t.Errorf("%s in clear", name)
			}
		}
	}
	if box := goldBeaconBox(); bytes.Equal(box.seal(topic, mesh.Peer{}), box.seal(topic, mesh.Peer{})) {
		t.Error("two beacons are equal: the nonce repeats")
	}
}

func second[T any](_ T, err error) error { return err }
