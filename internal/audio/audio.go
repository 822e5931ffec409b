// Package audio is sound as blocks of samples: the device interfaces and
// their conformance suite (audiotest), WAV and synthetic devices, the mixer
// and meters. It imports the standard library alone; what needs C lives in
// the leaves portaudio and process.
//
// A sample is a float32, nominally -1 to 1. Blocks are interleaved by channel.
// Everything runs at 48 kHz; devices and files at other rates are converted at
// their edge.
package audio

import (
	"errors"
	"time"
)

// Rate is the sample rate of everything inside Teahouse, in Hz.
const Rate = 48000

// BlockFrames is 10 ms, the block in which sound moves inside Teahouse.
const BlockFrames = Rate / 100

// BlockDuration is how long one block lasts.
const BlockDuration = 10 * time.Millisecond

// PlayFrames is 5 ms, half a block: the period of a sound card at its fastest,
// and what is made for it at a time. What is made later is made of more.
const PlayFrames = BlockFrames / 2

// Errors that callers branch on.
var (
	// ErrNoDevice: there is no sound card, or none of that name.
	ErrNoDevice = errors.New("no such sound device")
	// ErrClosed: the device has been closed.
	ErrClosed = errors.New("sound device closed")
	// ErrSpec: the words given for a microphone or speaker make no sense
	// (wrong usage, as opposed to a device or file that fails).
	ErrSpec = errors.New("not a sound device")
	// ErrWAV: a file was read but is not a WAV that can be played.
	ErrWAV = errors.New("not a playable WAV file")
)

// Microphone is a source of sound that sets its own pace. Read and Close may
// be called from different goroutines; Read from one at a time.
type Microphone interface {
	// Read fills block, len = BlockFrames × Channels, waiting until its last
	// sample has been captured. at is when its first sample was (monotonic);
	// it rises by 10 ms from block to block, and by more where sound was lost
	// or the machine stood still.
	// io.EOF: a file has ended (block is then not valid). A device that fails
	// gives an error once it cannot recover by itself.
	Read(block []float32) (at time.Time, err error)
	Channels() int // 1 or 2
	// Latency is what the device adds before Read returns: from the capture
	// of a block's last sample to Read's return with it.
	Latency() time.Duration
	// Close ends a waiting Read with ErrClosed, and is idempotent.
	Close() error
}

// Speaker is a sink of stereo sound that sets its own pace. Write and Close
// may be called from different goroutines; Write from one at a time.
type Speaker interface {
	// Write takes a stereo block or half of one, len = 2 × BlockFrames or
	// 2 × PlayFrames, waiting until the device has room for it; it does not
	// keep block.
	Write(block []float32) error
	// Latency is the time from Write's return to the air, as of now: the
	// first sample of the next block will be heard that long from now.
	Latency() time.Duration
	// Underruns is how often the device had nothing to play.
	Underruns() uint64
	// Close plays nothing further, completes a file, ends a waiting Write
	// with ErrClosed, and is idempotent.
	Close() error
}

// Starter is a microphone that can be held back: a file must not be spoken
// before somebody hears it. While it is held it captures silence at its
// usual pace.
type Starter interface {
	Microphone
	// Hold makes it silent from the next block on, without losing a sample
	// of what it was to play.
	Hold()
	// Start ends Hold: playing begins, or goes on, with the next block.
	Start()
}

// Chooser is a microphone or speaker that is a sound card and can become
// another one while it is used.
type Chooser interface {
	// Choose goes over to the sound card called name, "" for the default one.
	// On an error it stays what it was. ErrNoDevice: there is none of that
	// name.
	Choose(name string) error
}
