package voice

import "math/bits"

// A microphone clips when it reaches full scale again and again: in clipBlocks
// of the last 64 blocks, 0.64 s. One peak is an accident.
const (
	clipPeak   = 0.99
	clipBlocks = 5
	clipPause  = 3000 // blocks of 10 ms between two warnings
)

// clipping is the state of one microphone.
type clipping struct {
	full  uint64 // one bit for each of the last 64 blocks
	pause int    // blocks left
}

// step takes the peak of one block and tells whether to warn.
func (c *clipping) step(peak float32) (warn bool) {
	c.full <<= 1
	if peak >= clipPeak {
		c.full |= 1
	}
	if c.pause > 0 {
		c.pause--
		return false
	}
	if bits.OnesCount64(c.full) < clipBlocks {
		return false
	}
	c.pause = clipPause
	return true
}
