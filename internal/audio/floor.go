package audio

import "math"

const (
	// The noise is the quietest block, smoothed, of the last floorParts ×
	// floorPart blocks, which is 4 s: longer than anyone speaks without a
	// breath (R. Martin, "Noise power spectral density estimation based on
	// optimal smoothing and minimum statistics", 2001, here for the whole band).
	floorPart, floorParts = 50, 8
	floorSmooth           = 0.3
)

// NoiseFloor follows how loud it is where nobody speaks. It allocates nothing.
// The zero value is ready; not safe for concurrent use.
type NoiseFloor struct {
	begun  bool
	smooth float64 // of the blocks' levels, dBFS
	least  [floorParts]float64
	part   int // which of least is being filled
	filled int // blocks in it
}

// Step takes the level of a block of 10 ms and gives that of the noise, both
// as root mean squares in dBFS.
func (f *NoiseFloor) Step(level float64) float64 {
	if !f.begun {
		f.begun, f.smooth = true, level
		for i := range f.least {
			f.least[i] = level
		}
	}
	f.smooth += floorSmooth * (level - f.smooth)
	f.least[f.part] = min(f.least[f.part], f.smooth)
	if f.filled++; f.filled == floorPart {
		f.filled = 0
		f.part = (f.part + 1) % floorParts
		f.least[f.part] = f.smooth
	}
	floor := f.least[0]
	for _, x := range f.least[1:] {
		floor = min(floor, x)
	}
	return floor
}

// Power is the mean square of samples in dBFS, -120 for silence: Level with a
// fraction. Any number of channels.
func Power(samples []float32) float64 {
	sum := 0.0
	for _, x := range samples {
		x := float64(finite(x))
		sum += x * x
	}
	return 10 * math.Log10(sum/float64(max(1, len(samples)))+1e-12)
}
