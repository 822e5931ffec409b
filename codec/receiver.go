package codec

import (
	"math"
	"time"
)

// The playout of one voice:
//
//	Push:  refuse what is malformed -> measure when it came (target.go)
//	       -> wait in its slot (intake.go)
//	Pull:  1. the next frame in media time: there | its copy in the one after
//	          | made up (playout.go, conceal.go)
//	       2. onto the tape; join, cut or repeat there to keep the delay at
//	          its target (stretch.go)
//	       3. from the tape to the caller
//
// Three clocks meet here, all kept as numbers: media time (the sender's
// samples), arrival (our clock), and the count of samples pulled (the sound
// device's). The least of arrival - media over some seconds is the path at its
// best, the least of pull time - samples pulled is the device at its most
// eager; what a frame is late by, and how long it waits, are measured between
// these two.

// ReceiverConfig sets the bounds of the delay. The zero value is good.
type ReceiverConfig struct {
	// MinTarget is the least delay aimed at beyond a frame's completion as long
	// as nothing is known of a path: it stands against the jitter of schedulers.
	// Where there has been none, a tenth of a Pull and 1 ms are the least. 0
	// means 5 ms.
	MinTarget time.Duration
	// MaxTarget bounds the delay, frame length included. 0 means 400 ms;
	// more than that is cut to it.
	MaxTarget time.Duration
	// CatchesUp tells that what was not pulled for a while is pulled
	// afterwards, as a recording does: however long it took, the samples of
	// that time are made of what came in it. Without it a second without a
	// Pull is taken for a device that stood still: what waits is skipped, so
	// that the rest is played promptly.
	CatchesUp bool
}

// Receiver plays one stream of one voice. It is a function of the frames and
// times that it is given: it reads no clock, starts no goroutine, and Push and
// Pull allocate nothing. It is not safe for concurrent use: the caller holds a
// mutex around every call.
type Receiver struct {
	// Constant after construction.
	minTarget, maxTarget int64 // ns

	epoch   time.Time // the first time ever given; times below are ns since
	started bool      // epoch is set

	intake intake
	window delayWindow
	pulls  pullClock
	tape   tape
	voice  voiceLevel
	dec    *Decoder
	work   []float32 // one decoded frame, stereo
	ahead  []float32 // concealment that is made already
	ending []float32 // of a stream that broke off: fades beneath what comes next

	// Where playout stands.
	state     playState
	pos       int64 // media time of the next sample onto the tape (playing)
	block     int64 // nominal time of the Pull under way, ns
	blockSize int   // its length in samples
	filled    int   // how much of it was already filled
	target    int64 // ns
	lastCELT  bool  // it had no SILK part, so the next has no copy of use
	unheard   bool  // SetUnheard
	stale     bool  // frames were passed over since the decoder's last one
	claim     uint8 // level of the last frame, as its sender says

	concealed   int     // samples made up since the last real one
	gain        float32 // that the last sample had, 0 to 1
	excess      int     // samples played for which the delay was too long
	glide       int     // parts of samples still to be skipped (or added), see glide.go
	glideSpeed  int     // parts per sample
	hurry       bool    // it was so by much more than drift makes
	cooldown    int     // samples until speech may be stretched again
	voiced      bool    // what the tape ends with is voice, or stands in for it
	active      bool    // some of this Pull is
	stuck       int
	stats       Stats
	concealedNs int64
	stretchedNs int64
	glided      int64 // parts of samples
	delay       int64 // ns
}

// mostTries is how often produce may be called in a row without any sound:
// once for each frame that waits, and a few for changes of state.
const mostTries = slotCount + 8

type playState int

const (
	idle    playState = iota // between spurts, or the stream has dried up
	playing                  // pos runs with the samples pulled
)

// Pulled tells what a Pull gave.
type Pulled struct {
	Active  bool  // some of it is voice, or stands in for voice
	Level   uint8 // measured, in -dBov as in RFC 6464: 0 to 127 (silence)
	Claimed uint8 // the same, as the sender says; also of what is unheard
}

// NewReceiver makes a receiver; it holds about 300 KB.
func NewReceiver(c ReceiverConfig) *Receiver {
	maxTarget := 400 * time.Millisecond
	if c.MaxTarget > 0 {
		maxTarget = min(maxTarget, c.MaxTarget)
	}
	minTarget := 5 * time.Millisecond
	if c.MinTarget > 0 {
		minTarget = min(c.MinTarget, maxTarget)
	}
	r := &Receiver{
		minTarget: int64(minTarget),
		maxTarget: int64(maxTarget),
		work:      make([]float32, 2*MaxFrame),
		ahead:     make([]float32, 0, 2*plcLeast),
		ending:    make([]float32, 0, 2*joinLength),
	}
	r.pulls.catchesUp = c.CatchesUp
	r.tape.init()
	r.voice.init()
	r.newDecoder()
	r.target, r.claim = r.minTarget, silence
	return r
}

