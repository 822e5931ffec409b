package mesh

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// memorySendQueue is how many bytes wait to be sent at most, see
	// [Session.Send].
	memorySendQueue = 256 << 10
	// memoryReserve is how many more may wait that are urgent, and how many
	// urgent ones may be on their way beyond MaxUnread.
	memoryReserve = 64 << 10
	// memoryRetire is how long a link goes on that was retired or closed by the
	// peer, memoryBroken one whose session broke.
	memoryRetire = 5 * time.Second
	memoryBroken = 15 * time.Second
)

// memoryPair is what the two ends of a session share: one lock for both
// streams, because a message moves from one end to the other.
type memoryPair struct {
	mu sync.Mutex
	// severed is when one end vanished without a goodbye.
	severed time.Time
}

// memorySession is one end of a session; it is a [Session].
type memorySession struct {
	// Constant.
	pair      *memoryPair
	node      *MemoryNode
	peer      PeerID
	other     *memorySession
	out, in   *wire
	initiator bool
	binding   [32]byte
	done      chan struct{}
	wakeRead  chan struct{} // 1
	wakePath  chan struct{} // 1

	// Atomic.
	link     atomic.Int64 // linkOpen, linkClosed, or Unix ns until which it lingers
	onPacket atomic.Pointer[func([]byte, time.Time)]
	sentPackets, sentBytes, receivedPackets, receivedBytes,
	droppedSending atomic.Uint64

	// Guarded by pair.mu.
	err       error // not nil: the session has ended
	onMessage func([]byte)
	queue     [Classes][][]byte // waiting to be sent, by class
	queued    int               // bytes in queue
	flight    int               // bytes from this end in the other's inbox and hands
	lastAt    time.Time         // latest arrival of what was sent from here
	inbox     []streamItem      // from the other end, in order
	onPath    func(Path, bool)
	onPathNew bool // onPath has not been called yet
	notifying bool // the path notifier runs
}

const (
	linkOpen   = 0
	linkClosed = -1
)

// streamItem is one message, or the end of the stream, on its way.
type streamItem struct {
	at   time.Time
	data []byte
	end  error // not nil: the last item
}

func newMemoryPair(from, to *MemoryNode, out, in *wire) (ours, theirs *memorySession) {
	pair := &memoryPair{}
	ours = &memorySession{
		pair: pair, node: from, peer: to.id, out: out, in: in, initiator: true,
		done: make(chan struct{}), wakeRead: make(chan struct{}, 1), wakePath: make(chan struct{}, 1),
	}
	theirs = &memorySession{
		pair: pair, node: to, peer: from.id, out: in, in: out,
		done: make(chan struct{}), wakeRead: make(chan struct{}, 1), wakePath: make(chan struct{}, 1),
	}
	ours.other, theirs.other = theirs, ours
	return ours, theirs
}

func (s *memorySession) Peer() PeerID          { return s.peer }
func (s *memorySession) Initiator() bool       { return s.initiator }
func (s *memorySession) Binding() [32]byte     { return s.binding }
func (s *memorySession) Done() <-chan struct{} { return s.done }

func (s *memorySession) Err() error {
	s.pair.mu.Lock()
	defer s.pair.mu.Unlock()
	return s.err
}

// Start implements [Session]; a second call panics.
func (s *memorySession) Start(message func([]byte), packet func([]byte, time.Time)) {
	if !s.onPacket.CompareAndSwap(nil, &packet) {
		panic("memory session: started twice")
	}
	s.pair.mu.Lock()
	defer s.pair.mu.Unlock()
	s.onMessage = message
	poke(s.wakeRead)
}

func (s *memorySession) Send(class Priority, data []byte) error {
	if len(data) > MaxMessage {
		return fmt.Errorf("send a message of %d bytes: %w", len(data), ErrTooLarge)
	}
	if class < 0 || class >= Classes {
		return fmt.Errorf("send a message of class %d: no such class", class)
	}
	s.pair.mu.Lock()
	defer s.pair.mu.Unlock()
	if s.err != nil {
		return fmt.Errorf("send to %s: %w", s.peer.Short(), ErrClosed)
	}
	limit := memorySendQueue
	if class == Urgent {
		limit += memoryReserve
	}
	if s.queued+len(data) > limit {
		return fmt.Errorf("send to %s: %w", s.peer.Short(), ErrBusy)
	}
	s.queue[class] = append(s.queue[class], append([]byte(nil), data...))
	s.queued += len(data)
	s.pump()
	return nil
}

// pump sends what may go, most urgent first: see MaxUnread. It is called with
// pair.mu held.
func (s *memorySession) pump() {
	for class := range s.queue {
		window := MaxUnread
		if Priority(class) == Urgent {
			window += memoryReserve
		}
		for len(s.queue[class]) > 0 {
			if s.flight >= window {
				return
			}
			data := s.queue[class][0]
			s.queue[class][0] = nil
			s.queue[class] = s.queue[class][1:]
			s.queued -= len(data)
			s.flight += len(data)
			s.carry(streamItem{data: data})
		}
	}
}

