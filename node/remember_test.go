package node

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

func TestMemoryBytes(t *testing.T) {
	m := memory{}
	id := peer.ID(idOf(1))
	m.note(time.Unix(1_900_000_000, 5), id, multiaddrs(t, "/ip4/44.0.0.1/tcp/7", "/ip6/fd00::1/udp/7/quic-v1"))
	want := "0101" + "00000000713fb300" + fmt.Sprintf("%04x", len(id)) + hex.EncodeToString([]byte(id)) + "02" +
		"0013" + hex.EncodeToString([]byte("/ip4/44.0.0.1/tcp/7")) + "001a" + hex.EncodeToString([]byte("/ip6/fd00::1/udp/7/quic-v1"))
	if got := hex.EncodeToString(m.marshal()); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestMemory(t *testing.T) {
	m := memory{}
	addr := multiaddrs(t, "/ip4/44.0.0.1/tcp/7")
	id := func(i int) peer.ID { return peer.ID(idOf(byte(i))) }
	if !m.note(epoch, id(1), addr) || m.note(epoch.Add(time.Minute), id(1), addr) {
		t.Error("only what is new is worth a write")
	}
	if !m.note(epoch.Add(time.Minute), id(1), multiaddrs(t, "/ip4/44.0.0.2/tcp/7")) || !m.note(epoch.Add(2*time.Hour), id(1), multiaddrs(t, "/ip4/44.0.0.2/tcp/7")) {
		t.Error("another address, or another hour, is worth a write")
	}
	if m.note(epoch, "not a peer", addr) || m.note(epoch, id(2), nil) || len(m) != 1 {
		t.Error("noted what nobody can dial")
	}
	// The longest unseen one gives way.
	for i := 2; i <= maxRemembered+1; i++ {
		m.note(epoch.Add(3*time.Hour+time.Duration(i)*time.Second), id(i), addr)
	}
	if _, there := m[id(1)]; there || len(m) != maxRemembered {
		t.Errorf("%d peers, the oldest still there: %v", len(m), there)
	}
	if order := m.order(); order[0] != id(maxRemembered+1) || order[len(order)-1] != id(2) {
		t.Error("not the latest first")
	}
	var many []ma.Multiaddr
	for i := range 50 {
		many = append(many, multiaddrs(t, fmt.Sprintf("/ip4/44.0.0.%d/tcp/7", i+1))...)
	}
	m.note(epoch.Add(4*time.Hour), id(2), many)
	if len(m[id(2)].addrs) != maxRememberedAddrs {
		t.Errorf("%d addresses", len(m[id(2)].addrs))
	}
	b := m.marshal()
	back, err := parseMemory(b, epoch.Add(5*time.Hour))
	if err != nil || !bytes.Equal(back.marshal(), b) {
		t.Fatalf("read back %d of %d, %v", len(back), len(m), err)
	}
	// A week later all but the last one are forgotten.
	if back, err = parseMemory(b, epoch.Add(4*time.Hour+rememberFor)); err != nil || len(back) != 1 {
		t.Errorf("after a week: %d, %v", len(back), err)
	}
	// Written by a clock that was ahead: seen now, not for ever.
	if back, err = parseMemory(b, epoch); err != nil || !back[id(2)].seen.Equal(time.Unix(epoch.Unix(), 0)) {
		t.Errorf("by a clock that was ahead: %v, %v", back[id(2)].seen, err)
	}
}

func TestMemoryRefuses(t *testing.T) {
	m := memory{}
	m.note(epoch, peer.ID(idOf(1)), multiaddrs(t, "/ip4/44.0.0.1/tcp/7"))
	good := m.marshal()
	changed := func(at int, b byte) []byte { c := bytes.Clone(good); c[at] = b; return c }
	for what, b := range map[string][]byte{
		"nothing": nil, "a byte": {1}, "another version": changed(0, 2), "too many": changed(1, maxRemembered+1),
		"one more than there are": changed(1, 2), "one less": changed(1, 0), "more behind": append(bytes.Clone(good), 0),
		"a time out of range": changed(2, 0x80), "a long id": changed(10, 1), "no addresses": changed(len(good)-22, 0),
		"another id": changed(13, 0xff), "an address that is none": changed(len(good)-1, 'x'),
		"the same twice": append(append([]byte{1, 2}, good[2:]...), good[2:]...),
		"too long":       append([]byte{1, 0}, make([]byte, MaxMemory)...),
	} {
		if got, err := parseMemory(b, epoch); err == nil {
			t.Errorf("%s: took %v", what, got)
		}
	}
	for n := range good {
		if _, err := parseMemory(good[:n], epoch); err == nil {
			t.Errorf("took the first %d bytes of %d", n, len(good))
		}
	}
}

func FuzzMemory(f *testing.F) {
	m := memory{}
	a, _ := ma.NewMultiaddr("/ip4/44.0.0.1/udp/7/quic-v1")
	m.note(epoch, peer.ID(idOf(1)), []ma.Multiaddr{a})
	f.Add(m.marshal())
	f.Add([]byte{1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMemory(b, epoch)
		if err != nil {
			return
		}
		if len(m) > maxRemembered {
			t.Errorf("%d peers", len(m))
		}
		for id, e := range m {
			if !validPeer(id) || len(e.addrs) == 0 || len(e.addrs) > maxRememberedAddrs || e.seen.After(epoch) {
				t.Errorf("%x: %+v", id, e)
			}
		}
		again, err := parseMemory(m.marshal(), epoch)
		if err != nil || !maps.EqualFunc(m, again, func(x, y memoryEntry) bool { return x.seen.Equal(y.seen) && sameAddrs(x.addrs, y.addrs) }) {
			t.Errorf("not the same again: %v", err)
		}
	})
}

func TestClockJumps(t *testing.T) {
	now := time.Now() // the one clock that has a monotonic reading
	if jumped(now, now.Add(10*time.Second)) {
		t.Error("time that passed is no jump")
	}
	for _, wall := range []time.Duration{time.Hour, -time.Hour, 8 * time.Hour} {
		// Without the monotonic reading the two differ by wall, as after a sleep.
		if off := now.Round(0).Add(wall); !jumpedBy(off.Sub(now.Round(0)), 10*time.Second) {
			t.Errorf("%v is no jump", wall)
		}
	}
}
