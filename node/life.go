package node

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// life tells how long a session waits for its peer. It is broken when nothing
// has come on its stream for silentAfter, but not while authentic packets of
// it come by any carrier: over a path that loses 40 % a stream inside QUIC
// stands still for longer than that now and then (six losses in a row, each
// after twice the time of the one before), while voice goes on. Then the
// stream has deadAfter.
type life struct {
	// Constant.
	conn net.Conn
	born time.Time

	heard atomic.Int64 // when an authentic packet came last, nanoseconds after born

	mu    sync.Mutex
	since time.Time // when the reader began to wait for the stream; zero: it does not
}

// wait begins to wait for the stream.
func (l *life) wait(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since = now
	_ = l.conn.SetReadDeadline(now.Add(silentAfter)) // it fails only on what has ended
}

// busy ends that.
func (l *life) busy() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since = time.Time{}
}

// hear notes an authentic packet.
func (l *life) hear(arrival time.Time) { l.heard.Store(int64(arrival.Sub(l.born))) }

// extend lets the reader wait on for what has been heard. It must be called
// more often than silentAfter.
func (l *life) extend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.since.IsZero() {
		return
	}
	if heard := l.born.Add(time.Duration(l.heard.Load())); heard.After(l.since) {
		until := heard.Add(silentAfter)
		if most := l.since.Add(deadAfter); most.Before(until) {
			until = most
		}
		_ = l.conn.SetReadDeadline(until)
	}
}
