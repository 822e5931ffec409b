package voice

import (
	"fmt"

	"teahouse/codec"
	"teahouse/internal/audio"
	"teahouse/room"
)

// encoding is one of the two encodings of the microphone. It is owned by the
// capture goroutine.
type encoding struct {
	flow   uint8
	speech coder
	music  coder // base in the studio
	now    *coder

	on     bool
	idle   bool      // nobody wanted the last frame: the encoder remembers other sound
	frame  []float32 // interleaved, one Opus frame
	filled int       // values of frame that are there
	media  uint32    // time of frame's first sample

	opus []byte // room for a packet
	// out is the frame that was made last; Opus is empty where it was for
	// nobody. ready: it has not been spoken yet.
	out   room.Frame
	ready bool
}

// coder is an encoder, and a second one of the same kind that never hears
// anything: what ends a spurt, or hides a mute, bears no trace of a voice.
type coder struct {
	voice, silence *codec.Encoder
	channels       int
}

func newCoder(config codec.EncoderConfig) (c coder, err error) {
	if c.voice, err = codec.NewEncoder(config); err != nil {
		return c, err
	}
	c.silence, err = codec.NewEncoder(config)
	c.channels = c.voice.Config().Channels
	return c, err
}

func newEncoding(flow uint8, config codec.EncoderConfig, channels int) (*encoding, error) {
	e := &encoding{flow: flow, opus: make([]byte, room.MaxOpus), idle: true}
	config.Channels = 1
	var err error
	if e.speech, err = newCoder(config); err != nil {
		return nil, fmt.Errorf("voice: %w", err)
	}
	e.now = &e.speech
	e.frame = make([]float32, 0, channels*codec.MaxFrame)
	if flow != room.FlowBase {
		return e, nil
	}
	config.Channels, config.Application = channels, codec.LowDelay
	if e.music, err = newCoder(config); err != nil {
		return nil, fmt.Errorf("voice: %w", err)
	}
	return e, nil
}

// set makes the next frames what p wants, and gives a frame of silence of the
// same kind. No frame may be begun. It allocates: plans change seldom.
func (e *encoding) set(p *plan) (stopped []byte, err error) {
	coder := &e.speech
	if p.mode == Studio && e.flow == room.FlowBase {
		coder = &e.music
	}
	on := p.on[e.flow]
	if coder != e.now || on && !e.on {
		e.idle = true
	}
	e.now, e.on = coder, on
	if !on {
		return nil, nil
	}
	s := p.setting[e.flow]
	if err := coder.voice.Apply(s); err != nil {
		return nil, err
	}
	if err := coder.silence.Apply(s); err != nil {
		return nil, err
	}
	if err := coder.silence.Reset(); err != nil {
		return nil, err
	}
	e.frame = e.frame[:s.FrameSamples*coder.channels]
	clear(e.frame)
	n, err := coder.silence.Encode(e.opus, e.frame)
	if err != nil {
		return nil, err
	}
	return append([]byte(nil), e.opus[:n]...), nil
}

// add takes a block that begins at the media time at, as it was captured and
// as one channel, and tells whether it fills the frame. Where block is not of
// the encoding's channels mono stands for each of them.
func (e *encoding) add(block, mono []float32, at uint32) (full bool) {
	if e.filled == 0 {
		e.media = at
	}
	switch to := e.frame[e.filled:]; {
	case e.now.channels == 1:
		e.filled += copy(to, mono)
	case len(block) == 2*len(mono):
		e.filled += copy(to, block)
	default:
		for i, x := range mono {
			to[2*i], to[2*i+1] = x, x
		}
		e.filled += 2 * len(mono)
	}
	return e.filled == len(e.frame)
}

// samples is the length of a frame per channel.
func (e *encoding) samples() int { return len(e.frame) / e.now.channels }

// encode makes out of the frame, which is then empty. Where it is for nobody
// out has no Opus.
func (e *encoding) encode(wanted bool) error {
	e.filled = 0
	e.ready = true
	e.out = room.Frame{Flow: e.flow, MediaTime: e.media, Level: audio.Level(e.frame)}
	if !wanted {
		e.idle = true
		return nil
	}
	if e.idle {
		if err := e.now.voice.Reset(); err != nil {
			return err
		}
		e.idle = false
	}
	n, err := e.now.voice.Encode(e.opus, e.frame)
	if err != nil {
		return err
	}
	e.out.Opus = e.opus[:n]
	return nil
}
