package portaudio

import (
	"fmt"
	"sync/atomic"
	"time"

	"teahouse/internal/audio"
)

// speaker gives a device 5 ms at a time, halves of blocks.
type speaker struct {
	*device
	latency   atomic.Int64
	underruns atomic.Uint64

	// Owned by the writer.
	halves int       // given to the stream
	due    time.Time // while nothing is played: when the half before would have been
	stuck  bool      // the stream has stopped taking sound, for now
	// For the stream st.
	st       *stream
	before   uint64 // underruns of earlier streams
	resample *audio.Resampler
	rated    []float32 // at the device's rate
	raw      []float32 // in the device's channels
}

var _ audio.Chooser = (*speaker)(nil)

// OpenSpeaker opens the speaker called name, or the default one for "". If it
// goes away, Write passes the time and plays nothing until it, or the default
// in its stead, is there again; see [Config.Notify].
func (s *System) OpenSpeaker(name string) (audio.Speaker, error) {
	d, err := s.newDevice(name, false)
	if err != nil {
		return nil, err
	}
	return &speaker{device: d}, nil
}

func (s *speaker) Latency() time.Duration { return time.Duration(s.latency.Load()) }
func (s *speaker) Underruns() uint64      { return s.underruns.Load() }
func (s *speaker) Close() error           { return s.close() }

func (s *speaker) Write(block []float32) error {
	if len(block) != 2*audio.BlockFrames && len(block) != 2*audio.PlayFrames {
		return fmt.Errorf("speaker block of %d samples, not %d or %d", len(block), 2*audio.PlayFrames, 2*audio.BlockFrames)
	}
	for ; len(block) > 0; block = block[2*audio.PlayFrames:] {
		if err := s.writeHalf(block[:2*audio.PlayFrames]); err != nil {
			return err
		}
	}
	return nil
}

// halfDuration is how long half a block lasts.
const halfDuration = audio.BlockDuration * audio.PlayFrames / audio.BlockFrames

func (s *speaker) writeHalf(half []float32) error {
	for !s.closed.Load() {
		if s.play(half) {
			return nil
		}
		if s.cur.Load() == nil && !s.closed.Load() {
			return s.discard()
		}
	}
	return audio.ErrClosed
}

// play gives half a block to the stream, if there is one.
func (s *speaker) play(half []float32) bool {
	s.use.Lock()
	defer s.use.Unlock()
	st := s.cur.Load()
	if st == nil {
		return false
	}
	if st != s.st {
		s.adopt(st)
	}
	frames := s.convert(half)
	switch err := st.wait(len(frames)/st.channels, s.patience()); err {
	case nil:
	case errInterrupted:
		return false
	case errLate: // the half is lost, the talk goes on
		s.advance()
		s.stuck = true
		return true
	default:
		s.lose(st, err)
		return false
	}
	s.stuck = false
	st.write(frames)
	buffered, underruns := st.state()
	s.latency.Store(int64(buffered))
	s.underruns.Store(s.before + underruns)
	if s.halves++; s.halves%2 == 0 { // judged are blocks
		s.relieve(st, underruns, half)
	}
	return true
}

// stuckAfter is how long Write waits for a device before it goes on without.
const stuckAfter = 60 * time.Millisecond

// patience is how long half a block may wait for room.
func (s *speaker) patience() time.Duration {
	if s.stuck {
		return time.Until(s.due.Add(halfDuration))
	}
	s.due = time.Now().Add(stuckAfter - halfDuration)
	return stuckAfter
}

// adopt begins with a new stream.
func (s *speaker) adopt(st *stream) {
	s.before = s.underruns.Load()
	s.st, s.resample, s.stuck = st, nil, false
	s.pressure = pressure{calm: st.calm, largest: st.largest}
	frames := audio.PlayFrames
	if st.rate != audio.Rate {
		// Rates were checked before the stream was opened.
		s.resample, _ = audio.NewResampler(audio.Rate, st.rate, 2, audio.QualityDevice)
		frames = audio.PlayFrames*st.rate/audio.Rate + 1
	}
	s.rated = make([]float32, 2*frames)
	s.raw = make([]float32, frames*st.channels)
}

// convert is half a block as the device wants it; valid until the next call.
func (s *speaker) convert(half []float32) []float32 {
	if s.resample != nil {
		_, n := s.resample.Process(s.rated, half)
		half = s.rated[:2*n]
	}
	if s.st.channels == 2 {
		return half
	}
	raw := s.raw[:len(half)/2]
	remap(raw, 1, half, 2)
	return raw
}

// discard passes the time that half a block would have been played in.
func (s *speaker) discard() error {
	s.advance()
	return s.idle(s.due)
}

// advance moves due by half a block, to about now if it has been left behind.
func (s *speaker) advance() {
	s.due = s.due.Add(halfDuration)
	if now := time.Now(); now.Sub(s.due) > silenceLimit {
		s.due = now
	}
}
