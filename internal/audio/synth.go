package audio

import (
	"math"
	"sync"
	"time"
)

// ToneLevel is the amplitude of the tone microphone: -12 dBFS.
const ToneLevel = 0.251188643150958 // 10^(-12/20)

// NewTone is a mono microphone that hears a sine of hz, from 20 to 20,000.
func NewTone(hz float64) Starter {
	return newPaced(&tone{step: 2 * math.Pi * hz / Rate})
}

type tone struct {
	endless
	phase, step float64 // radians
}

func (*tone) channels() int { return 1 }

func (t *tone) fill(block []float32) error {
	for i := range block {
		block[i] = float32(ToneLevel * math.Sin(t.phase))
		t.phase += t.step
	}
	t.phase = math.Mod(t.phase, 2*math.Pi)
	return nil
}

// NewSilence is a mono microphone in a silent room.
func NewSilence() Starter { return newPaced(silence{}) }

type silence struct{ endless }

func (silence) channels() int { return 1 }

func (silence) fill(block []float32) error {
	clear(block)
	return nil
}

// NewNoMicrophone captures nothing: Read waits until Close.
func NewNoMicrophone() Microphone { return &noMicrophone{closed: make(chan struct{})} }

type noMicrophone struct {
	closed chan struct{}
	once   sync.Once
}

func (m *noMicrophone) Read([]float32) (time.Time, error) {
	<-m.closed
	return time.Time{}, ErrClosed
}

func (*noMicrophone) Channels() int          { return 1 }
func (*noMicrophone) Latency() time.Duration { return 0 }

func (m *noMicrophone) Close() error {
	m.once.Do(func() { close(m.closed) })
	return nil
}

// NewNoSpeaker takes sound at the pace of a device and plays it to nobody.
func NewNoSpeaker() Speaker { return newPacedSpeaker(nowhere{}, false) }

type nowhere struct{ endless }

func (nowhere) write([]float32, time.Time) error { return nil }
