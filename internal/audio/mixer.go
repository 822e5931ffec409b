package audio

import (
	"math"
	"sync/atomic"
)

// Gain is the volume of one voice. A change is spread over one block, 10 ms,
// in a straight line, so that it neither clicks nor zips; a new Gain begins at
// 0 and fades in. Set is safe for concurrent use with the mixer; the rest
// belongs to the mixer's goroutine. The zero value is silent.
type Gain struct {
	target  atomic.Uint32 // float32 bits
	current float32
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

// Add adds a stereo block, len = 2 × BlockFrames, at gain g, which moves to
// its target within the block. Samples that are not finite count as 0.
func (m *Mixer) Add(block []float32, g *Gain) {
	from, step := g.ramp()
	if from == 0 && step == 0 {
		return
	}
	block = block[:len(m.sum)]
	for i := range BlockFrames {
		// (i+1): the last frame has the target, the next block goes on there.
		gain := from + step*float32(i+1)
		m.sum[2*i] += gain * finite(block[2*i])
		m.sum[2*i+1] += gain * finite(block[2*i+1])
	}
}

// AddMono adds a mono block, len = BlockFrames, to both channels.
func (m *Mixer) AddMono(block []float32, g *Gain) {
	from, step := g.ramp()
	if from == 0 && step == 0 {
		return
	}
	for i, x := range block[:BlockFrames] {
		x = (from + step*float32(i+1)) * finite(x)
		m.sum[2*i] += x
		m.sum[2*i+1] += x
	}
}

// Apply scales a stereo block, len = 2 × BlockFrames, by the gain, which moves
// to its target within the block.
func (g *Gain) Apply(block []float32) {
	from, step := g.ramp()
	if from == 1 && step == 0 {
		return
	}
	for i := range BlockFrames {
		gain := from + step*float32(i+1)
		block[2*i] *= gain
		block[2*i+1] *= gain
	}
}

// ramp is where the gain begins and what it gains a frame; it moves current
// to the target.
func (g *Gain) ramp() (from, step float32) {
	target := g.Target()
	from = g.current
	g.current = target
	return from, (target - from) / BlockFrames
}

// Mix writes what was added since the last Mix to out, len = 2 × BlockFrames,
// limited to -1..1 and delayed by LimiterDelay.
func (m *Mixer) Mix(out []float32) {
	copy(out[:len(m.sum)], m.sum[:])
	clear(m.sum[:])
	m.limiter.Process(out[:len(m.sum)])
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
