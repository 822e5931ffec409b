package lab

import "time"

// Parameters of [Comparison.Whole].
const (
	pieceLength = Rate / 20 // samples that are aligned and correlated together
	// A piece may stand this far from where its half second stands, or one of
	// the two beside it: playout that changes its delay does so by pitch periods
	// (up to 15 ms), by reading up to 1 % faster or slower (4 ms in half a
	// second), and at once in pauses.
	pieceSlack = 20 * time.Millisecond
)

// Whole tells how alike the half seconds in c.Windows are where each 50 ms of
// them is aligned by itself: the mean of their correlations, by power. A half
// second over which playout follows its target is not like itself as one piece
// (2 ms within it are two periods at 1 kHz), but nothing of it is missing, and
// nobody hears it. What is missing, made up or somebody else's stays unlike.
func (c Comparison) Whole(reference, sound []float32) []float64 {
	delay := samples(c.Delay)
	out := make([]float64, 0, len(c.Windows))
	for i, w := range c.Windows {
		at := samples(w.At)
		around := c.Windows[max(i-1, 0):min(i+2, len(c.Windows))]
		var sum, power float64
		for from := at; from+pieceLength <= at+window; from += pieceLength {
			piece := reference[from : from+pieceLength]
			level := rms(piece)
			best := 0.0
			for _, beside := range around {
				_, like := align(piece, sound, from+delay+samples(beside.Lag), samples(pieceSlack))
				best = max(best, like)
			}
			sum += best * level * level
			power += level * level
		}
		out = append(out, sum/power) // a window that speaks has power
	}
	return out
}
