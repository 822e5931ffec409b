//go:build lab

package scenario

import (
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"teahouse/internal/lab"
)

// digits is a recording of the ten digits, a second and a half each, and where
// each of them begins and ends.
func digits(t *testing.T, dir string) (pcm []float32, words [][2]int, file string) {
	t.Helper()
	const each = lab.Rate * 3 / 2
	for n := range lab.Digits {
		word, err := lab.Prompt(t.Context(), "digits/"+string(rune('0'+n)))
		if errors.Is(err, lab.ErrNoSpeech) && os.Getenv("CI") == "" {
			t.Skip(err)
		}
		must(t, err)
		from, to := loudPart(word)
		word = word[from:min(to, from+each*3/4)]
		words = append(words, [2]int{len(pcm), len(pcm) + len(word)})
		pcm = append(append(pcm, word...), make([]float32, each-len(word))...)
	}
	file = filepath.Join(dir, "digits.wav")
	must(t, lab.WriteWAV(file, pcm))
	return pcm, words, file
}

// loudPart is the part of pcm from its first to its last millisecond that is
// within 30 dB of its loudest.
func loudPart(pcm []float32) (from, to int) {
	const block = lab.Rate / 1000
	loudest := 0.0
	for at := 0; at+block <= len(pcm); at += block {
		loudest = max(loudest, power(pcm[at:at+block]))
	}
	from = len(pcm)
	for at := 0; at+block <= len(pcm); at += block {
		if power(pcm[at:at+block]) > loudest/1000 {
			from, to = min(from, at), at+block
		}
	}
	return min(from, to), to
}

func power(pcm []float32) (sum float64) {
	for _, x := range pcm {
		sum += float64(x) * float64(x)
	}
	return sum / float64(max(1, len(pcm)))
}

func dB(power float64) float64 { return 10 * math.Log10(power+1e-12) }

// usual is the median level, in dBFS, of the seconds of pcm: one in which the
// machine stood still does not count.
func usual(pcm []float32) float64 {
	var levels []float64
	for at := 0; at+lab.Rate <= len(pcm); at += lab.Rate {
		levels = append(levels, dB(power(pcm[at:at+lab.Rate])))
	}
	slices.Sort(levels)
	return levels[len(levels)/2]
}

// heardWords is what became of the words of a recording.
type heardWords struct {
	known  int       // by a recogniser
	begins []float64 // dB: how loud the first 80 ms of each are against all of it, compared with what was said
}

// wordsIn finds the words of said in heard.
func wordsIn(t *testing.T, said []float32, words [][2]int, heard []float32) (h heardWords) {
	t.Helper()
	const begin, around = lab.Rate * 80 / 1000, lab.Rate / 5
	whole := lab.Delay(said, heard)
	piece := func(from, to int) []float32 {
		out := make([]float32, to-from)
		if from < len(heard) && to > 0 {
			copy(out[max(0, -from):], heard[max(0, from):min(len(heard), max(to, 0))])
		}
		return out
	}
	var sounds [][]float32
	for _, w := range words {
		word := said[w[0]:w[1]]
		near := piece(w[0]+whole-around, w[1]+whole+around)
		at := lab.Delay(word, near) // playout moves a little
		sounds = append(sounds, near)
		got := make([]float32, len(word))
		copy(got, near[max(0, min(at, len(near))):])
		h.begins = append(h.begins, dB(power(got[:begin]))-dB(power(got))-dB(power(word[:begin]))+dB(power(word)))
	}
	got, err := lab.Recognise(soon(t), sounds)
	if errors.Is(err, lab.ErrNoRecogniser) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	must(t, err)
	for n, word := range got {
		if word == lab.Digits[n] {
			h.known++
		}
	}
	return h
}

// cut counts the words whose beginning is missing.
func (h heardWords) cut() (n int) {
	for _, b := range h.begins {
		if b < -6 {
			n++
		}
	}
	return n
}

