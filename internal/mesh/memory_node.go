package mesh

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"
)

// memoryDoors is how many doors stand open at once at most, see
// [Network.Listen].
const memoryDoors = 16

// MemoryNode is one node of a [Memory]; it is a [Network].
type MemoryNode struct {
	memory *Memory
	key    ed25519.PrivateKey
	id     PeerID
	queue  arrivals
	done   chan struct{} // closed when the node begins to end
	ended  chan struct{} // closed when it has
	wg     sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	doors     map[Door]*memoryDoor
	known     map[PeerID]bool // whose address this node has learnt
	sessions  map[*memorySession]struct{}
	topics    map[string]*memoryTopic
	penalties map[PeerID]int
}

var _ Network = (*MemoryNode)(nil)

type memoryDoor struct{ accept func(Session) }

func newMemoryNode(m *Memory, key ed25519.PrivateKey, id PeerID) *MemoryNode {
	return &MemoryNode{
		memory: m, key: key, id: id,
		queue:     arrivals{wake: make(chan struct{}, 1)},
		done:      make(chan struct{}),
		ended:     make(chan struct{}),
		doors:     make(map[Door]*memoryDoor),
		known:     make(map[PeerID]bool),
		sessions:  make(map[*memorySession]struct{}),
		topics:    make(map[string]*memoryTopic),
		penalties: make(map[PeerID]int),
	}
}

// spawn runs f on a goroutine that Close waits for; false: the node is closed.
func (n *MemoryNode) spawn(f func()) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.spawnLocked(f)
}

func (n *MemoryNode) spawnLocked(f func()) bool {
	if n.closed {
		return false
	}
	n.wg.Go(f)
	return true
}

// Self implements [Network].
func (n *MemoryNode) Self() Peer { return Peer{ID: n.id, Addrs: []Addr{memoryAddr(n.id)}} }

// SignAsHost implements [Network].
func (n *MemoryNode) SignAsHost(context string, message []byte) ([]byte, error) {
	sig, err := n.key.Sign(nil, message, &ed25519.Options{Hash: crypto.Hash(0), Context: context})
	if err != nil {
		return nil, fmt.Errorf("sign as host: %w", err)
	}
	return sig, nil
}

// Penalise implements [Network]: it counts.
func (n *MemoryNode) Penalise(peer PeerID, _ string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.penalties[peer]++
}

// Penalties tells how often this node penalised a peer, broadcasts that were
// not valid included.
func (n *MemoryNode) Penalties(peer PeerID) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.penalties[peer]
}

// Listen implements [Network].
func (n *MemoryNode) Listen(door Door, accept func(Session)) (stop func(), err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.closed:
		return nil, fmt.Errorf("listen: %w", ErrClosed)
	case n.doors[door] != nil:
		return nil, errors.New("listen: the door stands open already")
	case len(n.doors) >= memoryDoors:
		return nil, fmt.Errorf("listen at more than %d doors: %w", memoryDoors, ErrBusy)
	}
	d := &memoryDoor{accept}
	n.doors[door] = d
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.doors[door] == d {
			delete(n.doors, door)
		}
	}, nil
}

// Open implements [Network]. It takes two round trips, three with a peer
// that this node has no session with.
func (n *MemoryNode) Open(ctx context.Context, peer Peer, door Door) (Session, error) {
	s, err := n.open(ctx, peer, door)
	if err != nil {
		return nil, fmt.Errorf("open a session with %s: %w", peer.ID.Short(), err)
	}
	return s, nil
}

func (n *MemoryNode) open(ctx context.Context, peer Peer, door Door) (Session, error) {
	if _, ok := peer.ID.PublicKey(); !ok || peer.ID == n.id {
		return nil, errors.New("not another peer")
	}
	trips, err := n.dialTrips(peer)
	if err != nil {
		return nil, err
	}
	out, in := n.memory.wire(n.id, peer.ID), n.memory.wire(peer.ID, n.id)
	var wait time.Duration
	for range trips {
		wait += out.reliable() + in.reliable()
	}
	unreachable := out.cut() || in.cut() || n.memory.running(peer.ID) == nil
	if unreachable {
		wait = memoryDialTimeout
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-n.done:
		return nil, ErrClosed
	case <-timer.C:
	}
	if unreachable || out.cut() || in.cut() {
		return nil, errors.New("no answer")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	other := n.memory.running(peer.ID)
	if other == nil {
		return nil, errors.New("no answer")
	}
	return n.meet(other, door, out, in)
}

// dialTrips is how many round trips a session with peer takes, if this node
// knows where peer is.
func (n *MemoryNode) dialTrips(peer Peer) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return 0, ErrClosed
	}
	for s := range n.sessions {
		if s.peer == peer.ID {
			return 2, nil
		}
	}
	for _, a := range peer.Addrs {
		if a == memoryAddr(peer.ID) {
			n.known[peer.ID] = true
		}
	}
	if !n.known[peer.ID] {
		return 0, errors.New("no address of it is known")
	}
	return 3, nil
}

// meet makes the two ends of a session.
func (n *MemoryNode) meet(other *MemoryNode, door Door, out, in *wire) (Session, error) {
	ours, theirs := newMemoryPair(n, other, out, in)
	_, _ = rand.Read(ours.binding[:]) // never fails
	theirs.binding = ours.binding

	other.mu.Lock()
	d := other.doors[door]
	refused := d == nil || other.closed
	if !refused {
		other.known[n.id] = true
		other.sessions[theirs] = struct{}{}
	}
	other.mu.Unlock()
	if refused {
		return nil, ErrRefused
	}

	n.mu.Lock()
	ok := n.spawnLocked(ours.read)
	if ok {
		n.sessions[ours] = struct{}{}
	}
	n.mu.Unlock()
	if !ok {
		_ = ours.Close() // always nil; theirs sees it
	}
	if !other.spawn(theirs.read) || !other.spawn(func() { d.accept(theirs) }) {
		_ = theirs.Close() // always nil; ours sees it
	}
	if !ok {
		return nil, ErrClosed
	}
	return ours, nil
}

// deliver hands over packets and broadcasts when their time has come.
func (n *MemoryNode) deliver() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		a, due, wait := n.queue.next(time.Now())
		if !due {
			arm(timer, wait)
			select {
			case <-timer.C:
			case <-n.queue.wake:
			case <-n.done:
				return
			}
			continue
		}
		select {
		case <-n.done:
			return
		default:
		}
		if a.topic != nil {
			a.topic.arrive(a.from, a.data)
			continue
		}
		a.session.arrive(a.packet[:a.size], a.at)
		n.queue.release(a.packet)
	}
}

func (n *MemoryNode) wakeSessions() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for s := range n.sessions {
		s.wakeAll()
	}
}

func (n *MemoryNode) forget(s *memorySession) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.sessions, s)
}

// Close implements [Network].
func (n *MemoryNode) Close() error {
	n.end(true)
	return nil
}

// end ends the node, saying goodbye to its peers or not, and waits.
func (n *MemoryNode) end(goodbye bool) {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		<-n.ended
		return
	}
	n.closed = true
	sessions, topics := n.sessions, n.topics
	n.sessions, n.topics = map[*memorySession]struct{}{}, map[string]*memoryTopic{}
	clear(n.doors)
	n.mu.Unlock()

	n.memory.forgetNode(n)
	for s := range sessions {
		s.end(!goodbye)
	}
	close(n.done)
	for _, t := range topics {
		_ = t.Close() // always nil
	}
	n.wg.Wait()
	close(n.ended)
}

// forgetNode takes a node off the network; its records stay until they
// expire, as they do in a DHT.
func (m *Memory) forgetNode(n *MemoryNode) {
	m.mu.Lock()
	delete(m.nodes, n.id)
	now := time.Now()
	for _, records := range m.records {
		if r := records[n.id]; r != nil {
			r.stop(now)
		}
	}
	m.topologyChanged()
}
