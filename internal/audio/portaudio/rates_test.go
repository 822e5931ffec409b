//go:build lab

package portaudio

import (
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"teahouse/internal/audio"
	"teahouse/internal/audio/audiotest"
)

// Fifteen seconds of noise through sinks of 44.1 and 16 kHz and back, as the default
// device and by name, where the server converts and where we do: it is what was
// said, and none of them is faster or slower than the other end. All at once. In
// that time 20 ppm, the least that is found, are 0.25 ms, one and a half times the
// step of the comparison, which finds a hundredth of that.
//
// A busy machine leaves gaps, each of which moves what follows at once by some
// milliseconds; a rate that is not right moves it little by little, which is
// what is looked for. So that the gaps do not become too many, it runs before
// what else this machine does, in a process of its own.
func TestRates(t *testing.T) {
	const length, child = 15 * time.Second, "TEAHOUSE_TEST_RATES"
	if os.Getenv(child) == "" {
		before(t, child)
		return
	}
	pulse := audiotest.NewPulseOf(t,
		audiotest.Sink{Name: "default44", Rate: 44100}, audiotest.Sink{Name: "named44", Rate: 44100},
		audiotest.Sink{Name: "served16", Rate: 16000}, audiotest.Sink{Name: "named16", Rate: 16000})
	pulse.Setenv(t)
	pulse.SetDefault(t, "default44", "default44")
	s := openSystem(t, Config{Safe: true, rates: func(device string) []int {
		switch device {
		case "named44", "named44_mic":
			return []int{44100}
		case "named16", "named16_mic":
			return []int{16000}
		}
		return []int{audio.Rate}
	}})
	said := noise(int((length + 2*time.Second).Seconds() * audio.Rate))
	var wg sync.WaitGroup
	heard := map[string][]float32{}
	for _, names := range [][2]string{{"", ""}, {"named44", "named44_mic"}, {"served16", "served16_mic"}, {"named16", "named16_mic"}} {
		speaker, mic := must(s.OpenSpeaker(names[0]))(t), must(s.OpenMicrophone(names[1]))(t)
		pcm := make([]float32, len(said))
		heard[names[0]] = pcm
		wg.Go(func() {
			if err := say(speaker, said); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			for at := 0; at+audio.BlockFrames <= len(pcm); at += audio.BlockFrames {
				if _, err := mic.Read(pcm[at : at+audio.BlockFrames]); err != nil {
					t.Error(err)
					return
				}
			}
			if err := errors.Join(mic.Close(), speaker.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	list, err := pulse.Command(t, "pactl", "list", "short", "sinks").Output()
	if err != nil {
		t.Fatal(err)
	}
	for sink, rate := range map[string]string{"default44": "44100Hz", "named44": "44100Hz", "served16": "16000Hz", "named16": "16000Hz"} {
		if !regexp.MustCompile(`\b` + sink + `\b.*\b` + rate + `\b`).Match(list) {
			t.Errorf("%s does not run at %s: the test tests nothing: %s", sink, rate, list)
		}
	}
	wg.Wait()
	for name, pcm := range heard {
		t.Run("sink "+name, func(t *testing.T) { compareRates(t, said, pcm) })
	}
}

// before runs this test again with a variable in its environment, at a
// real-time priority where there is one to be had.
func before(t *testing.T, child string) {
	args := []string{os.Args[0], "-test.run=^" + t.Name() + "$", "-test.v", "-test.timeout=5m"}
	if exec.CommandContext(t.Context(), "chrt", "--rr", "1", "true").Run() == nil {
		args = append([]string{"chrt", "--rr", "1"}, args...)
	}
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Env = append(os.Environ(), child+"=1")
	out, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "_test.go") || err != nil {
			t.Log(strings.TrimSpace(line))
		}
	}
	if err != nil {
		t.Error(err)
	}
}

// say writes mono sound until it ends or the speaker is closed.
func say(speaker audio.Speaker, pcm []float32) error {
	block := make([]float32, 2*audio.BlockFrames)
	for at := 0; at+audio.BlockFrames <= len(pcm); at += audio.BlockFrames {
		remap(block, 2, pcm[at:at+audio.BlockFrames], 1)
		if err := speaker.Write(block); err != nil {
			if errors.Is(err, audio.ErrClosed) {
				return nil
			}
			return err
		}
	}
	return nil
}

// noise is n samples of noise of some 300 Hz, of which no part is like another,
// and of which almost nothing is left at 3 kHz, where decimate folds.
func noise(n int) []float32 {
	random := rand.New(rand.NewPCG(44100, 16000))
	pcm := make([]float32, n)
	var pole [4]float64
	for i := range pcm {
		x := 2*random.Float64() - 1
		for k := range pole {
			pole[k] += 0.08 * (x - pole[k])
			x = pole[k]
		}
		pcm[i] = float32(max(-0.9, min(2*x, 0.9)))
	}
	return pcm
}

// compareRates finds pieces of what was said, one each half second, in what was
// heard.
func compareRates(t *testing.T, said, heard []float32) {
	const (
		step   = 8 // to 6 kHz
		second = audio.Rate / step
		piece  = second / 10
		least  = 0.95 // correlation of what is whole
		gap    = 1e-3 * second
	)
	a, b := decimate(said, step), decimate(heard, step)
	var offsets []float64 // of pieces that came through whole, NaN for others
	good, last, lost := 0, 0.0, 12
	for at := 3 * second; at+2*second < len(a); at += second / 2 {
		off, like := placed(a[at:at+piece], b, at+int(last), min(lost+1, 12)*second/4)
		if off -= float64(at); like < least {
			off = math.NaN()
			lost++
		} else {
			last, lost = off, 0
			good++
		}
		offsets = append(offsets, off)
	}
	drift, steps := []float64{}, 0
	var sum float64
	for i, off := range offsets[1:] {
		switch d := off - offsets[i]; {
		case math.IsNaN(d):
		case math.Abs(d) > gap:
			steps++
		default:
			drift = append(drift, d/(second/2)*1e6)
			sum += d
		}
	}
	t.Logf("%d of %d pieces whole, %d gaps; in %d half seconds beside these moved by %.3f ms in all", good, len(offsets), steps, len(drift), sum/second*1000)
	if len(drift) < len(offsets)/4 {
		t.Fatal("too little came through whole to tell")
	}
	slices.Sort(drift)
	ppm := sum / float64(len(drift)) / (second / 2) * 1e6
	t.Logf("by %.2f ppm, median of half seconds %.2f", ppm, drift[len(drift)/2])
	if math.Abs(ppm) > 20 {
		t.Errorf("what is heard drifts by %.1f ppm, %.2f ms in a minute", ppm, ppm*60/1000)
	}
}

// placed is where in b, within reach of from, a is most alike, between two
// samples too, and how much.
func placed(a, b []float64, from, reach int) (at, like float64) {
	score := func(i int) float64 {
		if i < 0 || i+len(a) > len(b) {
			return 0
		}
		var dot, aa, bb float64
		for k, x := range a {
			y := b[i+k]
			dot, aa, bb = dot+x*y, aa+x*x, bb+y*y
		}
		return dot / math.Sqrt(aa*bb+1e-12)
	}
	best := from
	for i := from - reach; i <= from+reach; i++ {
		if s := score(i); s > like {
			best, like = i, s
		}
	}
	before, after := score(best-1), score(best+1)
	if curve := before - 2*like + after; curve < 0 { // the top of a parabola through three
		return float64(best) + (before-after)/2/curve, like
	}
	return float64(best), like
}

// decimate averages each step samples into one.
func decimate(pcm []float32, step int) []float64 {
	out := make([]float64, len(pcm)/step)
	for i := range out {
		for _, x := range pcm[i*step : (i+1)*step] {
			out[i] += float64(x)
		}
	}
	return out
}