// SetUnheard passes frames over without decoding them, from the next one on, or
// ends that: silence is pulled in their stead, at a hundredth of the cost, while
// delay and statistics go on as if they had been played. Sound fades out and in
// over 5 ms.
func (r *Receiver) SetUnheard(unheard bool) { r.unheard = unheard }

// silence is the level of nothing, -dBov.
const silence = 127

func (r *Receiver) newDecoder() {
	dec, err := NewDecoder(2)
	if err != nil {
		panic(err) // only a wrong rate or channel count is an error
	}
	r.dec = dec
}

// Reset forgets the stream but not the statistics: for a sender that has
// restarted (another instance), whose counters and sound begin anew. It is the
// one method that allocates.
func (r *Receiver) Reset() {
	r.restart()
	r.window = delayWindow{}
	r.newDecoder()
}

// restart is a Reset that keeps the decoder, which mends itself, and the
// measured path.
func (r *Receiver) restart() {
	r.stats.Skipped += r.intake.reset()
	r.stats.Resets++
	r.breakOff()
	r.ahead = r.ahead[:0]
	r.state = idle
	r.excess, r.hurry = 0, false
}

// Stats is what happened so far.
func (r *Receiver) Stats() Stats {
	s := r.stats
	s.ConcealedDuration = time.Duration(r.concealedNs)
	s.StretchedDuration = time.Duration(r.stretchedNs + nanoseconds(r.glided)/glidePhases)
	s.Jitter = time.Duration(r.window.jitter)
	s.Target = time.Duration(r.target)
	s.Delay = time.Duration(r.delay)
	return s
}

// Pull fills pcm (stereo, interleaved, any even length, normally 10 ms) with
// what is to be played next. at is now, and may jitter: what counts in the
// long run is how many samples were pulled.
func (r *Receiver) Pull(pcm []float32, at time.Time) Pulled {
	n := len(pcm) / 2
	if n == 0 {
		return Pulled{Level: 127, Claimed: 127}
	}
	r.block = r.pulls.note(r.since(at), n)
	r.blockSize, r.filled = n, 0
	r.active = r.voiced && r.tape.pending() > 0
	for tries := 0; r.filled < n; tries++ {
		switch {
		case r.tape.pending() > 0:
			tries = 0
		case tries < mostTries:
			r.produce()
		default: // cannot happen; a voice that stands still would be worse
			r.stuck++
			r.rest(n - r.filled)
		}
		r.filled += r.read(pcm[2*r.filled : 2*n])
	}
	return Pulled{Active: r.active, Level: levelOf(meanSquare(pcm[:2*n])), Claimed: r.claim}
}

// read moves what fits from the tape into pcm, gliding if that is under way.
func (r *Receiver) read(pcm []float32) (n int) {
	speed, most := r.glideSpeed, len(pcm)/2
	if left := max(r.glide, -r.glide); left == 0 {
		speed = 0
	} else {
		if left < speed {
			speed = 1
		}
		most = min(most, left/speed)
	}
	if r.glide < 0 {
		speed = -speed
	}
	n = r.tape.read(pcm[:2*most], speed)
	r.glide -= speed * n
	r.glided += int64(max(speed, -speed)) * int64(n)
	return n
}

// since is t in ns since the first time that the receiver was given.
func (r *Receiver) since(t time.Time) int64 {
	if !r.started {
		r.epoch, r.started = t, true
	}
	const far = 1 << 60 // 36 years: sums of these do not overflow
	return min(max(int64(t.Sub(r.epoch)), -far), far)
}

// nanoseconds is how long n samples last.
func nanoseconds(n int64) int64 { return n * 62500 / 3 }

// samplesIn is how many samples begin within ns.
func samplesIn(ns int64) int { return int(ns * 3 / 62500) }

// levelOf is a mean square as -dBov (RFC 6464: a full-scale square wave is 0).
func levelOf(meanSquare float64) uint8 {
	if meanSquare < 2e-13 {
		return 127
	}
	return uint8(min(max(math.Round(-10*math.Log10(meanSquare)), 0), 127))
}
