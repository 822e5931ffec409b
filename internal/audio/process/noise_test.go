package process

import (
	"flag"
	"fmt"
	"math"
	"testing"

	"teahouse/internal/audio"
)

// sweep makes TestNoise and TestDoubleTalk as long as for the figures in
// docs/measurements.md: minutes.
var sweep = flag.Bool("sweep", false, "more noise and more rooms, for docs/measurements.md")

// TestNoise: in a fan's noise, and among people who talk at once, more words
// are recognised than without. Each digit is said at three levels in each of
// several stretches of noise.
func TestNoise(t *testing.T) {
	const lead = 3 * audio.Rate // to learn the noise
	type kind struct {
		name string
		make func(n int, dbfs float64, take int) []float32
	}
	fanNoise := kind{"fan", func(n int, dbfs float64, take int) []float32 { return fan(n, dbfs, uint64(7+take)) }}
	babbling := kind{"babble", func(n int, dbfs float64, take int) []float32 {
		skip := take * 7 * audio.Rate / 10
		x := babble(t, skip+n, 0)[skip:]
		return scaled(x, math.Pow(10, (dbfs-power(x))/20))
	}}
	for _, c := range []struct {
		engine Engine
		kind   kind
		takes  int
		less   float64 // dB
		more   int     // words
	}{
		// Best suppresses noise with it as well.
		{WebRTC, fanNoise, 2, 4, 5},
		{WebRTC, babbling, 3, 1, 2},
		{Speex, fanNoise, 1, 6, 4},
		{Speex, babbling, 1, 1, -1},
	} {
		t.Run(c.engine.String()+"/"+c.kind.name, func(t *testing.T) {
			if *sweep {
				c.takes = 4
			}
			var before, after [][]float32
			var lowered float64
			for take := range c.takes {
				for _, snr := range []float64{0, 5, 10} {
					in := c.kind.make(lead+20*audio.Rate, -20-snr, take)
					for n := range digits {
						in = mix(in, atLevel(digit(t, n), -20), lead+2*n*audio.Rate)
					}
					out := run(newProcessor(t, Config{Stages: Stages{Noise: true}, Engine: c.engine}), in)
					for n := range digits {
						from := lead + 2*n*audio.Rate - around
						to := from + len(digit(t, n)) + 2*around
						before, after = append(before, in[from:to]), append(after, out[from:to])
					}
					lowered = power(in[2*audio.Rate:lead-around]) - power(out[2*audio.Rate:lead-around])
				}
			}
			heard, heardBefore := recognise(t, after), recognise(t, before)
			byTake := ""
			for i := 0; i < len(heard); i += 30 {
				byTake += fmt.Sprintf(" %d-%d", right(heardBefore[i:i+30]), right(heard[i:i+30]))
			}
			got, without := right(heard), right(heardBefore)
			t.Logf("%d of %d digits recognised, %d without (by take%s); noise alone lowered by %.1f dB",
				got, len(after), without, byTake, lowered)
			if got < without+c.more {
				t.Errorf("%d digits recognised with noise suppression, %d without", got, without)
			}
			if lowered < c.less {
				t.Errorf("noise is lowered by %.1f dB, not by %.0f", lowered, c.less)
			}
		})
	}
}
