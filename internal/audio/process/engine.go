package process

import (
	"time"

	"teahouse/internal/audio"
)

// block is 10 ms of mono sound at 48 kHz.
type block = [audio.BlockFrames]float32

// engine cancels echo or suppresses noise, block by block, or both.
type engine interface {
	// process takes far out of near or suppresses noise in it, in place. far
	// is what the speaker plays, referenceLead before it is heard. Both are
	// finite and within -1..1.
	process(far, near *block) error
	// delay is what it adds.
	delay() time.Duration
	close()
}
