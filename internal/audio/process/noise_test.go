package process

import (
	"testing"

	"teahouse/internal/audio"
)

// TestNoise: in a fan's noise more words are recognised than without. Among
// people who talk at once, which no suppressor of one microphone can tell from
// the one who is meant, they are at least not many fewer.
func TestNoise(t *testing.T) {
	const lead = 3 * audio.Rate // to learn the noise
	type kind struct {
		name string
		make func(n int, dbfs float64) []float32
		snrs []float64
		less float64 // dB
		more int     // words
	}
	for _, engine := range []Engine{WebRTC, Speex} {
		for _, k := range []kind{
			{"fan", func(n int, dbfs float64) []float32 { return fan(n, dbfs, 7) }, []float64{0, 5, 10}, 8, 3},
			{"babble", func(n int, dbfs float64) []float32 { return babble(t, n, dbfs) }, []float64{0, 5, 10}, 2, -4},
		} {
			t.Run(engine.String()+"/"+k.name, func(t *testing.T) {
				var before, after [][]float32
				var lowered float64
				for _, snr := range k.snrs {
					in := k.make(lead+20*audio.Rate, -20-snr)
					for n := range digits {
						in = mix(in, atLevel(digit(t, n), -20), lead+2*n*audio.Rate)
					}
					out := run(newProcessor(t, Config{Stages: Stages{Noise: true}, Engine: engine}), in)
					for n := range digits {
						from := lead + 2*n*audio.Rate - around
						to := from + len(digit(t, n)) + 2*around
						before, after = append(before, in[from:to]), append(after, out[from:to])
					}
					lowered = power(in[2*audio.Rate:lead-around]) - power(out[2*audio.Rate:lead-around])
				}
				got, without := right(recognise(t, after)), right(recognise(t, before))
				t.Logf("%d of %d digits recognised, %d without; noise alone lowered by %.1f dB", got, len(after), without, lowered)
				if got < without+k.more {
					t.Errorf("%d digits recognised with noise suppression, %d without", got, without)
				}
				if lowered < k.less {
					t.Errorf("noise is lowered by %.1f dB, not by %.0f", lowered, k.less)
				}
			})
		}
	}
}
