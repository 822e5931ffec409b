package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"teahouse/internal/mesh"
)

// tap is a mesh.Network whose packets can be taken off their way: for the cost
// of what lies above the network, without the network's.
type tap struct {
	mesh.Network
	mode tapMode

	mu       sync.Mutex
	sessions []*tapSession
}

// tapMode says what happens to packets. The zero value lets them pass.
type tapMode struct{ atomic.Int32 }

const (
	tapPass = iota
	tapDrop
	// tapCall hands a packet to the other side's callback within SendPacket.
	tapCall
)

func (t *tap) wrap(s mesh.Session) *tapSession {
	w := &tapSession{Session: s, tap: t}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sessions = append(t.sessions, w)
	return w
}

// Open wraps the session that it opens.
func (t *tap) Open(ctx context.Context, peer mesh.Peer, door mesh.Door) (mesh.Session, error) {
	s, err := t.Network.Open(ctx, peer, door)
	if err != nil {
		return nil, err
	}
	return t.wrap(s), nil
}

// Listen wraps the sessions that come in.
func (t *tap) Listen(door mesh.Door, accept func(mesh.Session)) (stop func(), err error) {
	return t.Network.Listen(door, func(s mesh.Session) { accept(t.wrap(s)) })
}

// tapSession is a session of a tap.
type tapSession struct {
	mesh.Session
	tap     *tap
	deliver atomic.Pointer[func([]byte, time.Time)]
	other   atomic.Pointer[tapSession]
}

// Start keeps the packet callback for the other side's tapCall.
func (s *tapSession) Start(message func([]byte), packet func([]byte, time.Time)) {
	s.deliver.Store(&packet)
	s.Session.Start(message, packet)
}

// SendPacket does as the tap's mode says.
func (s *tapSession) SendPacket(data []byte) error {
	switch s.tap.mode.Load() {
	case tapDrop:
		return nil
	case tapCall:
		if other := s.other.Load(); other != nil {
			if deliver := other.deliver.Load(); deliver != nil {
				(*deliver)(data, time.Now())
			}
			return nil
		}
	}
	return s.Session.SendPacket(data)
}

// introduce finds the two ends of each session between a and b, which are
// those with one binding.
func introduce(a, b *tap) (pairs int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, x := range a.sessions {
		for _, y := range b.sessions {
			if x.Binding() == y.Binding() {
				x.other.Store(y)
				y.other.Store(x)
				pairs++
			}
		}
	}
	return pairs
}
