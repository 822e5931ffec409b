package audio

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

func newResampler(t testing.TB, from, to, channels int, q Quality) *Resampler {
	t.Helper()
	r, err := NewResampler(from, to, channels, q)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// convertSine resamples a second of a sine of amplitude 1 and compares it,
// away from its ends, with the sine at the new rate: level is what the output
// has of it, in dB, and rest what it has else.
func convertSine(t testing.TB, from, to int, q Quality, hz float64) (level, rest float64) {
	t.Helper()
	r := newResampler(t, from, to, 1, q)
	in := make([]float32, from)
	for i := range in {
		in[i] = float32(math.Sin(2 * math.Pi * hz * float64(i) / float64(from)))
	}
	out := make([]float32, 2*to)
	_, n := r.Process(out, in)
	lo, hi := n/4, n*3/4
	// Least squares on sine and cosine of hz, at the same phase as the input.
	var ys, yc, ss, cc, sc float64
	for i := lo; i < hi; i++ {
		sin, cos := math.Sincos(2 * math.Pi * hz * float64(i) / float64(to))
		ys += float64(out[i]) * sin
		yc += float64(out[i]) * cos
		ss += sin * sin
		cc += cos * cos
		sc += sin * cos
	}
	det := ss*cc - sc*sc
	s, c := (ys*cc-yc*sc)/det, (yc*ss-ys*sc)/det
	var power float64
	for i := lo; i < hi; i++ {
		w := 2 * math.Pi * hz * float64(i) / float64(to)
		d := float64(out[i]) - s*math.Sin(w) - c*math.Cos(w)
		power += d * d
	}
	if hz < float64(to)/2 && math.Abs(c) > 1e-3*math.Hypot(s, c) {
		t.Errorf("%d to %d Hz: %v Hz is shifted by %v rad", from, to, hz, math.Atan2(c, s))
	}
	return 20 * math.Log10(math.Hypot(s, c)), 10 * math.Log10(2*power/float64(hi-lo)+1e-20)
}

// TestResamplerResponse: flat in the band, nothing beside it, nothing folded
// back from beyond it.
func TestResamplerResponse(t *testing.T) {
	for _, test := range []struct {
		from, to int
		q        Quality
		pass     float64 // of the lower Nyquist frequency
	}{
		{44100, 48000, QualityFile, 0.9},
		{48000, 44100, QualityFile, 0.9},
		{44100, 48000, QualityDevice, 0.8},
		{48000, 44100, QualityDevice, 0.8},
		{16000, 48000, QualityFile, 0.9},
		{8000, 48000, QualityFile, 0.9},
		{96000, 48000, QualityFile, 0.9},
		{192000, 48000, QualityFile, 0.9},
		{44099, 48000, QualityFile, 0.9}, // interpolated phases
		{48000, 47999, QualityDevice, 0.8},
		{383999, 48000, QualityFile, 0.9},
	} {
		t.Run(fmt.Sprintf("%d to %d, %d", test.from, test.to, test.q), func(t *testing.T) {
			nyquist := float64(min(test.from, test.to)) / 2
			for _, part := range []float64{0.01, 0.1, 0.33, 0.7, 1} {
				hz := math.Round(part * test.pass * nyquist)
				level, rest := convertSine(t, test.from, test.to, test.q, hz)
				if math.Abs(level) > 0.01 {
					t.Errorf("%v Hz comes out at %.3f dB", hz, level)
				}
				if rest > -95 {
					t.Errorf("%v Hz leaves %.1f dB beside it", hz, rest)
				}
			}
			if test.from > test.to {
				for _, hz := range []float64{1.01 * nyquist, 1.2 * nyquist, 0.99 * float64(test.from) / 2} {
					if hz < nyquist || hz >= float64(test.from)/2 {
						continue // in the transition band, or no such sine
					}
					level, rest := convertSine(t, test.from, test.to, test.q, hz)
					if all := 10 * math.Log10(math.Pow(10, level/10)+math.Pow(10, rest/10)); all > -95 {
						t.Errorf("%v Hz, beyond the band, comes out at %.1f dB", hz, all)
					}
				}
			}
		})
	}
}

// TestResamplerConstant: 0 Hz is exact in every phase.
func TestResamplerConstant(t *testing.T) {
	for _, from := range []int{44100, 11025, 44099, 96000} {
		r := newResampler(t, from, Rate, 1, QualityDevice)
		in := make([]float32, from/10)
		for i := range in {
			in[i] = 0.5
		}
		out := make([]float32, Rate/5)
		_, n := r.Process(out, in)
		for i := n / 2; i < n; i++ {
			if math.Abs(float64(out[i])-0.5) > 1e-6 {
				t.Fatalf("%d Hz: sample %d is %v", from, i, out[i])
			}
		}
	}
}

// TestResamplerPieces: however a stream is cut up, the output is the same and
// no frame is lost or made up.
func TestResamplerPieces(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, rates := range [][2]int{{44100, 48000}, {48000, 44100}, {44099, 48000}, {384000, 8000}, {1000, 384000}, {48000, 48000}} {
		in := make([]float32, 2*5000)
		for i := range in {
			in[i] = rng.Float32()*2 - 1
		}
		whole := make([]float32, 2*5000*400)
		_, n := newResampler(t, rates[0], rates[1], 2, QualityDevice).Process(whole, in)
		whole = whole[:2*n]
		r := newResampler(t, rates[0], rates[1], 2, QualityDevice)
		want := (5000 - r.Delay()) * rates[1] / rates[0]
		if n < want || n > want+rates[1]/rates[0]+1 {
			t.Errorf("%v: %d frames from 5000, not %d", rates, n, want)
		}
		var got []float32
		for rest := in; len(rest) > 0; {
			part := rest[:2*min(len(rest)/2, rng.IntN(700))]
			room := make([]float32, 2*rng.IntN(500))
			took, wrote := r.Process(room, part)
			got = append(got, room[:2*wrote]...)
			rest = rest[2*took:]
		}
		for {
			room := make([]float32, 1000)
			_, wrote := r.Process(room, nil)
			if wrote == 0 {
				break
			}
			got = append(got, room[:2*wrote]...)
		}
		if len(got) != len(whole) {
			t.Fatalf("%v: %d samples in pieces, %d at once", rates, len(got), len(whole))
		}
		for i := range got {
			if got[i] != whole[i] {
				t.Fatalf("%v: sample %d is %v in pieces, %v at once", rates, i, got[i], whole[i])
			}
		}
	}
}

func TestResamplerLimits(t *testing.T) {
	for _, bad := range [][4]int{{MinRate - 1, Rate, 1, 32}, {MaxRate + 1, Rate, 1, 32}, {Rate, 0, 1, 32}, {Rate, Rate, 0, 32}, {Rate, Rate, 3, 32}, {Rate, Rate, 1, 0}} {
		if _, err := NewResampler(bad[0], bad[1], bad[2], Quality(bad[3])); err == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
}

func TestResamplerAllocations(t *testing.T) {
	r := newResampler(t, 44100, Rate, 2, QualityDevice)
	in, out := make([]float32, 2*441), make([]float32, 2*BlockFrames)
	if n := testing.AllocsPerRun(100, func() { r.Process(out, in) }); n != 0 {
		t.Errorf("%v allocations a block", n)
	}
}

func BenchmarkResampler(b *testing.B) {
	for _, q := range []Quality{QualityDevice, QualityFile} {
		b.Run(fmt.Sprint(int(q)), func(b *testing.B) {
			r := newResampler(b, 44100, Rate, 2, q)
			in, out := make([]float32, 2*441), make([]float32, 2*(BlockFrames+1))
			for b.Loop() {
				r.Process(out, in)
			}
		})
	}
}
