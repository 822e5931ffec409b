package codec

import (
	"testing"
	"time"
)

func config(s Setting) EncoderConfig {
	return EncoderConfig{FrameSamples: s.FrameSamples, Bitrate: s.Bitrate, FEC: s.FEC, ExpectedLossPercent: s.ExpectedLossPercent}
}

// Thin packets bear the copy of the frame before, as one piece, mostly where
// somebody speaks (libopus decides by its own measure of activity: 82 % of the
// frames here), and are equally long.
func TestThinBearsCopies(t *testing.T) {
	voice := speech(t)[:8*Rate]
	for _, thinner := range []bool{false, true} {
		for _, reported := range []int{0, 5, 20, 50, 100} {
			s := Thin(thinner, reported)
			packets := encodeAll(t, config(s), voice)
			copies, speaks := 0, 0
			for i, p := range packets {
				info, err := parsePacket(p)
				if err != nil || info.samples != s.FrameSamples || len(p) != len(packets[0]) {
					t.Fatalf("packet %d: %+v, %d bytes, %v", i, info, len(p), err)
				}
				if frames, _, _ := splitFrames(p); frames != 1 {
					t.Fatalf("packet %d is of %d frames", i, frames)
				}
				if i > 0 && rms(voice[(i-1)*s.FrameSamples:i*s.FrameSamples]) > 0.02 {
					if speaks++; info.fec {
						copies++
					}
				}
			}
			if speaks < 30 || copies < speaks*3/4 {
				t.Errorf("%d ms, %d %% reported: %d copies of %d frames with speech", s.FrameSamples/48, reported, copies, speaks)
			}
		}
	}
}

// At the loss that the program once told its encoder, base frames bear no copy
// whatever it is asked for: this is why base does without.
func TestBaseBearsNoCopies(t *testing.T) {
	voice := speech(t)[:4*Rate]
	for _, short := range []bool{true, false} {
		c := config(Base(short, 32000))
		if c.FEC {
			t.Fatal("base asks for FEC")
		}
		c.FEC, c.ExpectedLossPercent = true, 5
		for _, p := range encodeAll(t, c, voice) {
			if info, _ := parsePacket(p); info.fec {
				t.Fatalf("%d ms: a copy", c.FrameSamples/48)
			}
		}
	}
}

// The receiver takes the copies, waits for them where that pays and no longer
// than it must, and does not wait where nothing is lost.
func TestThinIsReceived(t *testing.T) {
	voice := speech(t)[:20*Rate]
	for _, thinner := range []bool{false, true} {
		s := Thin(thinner, 15)
		frame := time.Duration(s.FrameSamples) * time.Second / Rate
		play := func(loss float64) Stats {
			rng := newRand(8)
			_, stats := simulation{encoder: config(s), voice: voice, path: jittered(rng, loss, 0)}.run(t)
			return stats
		}
		if clean := play(0); clean.Delay > 15*ms || clean.FEC > 0 || clean.Concealed > 0 {
			t.Errorf("%v without loss: %+v", frame, clean)
		}
		lossy := play(0.15)
		t.Logf("%v: %d of %d from FEC, %d concealed, delay %v", frame, lossy.FEC, lossy.Played(), lossy.Concealed, lossy.Delay)
		if lossy.FEC < lossy.Lost/2 || lossy.Delay > frame+20*ms {
			t.Errorf("%v at 15 %% loss: %+v", frame, lossy)
		}
	}
}

func TestBitrateStep(t *testing.T) {
	for most, want := range map[int]int{-1: 24000, 0: 24000, 23999: 24000, 31999: 24000, 32000: 32000, 47999: 40000, 1 << 30: 48000} {
		if got := BitrateStep(most); got != want {
			t.Errorf("%d of %d", got, most)
		}
	}
}

// A change at a spurt's start is one for both sides; one that is refused
// changes nothing.
func TestApply(t *testing.T) {
	e, err := NewEncoder(EncoderConfig{})
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, MaxOpus)
	for _, s := range []Setting{Base(true, 48000), Thin(true, 0), Base(false, 24000), Thin(false, 40)} {
		if err := e.Apply(s); err != nil {
			t.Fatal(err)
		}
		n, err := e.Encode(buf, speech(t)[:s.FrameSamples])
		if err != nil {
			t.Fatal(err)
		}
		if info, err := parsePacket(buf[:n]); err != nil || info.samples != s.FrameSamples {
			t.Errorf("%+v: %+v, %v", s, info, err)
		}
		if want := s.Bitrate / 8 * s.FrameSamples / Rate; n != want {
			t.Errorf("%+v: %d bytes, not %d", s, n, want)
		}
	}
	before := e.Config()
	for _, s := range []Setting{{}, {FrameSamples: 960}, {FrameSamples: 961, Bitrate: 32000}, {FrameSamples: 960, Bitrate: 32000, ExpectedLossPercent: 101}} {
		if err := e.Apply(s); err == nil || e.Config() != before {
			t.Errorf("%+v: %v, and it is now %+v", s, err, e.Config())
		}
	}
}
