package codec

import (
	"fmt"
	"slices"

	"github.com/hraban/opus"
)

// This is the only file that knows libopus. The library takes the room it may
// use from a slice's capacity, not its length, hence slices.Clip.

// Encoder turns sound into Opus packets. It is not safe for concurrent use.
type Encoder struct {
	enc    *opus.Encoder
	config EncoderConfig
}

// NewEncoder makes an encoder, or answers ErrConfig.
func NewEncoder(c EncoderConfig) (*Encoder, error) {
	c.setDefaults()
	if err := c.check(); err != nil {
		return nil, err
	}
	application := map[Application]opus.Application{
		VoIP: opus.AppVoIP, Audio: opus.AppAudio, LowDelay: opus.AppRestrictedLowdelay,
	}[c.Application]
	enc, err := opus.NewEncoder(Rate, c.Channels, application)
	if err != nil {
		return nil, fmt.Errorf("open Opus encoder: %w", err)
	}
	e := &Encoder{enc: enc, config: c}
	for _, err := range []error{
		enc.SetVBR(c.VBR),
		enc.SetComplexity(c.Complexity),
		enc.SetBitrate(c.Bitrate),
		enc.SetInBandFEC(c.FEC),
		enc.SetPacketLossPerc(c.ExpectedLossPercent),
	} {
		if err != nil {
			return nil, fmt.Errorf("set up Opus encoder: %w", err)
		}
	}
	return e, nil
}

func (c *EncoderConfig) setDefaults() {
	if c.Channels == 0 {
		c.Channels = 1
	}
	if c.FrameSamples == 0 {
		c.FrameSamples = 960
	}
	if c.Bitrate == 0 {
		c.Bitrate = 32000
	}
	if c.Complexity == 0 {
		c.Complexity = 9
	}
}

func (c *EncoderConfig) check() error {
	switch {
	case c.Channels != 1 && c.Channels != 2:
		return fmt.Errorf("%w: %d channels", ErrConfig, c.Channels)
	case !validFrame(c.FrameSamples):
		return fmt.Errorf("%w: frame of %d samples", ErrConfig, c.FrameSamples)
	case c.Bitrate < 6000 || c.Bitrate > 510000:
		return fmt.Errorf("%w: %d bit/s", ErrConfig, c.Bitrate)
	case c.Complexity < 1 || c.Complexity > 10:
		return fmt.Errorf("%w: complexity %d", ErrConfig, c.Complexity)
	case c.ExpectedLossPercent < 0 || c.ExpectedLossPercent > 100:
		return fmt.Errorf("%w: expected loss %d %%", ErrConfig, c.ExpectedLossPercent)
	case c.Application < VoIP || c.Application > LowDelay:
		return fmt.Errorf("%w: application %d", ErrConfig, c.Application)
	}
	return nil
}

func validFrame(samples int) bool {
	return samples == 480 || samples == 960 || samples == 1920 || samples == 2880
}

// Config is what the encoder works with now, defaults filled in.
func (e *Encoder) Config() EncoderConfig { return e.config }

// Encode writes one packet for one frame of interleaved samples, len(pcm) =
// FrameSamples × Channels, into dst and tells its length. A dst of MaxOpus
// bytes is always enough up to 128 kbit/s; a shorter one lowers the quality of
// that frame. It allocates nothing.
func (e *Encoder) Encode(dst []byte, pcm []float32) (n int, err error) {
	if len(pcm) != e.config.FrameSamples*e.config.Channels {
		return 0, fmt.Errorf("%w: frame of %d values", ErrConfig, len(pcm))
	}
	if n, err = e.enc.EncodeFloat32(pcm, slices.Clip(dst)); err != nil {
		return 0, fmt.Errorf("encode Opus: %w", err)
	}
	return n, nil
}

// SetBitrate changes the bit rate from the next frame on.
func (e *Encoder) SetBitrate(bitsPerSecond int) error {
	return e.change(func(c *EncoderConfig) { c.Bitrate = bitsPerSecond },
		func() error { return e.enc.SetBitrate(bitsPerSecond) })
}

// SetFrameSamples changes the length of the next frames. Receivers take any
// mixture, but a change belongs at the start of a spurt.
func (e *Encoder) SetFrameSamples(samples int) error {
	return e.change(func(c *EncoderConfig) { c.FrameSamples = samples }, func() error { return nil })
}

