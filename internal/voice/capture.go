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

// capture is steps 1 to 6. All but level is owned by its goroutine.
type capture struct {
	v       *Voice
	encoder *codec.Encoder
	starter audio.Starter // nil: the microphone cannot be held, or has started

	level atomic.Uint32

	channels int
	block    []float32 // one block as the microphone gives it
	mono     []float32 // the same as one channel
	gate     audio.Gate
	shut     bool      // push to talk is up, and all before has been sent
	sent     uint32    // media time after the last frame that was sent
	frame    []float32 // mono, one Opus frame
	filled   int       // samples of frame that are there
	media    uint32    // time of frame's first sample
	at       time.Time // when the last block's first sample was captured
	begun    bool

	opus    []byte
	stopped []byte // one frame of silence by itself: what ends a spurt
	idle    bool   // no room was unmuted: the encoder remembers other sound
	speaks  speaking
	clips   clipping
	out     room.Frame
}

func newCapture(v *Voice) (*capture, error) {
	config := v.cfg.Encoder
	config.Channels = 1
	encoder, err := codec.NewEncoder(config)
	if err != nil {
		return nil, fmt.Errorf("voice: %w", err)
	}
	config = encoder.Config()
	c := &capture{
		v:        v,
		encoder:  encoder,
		channels: v.cfg.Microphone.Channels(),
		frame:    make([]float32, config.FrameSamples),
		opus:     make([]byte, room.MaxOpus),
		idle:     true,
	}
	c.block = make([]float32, audio.BlockFrames*c.channels)
	c.mono = make([]float32, audio.BlockFrames)
	c.gate.Mode = v.cfg.Gate
	c.shut = c.gate.Mode == audio.GatePTT
	if s, ok := v.cfg.Microphone.(audio.Starter); ok && v.cfg.HoldFor > 0 {
		c.starter = s
		s.Hold()
	}
	c.level.Store(audio.SilentLevel)
	// Nothing was said yet, so this frame of silence bears no trace of a voice.
	n, err := encoder.Encode(c.opus, c.frame)
	if err != nil {
		return nil, fmt.Errorf("voice: %w", err)
	}
	c.stopped = append([]byte(nil), c.opus[:n]...)
	return c, encoder.Reset()
}

func (c *capture) run() {
	for {
		at, err := c.v.cfg.Microphone.Read(c.block)
		switch {
		case err == nil:
			c.step(at)
			continue
		case errors.Is(err, audio.ErrClosed):
			return
		case errors.Is(err, io.EOF):
			c.finish()
			c.v.cfg.OnMicrophoneEnd(nil)
		default:
			c.finish()
			c.v.cfg.OnMicrophoneEnd(err)
		}
		return
	}
}

// step takes one block from c.block.
func (c *capture) step(at time.Time) {
	if c.starter != nil && c.heardByEnough() {
		c.starter.Start() // plays from the next block on
		c.starter = nil
	}
	c.keepTime(at)
	c.mixDown()
	if c.clips.step(audio.Peak(c.mono)) {
		c.v.cfg.OnClipping()
	}
	if c.v.cfg.Processor != nil {
		c.v.cfg.Processor.Process(c.mono, at)
	}
	if c.speaks.step(audio.Level(c.mono)) {
		c.v.cfg.OnOwnSpeaking(c.speaks.on)
	}
	state, before := c.gate.Step(c.mono, c.v.pressed.Load())
	if state == audio.GateShut {
		c.pass()
		return
	}
	c.shut = false
	c.goBack(before)
	c.append(c.mono)
}

// pass lets a block go by that is not to be sent: push to talk is up.
func (c *capture) pass() {
	if c.filled > 0 { // the tail ended within a frame
		clear(c.mono)
		c.append(c.mono)
		return
	}
	if !c.shut {
		c.shut, c.idle = true, true
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
	if c.filled > 0 || int32(c.media-c.sent) < int32(len(before)) {
		return
	}
	c.media -= uint32(len(before))
	for len(before) > 0 {
		c.append(before[:audio.BlockFrames])
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
	c.media += uint32(c.filled) + uint32(gap*audio.Rate/time.Second)
	c.filled = 0
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

// append adds a mono block to the frame, and sends it once it is full. Frames
// are whole blocks.
func (c *capture) append(block []float32) {
	c.filled += copy(c.frame[c.filled:], block)
	if c.filled == len(c.frame) {
		c.send()
	}
}

// send encodes the frame for the rooms that are to have it.
func (c *capture) send() {
	level := audio.Level(c.frame)
	c.level.Store(uint32(level))
	media := c.media
	c.media += uint32(len(c.frame))
	c.sent = c.media
	c.filled = 0

	seats := *c.v.seats.Load()
	wanted := false
	for _, s := range seats {
		wanted = s.tick(c.media) || wanted
	}
	if !wanted {
		c.idle = true
		return
	}
	if c.idle {
		c.idle = false
		if err := c.encoder.Reset(); err != nil {
			c.v.log.Warn("encoder not reset", "err", err)
		}
	}
	n, err := c.encoder.Encode(c.opus, c.frame)
	if err != nil {
		c.v.log.Warn("a frame was not encoded", "err", err)
		return
	}
	c.out = room.Frame{MediaTime: media, Level: level, Opus: c.opus[:n]}
	for _, s := range seats {
		s.speak(&c.out)
	}
}

// finish sends what is left, filled up with silence, and ends every spurt.
func (c *capture) finish() {
	if c.filled > 0 {
		clear(c.frame[c.filled:])
		c.send()
	}
	c.level.Store(audio.SilentLevel)
	if c.speaks.stop() {
		c.v.cfg.OnOwnSpeaking(false)
	}
	for _, s := range *c.v.seats.Load() {
		s.endSpurt()
	}
}
