package room

import (
	"crypto"
	"crypto/ed25519"
	"errors"
	"strings"
	"testing"

	"teahouse/internal/mesh"
)

func TestNicknames(t *testing.T) {
	for _, nick := range []string{
		"", "a", "Ada Lovelace", "茶", "نیم\u200cفاصله", "👩\u200d👩\u200d👧", "❤\ufe0f", "Ωmega-3", "क्षि", "O'Neil", "=^.^=", strings.Repeat("x", MaxNick),
	} {
		if err := CheckNick(nick); err != nil {
			t.Errorf("%+q: %v", nick, err)
		}
	}
	for _, nick := range []string{
		" ", " a", "a ", "a  b", "a\tb", "a\nb", "a\u00a0b", "a\u2028b", "\x1b[31mred", "a\x00", "a\u0085b", "a\u009bb",
		"a\u202eb", "a\u2066b", "a\u200fb", "a\u061cb", "a\u200bb", "a\ufeffb", "\u2060", "\u200d", "\u0301", "\u3164", "\u115f", "\u2800",
		"a\U000e0041", "\xff", "a\xc3", strings.Repeat("x", MaxNick+1), strings.Repeat("茶", 22),
	} {
		if CheckNick(nick) == nil {
			t.Errorf("%+q passes", nick)
		}
	}
}

func TestEntryVerifies(t *testing.T) {
	e := goldEntry(t)
	if err := e.verify(goldRoom()); err != nil {
		t.Fatal(err)
	}
	for _, nick := range []string{"", strings.Repeat("n", MaxNick)} {
		e.Nick = nick
		if err := e.sign(goldRoom(), goldKey(0x11), goldHost); err != nil {
			t.Fatal(err)
		}
		b := e.append(nil)
		got, rest, err := decodeEntry(b)
		if err != nil || len(rest) != 0 || got != *e || got.verify(goldRoom()) != nil {
			t.Errorf("nick %q: %+v, %v", nick, got, err)
		}
		if len(b) > maxEntry || nick != "" && len(b) != maxEntry {
			t.Errorf("%d bytes, maxEntry is %d", len(b), maxEntry)
		}
	}
}

func TestEntryRefused(t *testing.T) {
	sign := func(change func(e *entry)) *entry {
		e := goldEntry(t)
		change(e)
		return e
	}
	other := ed25519.PublicKey(goldKey(0x44).Public().(ed25519.PublicKey))
	for name, e := range map[string]*entry{
		"another member":        sign(func(e *entry) { e.Member = Member(other) }),
		"another peer":          sign(func(e *entry) { e.Peer = mesh.PeerIDOf(other) }),
		"no peer":               sign(func(e *entry) { e.Peer = "" }),
		"signatures swapped":    sign(func(e *entry) { e.MemberSig, e.HostSig = e.HostSig, e.MemberSig }),
		"one signature doubled": sign(func(e *entry) { e.HostSig = e.MemberSig }),
		"bad nick":              sign(func(e *entry) { e.Nick = "a\nb" }),
	} {
		if e.verify(goldRoom()) == nil {
			t.Errorf("%s: passes", name)
		}
	}
	if goldEntry(t).verify(ID{}) == nil {
		t.Error("passes in another room")
	}

	// The host must sign as the peer that the entry names, and in its own context.
	e := goldEntry(t)
	asMember := func(_ string, m []byte) ([]byte, error) {
		return goldKey(0x22).Sign(nil, m, &ed25519.Options{Hash: crypto.Hash(0), Context: contextEntry})
	}
	if err := e.sign(goldRoom(), goldKey(0x11), asMember); err != nil || e.verify(goldRoom()) == nil {
		t.Errorf("a host signature in the member's context passes (%v)", err)
	}
	short := func(string, []byte) ([]byte, error) { return make([]byte, 63), nil }
	if err := e.sign(goldRoom(), goldKey(0x11), short); err == nil {
		t.Error("a host signature of 63 bytes is taken")
	}
	broken := errors.New("no key")
	if err := e.sign(goldRoom(), goldKey(0x11), func(string, []byte) ([]byte, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	e.Nick = " "
	if err := e.sign(goldRoom(), goldKey(0x11), goldHost); err == nil {
		t.Error("a bad nickname is signed")
	}
}

func TestEntryEveryBitCounts(t *testing.T) {
	flips(goldEntry(t).append(nil), func(changed []byte, bit int) {
		if e, rest, err := decodeEntry(changed); err == nil && len(rest) == 0 && e.verify(goldRoom()) == nil {
			t.Errorf("bit %d may change", bit)
		}
	})
}

func TestEntryOrder(t *testing.T) {
	at := func(instance, sequence uint64) *entry { return &entry{Instance: instance, Sequence: sequence} }
	order := []*entry{at(0, 0), at(0, 1), at(1, 0), at(1, 5), at(2, 1), at(1<<63, 0), at(1<<63, 1<<63)}
	for i, a := range order {
		for j, b := range order {
			if a.newer(b) != (i > j) {
				t.Errorf("(%d, %d) newer than (%d, %d): %v", a.Instance, a.Sequence, b.Instance, b.Sequence, a.newer(b))
			}
		}
	}
}
