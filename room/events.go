package room

import (
	"context"
	"sync"
)

// eventQueue is how many events wait for one view at most.
const eventQueue = 4 * MaxMembers

// Subscription is one view's queue of events.
type Subscription struct {
	wake   chan struct{} // 1
	forget func(*Subscription)

	mu     sync.Mutex
	queue  []Event
	last   bool // nothing follows what is queued
	closed bool
}

func newSubscription(forget func(*Subscription)) *Subscription {
	return &Subscription{wake: make(chan struct{}, 1), forget: forget}
}

// Next waits for the next event. After EventLeft, or Close, it answers
// ErrClosed; where ctx ends first, its error. For one goroutine at a time.
func (s *Subscription) Next(ctx context.Context) (Event, error) {
	for {
		if e, ok, ended := s.pop(); ok {
			return e, nil
		} else if ended {
			return Event{}, ErrClosed
		}
		select {
		case <-ctx.Done():
			return Event{}, ctx.Err()
		case <-s.wake:
		}
	}
}

func (s *Subscription) pop() (e Event, ok, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.queue) == 0 {
		return e, false, s.closed || s.last
	}
	e = s.queue[0]
	s.queue[0] = Event{}
	s.queue = s.queue[1:]
	return e, true, false
}

// Close ends the subscription and a waiting Next. It is idempotent.
func (s *Subscription) Close() {
	s.mu.Lock()
	s.closed, s.queue = true, nil
	s.mu.Unlock()
	s.poke()
	s.forget(s)
}

// push never waits: where the view is slow, a later event about the same
// thing takes the place of an earlier one, and where that is not enough the
// oldest goes. EventLeft is the last and always fits.
func (s *Subscription) push(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.last {
		return
	}
	s.last = e.Kind == EventLeft
	if i := s.supersedes(&e); i >= 0 {
		s.queue[i] = e
	} else {
		if len(s.queue) >= eventQueue {
			s.queue = s.queue[1:]
		}
		s.queue = append(s.queue, e)
	}
	s.poke()
}

// supersedes is the place of the queued event that e makes void, or -1. It may
// be replaced only if nothing that was queued behind it is about the same
// thing, so that each thing's events stay in order.
func (s *Subscription) supersedes(e *Event) int {
	for i := len(s.queue) - 1; i >= 0; i-- {
		q := &s.queue[i]
		if q.Kind != e.Kind || q.Member != e.Member {
			continue
		}
		switch e.Kind {
		case EventMember:
			if e.State != stateChanged || q.State == stateOut {
				return -1
			}
			e.State = q.State // who came and changed has come
			return i
		case EventLink:
			if e.State == stateUp && q.State == stateUp {
				return i
			}
			return -1
		case EventEpoch:
			return i
		default:
			return -1
		}
	}
	return -1
}

func (s *Subscription) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// The states of EventMember and EventLink.
const (
	stateIn      = "in"
	stateOut     = "out"
	stateChanged = "changed"
	stateUp      = "up"
	stateDown    = "down"
)
