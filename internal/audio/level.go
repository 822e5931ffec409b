package audio

import "math"

// SilentLevel is the level of digital silence.
const SilentLevel = 127

// Level is the loudness of samples as RFC 6464 sends it: the root mean square
// in -dBov, 0 (a square wave of full scale) to 127 (silence); a sine of full
// scale is 3. Computed as in RFC 6465, appendix A. Any number of channels.
func Level(samples []float32) uint8 {
	if len(samples) == 0 {
		return SilentLevel
	}
	sum := 0.0
	for _, x := range samples {
		x := float64(finite(x))
		sum += x * x
	}
	// 10 log10 of the mean square is 20 log10 of the root mean square.
	db := -10 * math.Log10(sum/float64(len(samples)))
	return uint8(math.Round(max(0, min(db, SilentLevel))))
}

// Peak is the largest magnitude among samples.
func Peak(samples []float32) float32 {
	var peak float32
	for _, x := range samples {
		peak = max(peak, abs(finite(x)))
	}
	return peak
}
