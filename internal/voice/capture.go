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
	c.append()
	c.listen(c.frame[c.filled-audio.BlockFrames : c.filled])
	if c.filled == len(c.frame) {
		c.send()
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
	for _, s := range *c.v.seats.Load() {
		s.breakSpurt()
	}
}

// append adds the block to the frame, as mono. Frames are whole blocks.
func (c *capture) append() {
	dst := c.frame[c.filled : c.filled+audio.BlockFrames]
	if c.channels == 1 {
		copy(dst, c.block)
	} else {
		for i := range dst {
			dst[i] = (c.block[2*i] + c.block[2*i+1]) / 2
		}
	}
	c.filled += audio.BlockFrames
}

// listen tells whether we speak, and how we come across.
func (c *capture) listen(block []float32) {
	if c.speaks.step(audio.Level(block)) {
		c.v.cfg.OnOwnSpeaking(c.speaks.on)
	}
	if c.clips.step(audio.Peak(block)) {
		c.v.cfg.OnClipping()
	}
}

// send encodes the frame for the rooms that are to have it.
func (c *capture) send() {
	level := audio.Level(c.frame)
	c.level.Store(uint32(level))
	media := c.media
	c.media += uint32(len(c.frame))
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
