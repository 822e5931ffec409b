package lab

import (
	"fmt"
	"math"
)

// Short-time objective intelligibility, after Taal, Hendriks, Heusdens and
// Jensen, "An algorithm for intelligibility prediction of time-frequency
// weighted noisy speech", IEEE Transactions on Audio, Speech, and Language
// Processing, September 2011. The numbers below are the paper's.
const (
	stoiRate    = 10000
	stoiFrame   = 256 // samples, half overlapping
	stoiFFT     = 512
	stoiBands   = 15    // third octaves
	stoiLowest  = 150.0 // Hz, centre of the first
	stoiSegment = 30    // frames that are correlated together, 384 ms
	stoiQuiet   = 40.0  // dB under the loudest frame: silence, left out
	stoiClip    = -15.0 // dB: the least signal-to-distortion ratio that counts
)

// STOI tells how intelligible sound is, from about 0 to 1, given the clean
// reference. Both are mono at 48 kHz, of one length, and aligned to a few
// milliseconds; see [Comparison.Intelligibility] where they are not.
func STOI(reference, sound []float32) (float64, error) {
	if len(reference) != len(sound) {
		return 0, fmt.Errorf("a reference of %v and sound of %v", duration(len(reference)), duration(len(sound)))
	}
	x, y := stoiAudible(resampleTo(reference, stoiRate), resampleTo(sound, stoiRate))
	a, b := stoiSpectrum(x), stoiSpectrum(y)
	if len(a) < stoiSegment {
		return 0, fmt.Errorf("too little speech in %v", duration(len(reference)))
	}
	sum, n := 0.0, 0
	for m := stoiSegment; m <= len(a); m++ {
		for j := range stoiBands {
			var p, q [stoiSegment]float64
			for i := range stoiSegment {
				p[i], q[i] = a[m-stoiSegment+i][j], b[m-stoiSegment+i][j]
			}
			sum += stoiCorrelation(&p, &q)
			n++
		}
	}
	return sum / float64(n), nil
}

// stoiCorrelation is the paper's intermediate measure d_j(m): y is scaled to
// the energy of x and clipped, then correlated.
func stoiCorrelation(x, y *[stoiSegment]float64) float64 {
	var xx, yy float64
	for i := range x {
		xx, yy = xx+x[i]*x[i], yy+y[i]*y[i]
	}
	scale := math.Sqrt(xx / (yy + 1e-30))
	most := 1 + math.Pow(10, -stoiClip/20)
	var mx, my float64
	for i := range x {
		y[i] = min(y[i]*scale, x[i]*most)
		mx, my = mx+x[i]/stoiSegment, my+y[i]/stoiSegment
	}
	var xy float64
	xx, yy = 0, 0
	for i := range x {
		a, b := x[i]-mx, y[i]-my
		xy, xx, yy = xy+a*b, xx+a*a, yy+b*b
	}
	return xy / math.Sqrt(xx*yy+1e-30)
}

// stoiAudible leaves out, of both, the frames in which x is silent, and puts
// the rest together again by overlap and add.
func stoiAudible(x, y []float64) (a, b []float64) {
	window := stoiWindow()
	const hop = stoiFrame / 2
	var energy []float64
	loudest := 0.0
	for at := 0; at+stoiFrame <= len(x); at += hop {
		e := 0.0
		for i, w := range window {
			e += w * w * x[at+i] * x[at+i]
		}
		energy, loudest = append(energy, e), max(loudest, e)
	}
	a, b = make([]float64, len(x)+stoiFrame), make([]float64, len(x)+stoiFrame)
	to := 0
	for k, e := range energy {
		if e <= loudest*math.Pow(10, -stoiQuiet/10) {
			continue
		}
		for i, w := range window {
			a[to+i] += w * x[k*hop+i]
			b[to+i] += w * y[k*hop+i]
		}
		to += hop
	}
	if to == 0 {
		return nil, nil
	}
	return a[:to+hop], b[:to+hop]
}

// stoiSpectrum is the size of each third octave in each frame.
func stoiSpectrum(x []float64) (frames [][stoiBands]float64) {
	window := stoiWindow()
	buf := make([]complex128, stoiFFT)
	for at := 0; at+stoiFrame <= len(x); at += stoiFrame / 2 {
		clear(buf)
		for i, w := range window {
			buf[i] = complex(w*x[at+i], 0)
		}
		fft(buf)
		var bands [stoiBands]float64
		for j := range bands {
			centre := stoiLowest * math.Pow(2, float64(j)/3)
			from := stoiBin(centre * math.Pow(2, -1.0/6))
			to := stoiBin(centre * math.Pow(2, 1.0/6))
			for k := from; k < to; k++ {
				bands[j] += real(buf[k])*real(buf[k]) + imag(buf[k])*imag(buf[k])
			}
			bands[j] = math.Sqrt(bands[j])
		}
		frames = append(frames, bands)
	}
	return frames
}

func stoiBin(hz float64) int { return int(math.Round(hz * stoiFFT / stoiRate)) }

func stoiWindow() (w [stoiFrame]float64) {
	for i := range w { // Hann without its two zeros
		w[i] = 0.5 - 0.5*math.Cos(2*math.Pi*float64(i+1)/(stoiFrame+1))
	}
	return w
}

// resampleTo brings sound from 48 kHz down to another rate by a windowed sinc
// of 16 zero crossings to each side.
func resampleTo(pcm []float32, rate int) []float64 {
	step := float64(Rate) / float64(rate)
	half := 16 * step
	cut := 0.92 / step
	out := make([]float64, int(float64(len(pcm))/step))
	for n := range out {
		at := float64(n) * step
		var sum float64
		for i := max(0, int(math.Ceil(at-half))); i <= min(len(pcm)-1, int(at+half)); i++ {
			d := float64(i) - at
			w := 0.5 + 0.5*math.Cos(math.Pi*d/half)
			if d != 0 {
				w *= math.Sin(math.Pi*d*cut) / (math.Pi * d * cut)
			}
			sum += w * cut * float64(pcm[i])
		}
		out[n] = sum
	}
	return out
}

// Intelligibility is STOI of the sound that c compared with the reference: each
// half second is taken from where c found it.
func (c Comparison) Intelligibility(reference, sound []float32) (float64, error) {
	lags := make(map[int]int) // by window
	for _, w := range c.Windows {
		if w.Correlation > 0.3 {
			lags[samples(w.At)/window] = samples(w.Lag)
		}
	}
	aligned := make([]float32, len(reference))
	lag := samples(c.Lag)
	for at := range aligned {
		if at%window == 0 {
			if l, ok := lags[at/window]; ok {
				lag = l
			}
		}
		if i := at + samples(c.Delay) + lag; i >= 0 && i < len(sound) {
			aligned[at] = sound[i]
		}
	}
	return STOI(reference, aligned)
}
