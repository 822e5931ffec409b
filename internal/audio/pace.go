package audio

import (
	"sync"
	"time"
)

// pacer is the waiting of devices that have no hardware to wait for: sleep
// until a point in monotonic time, or until closed. It starts no goroutine,
// and works in virtual time. until is for one goroutine at a time; close may
// come from any.
type pacer struct {
	timer  *time.Timer
	closed chan struct{}
	once   sync.Once
}

func newPacer() *pacer {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return &pacer{timer: timer, closed: make(chan struct{})}
}

// until waits for t. The error is nil or ErrClosed.
func (p *pacer) until(t time.Time) error {
	if p.isClosed() {
		return ErrClosed
	}
	d := time.Until(t)
	if d <= 0 {
		return nil
	}
	p.timer.Reset(d)
	select {
	case <-p.timer.C:
		return nil
	case <-p.closed:
		p.timer.Stop()
		return ErrClosed
	}
}

func (p *pacer) isClosed() bool {
	select {
	case <-p.closed:
		return true
	default:
		return false
	}
}

// close ends waiting and tells whether this was the first call.
func (p *pacer) close() (first bool) {
	p.once.Do(func() { close(p.closed); first = true })
	return first
}
