package voice

import (
	"errors"
	"sync"
	"time"

	"teahouse/internal/audio"
)

// playout is steps 8 to 11. All but spare is owned by its goroutine.
type playout struct {
	v       *Voice
	mixer   audio.Mixer
	block   []float32 // stereo, half of a block: one person
	out     []float32 // stereo, a block: all
	half    int       // of out that is made next, 0 or 1
	heard   time.Time // when the first half is
	speaker audio.Speaker
	ears    audio.Gain // 0 while deaf; Set from anywhere

	mu     sync.Mutex
	spare  audio.Speaker // stands in for a speaker that failed
	closed bool
}

// A stall is longer than a scheduler makes anybody wait on a machine that keeps
// up; stragglers is how long reading a second of everybody's packets takes.
const (
	stall      = 100 * time.Millisecond
	stragglers = 20 * time.Millisecond
)

func newPlayout(v *Voice) *playout {
	p := &playout{
		v:       v,
		block:   make([]float32, 2*audio.PlayFrames),
		out:     make([]float32, 2*audio.BlockFrames),
		speaker: v.cfg.Speaker,
	}
	p.ears.Set(1)
	return p
}

func (p *playout) run() {
	for now := time.Now(); ; {
		now = p.awaitStragglers(now)
		out := p.mix(now)
		p.tell(now)
		err := p.speaker.Write(out)
		switch {
		case err == nil:
		case errors.Is(err, audio.ErrClosed):
			return
		default:
			if !p.standIn() {
				return
			}
			p.v.cfg.OnSpeakerFailed(err)
		}
	}
}

// tell gives the processor what was mixed at the time now, in whole blocks.
func (p *playout) tell(now time.Time) {
	switch {
	case p.v.cfg.Processor == nil:
	case p.half == 1:
		// The speaker's latency is as of the end of the last Write.
		p.heard = now.Add(p.speaker.Latency())
	default:
		p.v.cfg.Processor.Play(p.out, p.heard)
	}
}

// awaitStragglers is now. Where the machine stood still since then and the
// speaker keeps what it is given, it waits for what came meanwhile to be read
// from the sockets: a recording makes good for lost time, so it need not be
// prompt.
func (p *playout) awaitStragglers(then time.Time) time.Time {
	now := time.Now()
	if !p.v.cfg.Recorder || now.Sub(then) < stall {
		return now
	}
	time.Sleep(stragglers)
	return time.Now()
}

// mix makes the next half of a block of everybody, to be played at the time at.
// It is made as late as that, and not with the other half, because what has not
// come when it is made is not in it. Who speaks, and who is loudest, is judged
// by whole blocks.
func (p *playout) mix(at time.Time) (out []float32) {
	out = p.out[p.half*len(p.block):][:len(p.block)]
	p.half = 1 - p.half
	whole := p.half == 0
	var places ranking
	for _, s := range *p.v.seats.Load() {
		for _, person := range *s.heard.Load() {
			pulled, over := person.pull(p.block, at)
			if over && person.gain.Silent() {
				s.forget(person)
				clear(p.block)
			}
			p.mixer.Add(p.block, &person.gain)
			if person.collect(pulled); !whole {
				continue
			}
			if person.listen(over) {
				p.v.cfg.OnSpeaking(s.id, person.member, person.speaks.on)
			}
			if !over {
				places.add(person)
			}
		}
	}
	if whole {
		places.settle()
	}
	p.mixer.Mix(out)
	p.ears.Apply(out)
	return out
}

// standIn goes on without the speaker: who speaks and how well they come
// through stays known. It answers false after close, or if that failed too.
func (p *playout) standIn() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.spare != nil {
		return false
	}
	p.spare = audio.NewNoSpeaker()
	p.speaker = p.spare
	return true
}

func (p *playout) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.spare != nil {
		_ = p.spare.Close() // it holds nothing
	}
}
