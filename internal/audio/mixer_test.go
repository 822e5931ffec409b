package audio

import (
	"math"
	"math/rand/v2"
	"testing"
)

func constant(x float32) []float32 {
	b := make([]float32, 2*BlockFrames)
	for i := range b {
		b[i] = x
	}
	return b
}

// TestMixerSum: voices add up, each at its own gain, after the limiter's
// delay and nothing else.
func TestMixerSum(t *testing.T) {
	var m Mixer
	var a, b, c Gain
	a.Set(1)
	b.Set(0.5)
	c.Set(2)
	va, vb, vc := make([]float32, 2*BlockFrames), make([]float32, 2*BlockFrames), make([]float32, BlockFrames)
	rng := rand.New(rand.NewPCG(1, 2))
	var want, got []float32
	out := make([]float32, 2*BlockFrames)
	for block := range 10 {
		for i := range va {
			va[i], vb[i], vc[i/2] = rng.Float32()*0.2-0.1, rng.Float32()*0.2-0.1, rng.Float32()*0.2-0.1
		}
		m.Add(va, &a)
		m.Add(vb, &b)
		m.AddMono(vc, &c)
		m.Mix(out)
		got = append(got, out...)
		for i := range va {
			w := va[i] + 0.5*vb[i] + 2*vc[i/2]
			if block == 0 {
				w *= float32(i/2+1) / BlockFrames // fades in
			}
			want = append(want, w)
		}
	}
	for i := range got {
		w := float32(0)
		if i >= 2*LimiterFrames {
			w = want[i-2*LimiterFrames]
		}
		if math.Abs(float64(got[i]-w)) > 1e-6 {
			t.Fatalf("sample %d is %v, not %v", i, got[i], w)
		}
	}
}

// TestGainRamps: whatever is set when, in blocks and halves of them, the volume
// moves in steps that nobody hears, arrives, and a voice at 0 is silent.
func TestGainRamps(t *testing.T) {
	var m Mixer
	var g Gain
	rng := rand.New(rand.NewPCG(3, 4))
	voice, out := constant(0.5), make([]float32, 2*BlockFrames)
	last := float32(0)
	for range 500 {
		if rng.IntN(3) == 0 {
			g.Set(float32(rng.IntN(4)) / 3)
		}
		n := []int{2 * BlockFrames, 2 * PlayFrames}[rng.IntN(2)]
		m.Add(voice[:n], &g)
		m.Mix(out[:n])
		for i := 0; i < n; i += 2 {
			if step := math.Abs(float64(out[i] - last)); step > 0.5/BlockFrames+1e-6 {
				t.Fatalf("a step of %v", step)
			}
			last = out[i]
		}
	}
	g.Set(0)
	m.Add(voice[:2*PlayFrames], &g)
	if g.Silent() {
		t.Error("silent half a block after Set(0)")
	}
	m.Mix(out[:2*PlayFrames])
	m.Add(voice, &g)
	if !g.Silent() {
		t.Error("not silent a block after Set(0)")
	}
	m.Mix(out)
	m.Add(voice, &g)
	m.Mix(out)
	if Peak(out[2*LimiterFrames:]) != 0 {
		t.Error("heard at gain 0")
	}
}

func TestGainRange(t *testing.T) {
	for _, test := range [][2]float32{{-1, 0}, {0, 0}, {1, 1}, {100, MaxGain}, {float32(math.NaN()), 0}, {float32(math.Inf(1)), MaxGain}} {
		var g Gain
		g.Set(test[0])
		if g.Target() != test[1] {
			t.Errorf("Set(%v) is %v, not %v", test[0], g.Target(), test[1])
		}
	}
	if d := Decibels(-6); math.Abs(float64(d)-0.501187) > 1e-6 {
		t.Errorf("-6 dB is %v", d)
	}
}

// TestLimiterTransparent: below the threshold every sample passes as it is.
func TestLimiterTransparent(t *testing.T) {
	var l Limiter
	rng := rand.New(rand.NewPCG(5, 6))
	var in, out []float32
	for range 20 {
		b := make([]float32, 2*(1+rng.IntN(600)))
		for i := range b {
			b[i] = (rng.Float32()*2 - 1) * limiterThreshold
		}
		in = append(in, b...)
		l.Process(b)
		out = append(out, b...)
	}
	for i := 2 * LimiterFrames; i < len(out); i++ {
		if out[i] != in[i-2*LimiterFrames] {
			t.Fatalf("sample %d is %v, not %v", i, out[i], in[i-2*LimiterFrames])
		}
	}
}

