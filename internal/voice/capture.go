package voice

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"teahouse/codec"
	"teahouse/internal/audio"
	"teahouse/room"
)

// maxJitter is how far the time between two blocks of the microphone may be
// from 10 ms before it counts as lost sound.
const maxJitter = 5 * time.Millisecond

// capture is steps 1 to 6. All but level, stops, frame, inForce and applied is
// owned by its goroutine.
type capture struct {
	v       *Voice
	starter audio.Starter // nil: the microphone cannot be held, or has started

	level atomic.Uint32
	stops atomic.Pointer[stops]
	frame atomic.Int64 // ns from a frame's first sample to when it is sent

	inForce atomic.Int32  // the mode of what leaves
	applied chan struct{} // 1: inForce has changed

	channels int
	block    []float32 // one block as the microphone gives it
	mono     []float32 // the same as one channel
	gate     audio.Gate
	shut     bool      // nothing is to be sent, and all before has been
	sent     uint32    // media time after the last frame that was made
	media    uint32    // of the next block's first sample
	at       time.Time // when the last block's first sample was captured
	begun    bool
	ended    bool // the microphone has: what comes is the stand-in's silence

	base, thin *encoding
	fixed      *codec.Setting // of base, whatever the links want
	plan       plan
	short      shortness
	waits      time.Duration // how long a change of the plan has waited; 0: there is none
	pause      time.Duration // how long nobody has spoken

	speaks speaking
	clips  clipping

	came  time.Time // when the last block was taken
	spare *standIn
}

// stops is for each flow one frame of silence by itself; nil: the flow is off.
type stops [2][]byte

func newCapture(v *Voice) (*capture, error) {
	c := &capture{
		v:        v,
		channels: v.cfg.Microphone.Channels(),
		mono:     make([]float32, audio.BlockFrames),
		spare:    newStandIn(),
		applied:  make(chan struct{}, 1),
	}
	var err error
	if c.base, err = newEncoding(room.FlowBase, v.cfg.Encoder, c.channels); err != nil {
		return nil, err
	}
	if c.thin, err = newEncoding(room.FlowThin, codec.EncoderConfig{Complexity: v.cfg.Encoder.Complexity}, c.channels); err != nil {
		return nil, err
	}
	if e := v.cfg.Encoder; e.FrameSamples != 0 || e.Bitrate != 0 || e.FEC {
		e = c.base.now.voice.Config()
		c.fixed = &codec.Setting{FrameSamples: e.FrameSamples, Bitrate: e.Bitrate, FEC: e.FEC, ExpectedLossPercent: e.ExpectedLossPercent}
	}
	c.block = make([]float32, audio.BlockFrames*c.channels)
	c.gate.Mode = v.Mode().gate(v.cfg.Gate)
	c.shut = c.gate.Mode == audio.GatePTT
	if s, ok := v.cfg.Microphone.(audio.Starter); ok && v.cfg.HoldFor > 0 {
		c.starter = s
		s.Hold()
	}
	c.level.Store(audio.SilentLevel)
	if err := c.apply(v.Mode().plan(room.Flows{}, c.fixed)); err != nil {
		return nil, fmt.Errorf("voice: %w", err)
	}
	return c, nil
}

func (c *capture) run() {
	c.came = time.Now()
	err := c.listen(c.v.cfg.Microphone)
	switch {
	case errors.Is(err, audio.ErrClosed):
		return
	case errors.Is(err, io.EOF):
		err = nil
	}
	if c.plan.mode != Shielded {
		c.finish()
	}
	c.v.cfg.OnMicrophoneEnd(err)
	// In Shielded the packets must not end with the microphone; and somebody may
	// still choose it.
	c.ended = true
	c.channels, c.block = 1, make([]float32, audio.BlockFrames)
	c.spare.next = c.came.Add(audio.BlockDuration)
	_ = c.listen(c.spare) // until it is closed
}

// listen takes blocks of m until it fails, ends or is closed.
func (c *capture) listen(m reader) error {
	for {
		at, err := m.Read(c.block)
		if err != nil {
			return err
		}
		c.step(at)
	}
}

