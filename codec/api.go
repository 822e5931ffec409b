// Package codec is one voice: samples to Opus frames, and what to play when
// frames come late, doubled, out of order or never.
//
// Everything is at 48 kHz. Times are arguments; nothing here reads a clock or
// starts a goroutine.
package codec

import (
	"errors"
	"time"
)

// Rate is the sample rate in Hz, and MaxFrame the longest frame in samples
// per channel (60 ms).
const (
	Rate     = 48000
	MaxFrame = Rate * 60 / 1000
)

// MaxOpus is the longest Opus packet that is taken, in bytes: the longest
// Opus frame (RFC 6716 section 3.4). What a room carries is shorter.
const MaxOpus = 1275

// Errors that callers branch on.
var (
	// ErrConfig: an EncoderConfig or argument is out of its range.
	ErrConfig = errors.New("codec setting out of range")
	// ErrPacket: bytes that are no Opus packet of 10 to 60 ms.
	ErrPacket = errors.New("not an Opus packet")
)

// Application tells the encoder what it will hear.
type Application int

// The applications; low delay has no in-band FEC, ever.
const (
	VoIP     Application = iota // speech
	Audio                       // music
	LowDelay                    // music, 2.5 ms of look-ahead instead of 6.5
)

// EncoderConfig is what an Encoder starts with. The zero value is speech,
// mono, 20 ms, 32 kbit/s, constant bit rate.
type EncoderConfig struct {
	Channels     int // 1 or 2; 0 means 1
	FrameSamples int // per channel: 480, 960, 1920 or 2880; 0 means 960
	Bitrate      int // bits per second, 6,000 to 510,000; 0 means 32,000
	Complexity   int // 1 (cheap) to 10 (good); 0 means 9
	// FEC puts a rough copy of each frame into the next one, as far as the
	// bit rate and ExpectedLossPercent (0 to 100) make it worthwhile. libopus
	// sends none below 24 kbit/s at 10 ms.
	FEC                 bool
	ExpectedLossPercent int
	Application         Application
	// VBR lets the length of frames follow the sound, which leaks what is
	// said (RFC 6562 section 3); without it every frame is equally long.
	VBR bool
}

// Frame is one Opus frame of one voice, for [Receiver.Push].
type Frame struct {
	Counter uint32 // per stream, consecutive; may wrap
	// MediaTime is when its first sample was captured, in samples at 48 kHz
	// modulo 2^32, at the sender.
	MediaTime            uint32
	SpurtStart, SpurtEnd bool
	Level                uint8 // -dBov, 0 to 127
	Repaired             bool  // an older frame sent again
	Opus                 []byte
}

// Stats counts frames of one voice since the receiver was made.
//
// Every frame that was due is counted once, as what stood in its place:
//
//	due = OnTime + Repaired + FEC + Concealed + Skipped
//	Lost = FEC + Concealed
//	Received = OnTime + Repaired + Late + Undecodable + Skipped + those waiting
//
// Lost, Late and Undecodable are causes, not outcomes.
type Stats struct {
	Received uint64 // distinct frames pushed in time or late
	Doubled  uint64 // copies of frames that were there already
	Refused  uint64 // malformed, or so old that nothing is known of them

	OnTime    uint64 // played from the first copy sent
	Repaired  uint64 // played from a copy sent again
	FEC       uint64 // played from the next frame's in-band FEC
	Concealed uint64 // something else stood in
	Skipped   uint64 // there in time, left out to catch up or after a jump

	Unheard uint64 // of these: passed over undecoded, see Receiver.SetUnheard

	Lost        uint64 // no usable copy came in time
	Late        uint64 // of these: came after their turn
	Undecodable uint64 // of these: libopus refused them
	Resets      uint64 // the stream jumped, or restarted

	ConcealedDuration time.Duration // sound made up
	StretchedDuration time.Duration // time added and removed to reach the target
	Jitter            time.Duration // RFC 3550 appendix A.8
	// Target and Delay are the time from a frame's completion at the sender,
	// plus the least delay of the path, to the moment its first sample is
	// pulled: as aimed at, and as it is now. With the frame's own length
	// added this is the D of the design's playout rule.
	Target time.Duration
	Delay  time.Duration
}

// Played is how many frames were due and had something played for them.
func (s *Stats) Played() uint64 { return s.OnTime + s.Repaired + s.FEC + s.Concealed }
