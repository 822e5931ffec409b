package audio

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// maxMicLag is how far a paced microphone may fall behind the clock and still
// catch up by giving its blocks at once. Beyond it the rest is played later
// instead, so that a machine that slept does not send a burst of minutes.
const maxMicLag = 200 * time.Millisecond

// source makes blocks of sound, without a clock.
type source interface {
	channels() int
	// fill writes one whole block, or gives io.EOF.
	fill(block []float32) error
	close() error
}

// paced is a microphone made of a source and the monotonic clock.
type paced struct {
	pace *pacer
	held atomic.Bool

	// Owned by the reader.
	start time.Time // when sample 0 was "captured"
	n     int64     // blocks given since start

	mu  sync.Mutex // src, between Read and Close
	src source
}

var _ Starter = (*paced)(nil)

func newPaced(src source) *paced { return &paced{pace: newPacer(), src: src} }

func (m *paced) Channels() int { return m.src.channels() }

// Latency is 0: Read returns at the end of its block.
func (m *paced) Latency() time.Duration { return 0 }

func (m *paced) Hold()  { m.held.Store(true) }
func (m *paced) Start() { m.held.Store(false) }

func (m *paced) Read(block []float32) (time.Time, error) {
	if want := BlockFrames * m.src.channels(); len(block) != want {
		return time.Time{}, fmt.Errorf("microphone block of %d samples, not %d", len(block), want)
	}
	now := time.Now()
	if m.start.IsZero() {
		m.start = now
	}
	at := m.start.Add(time.Duration(m.n) * BlockDuration)
	if lag := now.Sub(at) - BlockDuration; lag > maxMicLag {
		m.start = m.start.Add(lag)
		at = at.Add(lag)
	}
	if err := m.fill(block); err != nil {
		return time.Time{}, err
	}
	m.n++
	if err := m.pace.until(at.Add(BlockDuration)); err != nil {
		return time.Time{}, err
	}
	return at, nil
}

func (m *paced) fill(block []float32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pace.isClosed() {
		return ErrClosed
	}
	if m.held.Load() {
		clear(block)
		return nil
	}
	return m.src.fill(block)
}

func (m *paced) Close() error {
	if !m.pace.close() {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.src.close()
}

// sink takes blocks of sound, without a clock.
type sink interface {
	write(block []float32, now time.Time) error
	close() error
}

// pacedSpeaker is a speaker made of a sink and the monotonic clock. It has no
// buffer: Write returns when its block has been played, so that the next one
// may be made at the last moment.
type pacedSpeaker struct {
	pace *pacer
	// catchUp: blocks that come late are taken at once until the count of
	// blocks agrees with the clock again. Otherwise time lost is forgotten.
	catchUp   bool
	underruns atomic.Uint64

	// Owned by the writer.
	start time.Time
	n     int64 // halves of blocks taken since start
	late  bool

	mu   sync.Mutex // sink, between Write and Close
	sink sink
}

var _ Speaker = (*pacedSpeaker)(nil)

func newPacedSpeaker(s sink, catchUp bool) *pacedSpeaker {
	return &pacedSpeaker{pace: newPacer(), sink: s, catchUp: catchUp}
}

func (s *pacedSpeaker) Write(block []float32) error {
	if err := checkPlay(block); err != nil {
		return err
	}
	now := time.Now()
	if s.start.IsZero() {
		s.start = now
	}
	s.noteLateness(now)
	if err := s.put(block, now); err != nil {
		return err
	}
	s.n += int64(len(block) / (2 * PlayFrames))
	return s.pace.until(s.due())
}

// checkPlay tells whether a Speaker may be given block.
func checkPlay(block []float32) error {
	if len(block) != 2*BlockFrames && len(block) != 2*PlayFrames {
		return fmt.Errorf("speaker block of %d samples, not %d or %d", len(block), 2*PlayFrames, 2*BlockFrames)
	}
	return nil
}

func (s *pacedSpeaker) due() time.Time {
	return s.start.Add(time.Duration(s.n) * BlockDuration * PlayFrames / BlockFrames)
}

// noteLateness counts one underrun per stall: the writer came a whole block
// after its turn.
func (s *pacedSpeaker) noteLateness(now time.Time) {
	lag := now.Sub(s.due())
	if lag <= BlockDuration {
		s.late = false
		return
	}
	if !s.late {
		s.underruns.Add(1)
	}
	s.late = s.catchUp
	if !s.catchUp {
		s.start = s.start.Add(lag)
	}
}

func (s *pacedSpeaker) put(block []float32, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pace.isClosed() {
		return ErrClosed
	}
	return s.sink.write(block, now)
}

// Latency is 0: Write returns when its block has been played.
func (s *pacedSpeaker) Latency() time.Duration { return 0 }

func (s *pacedSpeaker) Underruns() uint64 { return s.underruns.Load() }

func (s *pacedSpeaker) Close() error {
	if !s.pace.close() {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sink.close()
}

// endless is a source's close for those that hold nothing.
type endless struct{}

func (endless) close() error { return nil }
