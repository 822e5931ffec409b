package voice

import (
	"sync"
	"sync/atomic"
	"time"

	"teahouse/codec"
	"teahouse/internal/audio"
	"teahouse/room"
)

// person is one voice of others as it is played here.
type person struct {
	// Constant.
	member   room.Member
	recorder bool // the speaker keeps what it is given

	gain  audio.Gain   // Set from anywhere, ramped by the mixer
	level atomic.Int32 // how loud they are, -dBov

	// Owned by the playout goroutine.
	halves powers // what was pulled of the block under way
	speaks speaking
	loud   loudness
	passed bool // not decoded: others are louder
	held   int  // blocks since that changed

	mu       sync.Mutex // what follows; held for one Push or one Pull
	receiver *codec.Receiver
	frame    codec.Frame // here and not on a stack, so that Push allocates nothing
	instance uint64
	stream   stream // of the instance
	begun    bool   // a frame has come
	first    uint32 // counter of the instance's first frame here
	highest  uint32
	sent     uint64  // frames of earlier instances
	before   tally   // from when they were here before
	loudness float32 // linear, as asked for; 0 while muted here
	refuses  bool    // the member does not allow to be recorded
	gone     bool
	faded    bool // passed, as the gain knows it
}

func newPerson(m room.Member, recorder bool) *person {
	p := &person{
		member:   m,
		recorder: recorder,
		receiver: codec.NewReceiver(codec.ReceiverConfig{CatchesUp: recorder}),
		loudness: 1,
		refuses:  true,      // until the roster tells
		held:     placeHold, // a place that was not won is not protected
	}
	p.level.Store(audio.SilentLevel)
	p.applyGain()
	return p
}

// push is step 7.
func (p *person) push(f *room.Frame, arrival time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if restarted := p.begun && f.Instance != p.instance; restarted {
		p.receiver.Reset() // they have started again: other counters, other sound
		p.sent += uint64(p.highest-p.first) + 1
		p.begun, p.stream = false, stream{}
	}
	counter, ok := p.stream.place(f.Flow, f.Counter, f.MediaTime, f.Opus)
	if !ok {
		return
	}
	if !p.begun {
		p.begun = true
		p.instance, p.first, p.highest = f.Instance, counter, counter
	}
	if int32(counter-p.highest) > 0 {
		p.highest = counter
	}
	p.frame = codec.Frame{
		Counter:    counter,
		MediaTime:  f.MediaTime,
		SpurtStart: f.SpurtStart,
		SpurtEnd:   f.SpurtEnd,
		Level:      f.Level,
		Repaired:   f.Repaired,
		Opus:       f.Opus,
	}
	p.receiver.Push(&p.frame, arrival)
	p.frame.Opus = nil // not ours to keep
}

// pull is step 8: the next half of a block, stereo. over tells that the member has gone.
func (p *person) pull(block []float32, at time.Time) (pulled codec.Pulled, over bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.receiver.SetUnheard(p.faded && p.gain.Silent()) // it fades out first
	return p.receiver.Pull(block, at), p.gone
}

// powers are the mean levels of some Pulls, as power.
type powers struct {
	n              int
	level, claimed float64
}

// collect takes what a Pull gave.
func (p *person) collect(pulled codec.Pulled) {
	h := &p.halves
	h.n++
	h.level += (powerOf(pulled.Level) - h.level) / float64(h.n)
	h.claimed += (powerOf(pulled.Claimed) - h.claimed) / float64(h.n)
}

// listen is step 9, once a block; it tells whether the member has begun or ended
// to speak. Of those who are not decoded their claim is taken, as far as they
// are believed.
func (p *person) listen(over bool) bool {
	heard := p.halves
	p.halves = powers{}
	p.held++
	p.loud.hear(heard.level, heard.claimed, !p.passed)
	level := p.loud.level()
	p.level.Store(int32(level))
	switch {
	case over:
		return p.speaks.stop()
	case p.passed:
		return p.speaks.step(level)
	}
	return p.speaks.step(levelOf(heard.level))
}

// rank is by what places are given.
func (p *person) rank() float64 { return p.loud.mean }

// pass passes the voice over from here on, or decodes it; it fades out and in.
func (p *person) pass(passed bool) {
	p.passed, p.held = passed, 0
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faded = passed
	p.applyGain()
}

// update takes what the roster says.
func (p *person) update(allowRecording bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuses = !allowRecording
	p.applyGain()
}

func (p *person) setVolume(decibels float64, muted bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.loudness = 0
	if decibels > MinVolume && !muted {
		p.loudness = audio.Decibels(decibels)
	}
	p.applyGain()
}

// setGone fades the voice out, or back in.
func (p *person) setGone(gone bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = gone
	p.applyGain()
}

func (p *person) isGone() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gone
}

// applyGain holds the one rule of recording consent: who does not allow it
// has no way into the mix of a speaker that keeps it.
func (p *person) applyGain() {
	if p.gone || p.faded || p.recorder && p.refuses {
		p.gain.Set(0)
		return
	}
	p.gain.Set(p.loudness)
}
