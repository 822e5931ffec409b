package process

import (
	"time"

	"teahouse/internal/audio"
)

// block is 10 ms of mono sound at 48 kHz.
type block = [audio.BlockFrames]float32

// engine is a library that cancels echo and suppresses noise, block by block.
type engine interface {
	// process takes far out of near and suppresses noise in it, in place. far
	// is what the speaker plays, referenceLead before it is heard. Both are
	// finite and within -1..1.
	process(far, near *block) error
	// delay is what it adds.
	delay() time.Duration
	close()
}
