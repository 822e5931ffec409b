package room

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"teahouse/internal/mesh"
)

func TestProof(t *testing.T) {
	room, key := goldRoom(), goldKey(0x11)
	p := newProof(room, roleResponder, goldBinding(), key)
	got, err := decodeProof(p.appendMessage(nil)[1:])
	if err != nil || got != p {
		t.Fatalf("got %+v, %v", got, err)
	}
	if err := got.verify(room, roleResponder, goldBinding()); err != nil {
		t.Fatal(err)
	}
	otherBinding := goldBinding()
	otherBinding[31] ^= 1
	reflected := p
	reflected.Role = roleInitiator
	stolen := p
	stolen.Member = memberOf(goldKey(0x44))
	for name, err := range map[string]error{
		"reflected to its maker": p.verify(room, roleInitiator, goldBinding()),
		"role changed":           reflected.verify(room, roleInitiator, goldBinding()),
		"another session":        p.verify(room, roleResponder, otherBinding),
		"another room":           p.verify(ID{}, roleResponder, goldBinding()),
		"another member":         stolen.verify(room, roleResponder, goldBinding()),
	} {
		if err == nil {
			t.Errorf("%s: passes", name)
		}
	}
	flips(p.appendMessage(nil)[1:], func(changed []byte, bit int) {
		if p, err := decodeProof(changed); err == nil && p.verify(room, roleResponder, goldBinding()) == nil {
			t.Errorf("bit %d may change", bit)
		}
	})
}

// goldEpochMessage is an epoch some ratchets after its origin, number 7.
func goldEpochMessage(ratchets uint32) epochMessage {
	secret, _ := goldEpoch().ratchetBy(ratchets)
	return epochMessage{
		Number: 7 + ratchets, Secret: secret,
		Origin: newOrigin(goldRoom(), 7, commitment{1}, goldEpoch(), goldKey(0x11)),
	}
}

func TestEpochMessage(t *testing.T) {
	for _, ratchets := range []uint32{0, 1, maxRatchets} {
		m := goldEpochMessage(ratchets)
		got, err := decodeEpoch(m.appendMessage(nil)[1:])
		if err != nil || got != m || got.verify(goldRoom()) != nil {
			t.Errorf("%d ratchets: %+v, %v", ratchets, got.Origin, err)
		}
	}
	change := func(ratchets uint32, f func(m *epochMessage)) error {
		m := goldEpochMessage(ratchets)
		f(&m)
		return m.verify(goldRoom())
	}
	for name, err := range map[string]error{
		"fresh, another secret":  change(0, func(m *epochMessage) { m.Secret[0] ^= 1 }),
		"ratchets said but none": change(0, func(m *epochMessage) { m.Number += maxRatchets + 1 }),
		"before its origin":      change(0, func(m *epochMessage) { m.Number-- }),
		"removals claimed":       change(1, func(m *epochMessage) { m.Origin.Removals++ }),
		"number claimed":         change(1, func(m *epochMessage) { m.Origin.Number++ }),
		"another author":         change(1, func(m *epochMessage) { m.Origin.Author = memberOf(goldKey(0x44)) }),
		"another parent":         change(1, func(m *epochMessage) { m.Origin.Parent[0] ^= 1 }),
		"another commitment":     change(1, func(m *epochMessage) { m.Origin.Commitment[0] ^= 1 }),
		"heads claimed":          change(1, func(m *epochMessage) { m.Origin.Heads[0] ^= 1 }),
	} {
		if err == nil {
			t.Errorf("%s: passes", name)
		}
	}
	if m := goldEpochMessage(0); m.verify(ID{}) == nil {
		t.Error("passes in another room")
	}
	// Of a fresh epoch every bit counts, but those that claim ratchets: see
	// epochMessage.verify. Of a ratcheted one every bit of the origin does.
	for ratchets, from := range map[uint32]int{0: 4, 5: 36} {
		m := goldEpochMessage(ratchets)
		data := m.appendMessage(nil)[1:]
		flips(data[from:], func(changed []byte, bit int) {
			m, err := decodeEpoch(append(bytes.Clone(data[:from]), changed...))
			if err == nil && m.verify(goldRoom()) == nil {
				t.Errorf("%d ratchets: bit %d after byte %d may change", ratchets, bit, from)
			}
		})
	}
}

func TestRatchet(t *testing.T) {
	a := *goldEpoch()
	for n := range uint32(5) {
		if by, ok := goldEpoch().ratchetBy(n); !ok || by != a {
			t.Errorf("%d ratchets at once are not %d one by one", n, n)
		}
		a = a.ratchet()
	}
	if _, ok := goldEpoch().ratchetBy(maxRatchets + 1); ok {
		t.Error("too many ratchets")
	}
}

func TestConflict(t *testing.T) {
	at := func(removals uint16, number uint32, c byte) *origin {
		return &origin{Removals: removals, Number: number, Commitment: commitment{c}}
	}
	// Each wins over the one before it.
	for _, order := range [][]*origin{
		{at(0, 1, 9), at(0, 1, 8), at(0, 2, 9), at(0, 900, 9), at(1, 1, 9), at(65535, 0, 0)},
		{at(0, 0xfffffffe, 1), at(0, 0xffffffff, 1), at(0, 0, 1), at(0, 1, 1)}, // no number is the last
		{at(0, 5, 2), at(0, 5+1<<31, 1)},                                       // neither is higher
		{at(0, 5+1<<31, 2), at(0, 5, 1)},
	} {
		for i := range order {
			for j := range order {
				if got := order[i].beats(order[j]); got != (i > j) {
					t.Errorf("%+v beats %+v: %v", order[i], order[j], got)
				}
			}
		}
	}
}

