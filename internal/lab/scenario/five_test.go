//go:build lab

package scenario

import (
	"crypto/ed25519"
	"fmt"
	"sync"
	"testing"
	"time"

	"teahouse/internal/lab"
	"teahouse/internal/mesh"
	"teahouse/node"
	"teahouse/room"
)

// Issue 2, item 2: five members who all talk hear each of the other four.
// Each has its own tone; each pair is checked in the listener's recording.
func TestFiveTalkers(t *testing.T) {
	s := newSoundStage(t)
	s.bootstrap(t, nil)
	tones := []float64{440, 570, 730, 950, 1230} // none near another's harmonic
	var actors []*actor
	for i, hz := range tones {
		actors = append(actors, s.join(t, nil, fmt.Sprintf("talker-%d", i), fmt.Sprintf("tone:%g", hz), "record"))
	}
	for _, a := range actors {
		for _, b := range actors {
			if a != b {
				a.hears(t, b.member(t))
			}
		}
	}
	time.Sleep(500 * time.Millisecond)
	begin := time.Now()
	time.Sleep(4 * time.Second) // what is listened to
	end := time.Now()
	for _, a := range actors {
		a.leaves(t)
	}
	for i, a := range actors {
		pcm, err := lab.ReadMono(a.speaker)
		must(t, err)
		// The file is continuous from the moment of joining.
		joined := a.event(t, "joined", nil).Seen
		from, to := int(begin.Sub(joined).Seconds()*lab.Rate), int(end.Sub(joined).Seconds()*lab.Rate)
		if to > len(pcm) {
			t.Errorf("talker %d recorded %d samples, not %d", i, len(pcm), to)
			continue
		}
		for j, hz := range tones {
			level, heard := lab.Heard(pcm[from:to], hz, 0.1)
			switch {
			case i == j && level > 0.01:
				t.Errorf("talker %d hears itself: %v Hz at %.3f", i, hz, level)
			case i != j && (level < 0.15 || heard < 0.95):
				t.Errorf("talker %d hears talker %d (%v Hz) at %.3f, %.0f %% of the time", i, j, hz, level, 100*heard)
			case i != j:
				t.Logf("%d hears %d (%4.0f Hz) at %.3f, %.0f %% of the time", i, j, hz, level, 100*heard)
			}
		}
	}
}

// ear collects what one room of a process hears.
type ear struct {
	mu     sync.Mutex
	frames map[room.Member]map[string]int // by payload
}

func (e *ear) heard(from room.Member, f *room.Frame, _ time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.frames == nil {
		e.frames = make(map[room.Member]map[string]int)
	}
	if e.frames[from] == nil {
		e.frames[from] = make(map[string]int)
	}
	e.frames[from][string(f.Opus)]++
}

func (e *ear) count(from room.Member, payload string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.frames[from][payload]
}

// others is how many frames were heard that are not payload of from.
func (e *ear) others(from room.Member, payload string) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for member, frames := range e.frames {
		for p, k := range frames {
			if member != from || p != payload {
				n += k
			}
		}
	}
	return n
}

// newNode is a node within this process.
func newNode(t *testing.T, s *stage) (*node.Node, node.Network) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	must(t, err)
	nw, err := node.AdHocNetwork(s.network)
	must(t, err)
	n, err := node.New(t.Context(), node.Config{HostKey: key, Network: nw, Peers: []string{s.peer}, Listen: []string{
		"/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0",
	}})
	must(t, err)
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n, nw
}

// newRoom joins a room with a node of this process.
func newRoom(t *testing.T, n mesh.Network, secret room.Secret, e *ear, nick string) *room.Room {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	must(t, err)
	r, err := room.Join(soon(t), room.Config{Network: n, Secret: secret, Key: key, Instance: 1, Nick: nick, Heard: e.heard})
	must(t, err)
	t.Cleanup(func() {
		if err := r.Leave(soon(t)); err != nil {
			t.Error(err)
		}
	})
	return r
}

// Issue 2, item 2: two rooms in one process stay apart. One process sits in
// the green and the black room; each of two others in one of them.
func TestTwoRoomsInOneProcess(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.bootstrap(t, nil)
	both, nw := newNode(t, s)
	first, _ := newNode(t, s)
	second, _ := newNode(t, s)
	green, err := room.OpenSecret(s.topic+" green", nw.Secret)
	must(t, err)
	black, err := room.OpenSecret(s.topic+" black", nw.Secret)
	must(t, err)
	var ears [4]ear
	inGreen, inBlack := newRoom(t, both, green, &ears[0], "both"), newRoom(t, both, black, &ears[1], "both")
	onlyGreen, onlyBlack := newRoom(t, first, green, &ears[2], "green"), newRoom(t, second, black, &ears[3], "black")
	if inGreen.ID() == inBlack.ID() || inGreen.ID() != onlyGreen.ID() || inBlack.ID() != onlyBlack.ID() {
		t.Fatal("the rooms' ids are wrong")
	}
	say := func(r *room.Room, payload string, media uint32) {
		must(t, r.Speak(&room.Frame{MediaTime: media, Level: 20, Opus: []byte(payload)}))
	}
	// An Opus packet is of no concern to a room: any bytes will do.
	rooms := []struct {
		r       *room.Room
		payload string
		hearer  *ear
		self    room.Member
	}{
		{inGreen, "both in green", &ears[2], inGreen.Self()},
		{inBlack, "both in black", &ears[3], inBlack.Self()},
		{onlyGreen, "green alone", &ears[0], onlyGreen.Self()},
		{onlyBlack, "black alone", &ears[1], onlyBlack.Self()},
	}
	for begun, media := time.Now(), uint32(0); ; media += 960 {
		enough := true
		for _, r := range rooms {
			say(r.r, r.payload, media)
			enough = enough && r.hearer.count(r.self, r.payload) >= 50
		}
		if enough {
			break
		}
		if time.Since(begun) > patience {
			t.Fatal("not everybody hears whom they should")
		}
		time.Sleep(20 * time.Millisecond)
	}
	for _, r := range rooms {
		if n := r.hearer.others(r.self, r.payload); n > 0 {
			t.Errorf("who hears %q hears %d frames of somebody else", r.payload, n)
		}
		if members := r.r.Members(); len(members) != 2 {
			t.Errorf("the room of %q has %d members", r.payload, len(members))
		}
	}
	if inGreen.Self() == inBlack.Self() {
		t.Error("one member key in two rooms")
	}
}