func (c *capture) close() { c.spare.close() }

// step takes one block from c.block.
func (c *capture) step(at time.Time) {
	c.came = time.Now()
	// First what Shielded has kept back until now, when the microphone and
	// nothing that was said sets the time.
	c.release()
	if c.starter != nil && c.heardByEnough() {
		c.starter.Start() // plays from the next block on
		c.starter = nil
	}
	c.keepTime(at)
	c.mixDown()
	if c.clips.step(audio.Peak(c.mono)) {
		c.v.cfg.OnClipping()
	}
	if c.v.cfg.Processor != nil && c.plan.mode != Studio && !c.ended {
		c.v.cfg.Processor.Process(c.mono, at)
	}
	level := audio.Level(c.mono)
	if c.speaks.step(level) {
		c.v.cfg.OnOwnSpeaking(c.speaks.on)
	}
	if c.joint() && c.v.Mode() != c.plan.mode {
		c.consider(false) // first: how a gate opens is seen in one mode and not in the other
	}
	state, before := c.gate.Step(c.mono, c.v.pressed.Load())
	if c.ended {
		state, before = audio.GateShut, nil
	}
	if c.pause += audio.BlockDuration; state == audio.GatePassed && level < quietLevel {
		c.pause = 0
	}
	if c.joint() {
		c.consider(c.shut || c.pause > changePause)
	}
	if state != audio.GatePassed && !c.plan.mode.silences(state) {
		c.pass()
		return
	}
	if state == audio.GateShut {
		clear(c.mono)
	}
	c.shut = false
	c.goBack(before)
	c.append(c.block, c.mono)
}

// pass lets a block go by that is not to be sent.
func (c *capture) pass() {
	if !c.joint() { // the last sound ended within a frame
		clear(c.mono)
		c.append(nil, c.mono)
		return
	}
	if !c.shut {
		c.shut = true
		c.base.idle, c.thin.idle = true, true
		for _, s := range *c.v.seats.Load() {
			s.endSpurt()
		}
	}
	c.level.Store(uint32(audio.Level(c.mono)))
	c.media += audio.BlockFrames
}

// goBack adds what was captured right before the key went down, as far as
// nothing was sent of that time.
func (c *capture) goBack(before []float32) {
	if !c.joint() || int32(c.media-c.sent) < int32(len(before)) {
		return
	}
	c.media -= uint32(len(before))
	for len(before) > 0 {
		c.append(nil, before[:audio.BlockFrames])
		before = before[audio.BlockFrames:]
	}
}

// heardByEnough tells whether the microphone may start: HoldFor others hear
// what we say in a room where we are not muted.
func (c *capture) heardByEnough() bool {
	for _, s := range *c.v.seats.Load() {
		if s.hearers() >= c.v.cfg.HoldFor {
			return true
		}
	}
	return false
}

// keepTime moves the media time over sound that the microphone lost. What was
// collected of a frame is given up: it is under a frame, and next to a gap.
func (c *capture) keepTime(at time.Time) {
	gap := at.Sub(c.at) - audio.BlockDuration
	c.at = at
	if !c.begun {
		c.begun = true
		return
	}
	if gap < maxJitter {
		return
	}
	c.media += uint32(gap * audio.Rate / time.Second)
	c.base.filled, c.thin.filled = 0, 0
	c.gate.Lost()
	for _, s := range *c.v.seats.Load() {
		s.breakSpurt()
	}
}

// mixDown makes the block mono.
func (c *capture) mixDown() {
	if c.channels == 1 {
		copy(c.mono, c.block)
		return
	}
	for i := range c.mono {
		c.mono[i] = (c.block[2*i] + c.block[2*i+1]) / 2
	}
}

// append adds a block, as it was captured and as one channel, to the frames,
// and sends those that are full. Frames are whole blocks. Where block is nil
// all channels are alike.
func (c *capture) append(block, mono []float32) {
	at := c.media
	c.media += audio.BlockFrames
	for _, e := range [...]*encoding{c.base, c.thin} {
		if e.on && e.add(block, mono, at) {
			c.make(e)
		}
	}
}

