package lab

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// babble is a voice-like sound: harmonics that glide, in syllables.
func babble(n int, seed uint64) []float32 {
	rng := rand.New(rand.NewPCG(seed, 5))
	pcm := make([]float32, 0, n)
	phase := 0.0
	for len(pcm) < n {
		length, f0 := Rate/8+rng.IntN(Rate/8), 100+100*rng.Float64()
		formant := 500 + 2000*rng.Float64()
		silent := rng.IntN(4) == 0
		for i := range length {
			phase += 2 * math.Pi * f0 / Rate
			s := 0.0
			for h := 1.0; h*f0 < 4000 && !silent; h++ {
				s += math.Sin(h*phase) * (0.05/h + 0.1*math.Exp(-math.Abs(h*f0-formant)/200))
			}
			pcm = append(pcm, float32(s*math.Sin(math.Pi*float64(i)/float64(length))))
		}
	}
	return pcm[:n]
}

func TestSTOI(t *testing.T) {
	clean := babble(8*Rate, 1)
	stoi := func(x []float32) float64 {
		t.Helper()
		d, err := STOI(clean, x)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if d := stoi(clean); d < 0.9999 {
		t.Errorf("of itself: %.4f", d)
	}
	louder := make([]float32, len(clean))
	for i, s := range clean {
		louder[i] = -3 * s
	}
	if d := stoi(louder); d < 0.9999 {
		t.Errorf("louder: %.4f", d)
	}
	// The louder the noise, the less; noise alone is hardly like it at all.
	rng := rand.New(rand.NewPCG(2, 2))
	last := 1.0
	for _, db := range []float64{30, 10, 0, -10, -20} {
		noise := rms(clean) * math.Pow(10, -db/20)
		x := make([]float32, len(clean))
		for i, s := range clean {
			x[i] = s + float32(noise*rng.NormFloat64())
		}
		d := stoi(x)
		t.Logf("%+.0f dB: %.3f", db, d)
		if d >= last {
			t.Errorf("at %+.0f dB: %.3f, not under %.3f", db, d, last)
		}
		last = d
	}
	if last > 0.45 {
		t.Errorf("in noise of 20 dB more: still %.3f", last)
	}
	if d := stoi(babble(len(clean), 9)); d > 0.4 {
		t.Errorf("of another voice: %.3f", d)
	}
	if _, err := STOI(clean, clean[1:]); err == nil {
		t.Error("two lengths were taken")
	}
	if _, err := STOI(make([]float32, Rate), make([]float32, Rate)); err == nil {
		t.Error("silence was taken")
	}
}

// A delay, and one that moves by what a receiver may move it, costs next to
// nothing.
func TestIntelligibilityFollowsTheDelay(t *testing.T) {
	clean := babble(8*Rate, 1)
	sound := make([]float32, Rate/5, 10*Rate)
	sound = append(sound, clean[:4*Rate]...)
	sound = append(sound, make([]float32, Rate/50)...) // 20 ms more from here on
	sound = append(sound, clean[4*Rate:]...)
	sound = append(sound, make([]float32, Rate)...)
	c, err := CompareWithin(clean, sound, 60*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	d, err := c.Intelligibility(clean, sound)
	if err != nil || d < 0.97 {
		t.Errorf("%.3f, %v", d, err)
	}
}
