package voice

import (
	"sync"
	"time"

	"teahouse/internal/audio"
)

// reader is what capture needs of a microphone.
type reader interface {
	Read(block []float32) (at time.Time, err error)
}

// standIn gives silence in the place of a microphone that has ended, at the
// moments at which that one's next blocks would have come.
type standIn struct {
	next time.Time // when the next block is due; owned by the reader

	once   sync.Once
	closed chan struct{}
}

func newStandIn() *standIn { return &standIn{closed: make(chan struct{})} }

// mostBehind is by how much it may be late: after that the time is lost, as a
// microphone's would be, and not made good for by many blocks at once.
const mostBehind = 100 * time.Millisecond

// Read is as of audio.Microphone, mono.
func (s *standIn) Read(block []float32) (at time.Time, err error) {
	if now := time.Now(); now.Sub(s.next) > mostBehind {
		s.next = now
	}
	wait := time.NewTimer(time.Until(s.next))
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-s.closed:
		return time.Time{}, audio.ErrClosed
	}
	clear(block)
	at = s.next.Add(-audio.BlockDuration)
	s.next = s.next.Add(audio.BlockDuration)
	return at, nil
}

func (s *standIn) close() { s.once.Do(func() { close(s.closed) }) }
