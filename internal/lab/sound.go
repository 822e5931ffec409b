package lab

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// Parameters of [Compare].
const (
	window = Rate / 2 // samples that are aligned and correlated together
	// A window of the reference quieter than this part of its loudest one is
	// not correlated: -40 dB, where a codec's noise outweighs the speech.
	quietWindow = 0.01
	minGap      = 20 * time.Millisecond
)

// Window is how one half second of the reference came through.
type Window struct {
	At          time.Duration // in the reference
	Lag         time.Duration // of the sound against Comparison.Delay
	Correlation float64       // -1 to 1
}

// Gap is a silence in the sound where the reference has none.
type Gap struct {
	At     time.Duration // in the reference
	Length time.Duration
}

// Comparison is what became of a reference on its way.
type Comparison struct {
	Delay   time.Duration // of the sound against the reference, as a whole
	Windows []Window      // only those in which the reference speaks
	Lag     time.Duration // the median of theirs
	Median  float64       // of their correlations
	Worst   float64
	Gaps    []Gap // of 20 ms and more
}

func (c Comparison) String() string {
	return fmt.Sprintf("delay %v, correlation of %d windows: median %.3f, worst %.3f; %d gaps %v",
		c.Delay.Round(100*time.Microsecond), len(c.Windows), c.Median, c.Worst, len(c.Gaps), c.Gaps)
}

// Compare finds reference within sound (both mono at 48 kHz) and measures,
// half second by half second, each aligned anew within ±30 ms, how alike they
// are, and where sound is silent for 20 ms or more though the reference is
// not. Sound must hold all of the reference: what is missing at its end counts
// as silence.
func Compare(reference, sound []float32) (Comparison, error) {
	return CompareWithin(reference, sound, 30*time.Millisecond)
}

// CompareWithin is Compare for a delay that moves: each half second may be out
// of the common delay by as much as d.
func CompareWithin(reference, sound []float32, d time.Duration) (Comparison, error) {
	slack := samples(d)
	if len(reference) < window {
		return Comparison{}, fmt.Errorf("a reference of %v is too short to compare", duration(len(reference)))
	}
	delay := Delay(reference, sound)
	c := Comparison{Delay: duration(delay)}
	loudest := 0.0
	for at := 0; at+window <= len(reference); at += window {
		loudest = max(loudest, rms(reference[at:at+window]))
	}
	if loudest == 0 {
		return c, fmt.Errorf("the reference is silent")
	}
	lags, lag := make([]int, 0, len(reference)/window), 0
	for at := 0; at+window <= len(reference); at += window {
		ref := reference[at : at+window]
		if rms(ref) < quietWindow*loudest {
			lags = append(lags, lag) // a pause lies where the speech before it does
			continue
		}
		var corr float64
		lag, corr = align(ref, sound, at+delay, slack)
		lags = append(lags, lag)
		c.Windows = append(c.Windows, Window{At: duration(at), Lag: duration(lag), Correlation: corr})
	}
	all := make([]float64, len(c.Windows))
	for i, w := range c.Windows {
		all[i] = w.Correlation
	}
	slices.Sort(all)
	c.Worst, c.Median = all[0], all[len(all)/2]
	late := slices.SortedFunc(slices.Values(c.Windows), func(a, b Window) int { return cmp.Compare(a.Lag, b.Lag) })
	c.Lag = late[len(late)/2].Lag
	c.Gaps = gaps(reference, sound, delay, lags, loudest)
	return c, nil
}

// align finds the shift of at most slack samples at which sound, from at on,
// is most like ref, and the normalised correlation there.
func align(ref, sound []float32, at, slack int) (lag int, best float64) {
	from := at - slack
	piece := make([]float64, len(ref)+2*slack) // zeros where there is no sound
	for i := range piece {
		if j := from + i; j >= 0 && j < len(sound) {
			piece[i] = float64(sound[j])
		}
	}
	energy := make([]float64, len(piece)+1) // running sums
	for i, s := range piece {
		energy[i+1] = energy[i] + s*s
	}
	x := make([]float64, len(ref))
	var refEnergy float64
	for i, s := range ref {
		x[i] = float64(s)
		refEnergy += x[i] * x[i]
	}
	best = -1
	for i, dot := range correlate(x, piece)[:2*slack+1] {
		power := refEnergy * (energy[i+len(ref)] - energy[i])
		c := 0.0
		if power > 1e-12 {
			c = dot / math.Sqrt(power)
		}
		if c > best {
			best, lag = c, i-slack
		}
	}
	return lag, best
}

