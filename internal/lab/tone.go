package lab

import (
	"math"
	"slices"
)

// ToneLevel is the amplitude of the sine of hz in pcm (48 kHz), by Goertzel's
// algorithm: 1 for a full-scale sine. Leakage between two tones is under 1 %
// when they differ by more than 10/(duration in seconds) Hz.
func ToneLevel(pcm []float32, hz float64) float64 {
	if len(pcm) == 0 {
		return 0
	}
	w := 2 * math.Pi * hz / Rate
	c := 2 * math.Cos(w)
	var s1, s2, sum float64
	for i, x := range pcm {
		// Hann window, so that a loud neighbour does not leak.
		h := 0.5 - 0.5*math.Cos(2*math.Pi*float64(i)/float64(len(pcm)))
		sum += h
		s1, s2 = float64(x)*h+c*s1-s2, s1
	}
	power := s1*s1 + s2*s2 - c*s1*s2
	return 2 * math.Sqrt(max(0, power)) / sum
}

// Heard takes pcm in blocks of 100 ms, so that a tone that changes its phase
// (concealed, stretched) still counts, and gives the median of the levels of
// the tone of hz, and in which part of the blocks it is at least enough.
func Heard(pcm []float32, hz, enough float64) (level, part float64) {
	const block = Rate / 10
	var levels []float64
	heard := 0
	for at := 0; at+block <= len(pcm); at += block {
		l := ToneLevel(pcm[at:at+block], hz)
		levels = append(levels, l)
		if l >= enough {
			heard++
		}
	}
	if len(levels) == 0 {
		return 0, 0
	}
	slices.Sort(levels)
	return levels[len(levels)/2], float64(heard) / float64(len(levels))
}