// SetComplexity changes how much work each frame is worth, 1 to 10.
func (e *Encoder) SetComplexity(complexity int) error {
	return e.change(func(c *EncoderConfig) { c.Complexity = complexity },
		func() error { return e.enc.SetComplexity(complexity) })
}

// SetFEC switches in-band FEC, for the loss that the path is expected to have.
func (e *Encoder) SetFEC(on bool, expectedLossPercent int) error {
	return e.change(func(c *EncoderConfig) { c.FEC, c.ExpectedLossPercent = on, expectedLossPercent },
		func() error {
			if err := e.enc.SetInBandFEC(on); err != nil {
				return err
			}
			return e.enc.SetPacketLossPerc(expectedLossPercent)
		})
}

// Reset forgets all sound so far.
func (e *Encoder) Reset() error {
	if err := e.enc.Reset(); err != nil {
		return fmt.Errorf("reset Opus encoder: %w", err)
	}
	return nil
}

func (e *Encoder) change(edit func(*EncoderConfig), apply func() error) error {
	c := e.config
	edit(&c)
	if err := c.check(); err != nil {
		return err
	}
	if err := apply(); err != nil {
		return fmt.Errorf("change Opus encoder: %w", err)
	}
	e.config = c
	return nil
}

// Samples is how long the sound of an Opus packet is, in samples per channel,
// or ErrPacket.
func Samples(packet []byte) (int, error) {
	info, err := parsePacket(packet)
	return info.samples, err
}

// Decoder turns Opus packets into sound, with as many channels as it was made
// for, whatever the packets have. It is not safe for concurrent use, and its
// methods allocate nothing.
type Decoder struct {
	dec      *opus.Decoder
	channels int
}

// NewDecoder makes a decoder with 1 or 2 channels (interleaved).
func NewDecoder(channels int) (*Decoder, error) {
	if channels != 1 && channels != 2 {
		return nil, fmt.Errorf("%w: %d channels", ErrConfig, channels)
	}
	dec, err := opus.NewDecoder(Rate, channels)
	if err != nil {
		return nil, fmt.Errorf("open Opus decoder: %w", err)
	}
	return &Decoder{dec: dec, channels: channels}, nil
}

// Decode writes the sound of one packet into pcm and tells how many samples
// per channel it has. pcm needs room for them: MaxFrame × channels is always
// enough. ErrPacket: packet is no Opus packet of 10 to 60 ms.
func (d *Decoder) Decode(pcm []float32, packet []byte) (samples int, err error) {
	if _, err := parsePacket(packet); err != nil {
		return 0, err
	}
	if samples, err = d.dec.DecodeFloat32(packet, slices.Clip(pcm)); err != nil {
		return 0, fmt.Errorf("decode Opus: %w", err)
	}
	return samples, nil
}

// DecodeFEC fills pcm with the lost sound before packet, from the rough copy
// in it as far as there is one, else by concealment. len(pcm) is what is
// missing, a multiple of 2.5 ms.
func (d *Decoder) DecodeFEC(pcm []float32, packet []byte) error {
	if _, err := parsePacket(packet); err != nil {
		return err
	}
	if err := d.checkMissing(pcm); err != nil {
		return err
	}
	if err := d.dec.DecodeFECFloat32(packet, slices.Clip(pcm)); err != nil {
		return fmt.Errorf("decode Opus FEC: %w", err)
	}
	return nil
}

// DecodePLC fills pcm with what might have followed (concealment). len(pcm)
// is a multiple of 2.5 ms, at most 60 ms.
func (d *Decoder) DecodePLC(pcm []float32) error {
	if err := d.checkMissing(pcm); err != nil {
		return err
	}
	if err := d.dec.DecodePLCFloat32(slices.Clip(pcm)); err != nil {
		return fmt.Errorf("conceal by Opus: %w", err)
	}
	return nil
}

func (d *Decoder) checkMissing(pcm []float32) error {
	unit := Rate / 400 * d.channels
	if len(pcm) == 0 || len(pcm)%unit != 0 || len(pcm) > MaxFrame*d.channels {
		return fmt.Errorf("%w: %d values missing", ErrConfig, len(pcm))
	}
	return nil
}
