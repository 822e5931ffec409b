//go:build lab

package scenario

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/crypto/chacha20poly1305"

	"teahouse/internal/mesh"
	"teahouse/room"
)

// lurker knows the topic and does all that it allows, except to show a roster
// entry: it announces itself in the DHT, sends beacons and takes part in
// gossip, opens sessions to every member by the room's door and lets itself be
// opened. It is written by docs/protocol.md, not by package room.
type lurker struct {
	net    mesh.Network
	secret room.Secret

	mu       sync.Mutex
	sessions int
	kinds    map[byte]int // messages by kind
	packets  map[byte]int // by kind
	gossip   [][]byte
}

func (l *lurker) derive(t *testing.T, label string, period ...uint64) []byte {
	t.Helper()
	for _, p := range period {
		label += string(binary.BigEndian.AppendUint64(nil, p))
	}
	b, err := hkdf.Expand(sha256.New, l.secret[:], label, 32)
	must(t, err)
	return b
}

func (l *lurker) take(s mesh.Session) {
	l.mu.Lock()
	l.sessions++
	l.mu.Unlock()
	s.Start(func(b []byte) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(b) > 0 {
			l.kinds[b[0]]++
		}
	}, func(b []byte, _ time.Time) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(b) > 0 {
			l.packets[b[0]]++
		}
	})
}

// lurk begins; sessions to whoever is found go on until the test ends.
func (l *lurker) lurk(t *testing.T, members []mesh.Peer) {
	t.Helper()
	door := mesh.Door(l.derive(t, "teahouse session 1"))
	_, err := l.net.Listen(door, l.take)
	must(t, err)
	now := uint64(time.Now().Unix())
	name := strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(
		l.derive(t, "teahouse topic 1", now/86400)))
	topic, err := l.net.Join(name, func(mesh.PeerID, []byte) mesh.Verdict { return mesh.Accept }, func(_ mesh.PeerID, b []byte) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.gossip = append(l.gossip, append([]byte(nil), b...))
	})
	must(t, err)
	must(t, l.net.Provide(soon(t), [32]byte(l.derive(t, "teahouse dht 1", now/3600))))
	must(t, topic.Publish(l.beacon(t, name)))
	for _, p := range members {
		s, err := l.net.Open(soon(t), p, door)
		must(t, err)
		l.take(s)
	}
}

// beacon is kind 1 of docs/protocol.md section 2: it makes members open
// sessions to us.
func (l *lurker) beacon(t *testing.T, topic string) []byte {
	t.Helper()
	self := l.net.Self()
	lp := func(b []byte, s string) []byte {
		return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
	}
	body := lp(nil, string(self.ID))
	body = append(body, 1)
	body = lp(body, string(self.Addrs[0]))
	padded := make([]byte, 512)
	copy(padded, body)
	aead, err := chacha20poly1305.NewX(l.derive(t, "teahouse beacon 1"))
	must(t, err)
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails
	out := append([]byte{1}, nonce...)
	return aead.Seal(out, nonce, padded, append([]byte(topic), 1))
}

// Kinds of messages and packets in docs/protocol.md.
const (
	kindEpoch, kindAdmit      = 3, 4
	packetVoice, packetBundle = 1, 3
)

// Issue 2, item 3, and promise P2: one that knows the topic, subscribes and
// dials, but shows no roster entry, gets no voice and no key; one that does
// not know it gets nothing. An honest third member in its place hears all.
func TestNobodyHearsUnseen(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.bootstrap(t, nil)
	a := s.join(t, nil, "a", "tone:440", "none")
	b := s.join(t, nil, "b", "tone:660", "none")
	a.hears(t, b.member(t))
	b.hears(t, a.member(t))

	n, nw := newNode(t, s)
	secret, err := room.OpenSecret(s.topic, nw.Secret)
	must(t, err)
	members := []mesh.Peer{peerOf(t, a), peerOf(t, b)}
	for _, m := range members {
		var wrong mesh.Door
		_, _ = rand.Read(wrong[:]) // never fails
		if session, err := n.Open(soon(t), m, wrong); !errors.Is(err, mesh.ErrRefused) || session != nil {
			t.Errorf("who does not know the topic got a session, or an answer: %v", err)
		}
	}
	l := &lurker{net: n, secret: secret, kinds: make(map[byte]int), packets: make(map[byte]int)}
	l.lurk(t, members)
	time.Sleep(6 * time.Second)
	for _, who := range []*actor{a, b} {
		if !talks(who) {
			t.Error("a member fell silent: the test tests nothing")
		}
		for _, e := range who.Events() {
			if e.Name == "member" && e.Text("member") != a.member(t) && e.Text("member") != b.member(t) {
				t.Errorf("the lurker is in the roster: %v", e.Fields)
			}
		}
	}
	l.mu.Lock()
	t.Logf("the lurker: %d sessions, messages by kind %v, packets by kind %v, %d broadcasts", l.sessions, l.kinds, l.packets, len(l.gossip))
	if l.sessions < 2 {
		t.Errorf("the lurker had %d sessions", l.sessions)
	}
	// Members who opened a session to it have proven themselves first, as the
	// protocol wants (PROOF, ENTRY, KNOWN); nothing that bears a key follows.
	if l.kinds[kindEpoch]+l.kinds[kindAdmit] > 0 {
		t.Errorf("somebody gave the lurker an epoch: messages by kind %v", l.kinds)
	}
	if l.packets[packetVoice]+l.packets[packetBundle] > 0 {
		t.Errorf("the lurker got voice: packets by kind %v", l.packets)
	}
	l.mu.Unlock()

	// The same node, seen: it hears both.
	var heard ear
	honest, _ := newNode(t, s)
	newRoom(t, honest, secret, &heard, "seen")
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		fromA, fromB := heard.from(room.Member(keyOf(t, a.member(t)))), heard.from(room.Member(keyOf(t, b.member(t))))
		if fromA >= 50 && fromB >= 50 {
			t.Logf("a member in its place: %d and %d frames", fromA, fromB)
			break
		}
		if time.Now().After(end) {
			t.Fatalf("a member who is seen opened %d and %d frames", fromA, fromB)
		}
	}
}

// peerOf is where an actor's node is.
func peerOf(t *testing.T, a *actor) mesh.Peer {
	t.Helper()
	e := a.event(t, "listening", nil)
	var p mesh.Peer
	for _, addr := range e.Texts("addrs") {
		where, _, _ := strings.Cut(addr, "/p2p/")
		p.Addrs = append(p.Addrs, mesh.Addr(where))
	}
	id, err := peer.Decode(e.Text("peer"))
	must(t, err)
	p.ID = mesh.PeerID(id)
	return p
}

// talks tells whether somebody has been heard within the last second.
func talks(a *actor) bool {
	for _, e := range a.Events() {
		if e.Name == "stats" && e.Number("kbit_s") > 20 && time.Since(e.Seen) < 2500*time.Millisecond {
			return true
		}
	}
	return false
}

// from is how many frames of a member were heard.
func (e *ear) from(m room.Member) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, k := range e.frames[m] {
		n += k
	}
	return n
}