func TestAdmitAndKnown(t *testing.T) {
	a := admitMessage{Number: 8, Commitment: commitment{3}, Entry: *goldEntry(t)}
	gotA, err := decodeAdmit(append(a.appendMessage(nil)[1:], "later"...))
	if err != nil || !reflect.DeepEqual(gotA, a) {
		t.Errorf("got %+v, %v", gotA, err)
	}
	k := knownMessage{Number: 8, OriginNumber: 5, Removals: 2, Commitment: commitment{3}, Epoch: epochID{4}, Flags: 0x80}
	gotK, err := decodeKnown(append(k.appendMessage(nil)[1:], "later"...))
	if err != nil || gotK != k {
		t.Errorf("got %+v, %v", gotK, err)
	}
	o := k.origin()
	if p := (origin{Number: 5, Removals: 2, Commitment: commitment{4}}); !o.beats(&p) {
		t.Error("KNOWN's origin loses against a higher commitment")
	}
}

func TestPeersMessage(t *testing.T) {
	long := mesh.Addr("/" + strings.Repeat("a", maxAddr-1))
	var many []mesh.Peer
	for range maxPeers + 1 {
		p := mesh.Peer{ID: goldPeer()}
		for range maxPeerAddrs + 1 {
			p.Addrs = append(p.Addrs, long)
		}
		many = append(many, p)
	}
	data := appendPeersMessage(nil, many)
	if len(data) > mesh.MaxMessage {
		t.Errorf("%d bytes are over the limit of a message", len(data))
	}
	got, err := decodePeers(data[1:])
	if err != nil || len(got) != maxPeers || len(got[0].Addrs) != maxPeerAddrs || len(got[maxPeers-1].Addrs) != maxPeerAddrs {
		t.Errorf("%d peers, %v", len(got), err)
	}
	if got, err := decodePeers(appendPeersMessage(nil, nil)[1:]); err != nil || len(got) != 0 {
		t.Errorf("nobody: %v, %v", got, err)
	}
	for name, body := range map[string][]byte{
		"empty":              {},
		"17 peers":           append([]byte{17}, bytes.Repeat(data[2:2+40+1], 17)...),
		"a peer short":       {1},
		"no Ed25519 peer id": append([]byte{1, 0, 38}, make([]byte, 39)...),
		"nine addresses":     append(append([]byte{1}, data[2:42]...), append([]byte{9}, bytes.Repeat([]byte{0, 1, '/'}, 9)...)...),
		"a long address":     append(append([]byte{1}, data[2:42]...), append([]byte{1, 0, maxAddr + 1}, bytes.Repeat([]byte{'/'}, maxAddr+1)...)...),
	} {
		if got, err := decodePeers(body); err == nil {
			t.Errorf("%s: passes as %v", name, got)
		}
	}
}

// A signature of one kind is none of another, though the bodies be equal.
func TestContextsDiffer(t *testing.T) {
	contexts := []string{contextProof, contextEntry, contextEntryHost, contextEpoch, contextBundle}
	body, member := []byte("the same body"), goldMember()
	for _, by := range contexts {
		s := sign(goldKey(0x11), by, body)
		for _, as := range contexts {
			if verify((*[32]byte)(&member), as, body, &s) != (by == as) {
				t.Errorf("signed as %s, verified as %s", by, as)
			}
		}
	}
}

// Encoders append: what stands before stays.
func TestMessagesAppend(t *testing.T) {
	p, m := newProof(goldRoom(), roleInitiator, goldBinding(), goldKey(0x11)), goldEpochMessage(0)
	a, k, before := admitMessage{Entry: *goldEntry(t)}, knownMessage{}, []byte("before")
	for i, encode := range []func(dst []byte) []byte{
		p.appendMessage, m.appendMessage, a.appendMessage, k.appendMessage, goldEntry(t).appendMessage,
		func(dst []byte) []byte { return appendPeersMessage(dst, []mesh.Peer{{ID: goldPeer()}}) },
	} {
		if got, want := encode(bytes.Clone(before)), append(bytes.Clone(before), encode(nil)...); !bytes.Equal(got, want) {
			t.Errorf("encoder %d: %x, want %x", i, got, want)
		}
	}
}

// Every cut of every message is refused.
func TestMessagesCut(t *testing.T) {
	p := newProof(goldRoom(), roleInitiator, goldBinding(), goldKey(0x11))
	m := goldEpochMessage(0)
	a := admitMessage{Entry: *goldEntry(t)}
	k := knownMessage{}
	for name, c := range map[string]struct {
		data   []byte
		decode func(body []byte) error
	}{
		"PROOF": {p.appendMessage(nil), func(b []byte) error { return second(decodeProof(b)) }},
		"ENTRY": {goldEntry(t).appendMessage(nil), func(b []byte) error { _, _, err := decodeEntry(b); return err }},
		"EPOCH": {m.appendMessage(nil), func(b []byte) error { return second(decodeEpoch(b)) }},
		"ADMIT": {a.appendMessage(nil), func(b []byte) error { return second(decodeAdmit(b)) }},
		"KNOWN": {k.appendMessage(nil), func(b []byte) error { return second(decodeKnown(b)) }},
		"PEERS": {appendPeersMessage(nil, []mesh.Peer{{ID: goldPeer(), Addrs: []mesh.Addr{"/a"}}}), func(b []byte) error { return second(decodePeers(b)) }},
	} {
		kind, body, ok := splitMessage(c.data)
		if !ok || kind != c.data[0] || c.decode(body) != nil {
			t.Errorf("%s is refused whole", name)
		}
		for n := range body {
			if c.decode(body[:n]) == nil {
				t.Errorf("%s passes when cut to %d bytes", name, n)
			}
		}
	}
	if _, _, ok := splitMessage(nil); ok {
		t.Error("an empty message has a kind")
	}
}
