package main

import (
	"math"
	"math/rand/v2"
)

// speechRate is the sample rate of everything here, in Hz.
const speechRate = 48000

// speech makes mono sound that costs a codec about as much as a voice: a
// glottal tone with its harmonics under moving formants, four syllables a
// second, with breath between and under them. It is the same at every call,
// so that figures can be compared, and needs no recording to be there.
func speech(samples int) []float32 {
	rng := rand.New(rand.NewPCG(1, 2))
	pcm := make([]float32, samples)
	var phase float64
	for i := range pcm {
		t := float64(i) / speechRate
		pitch := 130 + 25*math.Sin(2*math.Pi*0.7*t) + 8*math.Sin(2*math.Pi*3.1*t)
		phase += 2 * math.Pi * pitch / speechRate
		formants := [2]float64{500 + 250*math.Sin(2*math.Pi*1.3*t), 1600 + 600*math.Sin(2*math.Pi*0.9*t)}
		var voice float64
		for h := 1.0; h*pitch < 4000; h++ {
			var gain float64
			for _, f := range formants {
				away := (h*pitch - f) / 180
				gain += math.Exp(-away * away)
			}
			voice += gain / math.Sqrt(h) * math.Sin(h*phase)
		}
		syllable := math.Pow(math.Max(0, math.Sin(2*math.Pi*2*t)), 0.5)
		breath := rng.NormFloat64() * 0.02
		pcm[i] = float32(0.2*voice*syllable + breath*(0.2+syllable))
	}
	return pcm
}
