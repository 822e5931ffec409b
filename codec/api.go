// Package codec is one voice: samples to Opus frames, and what to play when
// frames come late, doubled, out of order or never.
//
// Everything is at 48 kHz. Times are arguments; nothing here reads a clock or
// starts a goroutine.
package codec

import "time"

// Rate is the sample rate in Hz, and MaxFrame the longest frame in samples
// per channel (60 ms).
const (
	Rate     = 48000
	MaxFrame = Rate * 60 / 1000
)

// Frame is one Opus frame as the network brought it, for [Receiver.Push].
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
// Played = on time + Repaired + FEC + Concealed.
type Stats struct {
	Received  uint64 // distinct frames pushed in time or late
	Doubled   uint64 // copies of frames that were there already
	Lost      uint64 // no copy came in time (FEC or concealment stood in)
	Late      uint64 // came after their turn
	Repaired  uint64 // played from a second copy
	FEC       uint64 // played from the next frame's in-band FEC
	Concealed uint64 // frames' worth of concealment
	Resets    uint64 // the stream jumped, or restarted

	ConcealedDuration time.Duration
	StretchedDuration time.Duration // time added and removed to reach the target
	Jitter            time.Duration // RFC 3550 appendix A.8
	Target            time.Duration // delay that playout aims at
	Delay             time.Duration // what is buffered now, frame end to playout
}
