package codec

// The two encodings that a voice may have at a time (design: Opus). *Base*
// travels on links whose losses are repaired by sending frames again. It bears
// no in-band FEC: a copy comes in the same packet as the FEC would, and better,
// and below 40 kbit/s libopus sends none anyway unless it is told to expect far
// more loss than 5 %. *Thin* is for links that cannot carry frames twice: long
// frames, few headers, and in-band FEC.

// Setting is what of an Encoder may change while it runs.
type Setting struct {
	FrameSamples        int // as in EncoderConfig, as are the others
	Bitrate             int
	FEC                 bool
	ExpectedLossPercent int
}

// The coarse steps of the bit rate, in bits per second: few enough that a step
// tells next to nothing, since packets have one length within each.
var bitrateSteps = [...]int{24000, 32000, 40000, 48000}

// BitrateStep is the highest step that is at most what there is, or the lowest.
func BitrateStep(most int) int {
	step := bitrateSteps[0]
	for _, s := range bitrateSteps {
		if s <= most {
			step = s
		}
	}
	return step
}

// Base is the setting of the base encoding: frames of 10 ms where every link is
// short and clean, else of 20 ms; at most as many bits per second as there are.
func Base(short bool, most int) Setting {
	s := Setting{FrameSamples: 960, Bitrate: BitrateStep(most)}
	if short {
		s.FrameSamples = 480
	}
	return s
}

// thinLoss is the least loss, in percent, that a thin encoder is told. From
// there on 24 kbit/s are coded by SILK alone, in one piece, so that the copy in
// the next packet is of the whole frame; below it, and at more bits, a packet is
// two or three frames of 20 ms, of which only the last is copied, or none
// (measured with libopus 1.3.1, TestThinBearsCopies).
const thinLoss = 20

// Thin is the setting of the thin encoding: 40 ms frames, 60 where even those
// are too many packets, and in-band FEC for the loss that is reported, in
// percent.
func Thin(thinner bool, reportedLossPercent int) Setting {
	s := Setting{
		FrameSamples: 1920, Bitrate: bitrateSteps[0], FEC: true,
		ExpectedLossPercent: min(max(reportedLossPercent, thinLoss), 100),
	}
	if thinner {
		s.FrameSamples = MaxFrame
	}
	return s
}

// Thrifty is the setting of the base encoding where every bit counts: two
// frames of 20 ms in a packet, at the lowest step.
func Thrifty() Setting { return Setting{FrameSamples: 1920, Bitrate: bitrateSteps[0]} }

// Studio is the setting of the base encoding for music, in stereo and with
// [LowDelay]: 128 kbit/s in frames of 10 ms where every link is short and
// clean, else 96 in 20 ms, and 64 where each frame is sent three times or more
// (the highest repair depth is 2 or 3).
func Studio(short bool, depth int) Setting {
	switch {
	case short:
		return Setting{FrameSamples: 480, Bitrate: 128000}
	case depth < 2:
		return Setting{FrameSamples: 960, Bitrate: 96000}
	}
	return Setting{FrameSamples: 960, Bitrate: 64000}
}

// Apply makes s hold from the next frame on. It belongs at the start of a
// spurt, where a change of the frame's length is not heard; after an error
// nothing has changed.
func (e *Encoder) Apply(s Setting) error {
	c := e.config
	c.FrameSamples, c.Bitrate, c.FEC, c.ExpectedLossPercent = s.FrameSamples, s.Bitrate, s.FEC, s.ExpectedLossPercent
	if err := c.check(); err != nil {
		return err
	}
	// What follows can only fail on values that check refuses.
	if err := e.SetFrameSamples(s.FrameSamples); err != nil {
		return err
	}
	if err := e.SetBitrate(s.Bitrate); err != nil {
		return err
	}
	return e.SetFEC(s.FEC, s.ExpectedLossPercent)
}
