package process

import (
	"math"

	"teahouse/internal/audio"
)

// highPassHz is where the high-pass takes 3 dB: below any voice, above the
// rumble of a table and the hum of the mains.
const highPassHz = 80

// highPass is a Butterworth filter of second order (R. Bristow-Johnson,
// "Cookbook formulae for audio EQ biquad filter coefficients", Q = 1/√2), in
// the transposed second direct form.
type highPass struct {
	b0, b1, b2, a1, a2 float64
	z1, z2             float64
}

func newHighPass() highPass {
	w := 2 * math.Pi * highPassHz / audio.Rate
	alpha := math.Sin(w) / math.Sqrt2
	a0 := 1 + alpha
	b := (1 + math.Cos(w)) / 2
	return highPass{
		b0: b / a0, b1: -2 * b / a0, b2: b / a0,
		a1: -2 * math.Cos(w) / a0, a2: (1 - alpha) / a0,
	}
}

func (h *highPass) process(b *block) {
	z1, z2 := h.z1, h.z2
	for i, x := range b {
		x := float64(x)
		y := h.b0*x + z1
		z1 = h.b1*x - h.a1*y + z2
		z2 = h.b2*x - h.a2*y
		b[i] = float32(y)
	}
	// What rings on below any sound would end in denormal numbers, which are
	// slow to compute with.
	if math.Abs(z1)+math.Abs(z2) < 1e-15 {
		z1, z2 = 0, 0
	}
	h.z1, h.z2 = z1, z2
}
