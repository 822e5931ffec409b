package node

import (
	"errors"
	"fmt"
	"sync"

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
type sendQueue struct {
	ready chan struct{} // has a token when something waits

	mu     sync.Mutex
	queues [mesh.Classes][][]byte
	bytes  int
	closed bool
}

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
	select {
	case q.ready <- struct{}{}:
	default:
	}
	return nil
}

// pop takes the most urgent message, framed, or nil.
func (q *sendQueue) pop() []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.queues {
		if c := q.queues[i]; len(c) > 0 {
			m := c[0]
			c[0] = nil
			q.queues[i] = c[1:]
			q.bytes -= len(m) - 2
			return m
		}
	}
	return nil
}

// close refuses what is pushed from now on.
func (q *sendQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
}
