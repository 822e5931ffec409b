package voice

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"teahouse/internal/audio"
	"teahouse/internal/mesh/meshtest"
	"teahouse/room"
)

// TestVolumes: louder, softer and silent, for one person and for all.
func TestVolumes(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		out := newSink()
		listener := start(t, Config{Speaker: out})
		seat := listener.Sit(room.ID{1}, true)
		talker := start(t, Config{Microphone: audio.NewTone(440)})
		talker.Sit(room.ID{1}, false).Attach(&wire{from: ada, to: []*Seat{seat}})
		time.Sleep(2 * time.Second)
		rms := func() float64 { // of the last half second
			time.Sleep(time.Second)
			sound := out.sound()
			_, rms := power(sound[len(sound)-audio.Rate:], 440)
			return rms
		}
		plain := rms()
		for _, step := range []struct {
			name string
			do   func()
			want float64 // times plain
		}{
			{"-6 dB", func() { seat.SetVolume(ada, -6, false) }, 0.501},
			{"muted", func() { seat.SetVolume(ada, -6, true) }, 0},
			{"unmuted", func() { seat.SetVolume(ada, 0, false) }, 1},
			{"deaf", func() { listener.SetDeaf(true) }, 0},
			{"deaf, and raised", func() { seat.SetVolume(ada, 3, false) }, 0},
			{"not deaf", func() { listener.SetDeaf(false) }, 1.413},
			{"the least", func() { seat.SetVolume(ada, MinVolume, false) }, 0},
		} {
			step.do()
			if got := rms(); math.Abs(got-step.want*plain) > 0.03*plain {
				t.Errorf("%s: heard at %.4f, %.4f before, want %.2f of it", step.name, got, plain, step.want)
			}
			if listener.Deaf() != (step.name == "deaf" || step.name == "deaf, and raised") {
				t.Errorf("%s: deaf is %v", step.name, listener.Deaf())
			}
		}
		closeAll(t, talker, listener)
	})
}

// TestOwnSpeaking: what we say is told, muted or not, until the microphone
// ends.
func TestOwnSpeaking(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		var told []bool
		mic := audio.NewTone(440)
		v := start(t, Config{
			Microphone: mic, HoldFor: 1,
			OnOwnSpeaking: func(on bool) { told = append(told, on) },
		})
		w := &wire{}
		seat := v.Sit(room.ID{}, false)
		seat.Attach(w)
		time.Sleep(time.Second)
		synctest.Wait()
		if len(told) != 0 {
			t.Errorf("silence was told as %v", told)
		}
		w.setHearers(1)
		time.Sleep(time.Second)
		mute(t, seat, true)
		time.Sleep(time.Second)
		mic.Hold()
		time.Sleep(time.Second)
		mic.Start()
		time.Sleep(time.Second)
		synctest.Wait()
		if len(told) != 3 || !told[0] || told[1] || !told[2] {
			t.Errorf("told %v", told)
		}
		closeAll(t, v)
	})
}

func TestClipping(t *testing.T) {
	for _, c := range []struct {
		name string
		peak func(block int) float32
		want int // warnings in two minutes
	}{
		{"loud", func(int) float32 { return 0.98 }, 0},
		{"one peak a second", func(n int) float32 {
			if n%100 == 0 {
				return 1
			}
			return 0.5
		}, 0},
		{"again and again", func(n int) float32 {
			if n%10 == 0 {
				return 1
			}
			return 0.5
		}, 4},
		{"once, for half a second", func(n int) float32 {
			if n > 1000 && n < 1050 {
				return 1
			}
			return 0.5
		}, 1},
	} {
		var clips clipping
		got := 0
		for n := range 12000 {
			if clips.step(c.peak(n)) {
				got++
			}
		}
		if got != c.want {
			t.Errorf("%s: %d warnings, not %d", c.name, got, c.want)
		}
	}
}
