//go:build lab

package scenario

import (
	"math"
	"path/filepath"
	"testing"
	"time"

	"teahouse/internal/lab"
)

// Sound cards of 44.1 and 16 kHz, as microphone and as speaker, by default and
// by name: two talk by them, and what each says comes out of the other's
// speaker.
func TestOddRates(t *testing.T) {
	s, pulse := sounding(t,
		lab.Sink{Name: "mic44", Rate: 44100}, lab.Sink{Name: "spk16", Speaker: true, Rate: 16000},
		lab.Sink{Name: "mic16", Rate: 16000, Named: true}, lab.Sink{Name: "spk44", Speaker: true, Rate: 44100, Named: true})
	_, wav := speech(t, s.dir, "demo-congrats", warmUp+5*time.Second)
	s.bootstrap(t, nil)
	s.env = pulse.Env()
	a := s.join(t, nil, "a", "default", "default")
	a.event(t, "joined", nil)
	b := s.join(t, nil, "b", "mic16", "spk44", "--process", "off", "--gate", "open")
	b.event(t, "link", nil)
	used(t, pulse, 2, 2)
	t.Run("talk", func(t *testing.T) { // ends when both ways have
		for _, way := range [][2]string{{"mic44", "spk44"}, {"mic16", "spk16"}} {
			t.Run(way[0], func(t *testing.T) {
				t.Parallel()
				for range 3 {
					if mouthToEar(t, pulse, way[0], way[1], wav) {
						return
					}
				}
				t.Errorf("the speech does not come from %s to %s", way[0], way[1])
			})
		}
	})
	a.leaves(t)
	b.leaves(t)
}

// tone is a sine of d.
func tone(hz, level float64, d time.Duration) []float32 {
	pcm := make([]float32, int(d.Seconds()*lab.Rate))
	for i := range pcm {
		pcm[i] = float32(level * math.Sin(2*math.Pi*hz*float64(i)/lab.Rate))
	}
	return pcm
}

// In the mode studio a stereo microphone is heard in stereo: a tone on its left
// comes out of the left of the other's speaker alone, and one on its right of
// the right.
func TestStudioStereo(t *testing.T) {
	s, pulse := sounding(t, lab.Sink{Name: "mic", Channels: 2}, lab.Sink{Name: "spk", Speaker: true})
	s.bootstrap(t, nil)
	s.env = pulse.Env()
	b := s.join(t, nil, "b", "none", "default")
	b.event(t, "joined", nil)
	a := s.join(t, nil, "a", "default", "none", "--mode", "studio")
	a.event(t, "joined", nil)
	b.event(t, "link", nil)
	used(t, pulse, 1, 1)
	const left, right = 440, 1100
	wav := filepath.Join(s.dir, "tones.wav")
	must(t, lab.WriteWAV(wav, tone(left, 0.3, 8*time.Second), tone(right, 0.3, 8*time.Second)))
	var through bool
	for try := 0; try < 3 && !through; try++ {
		var ears [2]*lab.Recording
		for i, channel := range []string{"front-left", "front-right"} {
			rec, err := pulse.RecordChannel(soon(t), "spk.monitor", channel)
			must(t, err)
			defer rec.Stop()
			ears[i] = rec
		}
		must(t, pulse.Play(soon(t), "mic", wav))
		through = true
		for i, ear := range ears {
			ear.Stop()
			pcm, _ := ear.Samples()
			pcm = pcm[max(0, len(pcm)-4*lab.Rate):max(0, len(pcm)-lab.Rate/2)]
			own, other := float64(left), float64(right)
			if i == 1 {
				own, other = other, own
			}
			level, part := lab.Heard(pcm, own, 0.1)
			leak, _ := lab.Heard(pcm, other, 0.1)
			t.Logf("channel %d: its tone at %.3f for %.0f %% of the time, the other's at %.4f", i, level, 100*part, leak)
			// A server without the clock of a card stutters with the machine.
			through = through && part >= 0.7 && leak < level/10
		}
	}
	if !through {
		t.Error("left and right do not come through as they are")
	}
	a.leaves(t)
	b.leaves(t)
}
