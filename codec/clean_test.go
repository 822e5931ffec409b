package codec

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"
)

// What stands in addition to the path on a clean LAN is a frame, Opus' look-ahead
// of 6.5 ms, and 5 ms, half a Pull of the program on the average over where frames
// and Pulls stand to each other included. Measured by sound, once the receiver
// knows that the path is clean: the shift at which what was captured is most
// like what is pulled.
func TestDelayOnACleanLAN(t *testing.T) {
	const path = 300 * time.Microsecond
	voice := speech(t)[:15*Rate]
	for _, length := range []int{480, 960} {
		for _, c := range []struct {
			block  int
			jitter time.Duration
			most   time.Duration // beyond the frame and the look-ahead
		}{
			{48, 0, 3 * ms},
			{240, 0, 5 * ms}, // the program's, and the period of a sound card
			{240, 300 * time.Microsecond, 5 * ms},
			{480, 0, 7500 * time.Microsecond},
		} {
			t.Run(fmt.Sprintf("%dms/%d/%v", length/48, c.block, c.jitter), func(t *testing.T) {
				var all []time.Duration
				rng := newRand(uint64(c.block))
				for phase := time.Duration(0); phase < 10*ms; phase += 1300 * time.Microsecond {
					out, stats := simulation{
						encoder: EncoderConfig{FrameSamples: length}, voice: voice, block: c.block, phase: phase,
						path: func(int, time.Duration) []time.Duration {
							return []time.Duration{path + time.Duration(rng.Float64()*float64(c.jitter))}
						},
					}.run(t)
					if stats.Lost > 0 || stats.Skipped > 0 {
						t.Fatalf("%+v", stats)
					}
					// The first sample is captured at 0, and out begins at phase.
					shift := delayOf(voice, out, 11*Rate)
					heard := time.Duration(shift)*time.Second/Rate + phase
					all = append(all, heard-path-time.Duration(length)*time.Second/Rate)
				}
				slices.Sort(all)
				sum := time.Duration(0)
				for _, d := range all {
					sum += d
				}
				mean := sum / time.Duration(len(all))
				t.Logf("beyond frame and path: %v in the mean, %v to %v, look-ahead included", mean, all[0], all[len(all)-1])
				if over := mean - 6500*time.Microsecond; over > c.most || over < 0 {
					t.Errorf("%v beyond frame, path and look-ahead, to be at most %v", over, c.most)
				}
			})
		}
	}
}

// delayOf is by how many samples out is later than ref, by correlation over the
// loudest second after from.
func delayOf(ref, out []float32, from int) int {
	at, most := 0, 0.0
	for i := from; i+2*Rate < len(ref); i += Rate / 4 {
		if r := rms(ref[i : i+Rate]); r > most {
			at, most = i, r
		}
	}
	best, shift := math.Inf(-1), 0
	for d := range Rate / 8 {
		sum := 0.0
		for i := 0; i < Rate; i += 7 {
			sum += float64(ref[at+i]) * float64(out[at+i+d])
		}
		if sum > best {
			best, shift = sum, d
		}
	}
	return shift
}

// A steady voice-like sound over a path that becomes bad and good again, so that
// its delay is stretched and cut and follows by gliding: at no time is there
// anything above its own highest partial that a click would bring, and no step
// between two samples that is larger than it makes itself.
func TestNoClicksWhileTheDelayMoves(t *testing.T) {
	const base, partials = 150.0, 12
	sound := make([]float32, 14*Rate)
	for i := range sound {
		for k := 1; k <= partials; k++ {
			sound[i] += float32(0.25 / float64(k) * math.Sin(2*math.Pi*base*float64(k*i)/Rate+float64(k*k)))
		}
	}
	c := EncoderConfig{Bitrate: 64000}
	still := throughOpus(t, c, sound)
	for seed := range uint64(4) {
		rng := newRand(seed)
		out, stats := simulation{encoder: c, voice: sound, path: func(_ int, sent time.Duration) []time.Duration {
			if sent > 3*time.Second && sent < 6*time.Second {
				return []time.Duration{time.Duration(rng.Float64() * 70e6)}
			}
			return []time.Duration{0}
		}}.run(t)
		if stats.StretchedDuration < 60*ms {
			t.Errorf("seed %d: stretched by %v alone", seed, stats.StretchedDuration)
		}
		// Past the first second; the last one is left out with its end.
		step, high := roughness(out[Rate : 13*Rate])
		plainStep, plainHigh := roughness(still[Rate : 13*Rate])
		t.Logf("seed %d: stretched %v, concealed %v; largest step %.4f (undisturbed %.4f), above 8 kHz %.1f dB (%.1f dB)",
			seed, stats.StretchedDuration, stats.ConcealedDuration, step, plainStep, high, plainHigh)
		if step > 1.3*plainStep {
			t.Errorf("seed %d: a step of %.4f, undisturbed %.4f", seed, step, plainStep)
		}
		// Comfort noise, where the voice had dried up for 100 ms, makes -43 dB.
		if high > -40 {
			t.Errorf("seed %d: %.1f dB above 8 kHz in some 10 ms, undisturbed %.1f dB", seed, high, plainHigh)
		}
	}
}

// roughness is the largest step between two samples, and the most of 10 ms that
// is above 8 kHz, in dB of all of it: what a click of one sample in it would
// make -20 dB and more.
func roughness(pcm []float32) (step, high float64) {
	high = math.Inf(-1)
	total := rms(pcm)
	taps := highPass()
	filtered := make([]float32, len(pcm))
	for i := len(taps); i < len(pcm); i++ {
		step = max(step, math.Abs(float64(pcm[i]-pcm[i-1])))
		sum := 0.0
		for k, h := range taps {
			sum += h * float64(pcm[i-k])
		}
		filtered[i] = float32(sum)
	}
	for i := len(taps); i+480 <= len(pcm); i += 240 {
		high = max(high, 20*math.Log10(rms(filtered[i:i+480])/total+1e-9))
	}
	return step, high
}

// highPass is a windowed sinc above 8 kHz (Blackman, 63 taps: -70 dB below 6).
func highPass() (taps [63]float64) {
	const middle, cut = 31, 8000.0 / Rate
	for k := range taps {
		x := float64(k - middle)
		low := 2 * cut
		if x != 0 {
			low = math.Sin(2*math.Pi*cut*x) / (math.Pi * x)
		}
		w := 0.42 - 0.5*math.Cos(2*math.Pi*float64(k)/62) + 0.08*math.Cos(4*math.Pi*float64(k)/62)
		taps[k] = -low * w
	}
	taps[middle]++
	return taps
}
