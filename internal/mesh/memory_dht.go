package mesh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// memoryRecord says that a peer provides a key. It lives for two hours after
// its provider stopped to renew it: what a search finds may be long gone.
type memoryRecord struct {
	since   time.Time
	renewed context.Context // renewed until this ends
	stopped time.Time       // when it was noticed that renewed has ended; zero: not yet
}

func (r *memoryRecord) stop(now time.Time) {
	if r.stopped.IsZero() {
		r.stopped = now
	}
}

func (r *memoryRecord) alive(now time.Time) bool {
	if r.renewed.Err() != nil {
		r.stop(now)
	}
	return r.stopped.IsZero() || now.Sub(r.stopped) < memoryRecordLife
}

// Provide implements [Network]. It fails where no other node is in reach, and
// takes one round trip.
func (n *MemoryNode) Provide(ctx context.Context, key [32]byte) error {
	near, err := n.nearest(ctx)
	if err != nil {
		return fmt.Errorf("provide: %w", err)
	}
	if !near {
		return errors.New("provide: no other node is in reach")
	}
	m := n.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.nodes[n.id] != n {
		return fmt.Errorf("provide: %w", ErrClosed)
	}
	records := m.records[key]
	if records == nil {
		records = make(map[PeerID]*memoryRecord)
		m.records[key] = records
	}
	records[n.id] = &memoryRecord{since: time.Now(), renewed: ctx}
	return nil
}

// Find implements [Network]. It takes one round trip to the first answer and
// one more to the end.
func (n *MemoryNode) Find(ctx context.Context, key [32]byte, found func(Peer)) error {
	for trip := range 2 {
		near, err := n.nearest(ctx)
		if err != nil {
			return fmt.Errorf("find: %w", err)
		}
		if !near || trip > 0 {
			break
		}
		for _, id := range n.memory.providers(key, n) {
			if ctx.Err() != nil {
				break
			}
			n.mu.Lock()
			n.known[id] = true
			n.mu.Unlock()
			found(Peer{ID: id, Addrs: []Addr{memoryAddr(id)}})
		}
	}
	return nil
}

// nearest waits for one round trip to the nearest node in reach; false: none is.
func (n *MemoryNode) nearest(ctx context.Context) (bool, error) {
	select {
	case <-n.done:
		return false, ErrClosed
	default:
	}
	m := n.memory
	m.mu.Lock()
	near, least := false, time.Duration(0)
	for id := range m.nodes {
		if id == n.id || m.apart(n.id, id) {
			continue
		}
		if rtt := m.mean(n.id, id) + m.mean(id, n.id); !near || rtt < least {
			near, least = true, rtt
		}
	}
	m.mu.Unlock()
	timer := time.NewTimer(least)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case <-n.done:
		return false, ErrClosed
	case <-timer.C:
		return near, ctx.Err()
	}
}

// mean is the delay to expect from one peer to another, without making a wire
// for each pair of a large network. It is called with mu held.
func (m *Memory) mean(from, to PeerID) time.Duration {
	if w := m.wires[[2]PeerID{from, to}]; w != nil {
		return w.mean()
	}
	return m.cfg.Latency + m.cfg.Jitter/2
}

// providers are the peers whose record n can see, in the order of their ids:
// those that no partition hides, or hid only after the record was put.
func (m *Memory) providers(key [32]byte, n *MemoryNode) []PeerID {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids []PeerID
	for id, r := range m.records[key] {
		if !r.alive(now) {
			delete(m.records[key], id)
			continue
		}
		if id == n.id {
			continue
		}
		if since, cut := m.wireLocked(id, n.id).cutSince(); !cut || r.since.Before(since) {
			ids = append(ids, id)
		}
	}
	if len(m.records[key]) == 0 {
		delete(m.records, key)
	}
	slices.Sort(ids)
	return ids
}
