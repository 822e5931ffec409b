package node

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"teahouse/internal/mesh"
)

const (
	// maxQueued is how many bytes may wait on one session's stream.
	maxQueued = 256 << 10
	// urgentReserve is how many more may wait that are urgent: an epoch must
	// not be refused because of an op log.
	urgentReserve = 64 << 10
)

// sendQueue orders what waits on a session's stream: by class, and within a
// class as it came.
//
// The order is worth nothing once a message has left: yamux, QUIC and the
// kernel take 256 KiB and more before a write waits. So all but urgent ones
// leave only while the peer has less than [mesh.MaxUnread] bytes still to take
// (docs/protocol.md section 3): what is urgent waits for these at most.
type sendQueue struct {
	ready chan struct{} // has a token when something waits

	mu     sync.Mutex
	queues [mesh.Classes][][]byte
	bytes  int
	closed bool
	sent   uint32    // bytes of messages that have left, modulo 2^32
	taken  uint32    // of these the peer has taken
	nudged bool      // a keep-alive is wanted now
	held   bool      // something waits for the peer to take more
	since  time.Time // since when, as far as heldFor was asked
}

// errCredit is a peer that has taken more than it was sent.
var errCredit = errors.New("the peer says that it took more than it was sent")

func newSendQueue() *sendQueue { return &sendQueue{ready: make(chan struct{}, 1)} }

// push copies data into the queue, two bytes of room before it for the length.
func (q *sendQueue) push(class mesh.Priority, data []byte) error {
	switch {
	case len(data) > mesh.MaxMessage:
		return fmt.Errorf("send a message of %d bytes: %w", len(data), mesh.ErrTooLarge)
	case len(data) == 0:
		return errors.New("send a message: it is empty")
	case class < 0 || class >= mesh.Classes:
		return fmt.Errorf("send a message of class %d: no such class", class)
	}
	limit := maxQueued
	if class == mesh.Urgent {
		limit += urgentReserve
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return mesh.ErrClosed
	case q.bytes+len(data) > limit:
		return mesh.ErrBusy
	}
	m := make([]byte, 2+len(data))
	m[0], m[1] = byte(len(data)>>8), byte(len(data))
	copy(m[2:], data)
	q.queues[class] = append(q.queues[class], m)
	q.bytes += len(data)
	q.wake()
	return nil
}

// pop takes the most urgent message that may leave, framed, or nil. A closed
// queue is emptied as it is: nothing urgent can come any more.
func (q *sendQueue) pop() []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.queues {
		c := q.queues[i]
		if len(c) == 0 {
			continue
		}
		if mesh.Priority(i) != mesh.Urgent && q.sent-q.taken >= mesh.MaxUnread && !q.closed {
			q.held = true
			return nil
		}
		m := c[0]
		c[0] = nil
		q.queues[i] = c[1:]
		q.bytes -= len(m) - 2
		q.sent += uint32(len(m) - 2)
		return m
	}
	return nil
}

// takeNudge tells whether a keep-alive is wanted.
func (q *sendQueue) takeNudge() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	wanted := q.nudged
	q.nudged = false
	return wanted
}

// took notes how many bytes the peer has taken in all, modulo 2^32.
func (q *sendQueue) took(total uint32) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	more := total - q.taken
	switch {
	case more > q.sent-q.taken:
		return errCredit
	case more == 0:
		return nil
	}
	q.taken, q.held, q.since = total, false, time.Time{}
	q.wake()
	return nil
}

// heldFor is how long messages have waited for a peer that takes nothing,
// counted from when it was asked first.
func (q *sendQueue) heldFor(now time.Time) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case !q.held:
		return 0
	case q.since.IsZero():
		q.since = now
	}
	return now.Sub(q.since)
}

// nudge makes the writer write something, if only a keep-alive.
func (q *sendQueue) nudge() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.closed {
		q.nudged = true
		q.wake()
	}
}

// wake makes the writer look.
func (q *sendQueue) wake() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// close refuses what is pushed from now on.
func (q *sendQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
}
