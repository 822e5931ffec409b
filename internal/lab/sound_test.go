//go:build linux

package lab

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// said is six seconds of a real voice.
func said(t *testing.T, prompt string) []float32 {
	t.Helper()
	pcm, err := Speech(t.Context(), prompt, 0, 6*time.Second)
	if errors.Is(err, ErrNoSpeech) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return pcm
}

func compare(t *testing.T, reference, sound []float32) Comparison {
	t.Helper()
	c, err := Compare(reference, sound)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// later is pcm after d of silence, with a second of it behind.
func later(pcm []float32, d time.Duration) []float32 {
	return append(append(make([]float32, samples(d)), pcm...), make([]float32, Rate)...)
}

// loudest is where the loudest 100 ms of pcm begin: there is no pause there.
func loudest(pcm []float32) (at int) {
	most := 0.0
	for i := Rate; i+2*Rate < len(pcm); i += Rate / 100 {
		if r := rms(pcm[i : i+Rate/10]); r > most {
			at, most = i, r
		}
	}
	return at
}

func passes(c Comparison) bool { return c.Median >= 0.9 && c.Worst >= 0.6 && len(c.Gaps) == 0 }

func TestCompareTakesWhatIsGood(t *testing.T) {
	ref := said(t, "demo-congrats")
	rng := rand.New(rand.NewPCG(1, 2))
	noisy := make([]float32, len(ref))
	for i, s := range ref {
		noisy[i] = s*0.7 + float32(rng.NormFloat64()*0.002)
	}
	stretched := make([]float32, 0, len(ref)) // 20 ms are put in, later taken out
	at := loudest(ref)
	stretched = append(stretched, ref[:at]...)
	stretched = append(stretched, ref[at-960:]...)
	for _, c := range []struct {
		name  string
		sound []float32
		delay time.Duration
	}{
		{"the same", ref, 0},
		{"late", later(ref, 1234*time.Millisecond), 1234 * time.Millisecond},
		{"late by a sample and a half second", later(ref, 500*time.Millisecond+duration(1)), 500*time.Millisecond + duration(1)},
		{"softer and noisy", later(noisy, 80*time.Millisecond), 80 * time.Millisecond},
		{"beginning cut off", ref[480:], -10 * time.Millisecond},
	} {
		got := compare(t, ref, c.sound)
		if !passes(got) {
			t.Errorf("%s: %v", c.name, got)
		}
		if d := got.Delay - c.delay; d.Abs() > 50*time.Microsecond {
			t.Errorf("%s: delay %v, want %v", c.name, got.Delay, c.delay)
		}
	}
	got := compare(t, ref, stretched)
	if len(got.Gaps) > 0 || got.Median < 0.99 {
		t.Errorf("stretched by 20 ms: %v", got)
	}
	if len(got.Windows) < 8 {
		t.Errorf("only %d windows of 12 speak", len(got.Windows))
	}
}

func TestCompareFindsWhatIsBad(t *testing.T) {
	ref, other := said(t, "demo-congrats"), said(t, "demo-instruct")
	at := loudest(ref)
	spoil := func(f func(pcm []float32) []float32) []float32 { return f(slices.Clone(ref)) }
	for _, c := range []struct {
		name  string
		sound []float32
		bad   func(Comparison) bool
	}{
		{"another speech", other, func(c Comparison) bool { return c.Median < 0.5 }},
		{"silence", make([]float32, len(ref)), func(c Comparison) bool { return c.Median < 0.1 && len(c.Gaps) > 0 }},
		{"half of it", ref[:len(ref)/2], func(c Comparison) bool { return c.Worst < 0.1 && len(c.Gaps) > 0 }},
		{"40 ms muted", spoil(func(pcm []float32) []float32 {
			clear(pcm[at : at+1920])
			return pcm
		}), func(c Comparison) bool {
			return len(c.Gaps) == 1 && (c.Gaps[0].At-duration(at)).Abs() <= 2*time.Millisecond &&
				(c.Gaps[0].Length-40*time.Millisecond).Abs() <= 2*time.Millisecond
		}},
		{"22 ms muted", spoil(func(pcm []float32) []float32 {
			clear(pcm[at : at+1056])
			return pcm
		}), func(c Comparison) bool { return len(c.Gaps) == 1 }},
		{"40 ms of noise at -70 dB", spoil(func(pcm []float32) []float32 {
			for i := range pcm[at : at+1920] {
				pcm[at+i] = float32(rand.NormFloat64() * 0.0003)
			}
			return pcm
		}), func(c Comparison) bool { return len(c.Gaps) == 1 }},
		{"40 ms left out", spoil(func(pcm []float32) []float32 {
			return slices.Delete(pcm, at, at+1920)
		}), func(c Comparison) bool { return c.Worst < 0.6 }},
		{"half a second garbled", spoil(func(pcm []float32) []float32 {
			slices.Reverse(pcm[at : at+window])
			return pcm
		}), func(c Comparison) bool { return c.Worst < 0.6 }},
		{"drowned in noise", spoil(func(pcm []float32) []float32 {
			for i := range pcm {
				pcm[i] += float32(rand.NormFloat64() * 0.2)
			}
			return pcm
		}), func(c Comparison) bool { return c.Median < 0.9 }},
		{"upside down", spoil(func(pcm []float32) []float32 {
			for i := range pcm {
				pcm[i] = -pcm[i]
			}
			return pcm
		}), func(c Comparison) bool { return c.Worst < 0.6 }},
	} {
		got := compare(t, ref, c.sound)
		if !c.bad(got) || passes(got) {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	if _, err := Compare(make([]float32, Rate), ref); err == nil {
		t.Error("a silent reference was compared")
	}
	if _, err := Compare(ref[:100], ref); err == nil {
		t.Error("100 samples were compared")
	}
}

// A pause of the speaker is no gap, also where a codec makes it quite silent.
func TestGapsKnowPauses(t *testing.T) {
	ref := said(t, "demo-congrats")
	at := loudest(ref)
	for i := range ref[at : at+4800] { // a soft pause of 100 ms
		ref[at+i] *= 0.003
	}
	sound := slices.Clone(ref)
	clear(sound[at+240 : at+4560])
	if c := compare(t, ref, sound); len(c.Gaps) > 0 {
		t.Errorf("a pause is a gap: %v", c)
	}
}

// moved is pcm with d more of the pause that begins at from, or less.
func moved(pcm []float32, from time.Duration, d time.Duration) []float32 {
	at := samples(from)
	if d < 0 {
		return slices.Concat(pcm[:at], pcm[at-samples(d):])
	}
	return slices.Concat(pcm[:at], make([]float32, samples(d)), pcm[at:])
}

// Playout changes its delay in pauses: that is no gap, but what is missing
// beside such a change is one.
func TestGapsKnowDelayThatMoves(t *testing.T) {
	ref := said(t, "demo-instruct")
	const pause = 5260 * time.Millisecond // of 110 ms
	holed := slices.Clone(moved(ref, pause, -60*time.Millisecond))
	at := loudest(ref[:4*Rate])
	clear(holed[at : at+samples(60*time.Millisecond)])
	for _, c := range []struct {
		name  string
		sound []float32
		gaps  int
	}{
		{"a pause shorter by 60 ms", moved(ref, pause, -60*time.Millisecond), 0},
		{"a pause longer by 60 ms", moved(ref, pause, 60*time.Millisecond), 0},
		{"a pause longer by 100 ms", moved(ref, pause, 100*time.Millisecond), 0},
		{"a shorter pause and a hole before it", holed, 1},
		{"60 ms put in within a word", moved(ref, duration(at), 60*time.Millisecond), 1},
		{"the word before the pause cut off", func() []float32 {
			cut := slices.Clone(ref)
			clear(cut[samples(5140*time.Millisecond):samples(pause)])
			return cut
		}(), 1},
		{"the end cut off by 60 ms", ref[:len(ref)-samples(60*time.Millisecond)], 1},
	} {
		sound := later(c.sound, 400*time.Millisecond)
		got, err := CompareWithin(ref, sound, 150*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		whole := slices.Sorted(slices.Values(got.Whole(ref, sound)))
		t.Logf("%s: %v; worst in pieces %.3f, median %.3f", c.name, got, whole[0], whole[len(whole)/2])
		if len(got.Gaps) != c.gaps {
			t.Errorf("%s: %v, to be %d gaps", c.name, got, c.gaps)
		}
		if c.gaps == 0 && (whole[0] < 0.8 || whole[len(whole)/2] < 0.99) {
			t.Errorf("%s: its pieces are unlike: %.3f", c.name, whole)
		}
	}
}

func TestCorrelate(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	short, long := make([]float64, 37), make([]float64, 100)
	for i := range short {
		short[i] = rng.NormFloat64()
	}
	for i := range long {
		long[i] = rng.NormFloat64()
	}
	for shift, got := range correlate(short, long) {
		want := 0.0
		for i, s := range short {
			if i+shift < len(long) {
				want += s * long[i+shift]
			}
		}
		if math.Abs(got-want) > 1e-9 {
			t.Fatalf("shift %d: %v, want %v", shift, got, want)
		}
	}
}

func TestTones(t *testing.T) {
	tone := func(hz, level float64) []float32 {
		pcm := make([]float32, 2*Rate)
		for i := range pcm {
			pcm[i] = float32(level * math.Sin(2*math.Pi*hz*float64(i)/Rate))
		}
		return pcm
	}
	mix := tone(440, 0.2)
	for i, s := range tone(700, 0.1) {
		mix[i] += s
	}
	for _, c := range []struct{ hz, want float64 }{{440, 0.2}, {700, 0.1}, {550, 0}, {900, 0}, {1400, 0}} {
		if got := ToneLevel(mix, c.hz); math.Abs(got-c.want) > 0.002 {
			t.Errorf("%v Hz: %.4f, want %.1f", c.hz, got, c.want)
		}
	}
	clear(mix[Rate:]) // the second half is silent
	for _, c := range []struct{ hz, enough, part float64 }{{440, 0.1, 0.5}, {700, 0.05, 0.5}, {700, 0.15, 0}, {550, 0.01, 0}} {
		if _, part := Heard(mix, c.hz, c.enough); part != c.part {
			t.Errorf("%v Hz at %v heard in %v of the time, want %v", c.hz, c.enough, part, c.part)
		}
	}
	if level, _ := Heard(mix[:Rate], 700, 0.1); math.Abs(level-0.1) > 0.002 {
		t.Errorf("700 Hz at %v", level)
	}
}

func TestWAV(t *testing.T) {
	file := t.TempDir() + "/x.wav"
	want := []float32{0, 0.5, -0.5, 1, -1, 0.25}
	if err := WriteWAV(file, want); err != nil {
		t.Fatal(err)
	}
	got, err := ReadMono(file)
	if err != nil || len(got) != len(want) {
		t.Fatal(got, err)
	}
	for i := range want {
		if math.Abs(float64(got[i]-want[i])) > 1e-4 {
			t.Errorf("sample %d: %v, want %v", i, got[i], want[i])
		}
	}
	whole := append([]byte("RIFF\xff\xff\xff\xffWAVE"), make([]byte, 40)...)
	for n := range whole {
		if _, err := parseWAV(whole[:n]); err == nil {
			t.Errorf("%d bytes of nothing were read", n)
		}
	}
	if pcm, err := AlsaSpeech(t.Context(), "Front_Center"); err == nil && (len(pcm) < Rate || rms(pcm) < 0.001) {
		t.Errorf("Front_Center has %d samples of %v", len(pcm), rms(pcm))
	}
}
