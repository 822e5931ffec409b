package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"teahouse/internal/mesh"
	"teahouse/internal/seal"
)

// The life of a session:
//
//	open     -- Close -->  closing (flushes what waits, 1 s)  --> dead
//	open     -- Retire --> retired (takes packets for 5 s)    --> dead
//	open     -- the peer ends it --> lingering (its link goes on for 5 s)  --> dead
//	open     -- it breaks        --> lingering (its link goes on for 15 s) --> dead
//
// Done is closed on leaving open. Goroutines, all of them ended by dead:
//
//  1. reader: stream -> message callback (messages.go)
//  2. writer: queue -> stream, keep-alives
//  3. path: chooses how packets travel, checks that they arrive, tells OnPath
//
// Packets come in on the goroutines of the sockets and of voice streams.
type session struct {
	// Constant.
	node      *Node
	remote    peer.ID
	initiator bool
	binding   [32]byte
	index     uint32     // of packets to us
	carriers  carrierSet // that both sides allow
	born      time.Time
	stream    network.Stream
	conn      net.Conn // Noise over stream
	queue     *sendQueue
	link      *link
	streams   streams
	paths     pathState

	ctx    context.Context // ends when dead
	cancel context.CancelFunc
	wake   chan struct{} // something about the path changed
	rushed atomic.Bool   // the network under us did: do not wait to dial
	done   chan struct{}
	// readDone is closed when the reader has seen the stream's end.
	readDone chan struct{}
	// flushed is closed when the writer has said goodbye.
	flushed chan struct{}

	mu       sync.Mutex
	err      error // set with done
	started  bool
	deadline time.Time // of linger, once done
	graceful bool      // flush before the stream is closed
	onPath   func(mesh.Path, bool)
	newHook  bool

	in      inbox
	life    life
	start   chan struct{} // closed by Start
	message func([]byte)  // constant after Start
}

var _ mesh.Session = (*session)(nil)

var (
	errExpired = errors.New("the session has reached its age")
	errAbuse   = errors.New("the peer sent more than a link may")
	// errCongested is the circuit breaker's reason (ratecontrol.go).
	errCongested = errors.New("the path cannot carry voice: so much is lost and late that going on would harm others")
	// errStuck is a peer that lives and reads nothing.
	errStuck  = errors.New("the peer takes no messages any more")
	errRemote = fmt.Errorf("%w by the peer", mesh.ErrClosed)
)

// newSession makes a session of a finished handshake and starts its writer and
// path goroutines.
func (n *Node) newSession(st network.Stream, a agreed, initiator bool) (*session, error) {
	s := &session{
		node: n, remote: st.Conn().RemotePeer(), initiator: initiator,
		binding: a.binding, index: a.mine.index,
		carriers: n.carriers &^ carrierSet(a.theirs.features),
		born:     time.Now(), stream: st, conn: a.conn, queue: newSendQueue(),
		wake: make(chan struct{}, 1), done: make(chan struct{}), readDone: make(chan struct{}), flushed: make(chan struct{}), start: make(chan struct{}),
	}
	out, in := a.keyI, a.keyR
	if !initiator {
		out, in = in, out
	}
	s.link = newLink(s, seal.New(&out), seal.New(&in), a.theirs.index)
	s.life.conn, s.life.born = a.conn, s.born
	s.ctx, s.cancel = context.WithCancel(n.ctx)
	if err := n.addSession(s); err != nil {
		s.cancel()
		return nil, err
	}
	s.choose(&s.paths, s.born) // so that the first packet has a path
	if !n.goTracked(s.writeLoop) {
		close(s.flushed)
		s.die()
		return nil, mesh.ErrClosed
	}
	if !n.goTracked(s.readLoop) || !n.goTracked(s.pathLoop) {
		s.die()
		return nil, mesh.ErrClosed
	}
	return s, nil
}

// Peer is who is at the other end.
func (s *session) Peer() mesh.PeerID { return mesh.PeerID(s.remote) }

// Initiator tells whether this side opened it.
func (s *session) Initiator() bool { return s.initiator }

// Binding is the hash over the handshake.
func (s *session) Binding() [32]byte { return s.binding }

// Start begins delivery. A second call panics.
func (s *session) Start(message func([]byte), packet func([]byte, time.Time)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started {
		panic("node: session started twice")
	}
	s.started = true
	s.message = message
	s.link.deliver.Store(&packet)
	close(s.start)
	s.node.goTracked(func() {
		s.in.mu.Lock()
		defer s.in.mu.Unlock()
		s.passEarly()
	})
}

// Send queues a message.
func (s *session) Send(class mesh.Priority, data []byte) error { return s.queue.push(class, data) }

// SendPacket sends a packet on the path of the moment.
func (s *session) SendPacket(data []byte) error { return s.link.send(data) }

// Path is the path of the moment.
func (s *session) Path() (mesh.Path, bool) { return s.link.path() }

// OnPath sets the path callback.
func (s *session) OnPath(f func(mesh.Path, bool)) {
	s.mu.Lock()
	s.onPath, s.newHook = f, true
	s.mu.Unlock()
	s.kick()
}

// Stats counts the link's packets.
func (s *session) Stats() mesh.LinkStats { return s.link.snapshot(time.Now()) }

// Done is closed when the session has ended.
func (s *session) Done() <-chan struct{} { return s.done }

// Err tells why it has ended.
func (s *session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close ends the session. What waits is still written, for a second.
func (s *session) Close() error {
	s.link.refuse()
	s.end(mesh.ErrClosed, 0, true)
	return nil
}

// Retire ends the stream and takes packets for 5 s more.
func (s *session) Retire() { s.end(mesh.ErrClosed, retireFor, true) }

// end leaves the state open, once; later calls may only shorten the linger.
func (s *session) end(why error, linger time.Duration, graceful bool) {
	s.mu.Lock()
	deadline := time.Now().Add(linger)
	changed := true
	switch {
	case s.err == nil:
		s.err, s.deadline, s.graceful = why, deadline, graceful
		close(s.done)
	case deadline.Before(s.deadline):
		s.deadline = deadline
	default:
		changed = false
	}
	s.mu.Unlock()
	s.queue.close()
	if changed {
		s.kick()
	}
}

// kick makes the path goroutine look again.
func (s *session) kick() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// counters of a link; see [mesh.LinkStats].
type counters struct {
	sentPackets, sentBytes           atomic.Uint64
	receivedPackets, receivedBytes   atomic.Uint64
	droppedSending, droppedReceiving atomic.Uint64
	unauthentic                      atomic.Uint64
}

func (c *counters) snapshot() mesh.LinkStats {
	return mesh.LinkStats{
		SentPackets: c.sentPackets.Load(), SentBytes: c.sentBytes.Load(),
		ReceivedPackets: c.receivedPackets.Load(), ReceivedBytes: c.receivedBytes.Load(),
		DroppedSending: c.droppedSending.Load(), DroppedReceiving: c.droppedReceiving.Load(),
		Unauthentic: c.unauthentic.Load(),
	}
}
