package process

import (
	"math"
	"sync"
	"time"

	"teahouse/internal/audio"
)

const (
	// referenceLead is how much earlier than it is heard the reference is
	// given to the canceller: an echo that came before its reference, because
	// a device says it is slower than it is, could not be cancelled at all.
	referenceLead = 5 * time.Millisecond
	// referenceLength is how much of the reference is kept: 1.4 s, more than
	// the largest latency of a device and the capture's delay.
	referenceLength = 1 << 16

	// A canceller learns any delay, but has to learn anew when it changes. So
	// the reference is read at the rate that the clocks say, evenly, and what
	// they say of the delay moves it only slowly: a skew goes in skewTime, and
	// a jump is made where it is beyond maxSkew, 2 ms.
	skewTime = 5 * audio.Rate
	maxSkew  = 0.002 * audio.Rate
)

// reference is what the speaker plays, kept until the microphone hears it. The
// playout goroutine puts it in, the capture goroutine takes it out.
type reference struct {
	// Owned by the capture goroutine.
	captured clock
	pos      float64 // the sample that the next block begins at
	begun    bool
	kernel   *kernel
	window   [audio.BlockFrames + kernelTaps + 8]float32

	mu      sync.Mutex // what follows; held to copy 10 ms
	epoch   epoch
	played  clock
	samples [referenceLength]float32
	written int64 // samples in all; the newest is written-1
	stats   ReferenceStats
}

// ReferenceStats tell how well the echo's reference could be followed.
type ReferenceStats struct {
	// Drift is how much faster the speaker's clock runs than the microphone's,
	// in parts of one: 1e-4 is 100 ppm.
	Drift float64
	// Jumps is how often playout or capture was interrupted, or the two were
	// too far apart to be brought together unnoticed.
	Jumps uint64
	// Missing is how many blocks were captured for which the speaker's sound
	// was not there yet, or not any more.
	Missing uint64
}

func newReference() *reference { return &reference{kernel: newKernel()} }

// play takes a stereo block whose first sample is heard at the time at.
func (r *reference) play(stereo []float32, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.played.step(r.epoch.seconds(at)) {
		r.stats.Jumps++
	}
	for i := range audio.BlockFrames {
		r.samples[r.written%referenceLength] = finite((stereo[2*i] + stereo[2*i+1]) / 2)
		r.written++
	}
}

// heard fills block with what was in the air, but for the lead, while the
// block of the microphone was captured that began at the time at, resampled to
// the microphone's clock. It is silence where nothing is known.
func (r *reference) heard(dst *block, at time.Time) {
	r.mu.Lock()
	known := r.played.begun
	now := r.epoch.seconds(at)
	if r.captured.step(now) {
		r.stats.Jumps++
	}
	// The clock's own time, not the stamp's.
	from := r.played.sampleAt(r.captured.at + referenceLead.Seconds())
	to := r.played.sampleAt(r.captured.at + referenceLead.Seconds() + blockSeconds*(1+r.captured.rate))
	if known {
		r.stats.Drift = (to-from)/audio.BlockFrames - 1
	}
	if skew := from - r.pos; !r.begun || math.Abs(skew) > maxSkew {
		if r.begun && known {
			r.stats.Jumps++
		}
		r.begun = known
		r.pos = from
	}
	step := (to-from)/audio.BlockFrames + (from-r.pos)/skewTime
	whole := math.Floor(r.pos)
	first := int64(whole) - kernelTaps/2 + 1
	n := int64(math.Ceil(step*audio.BlockFrames)) + kernelTaps + 1
	there := known && first >= max(0, r.written-referenceLength) && first+n <= r.written
	if there {
		for i := range n {
			r.window[i] = r.samples[(first+i)%referenceLength]
		}
	} else if known {
		r.stats.Missing++
	}
	r.mu.Unlock()

	if there {
		r.kernel.resample(dst[:], r.window[:n], r.pos-whole, step)
	} else {
		clear(dst[:])
	}
	r.pos += step * audio.BlockFrames
}

func (r *reference) snapshot() ReferenceStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stats
}

// finite is x, or 0 where it is not a number, infinite or absurdly large.
func finite(x float32) float32 {
	const most = 1 << 10
	if x >= -most && x <= most {
		return x
	}
	return 0
}