// joint tells whether no frame is begun.
func (c *capture) joint() bool { return c.base.filled == 0 && c.thin.filled == 0 }

// make encodes a full frame, and sends it unless it is to be kept back.
func (c *capture) make(e *encoding) {
	c.sent = c.media
	wanted := false
	for _, s := range *c.v.seats.Load() {
		wanted = s.tick(e.flow, c.media) || wanted
	}
	if err := e.encode(wanted); err != nil {
		c.v.log.Warn("a frame was not encoded", "err", err)
	}
	c.level.Store(uint32(e.out.Level))
	if c.plan.mode != Shielded {
		c.release()
	}
}

// release sends the frames that are ready.
func (c *capture) release() {
	for _, e := range [...]*encoding{c.base, c.thin} {
		if !e.ready {
			continue
		}
		e.ready = false
		for _, s := range *c.v.seats.Load() {
			s.speak(&e.out, c.v.shields())
		}
	}
}

// consider changes the plan where the links, or somebody, want another one.
// free tells that nobody speaks. No frame is begun or ready.
func (c *capture) consider(free bool) {
	var want room.Flows
	for _, s := range *c.v.seats.Load() {
		want = join(want, s.flows())
	}
	want.Short = c.short.step(want, c.media) && !c.v.cfg.LongFrames
	next := c.v.Mode().plan(want, c.fixed)
	if next == c.plan && !want.Change {
		c.waits = 0
		return
	}
	// Where a flow that is wanted is off, somebody hears nothing.
	on := &c.plan.on
	urgent := next.on[room.FlowBase] && !on[room.FlowBase] || next.on[room.FlowThin] && !on[room.FlowThin] && !want.Change ||
		next.mode != c.plan.mode
	if c.plan.mode == Shielded {
		free = false
	}
	if c.waits += c.longest(); c.waits < changePatience && !free && !urgent {
		return
	}
	if err := c.apply(next); err != nil {
		c.v.log.Warn("the encoding was not changed", "err", err)
	}
}

// longest is the time from one joint to the next.
func (c *capture) longest() time.Duration {
	most := 0
	for _, e := range [...]*encoding{c.base, c.thin} {
		if e.on {
			most = max(most, e.samples())
		}
	}
	return time.Duration(most) * time.Second / audio.Rate
}

// apply begins with the plan p.
func (c *capture) apply(p plan) error {
	var silent stops
	for _, e := range [...]*encoding{c.base, c.thin} {
		var err error
		if silent[e.flow], err = e.set(&p); err != nil {
			return err
		}
	}
	changed := p.mode != c.plan.mode && c.stops.Load() != nil
	c.plan, c.waits = p, 0
	// Before the seats look whether a mute is still covered: see Seat.SetMuted.
	c.inForce.Store(int32(p.mode))
	c.gate.Mode = p.mode.gate(c.v.cfg.Gate)
	// What was said before the key went down cannot be sent afterwards where the
	// packets of that time have left.
	c.gate.Late = p.mode == Shielded
	c.stops.Store(&silent)
	wait := c.longest()
	if p.mode == Shielded {
		wait += audio.BlockDuration
		if c.gate.Mode == audio.GatePTT {
			wait += audio.GatePreRoll
		}
	}
	c.frame.Store(int64(wait))
	for _, s := range *c.v.seats.Load() {
		s.switchFlows(p.on)
	}
	if changed {
		select {
		case c.applied <- struct{}{}:
		default: // told already
		}
		c.v.cfg.OnMode(p.mode)
	}
	return nil
}

// finish sends what is left, filled up with silence, and ends every spurt.
func (c *capture) finish() {
	c.release()
	clear(c.mono)
	for !c.joint() {
		c.append(nil, c.mono)
	}
	c.release()
	c.level.Store(audio.SilentLevel)
	if c.speaks.stop() {
		c.v.cfg.OnOwnSpeaking(false)
	}
	for _, s := range *c.v.seats.Load() {
		s.endSpurt()
	}
}
