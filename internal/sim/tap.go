package sim

import (
	"encoding/binary"
	"fmt"
	"sync"

	"teahouse/internal/mesh"
)

// What the tap reads of a room's messages and packets (docs/protocol.md
// sections 5 and 6); everything else passes unread.
const (
	messageEpoch = 3
	messageKnown = 5
	knownLen     = 1 + 4 + 4 + 2 + 32 + 16 + 1

	packetVoice  = 1
	packetReport = 2
	reportLen    = 64
)

// known is which epoch somebody says to hold.
type known struct {
	number uint32
	origin [32]byte // commitment
	id     [16]byte // names the secret
}

// tap is the network as a room sees it, with somebody reading along who must
// learn nothing he could not see, and forgets nothing.
type tap struct {
	mesh.Network
	life *life
}

func (t *tap) Open(ctx ctx, peer mesh.Peer, door mesh.Door) (mesh.Session, error) {
	s, err := t.Network.Open(ctx, peer, door)
	if err != nil {
		return nil, err
	}
	return t.life.tapSession(s), nil
}

func (t *tap) Listen(door mesh.Door, accept func(mesh.Session)) (func(), error) {
	return t.Network.Listen(door, func(s mesh.Session) { accept(t.life.tapSession(s)) })
}

func (t *tap) Join(topic string, validate mesh.Validator, deliver func(mesh.PeerID, []byte)) (mesh.Topic, error) {
	j, err := t.Network.Join(topic, validate, deliver)
	if err != nil {
		return nil, err
	}
	return &tapTopic{j, t.life}, nil
}

type tapTopic struct {
	mesh.Topic
	life *life
}

func (t *tapTopic) Publish(data []byte) error {
	t.life.world.watch.broadcast(data)
	return t.Topic.Publish(data)
}

// tapped is one life's sessions, and what they showed.
type tapped struct {
	mu       sync.Mutex
	sessions []mesh.Session
	known    known
	held     map[[32]byte]uint32  // origins held ever: the highest number
	voiceTo  map[mesh.PeerID]bool // since the last look
}

type tapSession struct {
	mesh.Session
	life *life
}

func (l *life) tapSession(s mesh.Session) mesh.Session {
	l.tapped.mu.Lock()
	defer l.tapped.mu.Unlock()
	l.tapped.sessions = append(l.tapped.sessions, s)
	return &tapSession{s, l}
}

// Send reads who is handed a key, and which epoch is held.
func (s *tapSession) Send(class mesh.Priority, data []byte) error {
	l := s.life
	switch {
	case len(data) > 0 && data[0] == messageEpoch:
		l.world.handed.Add(1)
		if r := l.room.Load(); r != nil && !shows(r.Members(), s.Peer()) {
			l.world.violated("%v handed an epoch to %s, who is not in its roster", l, s.Peer().Short())
		}
	case len(data) > 0 && data[0] == messageKnown:
		if len(data) != knownLen {
			l.world.violated("KNOWN of %d bytes: the simulator reads an older form", len(data))
			break
		}
		k := known{number: binary.BigEndian.Uint32(data[1:]), origin: [32]byte(data[11:]), id: [16]byte(data[43:])}
		l.tapped.mu.Lock()
		l.tapped.known = k
		if k.origin != ([32]byte{}) {
			l.tapped.held[k.origin] = max(l.tapped.held[k.origin], k.number)
		}
		l.tapped.mu.Unlock()
		l.world.claimed(l, k)
	}
	return s.Session.Send(class, data)
}

// SendPacket watches nonces and who is sent voice, and loses packets where the
// ground cannot.
func (s *tapSession) SendPacket(data []byte) error {
	l := s.life
	w := l.world
	if len(data) > 0 {
		switch data[0] {
		case packetVoice:
			w.watch.voice(data)
			l.tapped.mu.Lock()
			l.tapped.voiceTo[s.Peer()] = true
			l.tapped.mu.Unlock()
		case packetReport:
			if depth := w.depth.Load() - 1; depth >= 0 {
				data = claimLoss(data, int(depth))
			}
		}
	}
	if to, ok := w.whose(s.Peer()); ok && w.ground.drops(l.person.who, to) {
		return nil
	}
	return s.Session.SendPacket(data)
}

// claims are the parts of frames that a listener says to have lost before
// repair, each by itself, so that the speaker repairs with depth 0, 1, 2, 3: in
// the middle between the limits of room/repair.go.
var claims = [4]float64{0, 0.05, 0.15, 0.5}

// claimLoss is a report with other numbers in it.
func claimLoss(report []byte, depth int) []byte {
	if len(report) != reportLen {
		return report
	}
	const received, lost, lostBeforeRepair, meanBurst = 29, 33, 37, 51 // docs/protocol.md section 6
	out := append([]byte(nil), report...)
	u32 := func(at int) uint32 { return binary.BigEndian.Uint32(out[at:]) }
	total := u32(received) + u32(lost)
	binary.BigEndian.PutUint32(out[lostBeforeRepair:], uint32(claims[depth]*float64(total)))
	binary.BigEndian.PutUint16(out[meanBurst:], 0)
	return out
}

// look gives the epoch that is held and how many sessions are open.
func (l *life) look() (k known, sessions int) {
	l.tapped.mu.Lock()
	defer l.tapped.mu.Unlock()
	open := l.tapped.sessions[:0]
	for _, s := range l.tapped.sessions {
		if s.Err() == nil {
			open = append(open, s)
		}
	}
	clear(l.tapped.sessions[len(open):])
	l.tapped.sessions = open
	return l.tapped.known, len(open)
}

// String is for violations.
func (k known) String() string { return fmt.Sprintf("epoch %d of %x", k.number, k.origin[:3]) }
