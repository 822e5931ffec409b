package mesh

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"time"
)

// memoryTopicQueue is how many broadcasts wait for one subscriber at most;
// what comes beyond them is dropped, as pubsub does.
const memoryTopicQueue = 128

// memoryTopic is one node's subscription; it is a [Topic].
type memoryTopic struct {
	node     *MemoryNode
	name     string
	validate Validator
	deliver  func(PeerID, []byte)
	queue    chan broadcast
	close    sync.Once
	done     chan struct{} // closed when it begins to close
	ended    chan struct{} // closed when its callbacks have returned
}

type broadcast struct {
	from PeerID
	data []byte
}

// Join implements [Network]. A nil validate accepts everything.
func (n *MemoryNode) Join(topic string, validate Validator, deliver func(PeerID, []byte)) (Topic, error) {
	t := &memoryTopic{
		node: n, name: topic, validate: validate, deliver: deliver,
		queue: make(chan broadcast, memoryTopicQueue),
		done:  make(chan struct{}), ended: make(chan struct{}),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.topics[topic] != nil {
		return nil, errors.New("join a topic: joined already")
	}
	if !n.spawnLocked(t.run) {
		return nil, fmt.Errorf("join a topic: %w", ErrClosed)
	}
	n.topics[topic] = t
	n.memory.subscribe(t)
	return t, nil
}

// subscribe is called with a node's mu held, which comes before m.mu nowhere
// else but in such calls.
func (m *Memory) subscribe(t *memoryTopic) {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := m.topics[t.name]
	if all == nil {
		all = make(map[*memoryTopic]struct{})
		m.topics[t.name] = all
	}
	all[t] = struct{}{}
}

func (m *Memory) unsubscribe(t *memoryTopic) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.topics[t.name], t)
	if len(m.topics[t.name]) == 0 {
		delete(m.topics, t.name)
	}
}

// Publish implements [Topic]. Broadcasts reach every subscriber on this side
// of a partition, later where the wire loses packets.
func (t *memoryTopic) Publish(data []byte) error {
	if len(data) > MaxBroadcast {
		return fmt.Errorf("publish %d bytes: %w", len(data), ErrTooLarge)
	}
	select {
	case <-t.done:
		return fmt.Errorf("publish: %w", ErrClosed)
	default:
	}
	m, now := t.node.memory, time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for other := range m.topics[t.name] {
		if other.node == t.node {
			continue
		}
		if w := m.wireLocked(t.node.id, other.node.id); !w.cut() {
			other.node.queue.addBroadcast(now.Add(w.reliable()), other, t.node.id, bytes.Clone(data))
		}
	}
	return nil
}

// arrive queues a broadcast; called on the node's delivering goroutine.
func (t *memoryTopic) arrive(from PeerID, data []byte) {
	select {
	case t.queue <- broadcast{from, data}:
	default:
	}
}

func (t *memoryTopic) run() {
	defer close(t.ended)
	for {
		select {
		case <-t.done:
			return
		case b := <-t.queue:
			if t.closing() {
				return
			}
			verdict := Accept
			if t.validate != nil {
				verdict = t.validate(b.from, b.data)
			}
			switch {
			case verdict == Reject:
				t.node.Penalise(b.from, "broadcast not valid")
			case verdict == Accept && !t.closing():
				t.deliver(b.from, b.data)
			}
			clear(b.data) // whoever kept it shall notice
		}
	}
}

func (t *memoryTopic) closing() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

// Close implements [Topic].
func (t *memoryTopic) Close() error {
	t.close.Do(func() {
		t.node.mu.Lock()
		if t.node.topics[t.name] == t {
			delete(t.node.topics, t.name)
		}
		t.node.mu.Unlock()
		t.node.memory.unsubscribe(t)
		close(t.done)
	})
	<-t.ended
	return nil
}
