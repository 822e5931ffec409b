package mesh

import (
	"fmt"
	"time"
)

// SendPacket implements [Session]. It allocates nothing once the buffers of
// the receiving node have grown.
func (s *memorySession) SendPacket(data []byte) error {
	if len(data) > MaxPacket {
		return fmt.Errorf("send a packet of %d bytes: %w", len(data), ErrTooLarge)
	}
	now := time.Now()
	if !s.linkUp(now) {
		return ErrClosed
	}
	s.sentPackets.Add(1)
	s.sentBytes.Add(uint64(len(data)))
	if !s.reachable(now) {
		s.droppedSending.Add(1)
		return nil
	}
	if s.out.cut() {
		return nil // lost, and nobody knows yet
	}
	copies, delays := s.out.packet()
	for i := range copies {
		if !s.other.node.queue.addPacket(now.Add(delays[i]), s.other, data) {
			s.droppedSending.Add(1)
		}
	}
	return nil
}

func (s *memorySession) linkUp(now time.Time) bool {
	until := s.link.Load()
	return until == linkOpen || until != linkClosed && now.UnixNano() < until
}

// arrive takes one packet, on the node's delivering goroutine.
func (s *memorySession) arrive(data []byte, at time.Time) {
	packet := s.onPacket.Load()
	if packet == nil || s.in.cut() || !s.linkUp(at) {
		return
	}
	s.receivedPackets.Add(1)
	s.receivedBytes.Add(uint64(len(data)))
	(*packet)(data, time.Now())
}

func (s *memorySession) Stats() LinkStats {
	return LinkStats{
		SentPackets: s.sentPackets.Load(), SentBytes: s.sentBytes.Load(),
		ReceivedPackets: s.receivedPackets.Load(), ReceivedBytes: s.receivedBytes.Load(),
		DroppedSending: s.droppedSending.Load(),
	}
}

// Path implements [Session]: there is a way until the peer has been out of
// reach for 3 s.
func (s *memorySession) Path() (Path, bool) {
	now := time.Now()
	if !s.linkUp(now) {
		return Path{}, false
	}
	return s.pathAt(now)
}

func (s *memorySession) reachable(now time.Time) bool {
	since, silent := s.silentSince()
	return !silent || now.Sub(since) < memoryPathTimeout
}

func (s *memorySession) pathAt(now time.Time) (Path, bool) {
	if !s.reachable(now) {
		return Path{}, false
	}
	return Path{
		Carrier: Datagram, Transport: "memory", Remote: string(memoryAddr(s.peer)),
		RTT: s.out.mean() + s.in.mean(),
	}, true
}

// OnPath implements [Session]. Each call replaces the function of the one
// before.
func (s *memorySession) OnPath(f func(path Path, ok bool)) {
	s.pair.mu.Lock()
	defer s.pair.mu.Unlock()
	s.onPath, s.onPathNew = f, true
	if !s.notifying {
		s.notifying = s.node.spawn(s.notifyPath)
	}
	poke(s.wakePath)
}

// notifyPath tells of each change of whether there is a way.
func (s *memorySession) notifyPath() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var told bool
	for {
		now := time.Now()
		path, ok := s.pathAt(now)
		s.pair.mu.Lock()
		f, tell := s.onPath, s.onPathNew || ok != told
		s.onPathNew = false
		s.pair.mu.Unlock()
		if tell {
			told = ok
			if f != nil {
				f(path, ok)
			}
			continue
		}
		wait := forever
		if since, silent := s.silentSince(); silent && ok {
			wait = since.Add(memoryPathTimeout).Sub(now)
		}
		arm(timer, wait)
		select {
		case <-timer.C:
		case <-s.wakePath:
		case <-s.done:
			return
		}
	}
}
