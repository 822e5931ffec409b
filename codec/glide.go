package codec

import "math"

// A glide changes the delay without a joint: the tape is read a little faster
// or slower than it was written, through a fractional-delay filter (windowed
// sinc; Laakso et al., "Splitting the unit delay", IEEE Signal Processing
// Magazine, January 1996). One part in 1024 is 1.7 cents of pitch, a fifth of
// what can be told apart, and a millisecond a second: three times what two
// clocks that are 300 ppm apart need. Eight parts, 14 cents, are heard in
// sustained tones but not in speech; they serve after a bad stretch.
//
// The filter has a table of as many phases as the unit of speed has parts, so
// nothing is rounded: after 1024 samples at speed 1 the tape is one sample
// further and at phase 0 again, where the filter is the identity.

const (
	glidePhases = 1024 // parts of a sample; speeds count in these
	glideTaps   = 24   // flat to 20 kHz, images below -60 dB
	glideDelay  = glideTaps / 2

	glideSlow = 1
	glideSoon = 4 // before drift has used up what there is to spare
	glideFast = 8 // 7.8 ms a second
)

var glideTable = func() (table [glidePhases][glideTaps]float32) {
	const shape = 5.65 // Kaiser window for 60 dB
	for phase := range table {
		var taps [glideTaps]float64
		sum := 0.0
		for k := range taps {
			// Tap k is the sample k - (glideTaps/2 - 1) after the one where
			// phase 0 reads.
			x := float64(k-glideTaps/2+1) - float64(phase)/glidePhases
			edge := x / (glideTaps / 2)
			taps[k] = bessel0(shape*math.Sqrt(max(0, 1-edge*edge))) / bessel0(shape)
			if math.Abs(x) > 1e-12 {
				taps[k] *= math.Sin(math.Pi*x) / (math.Pi * x)
			}
			sum += taps[k]
		}
		for k := range taps {
			table[phase][k] = float32(taps[k] / sum) // one at 0 Hz
		}
	}
	for k := range table[0] { // the identity, to the bit
		table[0][k] = 0
	}
	table[0][glideTaps/2-1] = 1
	return table
}()

// bessel0 is the modified Bessel function of the first kind and order 0.
func bessel0(x float64) float64 {
	sum, term := 1.0, 1.0
	for k := 1.0; term > 1e-9*sum; k++ {
		term *= x * x / (4 * k * k)
		sum += term
	}
	return sum
}

// read moves what fits from the tape into pcm, and tells how many samples. For
// each it goes one sample on, and speed parts of a sample more (or less).
func (t *tape) read(pcm []float32, speed int) (n int) {
	if speed == 0 && t.phase == 0 {
		n = min(t.pending(), len(pcm)/2)
		copy(pcm, t.buf[2*(t.head-glideDelay):2*(t.head-glideDelay+n)])
		t.head += n
		return n
	}
	for n < len(pcm)/2 {
		if t.phase >= glidePhases && t.head < t.tail {
			t.phase -= glidePhases
			t.head++
		}
		if t.head >= t.tail {
			break
		}
		var left, right float32
		taps := &glideTable[t.phase]
		from := t.buf[2*(t.head-glideTaps+1) : 2*(t.head+1)]
		for k, h := range taps {
			left += h * from[2*k]
			right += h * from[2*k+1]
		}
		pcm[2*n], pcm[2*n+1] = left, right
		n++
		if t.phase += speed; t.phase < 0 {
			t.phase += glidePhases // and head stays
		} else {
			t.head++
		}
	}
	return n
}
