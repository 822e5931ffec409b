package voice

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"teahouse/internal/mesh"
	"teahouse/room"
)

// onWire is one thing that leaves a node, as somebody on the wire sees it: when,
// how long, and whether it is a packet, or a message of a session or a topic.
type onWire struct {
	at     time.Time
	size   int
	packet bool
	kind   byte // which somebody on the wire does not see
}

// watched is a network of which each packet and message is noted.
type watched struct {
	mesh.Network
	mu   sync.Mutex
	seen []onWire
}

func (w *watched) note(data []byte, packet bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, onWire{time.Now(), len(data), packet, data[0]})
}

// since is what has left from a time on.
func (w *watched) since(from time.Time) []onWire {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := slices.IndexFunc(w.seen, func(o onWire) bool { return !o.at.Before(from) })
	if i < 0 {
		return nil
	}
	return slices.Clone(w.seen[i:])
}

func (w *watched) Open(ctx context.Context, peer mesh.Peer, door mesh.Door) (mesh.Session, error) {
	s, err := w.Network.Open(ctx, peer, door)
	if err != nil {
		return nil, err
	}
	return &watchedSession{s, w}, nil
}

func (w *watched) Listen(door mesh.Door, accept func(mesh.Session)) (func(), error) {
	return w.Network.Listen(door, func(s mesh.Session) { accept(&watchedSession{s, w}) })
}

func (w *watched) Join(topic string, validate mesh.Validator, deliver func(mesh.PeerID, []byte)) (mesh.Topic, error) {
	t, err := w.Network.Join(topic, validate, deliver)
	if err != nil {
		return nil, err
	}
	return &watchedTopic{t, w}, nil
}

type watchedSession struct {
	mesh.Session
	by *watched
}

func (s *watchedSession) SendPacket(data []byte) error {
	s.by.note(data, true)
	return s.Session.SendPacket(data)
}

func (s *watchedSession) Send(class mesh.Priority, data []byte) error {
	s.by.note(data, false)
	return s.Session.Send(class, data)
}

type watchedTopic struct {
	mesh.Topic
	by *watched
}

func (t *watchedTopic) Publish(data []byte) error {
	t.by.note(data, false)
	return t.Topic.Publish(data)
}

// pair is two people in a room on a memory network: the voice under test, whose
// packets are watched, and one who hears it.
type pair struct {
	memory *mesh.Memory
	watch  *watched
	voice  *Voice
	seat   *Seat
	ear    *Seat
	other  mesh.PeerID // of the one who hears
	beside *room.Room  // as they are in it
	closes []func()
}

// newPair has both of them in the room and connected for a while; the voice of
// cfg has not been started.
func newPair(t *testing.T, cfg Config, out *sink, wire mesh.Wire) *pair {
	t.Helper()
	p := &pair{memory: mesh.NewMemory(mesh.MemoryConfig{Seed: 3, Wire: wire})}
	secret := room.Secret(sha256.Sum256([]byte(t.Name())))
	join := func(cfg Config, net mesh.Network, nick string, key byte) (*Voice, *Seat, *room.Room) {
		v, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		seat := v.Sit(secret.ID(), false)
		r, err := room.Join(t.Context(), room.Config{
			Network: net, Secret: secret, Instance: 1, Nick: nick, Shielded: cfg.Mode == Shielded,
			Key: ed25519.NewKeyFromSeed(slices.Repeat([]byte{key}, ed25519.SeedSize)), Heard: seat.Heard,
		})
		if err != nil {
			t.Fatal(err)
		}
		seat.Attach(r)
		p.closes = append(p.closes, func() {
			seat.Leave()
			if err := r.Leave(context.Background()); err != nil {
				t.Error(err)
			}
			closeAll(t, v)
			if err := net.Close(); err != nil {
				t.Error(err)
			}
		})
		return v, seat, r
	}
	p.watch = &watched{Network: p.memory.Node(nil)}
	p.voice, p.seat, _ = join(cfg, p.watch, "Ada", 1)
	var ear *Voice
	other := p.memory.Node(nil)
	p.other = other.Self().ID
	ear, p.ear, p.beside = join(Config{Speaker: out}, other, "Bo", 2)
	ear.Start()
	for range 200 {
		if p.seat.hearers() == 1 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if p.seat.hearers() != 1 {
		t.Fatal("they have not met")
	}
	time.Sleep(20*time.Second - time.Duration(time.Now().UnixNano()%int64(20*time.Second)))
	synctest.Wait()
	return p
}

// showsMuted tells whether the one who hears is shown that the other is muted.
func (p *pair) showsMuted() bool {
	return slices.ContainsFunc(p.beside.Members(), func(m room.MemberInfo) bool { return !m.Self && m.Muted })
}

func (p *pair) close() {
	for _, f := range p.closes {
		f()
	}
	p.memory.Close()
}