// Delay is by how many samples sound is later than reference where both are
// most alike as a whole (cross-correlation). It may be negative.
func Delay(reference, sound []float32) int {
	// Coarse at 8 kHz over the whole length, then fine.
	const step = 6
	a, b := decimate(reference, step), decimate(sound, step)
	// Positions of b before the beginning count too.
	padded := append(make([]float64, len(a)), b...)
	best, coarse := math.Inf(-1), 0
	for i, v := range correlate(a, padded) {
		if v > best {
			best, coarse = v, (i-len(a))*step
		}
	}
	// The loudest seconds decide the rest.
	n := min(len(reference), 4*Rate)
	at, loud := 0, -1.0
	for i := 0; i+n <= len(reference); i += Rate {
		if r := rms(reference[i : i+n]); r > loud {
			at, loud = i, r
		}
	}
	bestDot, fine := math.Inf(-1), 0
	for d := -2 * step; d <= 2*step; d++ {
		var dot float64
		for i, s := range reference[at : at+n] {
			if j := at + i + coarse + d; j >= 0 && j < len(sound) {
				dot += float64(s) * float64(sound[j])
			}
		}
		if dot > bestDot {
			bestDot, fine = dot, d
		}
	}
	return coarse + fine
}

// gaps walks over sound in blocks of 1 ms. A run of quiet blocks of 20 ms and
// more is a gap unless the reference has, within ±30 ms of there, a stretch of
// that length as quiet in its own terms. Where the half seconds around it are
// unlike late, the delay has changed thereabouts, which playout likes to do in
// pauses: one may lie where any of them says, and be longer by the difference.
func gaps(reference, sound []float32, delay int, lags []int, loudest float64) (found []Gap) {
	const block = Rate / 1000
	// Speech falls below -50 dB of its loudest half second only in pauses; a
	// gap filled with nothing, or with comfort noise, is below that.
	silent := loudest * 0.003
	level := func(pcm []float32, at int) float64 {
		if at < 0 || at+block > len(pcm) {
			return 0
		}
		return rms(pcm[at : at+block])
	}
	last := len(lags) - 1
	lagAt := func(at int) int { return lags[min(at/window, last)] }
	pause := func(at, run int) bool {
		around := lags[max(min(at/window, last)-1, 0) : min((at+run)/window+1, last)+1]
		n := max(run-(slices.Max(around)-slices.Min(around)), samples(minGap))
		return slices.ContainsFunc(around, func(lag int) bool {
			return quietNear(reference, at+lagAt(at)-lag, n, silent*2)
		})
	}
	for at := 0; at+block <= len(reference); {
		run := 0
		for ; at+run+block <= len(reference); run += block {
			if level(sound, at+run+delay+lagAt(at+run)) >= silent {
				break
			}
		}
		if duration(run) >= minGap && !pause(at, run) {
			found = append(found, Gap{At: duration(at), Length: duration(run)})
		}
		at += max(run, block)
	}
	return found
}

// quietNear tells whether the reference has a stretch of nearly n samples
// under level (its blocks of 5 ms) that begins within 30 ms of at.
func quietNear(reference []float32, at, n int, level float64) bool {
	const block = Rate / 200
	n = max(n*3/4/block, 1) * block // a fade at both edges is not silent
	const slack = Rate * 30 / 1000
	for from := max(0, at-slack); from <= at+slack && from+n <= len(reference); from += block / 5 {
		quiet := true
		for i := from; i < from+n && quiet; i += block {
			quiet = rms(reference[i:i+block]) < level
		}
		if quiet {
			return true
		}
	}
	return false
}

// rms is the root of the mean square.
func rms(pcm []float32) float64 {
	var sum float64
	for _, s := range pcm {
		sum += float64(s) * float64(s)
	}
	return math.Sqrt(sum / float64(max(1, len(pcm))))
}

// decimate averages each step samples into one.
func decimate(pcm []float32, step int) []float64 {
	out := make([]float64, len(pcm)/step)
	for i := range out {
		for _, s := range pcm[i*step : (i+1)*step] {
			out[i] += float64(s)
		}
	}
	return out
}
