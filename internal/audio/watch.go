package audio

import "time"

// Warning is what a person should know about their own microphone.
type Warning int

const (
	// NoWarning: all is well, or was said a moment ago.
	NoWarning Warning = iota
	// TalksMuted: someone speaks, and nobody is sent it.
	TalksMuted
	// Clips: it is so loud that the sound card cuts it off.
	Clips
)

// String names the warning as events do.
func (w Warning) String() string {
	switch w {
	case TalksMuted:
		return "talks-muted"
	case Clips:
		return "clips"
	default:
		return ""
	}
}

const (
	// A block clips if clipRun samples in a row stand at clipAt or beyond:
	// a sine of full scale at 1 kHz has two.
	clipAt  = 0.999
	clipRun = 3
	// clipBlocks of such blocks within clipWithin are worth a warning.
	clipBlocks = 3
	clipWithin = time.Second

	// Someone talks while muted if talkBlocks of blocks within talkWithin are
	// talkAbove dB above the noise and not below talkLeast dBFS.
	talkAbove, talkLeast = 12, -45
	talkBlocks           = 40
	talkWithin           = time.Second

	// warnAgain is how long a warning is not repeated.
	warnAgain = 10 * time.Second
)

// Watch warns of a microphone that is muted while its owner talks, or that
// clips. It counts time in blocks, allocates nothing, and its zero value is
// ready; not safe for concurrent use.
type Watch struct {
	floor NoiseFloor
	muted bool
	talk  alarm
	clip  alarm
}

// alarm counts bad blocks: each fills a bucket that leaks.
type alarm struct {
	bucket float64
	quiet  int // blocks until it may ring again
}

// step answers true where enough of the blocks within a time were bad.
func (a *alarm) step(bad bool, enough int, within time.Duration) bool {
	// A bucket that leaks as much as it may fill: enough bad blocks in a row
	// ring, and so do more of them that are spread over within.
	leak := float64(enough) / float64(within/BlockDuration)
	a.bucket = max(0, a.bucket-leak)
	if bad {
		a.bucket += 1 + leak
	}
	if a.quiet > 0 {
		a.quiet--
		a.bucket = min(a.bucket, float64(enough))
		return false
	}
	if a.bucket < float64(enough) {
		return false
	}
	a.bucket, a.quiet = 0, int(warnAgain/BlockDuration)
	return true
}

// Step takes a mono block as the microphone gave it, before any processing,
// and whether it is sent to nobody because it is muted.
func (w *Watch) Step(block []float32, muted bool) Warning {
	level := Power(block)
	floor := w.floor.Step(level)
	if muted != w.muted {
		w.muted, w.talk = muted, alarm{}
	}
	if w.clip.step(clipping(block), clipBlocks, clipWithin) {
		return Clips
	}
	talks := muted && level >= max(floor+talkAbove, talkLeast)
	if w.talk.step(talks, talkBlocks, talkWithin) {
		return TalksMuted
	}
	return NoWarning
}

func clipping(block []float32) bool {
	run := 0
	for _, x := range block {
		if abs(x) >= clipAt {
			if run++; run == clipRun {
				return true
			}
		} else {
			run = 0
		}
	}
	return false
}
