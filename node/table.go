package node

import (
	"crypto/rand"
	"encoding/binary"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"teahouse/internal/mesh"
)

// table holds the sessions of a node by receiver index and by peer, its open
// doors, and the handshakes that run.
type table struct {
	// index is read for every datagram, without a lock, and replaced as a
	// whole.
	index atomic.Pointer[map[uint32]*session]

	mu         sync.Mutex
	reserved   map[uint32]bool // indexes of handshakes that run
	peers      map[peer.ID]map[*session]bool
	doors      map[mesh.Door]*doorEntry
	handshakes map[peer.ID]int
	running    int
	closed     bool
}

type doorEntry struct {
	accept func(mesh.Session)
}

// byIndex is the session whose packets bear index, or nil.
func (t *table) byIndex(index uint32) *session {
	m := t.index.Load()
	if m == nil {
		return nil
	}
	return (*m)[index]
}

// indexes are those of all sessions.
func (t *table) indexes() []uint32 {
	if m := t.index.Load(); m != nil {
		return slices.Collect(maps.Keys(*m))
	}
	return nil
}

// reserve gives an unused receiver index.
func (t *table) reserve() uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		var b [4]byte
		rand.Read(b[:])
		i := binary.BigEndian.Uint32(b[:])
		if i == 0 || t.reserved[i] || t.byIndex(i) != nil {
			continue
		}
		if t.reserved == nil {
			t.reserved = make(map[uint32]bool)
		}
		t.reserved[i] = true
		return i
	}
}

// release gives a reserved index back.
func (t *table) release(index uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.reserved, index)
}

// add enters a session under its index.
func (t *table) add(s *session) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	of := t.peers[s.remote]
	switch {
	case t.closed:
		return mesh.ErrClosed
	case len(of) >= maxSessionsPerPeer:
		return mesh.ErrBusy
	}
	next := t.copyIndex()
	if len(next) >= maxSessions {
		return mesh.ErrBusy
	}
	next[s.index] = s
	t.index.Store(&next)
	if of == nil {
		if t.peers == nil {
			t.peers = make(map[peer.ID]map[*session]bool)
		}
		of = make(map[*session]bool)
		t.peers[s.remote] = of
	}
	of[s] = true
	return nil
}

func (t *table) copyIndex() map[uint32]*session {
	if m := t.index.Load(); m != nil {
		return maps.Clone(*m)
	}
	return make(map[uint32]*session)
}

// remove takes a session out; last tells that its peer has no other.
func (t *table) remove(s *session) (last bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := t.copyIndex()
	if next[s.index] == s {
		delete(next, s.index)
		t.index.Store(&next)
	}
	of := t.peers[s.remote]
	delete(of, s)
	if len(of) == 0 {
		delete(t.peers, s.remote)
		return true
	}
	return false
}

// kick wakes the sessions of p: its connections changed.
func (t *table) kick(p peer.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for s := range t.peers[p] {
		s.kick()
	}
}

// rush makes the sessions of p, or all if it is empty, look at once, and dial
// what they miss.
func (t *table) rush(p peer.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for of, sessions := range t.peers {
		if p != "" && p != of {
			continue
		}
		for s := range sessions {
			s.rushed.Store(true)
			s.kick()
		}
	}
}

// members are the peers that have sessions.
func (t *table) members() []peer.ID {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Collect(maps.Keys(t.peers))
}

// closeAll closes the doors and the sessions, and waits until these have said
// goodbye.
func (t *table) closeAll() {
	t.mu.Lock()
	t.closed = true
	t.doors = nil
	var all []*session
	for _, of := range t.peers {
		for s := range of {
			all = append(all, s)
		}
	}
	t.mu.Unlock()
	for _, s := range all {
		_ = s.Close()
	}
	limit := time.NewTimer(2 * flushFor)
	defer limit.Stop()
	for _, s := range all {
		select {
		case <-s.flushed:
		case <-limit.C:
			return
		}
	}
}

func (t *table) count() (sessions, doors int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m := t.index.Load(); m != nil {
		sessions = len(*m)
	}
	return sessions, len(t.doors)
}

// openDoor enters a door.
func (t *table) openDoor(d mesh.Door, accept func(mesh.Session)) (*doorEntry, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return nil, mesh.ErrClosed
	case t.doors[d] != nil:
		return nil, errDoorOpen
	case len(t.doors) >= maxDoors:
		return nil, mesh.ErrBusy
	}
	if t.doors == nil {
		t.doors = make(map[mesh.Door]*doorEntry)
	}
	e := &doorEntry{accept: accept}
	t.doors[d] = e
	return e, nil
}

// shutDoor takes a door out, if it is still this one.
func (t *table) shutDoor(d mesh.Door, e *doorEntry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.doors[d] == e {
		delete(t.doors, d)
	}
}

// allDoors are the doors that stand open.
func (t *table) allDoors() map[mesh.Door]*doorEntry {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.doors)
}

// begin counts a handshake with p, if the limits allow one more.
func (t *table) begin(p peer.ID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.running >= maxHandshakes || t.handshakes[p] >= maxHandshakesPerPeer {
		return false
	}
	if t.handshakes == nil {
		t.handshakes = make(map[peer.ID]int)
	}
	t.running++
	t.handshakes[p]++
	return true
}

// finish ends what begin began.
func (t *table) finish(p peer.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.running--
	if t.handshakes[p]--; t.handshakes[p] <= 0 {
		delete(t.handshakes, p)
	}
}
