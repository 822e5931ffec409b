package portaudio

import (
	"fmt"
	"sync/atomic"
	"time"

	"teahouse/internal/audio"
)

// microphone re-blocks what a device captures to 10 ms at 48 kHz.
type microphone struct {
	*device
	channels int
	latency  atomic.Int64

	// Owned by the reader.
	last  time.Time // at of the block before
	stuck bool      // the stream gives nothing, for now
	// For the stream st: what it has given that is not used yet, in frames.
	st       *stream
	resample *audio.Resampler // nil at 48 kHz
	raw      []float32        // as the device gives it
	heard    []float32        // in the microphone's channels
	from, to int
	given    int64 // frames at 48 kHz
}

var _ audio.Chooser = (*microphone)(nil)

// OpenMicrophone opens the microphone called name, or the default one for "".
// If it goes away, Read gives silence until it, or the default in its stead,
// is there again; see [Config.Notify].
func (s *System) OpenMicrophone(name string) (audio.Microphone, error) {
	d, err := s.newDevice(name, true)
	if err != nil {
		return nil, err
	}
	m := &microphone{device: d, channels: 1}
	if s.config.Stereo {
		m.channels = d.cur.Load().channels
	}
	return m, nil
}

func (m *microphone) Channels() int          { return m.channels }
func (m *microphone) Latency() time.Duration { return time.Duration(m.latency.Load()) }
func (m *microphone) Close() error           { return m.close() }

func (m *microphone) Read(block []float32) (time.Time, error) {
	if want := audio.BlockFrames * m.channels; len(block) != want {
		return time.Time{}, fmt.Errorf("microphone block of %d samples, not %d", len(block), want)
	}
	for !m.closed.Load() {
		at, ok := m.capture(block)
		if ok {
			m.stuck = false
			now := time.Now()
			m.last = m.stamp(at, now)
			m.latency.Store(int64(max(0, now.Sub(m.last)-audio.BlockDuration)))
			return m.last, nil
		}
		if m.closed.Load() {
			break
		}
		if m.stuck || m.cur.Load() == nil {
			return m.silence(block)
		}
	}
	return time.Time{}, audio.ErrClosed
}

// capture fills block from the stream, if there is one.
func (m *microphone) capture(block []float32) (at time.Time, ok bool) {
	m.use.Lock()
	defer m.use.Unlock()
	st := m.cur.Load()
	if st == nil {
		return time.Time{}, false
	}
	if st != m.st {
		m.adopt(st)
	}
	at, err := m.fill(block)
	switch err {
	case nil:
		_, underruns := st.state()
		m.relieve(st, underruns, block)
		return at, true
	case errInterrupted:
	case errLate:
		m.stuck = true
	default:
		m.lose(st, err)
	}
	return time.Time{}, false
}

// patience is how long sound may keep Read waiting. What comes late is still
// worth more than silence; what does not come for long is lost.
func (m *microphone) patience() time.Duration {
	if m.stuck {
		return 0 // silence waits until the end of its block
	}
	return silenceLimit
}

// adopt begins with a new stream.
func (m *microphone) adopt(st *stream) {
	m.st, m.resample, m.from, m.to, m.given, m.stuck = st, nil, 0, 0, 0, false
	m.pressure = pressure{calm: st.calm, largest: st.largest}
	chunk := st.rate / 100
	m.raw = make([]float32, chunk*st.channels)
	m.heard = make([]float32, chunk*m.channels)
	if st.rate != audio.Rate {
		// Rates were checked before the stream was opened.
		m.resample, _ = audio.NewResampler(st.rate, audio.Rate, m.channels, audio.QualityDevice)
	}
}

// fill makes one block. at is when its first sample was at the microphone.
func (m *microphone) fill(block []float32) (at time.Time, err error) {
	index := float64(m.given) * float64(m.st.rate) / audio.Rate
	for n := 0; n < audio.BlockFrames; {
		if m.from == m.to {
			chunk := len(m.raw) / m.st.channels
			err := m.st.wait(chunk, m.patience())
			for err == errLate && n > 0 { // the rest of a block that is begun
				err = m.st.wait(chunk, silenceLimit)
			}
			if err != nil {
				return time.Time{}, err
			}
			at = m.st.read(m.raw, index)
			remap(m.heard, m.channels, m.raw, m.st.channels)
			m.from, m.to = 0, chunk
		}
		took, wrote := m.convert(block[n*m.channels:], m.heard[m.from*m.channels:m.to*m.channels])
		m.from += took
		n += wrote
	}
	m.given += audio.BlockFrames
	return at, nil
}

func (m *microphone) convert(dst, src []float32) (took, wrote int) {
	if m.resample != nil {
		return m.resample.Process(dst, src)
	}
	n := copy(dst, src) / m.channels
	return n, n
}

const (
	// stampGain is how far a time stamp follows what was measured: the rest
	// is 10 ms after the one before, which keeps the jitter of callbacks out
	// (a first-order loop of 0.5 s).
	stampGain = 0.02
	// stampJump is how much later than expected a block must have been
	// captured to be believed at once: sound was lost.
	stampJump = 40 * time.Millisecond
	// stampBack is how much less than 10 ms may lie between two time stamps.
	stampBack = 2 * time.Millisecond
)

// stamp makes the time stamp of a block that was measured to begin at at.
func (m *microphone) stamp(at, now time.Time) time.Time {
	if m.last.IsZero() {
		return at
	}
	due := m.last.Add(audio.BlockDuration)
	off := at.Sub(due)
	if off > stampJump {
		return at
	}
	off = max(time.Duration(stampGain*float64(off)), -stampBack)
	// Nothing is heard before it was said.
	off = min(off, max(now.Add(-audio.BlockDuration).Sub(due), -stampBack))
	return due.Add(off)
}

// silence is what a microphone hears that is not there.
func (m *microphone) silence(block []float32) (time.Time, error) {
	now := time.Now()
	at := m.last.Add(audio.BlockDuration)
	if now.Sub(at) > stampJump {
		at = now
	}
	if err := m.idle(at.Add(audio.BlockDuration)); err != nil {
		return time.Time{}, err
	}
	clear(block)
	m.last = at
	return at, nil
}

// remap copies frames from one number of channels, 1 or 2, to another.
func remap(dst []float32, to int, src []float32, from int) {
	switch {
	case from == to:
		copy(dst, src)
	case to == 1:
		for i := range dst {
			dst[i] = (src[2*i] + src[2*i+1]) / 2
		}
	default:
		for i, x := range src {
			dst[2*i], dst[2*i+1] = x, x
		}
	}
}
