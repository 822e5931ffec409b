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

	// The noise is the quietest block, smoothed, of the last floorParts ×
	// floorPart blocks: 4 s, longer than anyone speaks without a breath
	// (R. Martin, "Noise power spectral density estimation based on optimal
	// smoothing and minimum statistics", 2001, here for the whole band).
	floorPart, floorParts = 50, 8
	floorSmooth           = 0.3
	quietest              = -100 // dBFS
)

// gain brings speech to one loudness. WebRTC's own leaves 17 dB between speech
// of -40 and of -10 dBFS; speexdsp's leaves none, but costs 10 ms.
type gain struct {
	limiter audio.Limiter
	stereo  [2 * audio.BlockFrames]float32 // as the limiter wants it

	db     float64 // of now
	power  float64 // mean square of the blocks of speech
	spoken int     // blocks of speech, up to speechMemory

	begun  bool
	smooth float64 // of the blocks' levels, dBFS
	least  [floorParts]float64
	part   int // which of least is being filled
	filled int // blocks in it
}

func newGain() gain {
	var g gain
	for i := range g.least {
		g.least[i] = math.Inf(1)
	}
	return g
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
	sum := 0.0
	for _, x := range b {
		sum += float64(x) * float64(x)
	}
	power := sum / audio.BlockFrames
	level := max(quietest, 10*math.Log10(power+1e-12))
	floor := g.floor(level)
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

// floor takes the level of a block and gives that of the noise, dBFS.
func (g *gain) floor(level float64) float64 {
	if !g.begun {
		g.begun, g.smooth = true, level
	}
	g.smooth += floorSmooth * (level - g.smooth)
	g.least[g.part] = min(g.least[g.part], g.smooth)
	if g.filled++; g.filled == floorPart {
		g.filled = 0
		g.part = (g.part + 1) % floorParts
		g.least[g.part] = g.smooth
	}
	floor := g.least[0]
	for _, x := range g.least[1:] {
		floor = min(floor, x)
	}
	return floor
}
