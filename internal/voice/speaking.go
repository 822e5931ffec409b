package voice

import "math/bits"

// Who speaks is judged by the level of what is played: it must be loud for
// speakingAfter of the last speakingWindow blocks to begin, and quiet for
// speakingHold in a row to end. A pause between words is 100 to 300 ms; a
// cough or a click is shorter than three blocks.
const (
	loudLevel      = 45 // -dBov: at least this loud begins
	quietLevel     = 51 // -dBov: at most this loud ends, 6 dB of hysteresis
	speakingWindow = 5
	speakingAfter  = 3
	speakingHold   = 40 // blocks of 10 ms
)

// speaking is the state of one voice.
type speaking struct {
	on    bool
	loud  uint8 // one bit for each of the last speakingWindow blocks
	quiet int   // blocks in a row
}

// step takes the level of one block, -dBov, and tells whether on has changed.
func (s *speaking) step(level uint8) (changed bool) {
	s.loud = (s.loud << 1) & (1<<speakingWindow - 1)
	if level <= loudLevel {
		s.loud |= 1
	}
	if level < quietLevel {
		s.quiet = 0
	} else {
		s.quiet++
	}
	switch {
	case !s.on && bits.OnesCount8(s.loud) >= speakingAfter:
		s.on = true
		return true
	case s.on && s.quiet >= speakingHold:
		s.on = false
		return true
	}
	return false
}

// stop ends it at once, and tells whether on has changed.
func (s *speaking) stop() (changed bool) {
	changed = s.on
	*s = speaking{}
	return changed
}
