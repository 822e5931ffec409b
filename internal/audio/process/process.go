// Package process cleans what a microphone hears before it is encoded:
//
//	block of 10 ms -> high-pass -> echo cancel -> noise suppress -> gain -> block
//
// Echo and noise are the work of a library behind the interface engine:
// WebRTC's audio processing module (webrtc.cc) or speexdsp (speex.c). High-pass
// (highpass.go) and gain (gain.go) are Go. What the speaker plays is brought
// to the microphone's clock before it is cancelled (clock.go, reference.go).
//
// The whole is a function of sound and time stamps: it starts no goroutine,
// reads no clock, and allocates nothing per block.
package process

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"teahouse/internal/audio"
)

// Config says what is done to the sound.
type Config struct {
	Stages Stages
	Engine Engine // for echo and noise
}

// Engine is the library that cancels echo and suppresses noise.
type Engine int

const (
	// Best is WebRTC's module where this build has it, else Speex.
	Best Engine = iota
	// WebRTC takes echo away almost entirely, at some cost to the near voice
	// while both speak, and bears clocks that drift.
	WebRTC
	// Speex keeps more of the near voice while both speak, and leaves more of
	// the echo: for a microphone and a speaker of one device, on one clock.
	Speex
)

// String names the engine.
func (e Engine) String() string {
	if e < Best || e > Speex {
		return "none"
	}
	return [...]string{"best", "webrtc", "speex"}[e]
}

// Processor cleans one microphone. Play may be called from one goroutine and
// Process from another; Close only once neither is called any more; Stats
// from any.
type Processor struct {
	// Constant.
	cfg       Config
	reference *reference

	// Owned by the capture goroutine.
	engine engine // nil: neither echo nor noise is asked for
	high   highPass
	gain   gain
	far    block
	near   block

	failures atomic.Uint64
	gainBits atomic.Uint64 // float64 bits, dB
}

// Stats tell what the processing does.
type Stats struct {
	Reference ReferenceStats
	Gain      float64 // dB, of now
	// Failures is how many blocks the engine could not work on, which were
	// passed on as they were.
	Failures uint64
}

// New makes a processor. It fails where an engine is asked for that this build
// has not got, or there is no memory for it.
func New(cfg Config) (*Processor, error) {
	if cfg.Engine < Best || cfg.Engine > Speex {
		return nil, fmt.Errorf("sound processing: there is no engine %d", cfg.Engine)
	}
	p := &Processor{cfg: cfg, high: newHighPass()}
	if cfg.Stages.Echo {
		p.reference = newReference()
	}
	var err error
	if p.engine, err = p.newEngine(); err != nil {
		return nil, fmt.Errorf("sound processing: %w", err)
	}
	return p, nil
}

func (p *Processor) newEngine() (engine, error) {
	s := p.cfg.Stages
	switch {
	case !s.Echo && !s.Noise:
		return nil, nil
	case p.cfg.Engine == Speex, p.cfg.Engine == Best && !haveWebRTC:
		return newSpeex(s.Echo, s.Noise)
	default:
		return newWebRTC(s.Echo, s.Noise)
	}
}

// Play takes a stereo block, len = 2 × audio.BlockFrames, that is on its way to
// the speaker, after the limiter; at is when its first sample will be heard.
// Blocks come in their order, each once. Other lengths are left out.
func (p *Processor) Play(stereo []float32, at time.Time) {
	if p.reference != nil && len(stereo) == 2*audio.BlockFrames {
		p.reference.play(stereo, at)
	}
}

// Process cleans a mono block, len = audio.BlockFrames, in place. at is when
// its first sample was captured, by the same clock as Play's. What comes out
// is Delay late, finite and within -1..1. Blocks of other lengths are left as
// they are.
func (p *Processor) Process(mono []float32, at time.Time) {
	if !p.cfg.Stages.any() || len(mono) != audio.BlockFrames {
		return
	}
	sound := (*block)(mono)
	for i, x := range sound {
		sound[i] = max(-1, min(finite(x), 1))
	}
	p.high.process(sound)
	if p.engine != nil {
		p.runEngine(sound, at)
	}
	if p.cfg.Stages.Gain {
		p.gain.process(sound)
		p.gainBits.Store(math.Float64bits(p.gain.db))
	}
}

// runEngine cancels echo and suppresses noise. If the engine fails, the sound
// is passed on as it is, and the engine begins anew.
func (p *Processor) runEngine(sound *block, at time.Time) {
	if p.reference != nil {
		p.reference.heard(&p.far, at)
	}
	p.near = *sound
	err := p.engine.process(&p.far, &p.near)
	if err == nil && sane(&p.near) {
		*sound = p.near
		return
	}
	p.failures.Add(1)
	if fresh, err := p.newEngine(); err == nil {
		p.engine.close()
		p.engine = fresh
	}
}

// sane tells whether b is sound; it brings it within -1..1.
func sane(b *block) bool {
	for i, x := range b {
		if !(x >= -1 && x <= 1) {
			if x != finite(x) {
				return false
			}
			b[i] = max(-1, min(x, 1))
		}
	}
	return true
}

// Delay is by how much what comes out is later than what went in: measured
// with a click (TestDelay).
func (p *Processor) Delay() time.Duration {
	var d time.Duration
	if p.engine != nil {
		d += p.engine.delay()
	}
	if p.cfg.Stages.Gain {
		d += audio.LimiterDelay
	}
	return d
}

// Stats is a snapshot.
func (p *Processor) Stats() Stats {
	s := Stats{Gain: math.Float64frombits(p.gainBits.Load()), Failures: p.failures.Load()}
	if p.reference != nil {
		s.Reference = p.reference.snapshot()
	}
	return s
}

// Close gives back what the engine holds. It is idempotent.
func (p *Processor) Close() error {
	if p.engine != nil {
		p.engine.close()
		p.engine = nil
	}
	return nil
}
