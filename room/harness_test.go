package room

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"teahouse/internal/mesh"
	"teahouse/internal/mesh/meshtest"
)

// stage is a memory network with rooms on it, in virtual time.
type stage struct {
	t      *testing.T
	memory *mesh.Memory
	secret Secret
	people []*person
}

// person is one node in one room, and what it hears.
type person struct {
	stage *stage
	name  string
	node  *mesh.MemoryNode
	cfg   Config
	room  *Room
	gone  bool

	mediaTime uint32
	said      uint32

	mu      sync.Mutex
	heard   map[Member][]heardFrame
	busy    map[Member]bool
	overlap bool
	raised  []uint64
}

type heardFrame struct {
	Frame
	at time.Time
}

// onStage runs f in virtual time; afterwards nothing may be running.
func onStage(t *testing.T, cfg mesh.MemoryConfig, f func(t *testing.T, s *stage)) {
	t.Helper()
	meshtest.Bubble(t, func(t *testing.T) {
		s := &stage{t: t, memory: mesh.NewMemory(cfg), secret: Secret(sha256.Sum256([]byte(t.Name())))}
		defer s.memory.Close()
		defer func() {
			for _, p := range s.people {
				p.leave()
			}
		}()
		f(t, s)
	})
}

// brief tells whether tests of many virtual hours, or many seeds, are to be
// content with a few.
func brief() bool { return testing.Short() || raceDetector }

func testKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("test member " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// enter joins a room as a new member on a new node.
func (s *stage) enter(name string, change ...func(*Config)) *person {
	s.t.Helper()
	return s.enterOn(s.memory.Node(nil), name, change...)
}

func (s *stage) enterOn(node *mesh.MemoryNode, name string, change ...func(*Config)) *person {
	s.t.Helper()
	p := &person{stage: s, name: name, node: node, heard: make(map[Member][]heardFrame), busy: make(map[Member]bool)}
	p.cfg = Config{Network: node, Secret: s.secret, Key: testKey(name), Instance: 1, Nick: name, Heard: p.hear}
	p.cfg.RaiseInstance = func(atLeast uint64) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.raised = append(p.raised, atLeast)
		return nil
	}
	if os.Getenv("ROOM_TEST_LOG") != "" {
		p.cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("who", name)
	}
	for _, c := range change {
		c(&p.cfg)
	}
	room, err := Join(context.Background(), p.cfg)
	if err != nil {
		s.t.Fatalf("%s joins: %v", name, err)
	}
	p.room = room
	s.people = append(s.people, p)
	return p
}

func (p *person) hear(from Member, f *Frame, at time.Time) {
	p.mu.Lock()
	if p.busy[from] {
		p.overlap = true
	}
	p.busy[from] = true
	g := heardFrame{*f, at}
	g.Opus = bytes.Clone(f.Opus)
	p.heard[from] = append(p.heard[from], g)
	p.mu.Unlock()

	p.mu.Lock()
	p.busy[from] = false
	p.mu.Unlock()
}

func (p *person) leave() {
	p.gone = true
	if err := p.room.Leave(context.Background()); err != nil {
		p.stage.t.Errorf("%s leaves: %v", p.name, err)
	}
}

// kill ends the node without a goodbye, as kill -9 does.
func (p *person) kill() {
	p.stage.memory.Kill(p.node.Self().ID)
	p.leave() // the process is gone: what is left of it in ours must end too
}

func (p *person) member() Member { return p.room.Self() }

// say speaks one frame of 20 ms, whose bytes tell who said it and which it is.
func (p *person) say() {
	p.stage.t.Helper()
	f := Frame{MediaTime: p.mediaTime, Level: 30, Opus: make([]byte, 80)}
	copy(f.Opus, p.name)
	binary.BigEndian.PutUint32(f.Opus[76:], p.said)
	p.mediaTime += 960
	p.said++
	if err := p.room.Speak(&f); err != nil {
		p.stage.t.Errorf("%s speaks: %v", p.name, err)
	}
}

