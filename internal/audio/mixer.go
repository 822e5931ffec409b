package audio

import (
	"math"
	"sync/atomic"
)

// Gain is the volume of one voice. A change is spread over BlockFrames, 10 ms,
// in a straight line, so that it neither clicks nor zips; a new Gain begins at
// 0 and fades in. Set is safe for concurrent use with the mixer; the rest
// belongs to the mixer's goroutine. The zero value is silent.
type Gain struct {
	target  atomic.Uint32 // float32 bits
	current float32
	goal    float32 // what current is on its way to,
	left    int     // in so many frames
}

// MaxGain is the most that a voice can be raised: +24 dB.
const MaxGain = 15.848932

// Set moves towards linear, an amplitude from 0 to MaxGain (1 leaves the voice
// as it is). What is out of range is brought into it.
func (g *Gain) Set(linear float32) {
	if !(linear > 0) {
		linear = 0
	}
	g.target.Store(math.Float32bits(min(linear, MaxGain)))
}

// Target is what Set asked for.
func (g *Gain) Target() float32 { return math.Float32frombits(g.target.Load()) }

// Silent tells whether the voice has faded out: it can leave the mix without
// a click.
func (g *Gain) Silent() bool { return g.current == 0 && g.Target() == 0 }

// Decibels is the amplitude of db, for [Gain.Set].
func Decibels(db float64) float32 { return float32(math.Pow(10, db/20)) }

// Mixer adds voices up to one stereo block and limits it. It allocates
// nothing. Not safe for concurrent use; the zero value is ready.
type Mixer struct {
	sum     [2 * BlockFrames]float32
	limiter Limiter
}

// Add adds a stereo block of at most BlockFrames at gain g, which moves to its
// target meanwhile. Samples that are not finite count as 0. All that is added
// between two calls of Mix is equally long.
func (m *Mixer) Add(block []float32, g *Gain) {
	frames := min(len(block)/2, BlockFrames)
	from, step := g.ramp(frames)
	if from == 0 && step == 0 {
		return
	}
	for i := range frames {
		// (i+1): the last frame has the gain where the next block goes on.
		gain := from + step*float32(i+1)
		m.sum[2*i] += gain * finite(block[2*i])
		m.sum[2*i+1] += gain * finite(block[2*i+1])
	}
}

// AddMono adds a mono block to both channels.
func (m *Mixer) AddMono(block []float32, g *Gain) {
	block = block[:min(len(block), BlockFrames)]
	from, step := g.ramp(len(block))
	if from == 0 && step == 0 {
		return
	}
	for i, x := range block {
		x = (from + step*float32(i+1)) * finite(x)
		m.sum[2*i] += x
		m.sum[2*i+1] += x
	}
}

// Apply scales a stereo block by the gain, which moves to its target meanwhile.
func (g *Gain) Apply(block []float32) {
	frames := len(block) / 2
	from, step := g.ramp(frames)
	if from == 1 && step == 0 {
		return
	}
	for i := range frames {
		gain := from + step*float32(i+1)
		block[2*i] *= gain
		block[2*i+1] *= gain
	}
}

// ramp is where the gain begins and what it gains in each of the next frames;
// it moves current on by that.
func (g *Gain) ramp(frames int) (from, step float32) {
	if target := g.Target(); target != g.goal {
		g.goal, g.left = target, BlockFrames
	}
	from = g.current
	if g.left <= frames {
		g.current, g.left = g.goal, 0
	} else {
		g.current += (g.goal - from) * float32(frames) / float32(g.left)
		g.left -= frames
	}
	return from, (g.current - from) / float32(max(1, frames))
}

// Mix writes what was added since the last Mix to out, which is as long, limited
// to -1..1 and delayed by LimiterDelay.
func (m *Mixer) Mix(out []float32) {
	n := copy(out, m.sum[:])
	clear(m.sum[:n])
	m.limiter.Process(out[:n])
}

// finite is x, or 0 where x is infinite, not a number, or so large that a sum
// of voices could become so.
func finite(x float32) float32 {
	const most = 1 << 20
	if x >= -most && x <= most {
		return x
	}
	return 0
}
