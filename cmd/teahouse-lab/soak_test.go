package main

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

func series(n int, value func(i int) float64) []sample {
	all := make([]sample, n)
	for i := range all {
		all[i] = sample{at: time.Duration(i) * time.Minute, value: value(i)}
	}
	return all
}

func TestFit(t *testing.T) {
	slope, deviation := fit(series(10, func(i int) float64 { return 5 + 3*float64(i) }))
	if math.Abs(slope-0.05) > 1e-12 || deviation > 1e-12 {
		t.Errorf("slope %v a second, error %v", slope, deviation)
	}
	// 1, 2, 4 at 0, 60, 120 s: slope 1.5 a minute, residuals 1/6, -1/3, 1/6.
	slope, deviation = fit(series(3, func(i int) float64 { return []float64{1, 2, 4}[i] }))
	if math.Abs(slope*60-1.5) > 1e-12 || math.Abs(deviation*60-math.Sqrt(1./6/2)) > 1e-12 {
		t.Errorf("slope %v a minute, error %v", slope*60, deviation*60)
	}
}

// What leaks is found, and what only trembles is not.
func TestTrend(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	noise := func() float64 { return rng.NormFloat64() * 3 }
	for _, c := range []struct {
		name  string
		value func(i int) float64
		flat  bool
	}{
		{"constant", func(int) float64 { return 100 }, true},
		{"trembling", func(int) float64 { return 100 + noise() }, true},
		{"falling", func(i int) float64 { return 100 - float64(i) }, true},
		{"creeping, as much as is allowed", func(i int) float64 { return 100 + 0.6*float64(i) }, true},
		{"one goroutine a minute", func(i int) float64 { return 100 + float64(i) }, false},
		{"the same, trembling", func(i int) float64 { return 100 + 2*float64(i) + noise() }, false},
		{"a step in the middle", func(i int) float64 { return 100 + 25*math.Floor(float64(i)/8) }, false},
		{"one peak", func(i int) float64 { return 100 + 60*float64(max(0, 1-(i-7)*(i-7))) }, false},
	} {
		f := trend{Allowed: 10, Bound: 150}
		f.judge(series(15, c.value))
		if f.Flat != c.flat {
			t.Errorf("%s: flat is %v: %+v", c.name, f.Flat, f)
		}
	}
}