// talk has everyone say n frames, 20 ms apart, and waits until they have
// arrived.
func (s *stage) talk(n int, speakers ...*person) {
	s.t.Helper()
	for range n {
		for _, p := range speakers {
			p.say()
		}
		time.Sleep(20 * time.Millisecond)
	}
	time.Sleep(500 * time.Millisecond)
	synctest.Wait()
}

// numbers gives the numbers of the frames that p has heard from another since
// the last call.
func (p *person) numbers(from *person) []uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.overlap {
		p.stage.t.Errorf("%s: Heard was called for one member twice at once", p.name)
	}
	var out []uint32
	for _, f := range p.heard[from.member()] {
		if !bytes.HasPrefix(f.Opus, []byte(from.name)) {
			p.stage.t.Errorf("%s heard %q as %s", p.name, f.Opus[:8], from.name)
		}
		out = append(out, binary.BigEndian.Uint32(f.Opus[76:]))
	}
	delete(p.heard, from.member())
	return out
}

// forget drops what was heard so far.
func (s *stage) forget() {
	for _, p := range s.people {
		p.mu.Lock()
		clear(p.heard)
		p.mu.Unlock()
	}
}

func (s *stage) present() []*person {
	var out []*person
	for _, p := range s.people {
		if !p.gone {
			out = append(out, p)
		}
	}
	return out
}

// together tells what keeps people from being in one room with one epoch and a
// link between each two that is heard; "" for nothing.
func together(people []*person) string {
	var first knownMessage
	for i, p := range people {
		var known knownMessage
		var err error
		if err = p.room.call(func() { known = p.room.handing.known() }); err != nil {
			return fmt.Sprintf("%s: %v", p.name, err)
		}
		if i == 0 {
			first = known
		} else if known != first {
			return fmt.Sprintf("%s is in epoch %d of %x, %s in %d of %x", people[0].name, first.Number, first.Commitment[:3], p.name, known.Number, known.Commitment[:3])
		}
		if n := len(p.room.Members()); n != len(people) {
			return fmt.Sprintf("%s sees %d members, not %d", p.name, n, len(people))
		}
		if n := p.room.Hearers(); n != len(people)-1 {
			return fmt.Sprintf("%s is heard by %d, not %d", p.name, n, len(people)-1)
		}
	}
	return ""
}

// gather waits until those present are together, at most for d, and tells how
// long it took.
func (s *stage) gather(d time.Duration) time.Duration {
	s.t.Helper()
	start := time.Now()
	var why string
	for time.Since(start) <= d {
		synctest.Wait()
		if why = together(s.present()); why == "" {
			return time.Since(start)
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, p := range s.present() {
		s.t.Logf("%s: %+v", p.name, p.room.Stats())
		for _, l := range p.room.Links() {
			if !l.Hears {
				s.t.Logf("   is not heard by %x: up %v, round trip %v", l.Member[:3], l.Up, l.RTT)
			}
		}
	}
	s.t.Fatalf("not together after %v: %s", d, why)
	return 0
}

// eventually waits until ok, at most for d.
func (s *stage) eventually(d time.Duration, what string, ok func() bool) time.Duration {
	s.t.Helper()
	start := time.Now()
	for {
		synctest.Wait()
		if ok() {
			return time.Since(start)
		}
		if time.Since(start) >= d {
			s.t.Fatalf("not within %v: %s", d, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// wantAll checks that heard numbers are exactly from, from+1, … up to to-1,
// each once and in order.
func wantAll(t *testing.T, who string, heard []uint32, from, to uint32) {
	t.Helper()
	if len(heard) != int(to-from) {
		t.Errorf("%s: %d frames heard, want %d to %d: %v", who, len(heard), from, to-1, gaps(heard, from, to))
		return
	}
	for i, n := range heard {
		if n != from+uint32(i) {
			t.Errorf("%s: frame %d came as number %d", who, n, from+uint32(i))
			return
		}
	}
}

// gaps are the numbers that are missing.
func gaps(heard []uint32, from, to uint32) (missing []uint32) {
	have := make(map[uint32]bool)
	for _, n := range heard {
		have[n] = true
	}
	for n := from; n != to; n++ {
		if !have[n] {
			missing = append(missing, n)
		}
	}
	return missing
}
