// Package process cleans what a microphone hears before it is encoded:
//
//	block of 10 ms -> high-pass -> echo cancel -> noise suppress -> gain -> block
//
// Echo is taken away by a filter of our own (canceller.go), and noise by a
// library behind the interface engine: WebRTC's audio processing module
// (webrtc.cc) or speexdsp (speex.c), either of which can cancel echo as well.
// High-pass (highpass.go) and gain (gain.go) are Go. What the speaker plays is
// brought to the microphone's clock before it is cancelled (clock.go,
// reference.go).
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
	Engine Engine
}

// Engine is what cancels echo and suppresses noise.
type Engine int

const (
	// Best cancels echo with our own filter, which takes it away almost
	// entirely, keeps the near voice while both speak, and bears clocks that
	// drift; it suppresses noise with WebRTC's module where this build has it,
	// else with speexdsp.
	Best Engine = iota
	// WebRTC does both with WebRTC's module: it finds an echo also where a
	// device is wrong about its latency by more than 190 ms, and takes more of
	// the near voice while both speak.
	WebRTC
	// Speex does both with speexdsp: it leaves more of the echo, and much of
	// it where microphone and speaker are on two clocks.
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
	echo  engine // nil: not asked for, or the work of noise
	noise engine // nil: not asked for
	high  highPass
	gain  gain
	far   block
	near  block

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
	err := p.newEngines()
	if err != nil {
		return nil, fmt.Errorf("sound processing: %w", err)
	}
	return p, nil
}

// newEngines sets up what the stages need, in place of what was there before.
func (p *Processor) newEngines() (err error) {
	s := p.cfg.Stages
	ours := s.Echo && p.cfg.Engine == Best
	library := engine(nil)
	switch {
	case !s.Noise && (!s.Echo || ours):
	case p.cfg.Engine == Speex, p.cfg.Engine == Best && !haveWebRTC:
		library, err = newSpeex(s.Echo && !ours, s.Noise)
	default:
		library, err = newWebRTC(s.Echo && !ours, s.Noise)
	}
	if err != nil {
		return err
	}
	p.closeEngines()
	p.noise = library
	if ours {
		p.echo = newCanceller()
	}
	return nil
}

func (p *Processor) closeEngines() {
	for _, e := range []engine{p.echo, p.noise} {
		if e != nil {
			e.close()
		}
	}
	p.echo, p.noise = nil, nil
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
	p.runEngines(sound, at)
	if p.cfg.Stages.Gain {
		p.gain.process(sound)
		p.gainBits.Store(math.Float64bits(p.gain.db))
	}
}

// runEngines cancels echo and suppresses noise. If an engine fails, the sound
// is passed on as it is, and the engines begin anew.
func (p *Processor) runEngines(sound *block, at time.Time) {
	if p.reference != nil {
		p.reference.heard(&p.far, at)
	}
	p.near = *sound
	for _, e := range [...]engine{p.echo, p.noise} {
		if e == nil {
			continue
		}
		if err := e.process(&p.far, &p.near); err != nil || !sane(&p.near) {
			p.failures.Add(1)
			_ = p.newEngines() // those there are go on where new ones cannot be had
			return
		}
	}
	*sound = p.near
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
	for _, e := range [...]engine{p.echo, p.noise} {
		if e != nil {
			d += e.delay()
		}
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

// Close gives back what the engines hold. It is idempotent.
func (p *Processor) Close() error {
	p.closeEngines()
	return nil
}