// TestLimiterHolds: nothing leaves -1..1, and not by clipping either: each
// sample is what went in times a gain, the same for both channels, that asks
// no more than it must, and moves slowly.
func TestLimiterHolds(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	signals := map[string]func(i int) float32{
		"noise":   func(int) float32 { return (rng.Float32()*2 - 1) * 4 },
		"square":  func(i int) float32 { return float32(1-2*(i/24%2)) * 8 },
		"sine":    func(i int) float32 { return 2 * float32(math.Sin(float64(i)/17)) },
		"clicks":  func(i int) float32 { return map[bool]float32{true: 20}[i%997 == 0] },
		"swell":   func(i int) float32 { return float32(i) / 5000 * float32(math.Sin(float64(i)/9)) },
		"edges":   func(i int) float32 { return map[bool]float32{true: 1000, false: 0.1}[i%3000 > 2990] },
		"rare":    func(i int) float32 { return rng.Float32() * map[bool]float32{true: 3, false: 0.7}[rng.IntN(200) == 0] },
		"falling": func(i int) float32 { return 30 * float32(math.Exp(-float64(i)/3000)) },
	}
	for name, signal := range signals {
		t.Run(name, func(t *testing.T) {
			var l Limiter
			const frames = 30000
			in, out := make([]float32, 2*frames), make([]float32, 2*frames)
			for i := range frames {
				in[2*i] = signal(i)
				in[2*i+1] = -in[2*i] / 2
			}
			copy(out, in)
			for at := 0; at < len(out); {
				n := min(len(out)-at, 2*(1+rng.IntN(500)))
				l.Process(out[at : at+n])
				at += n
			}
			last := math.NaN()
			for i := LimiterFrames; i < frames; i++ {
				x, y := float64(in[2*(i-LimiterFrames)]), float64(out[2*i])
				if math.Abs(y) > 1 {
					t.Fatalf("frame %d: %v", i, y)
				}
				if math.Abs(float64(out[2*i+1])+y/2) > 1e-6 {
					t.Fatalf("frame %d: the channels have different gains", i)
				}
				if math.Abs(x) < 1e-3 {
					continue
				}
				gain := y / x
				if gain > 1+1e-6 {
					t.Fatalf("frame %d: gain of %v", i, gain)
				}
				if gain > soft(max(math.Abs(x), limiterThreshold))/max(math.Abs(x), limiterThreshold)+1e-6 {
					t.Fatalf("frame %d: %v passed as %v", i, x, y)
				}
				if name != "clicks" && math.Abs(gain-last) > 1.0/LimiterFrames+1e-6 {
					t.Fatalf("frame %d: gain from %v to %v", i, last, gain)
				}
				last = gain
			}
		})
	}
}

// TestLimiterRecovers: after a peak the gain is back at exactly 1, and after
// what is not a number too.
func TestLimiterRecovers(t *testing.T) {
	var l Limiter
	b := constant(0.3)
	b[100], b[201], b[302], b[403] = 5, float32(math.NaN()), float32(math.Inf(-1)), 1e30
	l.Process(b)
	for _, x := range b {
		if x != x || x > 1 || x < -1 {
			t.Fatalf("sample %v", x)
		}
	}
	// 0.8 s: ln(1/0.0001) times the release time, about 0.74 s.
	for range 80 {
		b = constant(0.3)
		l.Process(b)
	}
	if b[0] != 0.3 || b[len(b)-1] != 0.3 {
		t.Errorf("0.3 comes out as %v", b[0])
	}
}

func TestLevel(t *testing.T) {
	sine := func(amplitude float64) (b []float32) {
		for i := range BlockFrames {
			b = append(b, float32(amplitude*math.Sin(2*math.Pi*1000*float64(i)/Rate)))
		}
		return b
	}
	for _, test := range []struct {
		name    string
		samples []float32
		level   uint8
		peak    float32
	}{
		{"square of full scale", constant(-1), 0, 1},
		{"sine of full scale", sine(1), 3, 1},
		{"sine at -40 dBFS", sine(0.01), 43, 0.01},
		{"silence", constant(0), 127, 0},
		{"nearly silence", constant(1e-30), 127, 1e-30},
		{"too loud", constant(4), 0, 4},
		{"not a number", constant(float32(math.NaN())), 127, 0},
		{"nothing", nil, 127, 0},
	} {
		if got := Level(test.samples); got != test.level {
			t.Errorf("%s: level %d, not %d", test.name, got, test.level)
		}
		if got := Peak(test.samples); math.Abs(float64(got-test.peak)) > 1e-7 {
			t.Errorf("%s: peak %v, not %v", test.name, got, test.peak)
		}
	}
}

func TestMixerAllocations(t *testing.T) {
	var m Mixer
	var g Gain
	g.Set(2)
	voice, out := constant(0.6), make([]float32, 2*BlockFrames)
	if n := testing.AllocsPerRun(100, func() {
		m.Add(voice, &g)
		m.AddMono(voice[:BlockFrames], &g)
		m.Mix(out)
		Level(out)
		Peak(out)
	}); n != 0 {
		t.Errorf("%v allocations a block", n)
	}
}

// BenchmarkMixer is a block of eight voices, quiet and limited.
func BenchmarkMixer(b *testing.B) {
	for name, amplitude := range map[string]float32{"quiet": 0.01, "limited": 0.5} {
		b.Run(name, func(b *testing.B) {
			var m Mixer
			gains := make([]Gain, 8)
			voice, out := constant(amplitude), make([]float32, 2*BlockFrames)
			for b.Loop() {
				for i := range gains {
					gains[i].Set(1)
					m.Add(voice, &gains[i])
				}
				m.Mix(out)
			}
		})
	}
}
