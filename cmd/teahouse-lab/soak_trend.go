package main

import (
	"math"
	"slices"
	"time"
)

// A soak asks of each figure whether it stays flat. A straight line is fitted
// to its samples by least squares, after the warm-up, and
//
//	growth = slope × the time between the first and the last sample
//	error  = the same of the slope's standard error
//
// It is not flat if its growth is above 0 by more than two errors, which
// chance does in one run of forty, and more than is allowed; or if any sample
// is above the bound.
type trend struct {
	Name    string  `json:"name"` // stable
	What    string  `json:"what"` // in words
	Unit    string  `json:"unit"`
	First   float64 `json:"first"` // after the warm-up
	Last    float64 `json:"last"`
	Least   float64 `json:"least"`
	Most    float64 `json:"most"`
	Growth  float64 `json:"growth"` // of the fitted line over the time
	Error   float64 `json:"error"`  // of the growth, one standard error
	Allowed float64 `json:"allowed"`
	Bound   float64 `json:"bound"` // of every sample
	Flat    bool    `json:"flat"`
}

// sample is one figure at one time.
type sample struct {
	at    time.Duration // since the start
	value float64
}

// leastSamples is how many samples a trend wants: with fewer a line has no
// error worth the name.
const leastSamples = 4

// judge fits the line to samples in the order of their time, leastSamples or
// more, and holds it to the rule.
func (t *trend) judge(samples []sample) {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = s.value
	}
	t.First, t.Last = values[0], values[len(values)-1]
	t.Least, t.Most = slices.Min(values), slices.Max(values)
	slope, deviation := fit(samples)
	lasting := (samples[len(samples)-1].at - samples[0].at).Seconds()
	t.Growth, t.Error = slope*lasting, deviation*lasting
	t.Flat = (t.Growth <= 2*t.Error || t.Growth <= t.Allowed) && t.Most <= t.Bound
}

// fit is the slope of the line of least squares, per second, and its standard
// error: s² = Σ residual² / (n − 2), error² = s² / Σ (t − mean t)².
func fit(samples []sample) (slope, deviation float64) {
	n := float64(len(samples))
	var meanT, meanV float64
	for _, s := range samples {
		meanT += s.at.Seconds() / n
		meanV += s.value / n
	}
	var tt, tv float64
	for _, s := range samples {
		dt := s.at.Seconds() - meanT
		tt += dt * dt
		tv += dt * (s.value - meanV)
	}
	if tt == 0 {
		return 0, 0
	}
	slope = tv / tt
	var rest float64
	for _, s := range samples {
		r := s.value - meanV - slope*(s.at.Seconds()-meanT)
		rest += r * r
	}
	return slope, math.Sqrt(rest / (n - 2) / tt)
}