// The processing of the microphone, with all its defaults, on a sound card that
// hears its own speaker 40 ms later, as loud as it plays: who speaks from far does not hear
// themselves back, while what is said here comes through. The gate is open, so
// that it does not hide what is left; first without any processing, to know how
// loud the echo is.
func TestEcho(t *testing.T) {
	s, pulse := sounding(t, lab.Sink{Name: "mic"}, lab.Sink{Name: "spk", Speaker: true}, lab.Sink{Name: "ear", Speaker: true, Named: true})
	must(t, pulse.Echo(soon(t), "spk", "mic", 40*time.Millisecond))
	said, words, wav := digits(t, s.dir)
	_, far := speech(t, s.dir, "demo-congrats", 20*time.Second)
	s.bootstrap(t, nil)
	s.env, s.clean = pulse.Env(), true
	friend := s.join(t, nil, "friend", "loop:"+far, "ear")
	friend.event(t, "joined", nil)

	// heard is what the friend hears for a while, from two seconds on.
	heard := func(d time.Duration, meanwhile func()) []float32 {
		rec, err := pulse.Record(soon(t), "ear.monitor")
		must(t, err)
		defer rec.Stop()
		time.Sleep(monitorDeaf + 500*time.Millisecond)
		meanwhile()
		time.Sleep(d)
		rec.Stop()
		pcm, _ := rec.Samples()
		return pcm[min(len(pcm), 2*lab.Rate+lab.Rate/2):]
	}
	quiet := func() {}

	raw := s.join(t, nil, "raw", "default", "default", "--process", "off", "--gate", "open")
	friend.hears(t, raw.member(t))
	echo := usual(heard(5*time.Second, quiet))
	raw.leaves(t)
	if echo < -45 {
		t.Fatalf("there is no echo without processing, but %.1f dBFS: the test tests nothing", echo)
	}

	who := s.join(t, nil, "who", "default", "default", "--gate", "open")
	member := who.member(t)
	friend.event(t, "link", func(e lab.Event) bool { return e.Text("member") == member && e.Text("state") == "up" })
	used(t, pulse, 3, 2) // the echo, too
	const least = 15.0   // dB; 25 to 30 are usual
	left := echo
	// It converges within seconds, where the machine lets the devices be.
	for try := 0; try < 4 && echo-left < least; try++ {
		left = usual(heard(5*time.Second, quiet))
		t.Logf("the friend hears themselves at %.1f dBFS without processing, at %.1f dBFS with it: lowered by %.1f dB", echo, left, echo-left)
	}
	if echo-left < least {
		t.Errorf("the echo is lowered by %.1f dB only", echo-left)
	}

	must(t, exec.CommandContext(soon(t), s.program, "ctl", "mute", "--home", friend.home).Run())
	// Nine are known, most of the time; of silence, or of the friend's own voice, one.
	known := 0
	for try := 0; try < 2 && known < len(words)*6/10; try++ {
		h := wordsIn(t, said, words, heard(time.Second, func() { must(t, pulse.Play(soon(t), "mic", wav)) }))
		known = h.known
		t.Logf("of what is said here %d of %d words are known", known, len(words))
	}
	if known < len(words)*6/10 {
		t.Errorf("only %d of %d words are known", known, len(words))
	}
	who.leaves(t)
	friend.leaves(t)
}

// Mouth to ear with all that is done to a microphone by default, and with its
// gate, which shuts between words: no word loses its beginning to it, and the
// words are known. As TestMouthToEar does it asks the sound server up to three
// times.
func TestMouthToEarCleaned(t *testing.T) {
	s, pulse := sounding(t, lab.Sink{Name: "mic"}, lab.Sink{Name: "spk", Speaker: true})
	said, words, wav := digits(t, s.dir)
	s.bootstrap(t, nil)
	s.env, s.clean = pulse.Env(), true
	b := s.join(t, nil, "b", "none", "default")
	b.event(t, "joined", nil)
	a := s.join(t, nil, "a", "default", "default")
	a.event(t, "joined", nil)
	b.event(t, "link", nil)
	used(t, pulse, 2, 1)
	through := false
	for try := 0; try < 3 && !through; try++ {
		mouth, ear := played(t, pulse, "mic", "spk", wav)
		d, _, err := lab.PlayedAfter(mouth, ear, warmUp)
		must(t, err)
		pcm, _ := ear.Samples()
		h := wordsIn(t, said, words, pcm)
		t.Logf("mouth to ear %v by sound; %d of %d words known; their beginnings, in dB against what was said: %.1f",
			d.Round(100*time.Microsecond), h.known, len(words), h.begins)
		through = h.known >= len(words)*8/10 && h.cut() <= 1 && d > 0 && d < 250*time.Millisecond
	}
	if !through {
		t.Error("the words do not come through whole")
	}
	a.leaves(t)
	b.leaves(t)
}
