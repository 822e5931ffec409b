package audio

import (
	"math"
	"time"
)

// LimiterFrames is how far the limiter looks ahead, in frames, and
// LimiterDelay the same as a time: what it adds to the delay of the mix.
const (
	LimiterFrames = 48
	LimiterDelay  = LimiterFrames * time.Second / Rate
)

const (
	// limiterThreshold is where limiting begins, -2 dBFS; below it the
	// limiter is a pure delay.
	limiterThreshold = 0.794328
	// limiterRelease is how much of the way back the gain goes in a frame:
	// 80 ms to 1 - 1/e.
	limiterRelease = 1.0 / (0.080 * Rate)
	// limiterRested is where a gain on its way back is taken to be 1.
	limiterRested = 0.9999
)

// Limiter keeps stereo sound within -1..1 without clipping it: a peak above
// the threshold is seen 1 ms ahead and turned down smoothly, both channels
// alike. Each frame asks for a gain; the gain applied is the mean over
// LimiterFrames frames of the lowest that was asked for within LimiterFrames
// before each. A frame is delayed by LimiterFrames, so every term of its mean
// is at most what it asked for, and no peak passes. It allocates nothing. The
// zero value is ready; not safe for concurrent use.
type Limiter struct {
	delay [2 * LimiterFrames]float32 // the sound of the last frames
	gains [LimiterFrames]float64     // the gains of the mean
	// needs is a queue of the gains asked for by the last frames, in rising
	// order: the front is the lowest, later ones that are lower pushed out
	// higher ones (the sliding-window minimum).
	needs       [needsLen]need
	front, back int   // of needs, counted without wrapping
	n           int64 // frames so far
	at          int   // n modulo LimiterFrames
	gain        float64
	sum         float64 // of gains
	resting     int     // frames in a row for which every gain was 1
	started     bool
}

// needsLen: a frame and the LimiterFrames before it.
const needsLen = LimiterFrames + 1

type need struct {
	frame int64
	gain  float64
}

// Process limits stereo frames in place, delayed by LimiterFrames.
func (l *Limiter) Process(frames []float32) {
	if !l.started {
		l.started = true
		for i := range l.gains {
			l.gains[i] = 1
		}
		l.sum, l.gain = LimiterFrames, 1
		l.resting = LimiterFrames
	}
	for i := 0; i+1 < len(frames); i += 2 {
		left, right := bounded(frames[i]), bounded(frames[i+1])
		gain := l.next(max(abs(left), abs(right)))
		frames[i] = clip(float32(gain * float64(l.delay[2*l.at])))
		frames[i+1] = clip(float32(gain * float64(l.delay[2*l.at+1])))
		l.delay[2*l.at], l.delay[2*l.at+1] = left, right
		l.at++
		if l.at == LimiterFrames {
			l.at = 0
		}
	}
}

// next takes the peak of the newest frame and gives the gain for the oldest.
func (l *Limiter) next(peak float32) float64 {
	asked := 1.0
	if peak > limiterThreshold {
		asked = soft(float64(peak)) / float64(peak)
		l.resting = 0
	} else if l.resting >= LimiterFrames {
		l.n++
		return 1
	}
	lowest := l.lowest(asked)
	// Down at once (the mean makes it smooth), back slowly.
	l.gain = min(lowest, l.gain+(1-l.gain)*limiterRelease)
	if l.gain > limiterRested && lowest == 1 {
		l.gain = 1
	}
	l.sum += l.gain - l.gains[l.at]
	l.gains[l.at] = l.gain
	if l.gain == 1 {
		l.resting++
	} else {
		l.resting = 0
	}
	if l.resting >= LimiterFrames {
		l.sum = LimiterFrames // forget what rounding has added up
		l.front, l.back = 0, 0
		return 1
	}
	return l.sum / LimiterFrames
}

// lowest is the lowest gain asked for by the newest needsLen frames.
func (l *Limiter) lowest(asked float64) float64 {
	for l.back > l.front && l.needs[(l.back-1)%needsLen].gain >= asked {
		l.back--
	}
	if l.back > l.front && l.needs[l.front%needsLen].frame <= l.n-needsLen {
		l.front++
	}
	l.needs[l.back%needsLen] = need{l.n, asked}
	l.back++
	l.n++
	return l.needs[l.front%needsLen].gain
}

// soft is the level that a level x above the threshold comes out at: it leaves
// the threshold with slope 1 and approaches 1.
func soft(x float64) float64 {
	const room = 1 - limiterThreshold
	return limiterThreshold + room*math.Tanh((x-limiterThreshold)/room)
}

// bounded is x within 60 dB above full scale, beyond which the precision of the
// mean would not do, or 0 where x is infinite or not a number.
func bounded(x float32) float32 {
	const most = 1000
	if !(abs(x) <= math.MaxFloat32) {
		return 0
	}
	return max(-most, min(x, most))
}

func abs(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }
