package portaudio

import (
	"errors"
	"time"

	"teahouse/internal/audio"
)

// Underruns lead from small buffers to larger ones; a long calm leads back,
// in a moment when nobody speaks, because the change costs some 50 ms of
// sound. A machine that cannot do with the small ones is asked less and less
// often.

// Why a stream that works is given up.
var (
	errTooSmall = errors.New("buffers too small")
	errTooLarge = errors.New("buffers larger than needed")
)

// verdict is what the blocks so far say of the size of a stream's buffers.
type verdict int

const (
	fits verdict = iota
	tooSmall
	tooLarge
)

// pressure judges the buffers of one stream, block by block.
type pressure struct {
	largest bool // there are no larger buffers
	calm    int  // blocks without an underrun after which they are too large; 0: never

	blocks int
	base   uint64 // underruns at the beginning of the window
	seen   uint64 // underruns so far
	since  int    // blocks since the last
	quiet  int    // blocks in a row that are silent
}

const (
	// pressureWindow is 5 s; pressureLimit underruns within it are too many.
	pressureWindow = 5 * time.Second / audio.BlockDuration
	pressureLimit  = 3
	// pressureGrace is what follows on opening, whose underruns tell nothing.
	pressureGrace = startLimit / audio.BlockDuration
	// A pause of quietBlocks is longer than one between words.
	quietBlocks = 40
	quietPeak   = 0.01 // -40 dBFS
)

// judge takes the underruns of the stream so far and the block that was just
// moved, once a block.
func (p *pressure) judge(underruns uint64, block []float32) verdict {
	p.blocks++
	p.since++
	if underruns != p.seen {
		p.seen, p.since = underruns, 0
	}
	if p.blocks <= int(pressureGrace) || p.blocks%int(pressureWindow) == 0 {
		p.base = underruns
	}
	switch {
	case !p.largest && underruns >= p.base+pressureLimit:
		return tooSmall
	case p.calm == 0 || p.since < p.calm:
		return fits
	}
	p.quiet++
	if audio.Peak(block) > quietPeak {
		p.quiet = 0
	}
	if p.quiet < quietBlocks {
		return fits
	}
	return tooLarge
}

// relieve gives the stream up for one with other buffers if it needs them.
// The caller holds use.
func (d *device) relieve(st *stream, underruns uint64, block []float32) {
	switch d.pressure.judge(underruns, block) {
	case tooSmall:
		d.lose(st, errTooSmall)
	case tooLarge:
		d.lose(st, errTooLarge)
	case fits:
	}
}

const (
	// calmFirst is how long large buffers are kept; calmMost what that grows
	// to where smaller ones prove too small within the calmFirst after.
	calmFirst = time.Minute
	calmMost  = 32 * time.Minute
)

// buffers is the size that a device uses now.
type buffers struct {
	step   int // of steps
	fixed  bool
	wait   time.Duration // before the next try of smaller ones
	shrunk time.Time     // the last try; zero for none
}

func newBuffers(safe bool) buffers {
	b := buffers{fixed: safe, wait: calmFirst}
	if safe {
		b.step = len(steps) - 1
	}
	return b
}

// calm is the number of blocks without an underrun after which these are too
// large; 0 for never.
func (b *buffers) calm() int {
	if b.fixed || b.step == 0 {
		return 0
	}
	return int(b.wait / audio.BlockDuration)
}

// follow changes the size as a stream was given up for.
func (b *buffers) follow(why error, now time.Time) {
	switch {
	case errors.Is(why, errTooSmall):
		b.step = min(b.step+1, len(steps)-1)
		switch {
		case b.shrunk.IsZero():
		case now.Sub(b.shrunk) < calmFirst:
			b.wait = min(2*b.wait, calmMost)
		default:
			b.wait = calmFirst
		}
	case errors.Is(why, errTooLarge):
		b.step = max(b.step-1, 0)
		b.shrunk = now
	}
}
