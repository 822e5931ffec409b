package process

import (
	"math"

	"teahouse/internal/audio"
)

const (
	// gainTarget is what speech is brought to: the root mean square of the
	// blocks in which someone speaks, dBFS. Speech peaks 15 to 20 dB above.
	gainTarget = -20
	// gainMost and gainLeast bound the gain, in dB.
	gainMost, gainLeast = 30, -20
	// noiseMost is what noise may be raised to, dBFS: in a loud place, or with
	// a poor microphone, quiet speech stays quieter rather than the noise loud.
	noiseMost = -50
	// gainRise and gainFall are how fast the gain goes up and down, dB a block:
	// 10 and 40 dB/s. It moves only while someone speaks.
	gainRise, gainFall = 0.10, 0.40

	// A block is speech if it is speechAbove dB above the noise, and not below
	// speechLeast dBFS.
	speechAbove = 9
	speechLeast = -62
	// speechMemory is how many blocks of speech the level is the mean of: 2 s;
	// with fewer, of those there were.
	speechMemory = 200
	// speechCore: of those, blocks that are more than speechCore dB below the
	// level are taken for the ends of words, and left out, as ITU-T P.56 leaves
	// out what is 15.9 dB below the active level.
	speechCore = 15.9
)

// gain brings speech to one loudness. WebRTC's own leaves 17 dB between speech
// of -40 and of -10 dBFS; speexdsp's leaves none, but costs 10 ms.
type gain struct {
	limiter audio.Limiter
	stereo  [2 * audio.BlockFrames]float32 // as the limiter wants it

	db     float64 // of now
	power  float64 // mean square of the blocks of speech
	spoken int     // blocks of speech, up to speechMemory

	noise audio.NoiseFloor
}

func (g *gain) process(b *block) {
	before := g.db
	g.listen(b)
	from, to := math.Pow(10, before/20), math.Pow(10, g.db/20)
	step := (to - from) / audio.BlockFrames
	for i, x := range b {
		y := float32(from+step*float64(i+1)) * x
		g.stereo[2*i], g.stereo[2*i+1] = y, y
	}
	g.limiter.Process(g.stereo[:])
	for i := range b {
		b[i] = g.stereo[2*i]
	}
}

// listen moves the gain by what is in the block.
func (g *gain) listen(b *block) {
	level := audio.Power(b[:])
	power := math.Pow(10, level/10)
	floor := g.noise.Step(level)
	if level < max(floor+speechAbove, speechLeast) {
		return
	}
	if g.spoken > 0 && level < 10*math.Log10(g.power)-speechCore {
		// The end of a word, or someone who has become quieter: the level
		// goes after it, but slowly.
		g.power *= 1 - 1.0/speechMemory
	} else {
		g.spoken = min(g.spoken+1, speechMemory)
		g.power += (power - g.power) / float64(g.spoken)
	}
	want := gainTarget - 10*math.Log10(g.power)
	want = min(want, max(0, noiseMost-floor))
	want = max(gainLeast, min(want, gainMost))
	g.db += max(-gainFall, min(want-g.db, gainRise))
}