// carry puts an item on its way to the other end, behind what was sent
// before. It is called with pair.mu held.
func (s *memorySession) carry(item streamItem) {
	if s.other.err != nil {
		return // nobody reads it
	}
	item.at = time.Now().Add(s.out.reliable())
	if item.at.Before(s.lastAt) {
		item.at = s.lastAt
	}
	s.lastAt = item.at
	s.other.inbox = append(s.other.inbox, item)
	poke(s.other.wakeRead)
}

// read hands messages over in order as they arrive, and ends the session when
// its stream has ended or its peer was silent for too long.
func (s *memorySession) read() {
	defer s.node.forget(s)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		data, message, wait := s.step(time.Now())
		if message != nil {
			message(data)
			clear(data) // whoever kept it shall notice
			s.consumed(len(data))
			continue
		}
		arm(timer, wait)
		select {
		case <-timer.C:
		case <-s.wakeRead:
		case <-s.done:
			return
		}
	}
}

// step is what there is to do now: a message and who takes it, or else how
// long to wait before asking again.
func (s *memorySession) step(now time.Time) (data []byte, message func([]byte), wait time.Duration) {
	since, silent := s.silentSince()
	s.pair.mu.Lock()
	defer s.pair.mu.Unlock()
	if s.err != nil {
		return nil, nil, forever // done is closed
	}
	wait = forever
	if silent {
		if wait = since.Add(memorySessionTimeout).Sub(now); wait <= 0 {
			s.finish(errors.New("the peer has fallen silent"))
			return nil, nil, forever
		}
	}
	if !s.pair.severed.IsZero() && s.node.memory.running(s.peer) != nil {
		s.finish(errors.New("the peer has restarted"))
		return nil, nil, forever
	}
	if s.in.cut() {
		// What is on its way stalls; it is sent again once there is a way.
		for i := range s.inbox {
			s.inbox[i].at = now.Add(s.in.mean())
		}
		return nil, nil, wait
	}
	if len(s.inbox) == 0 {
		return nil, nil, wait
	}
	// Nobody takes messages before Start, but the end counts even then.
	last := s.inbox[len(s.inbox)-1]
	if s.onMessage == nil {
		if last.end == nil {
			return nil, nil, wait
		}
		if d := last.at.Sub(now); d > 0 {
			return nil, nil, min(wait, d)
		}
		s.finish(last.end)
		return nil, nil, forever
	}
	first := s.inbox[0]
	if d := first.at.Sub(now); d > 0 {
		return nil, nil, min(wait, d)
	}
	if first.end != nil {
		s.finish(first.end)
		return nil, nil, forever
	}
	s.inbox[0] = streamItem{}
	s.inbox = s.inbox[1:]
	return first.data, s.onMessage, 0
}

// consumed opens the other end's window.
func (s *memorySession) consumed(n int) {
	s.pair.mu.Lock()
	defer s.pair.mu.Unlock()
	s.other.flight -= n
	if s.other.err == nil {
		s.other.pump()
	}
}

// silentSince is since when nothing can have come from the peer.
func (s *memorySession) silentSince() (time.Time, bool) {
	if at, ok := s.in.cutSince(); ok {
		return at, true
	}
	if at, ok := s.out.cutSince(); ok {
		return at, true
	}
	s.pair.mu.Lock()
	defer s.pair.mu.Unlock()
	return s.pair.severed, !s.pair.severed.IsZero()
}

// finish ends this side; its link lingers. It is called with pair.mu held and
// err nil.
func (s *memorySession) finish(err error) {
	s.err = err
	s.inbox, s.queue = nil, [Classes][][]byte{}
	linger := memoryBroken
	if errors.Is(err, ErrClosed) {
		linger = memoryRetire
	}
	s.link.CompareAndSwap(linkOpen, time.Now().Add(linger).UnixNano())
	close(s.done)
}

// Close implements [Session]. It does not wait for callbacks, the network's
// Close does.
func (s *memorySession) Close() error {
	s.end(false)
	return nil
}

// end closes this side; vanishing, the other side is not told.
func (s *memorySession) end(vanishing bool) {
	s.pair.mu.Lock()
	defer s.pair.mu.Unlock()
	s.link.Store(linkClosed)
	if s.err != nil {
		return
	}
	s.finish(ErrClosed)
	if !vanishing {
		s.carry(streamItem{end: fmt.Errorf("%w by the peer", ErrClosed)})
		return
	}
	s.pair.severed = time.Now()
	s.other.wakeAll()
}

// Retire implements [Session]: both directions of the link go on for 5 s, at
// both ends, unless an end is closed meanwhile.
func (s *memorySession) Retire() {
	s.pair.mu.Lock()
	defer s.pair.mu.Unlock()
	if s.err == nil {
		s.finish(ErrClosed)
		s.carry(streamItem{end: fmt.Errorf("%w by the peer, which retired it", ErrClosed)})
	}
}

func (s *memorySession) wakeAll() {
	poke(s.wakeRead)
	poke(s.wakePath)
}
