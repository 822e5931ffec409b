//go:build linux

package lab

import (
	"errors"
	"slices"
	"testing"
	"time"
)

// longSpeech is a minute of a real voice.
func longSpeech(t *testing.T, prompt string, d time.Duration) []float32 {
	t.Helper()
	pcm, err := Speech(t.Context(), prompt, 0, d)
	if errors.Is(err, ErrNoSpeech) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return pcm
}

func follow(t *testing.T, speech, sound []float32, delay time.Duration) []Place {
	t.Helper()
	places, err := Follow(speech, sound, delay, 12*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return places
}

// within is the part of the sound that was found at some delay, in seconds.
func within(places []Place, delay time.Duration) float64 {
	n := 0
	for _, p := range places {
		if (p.Behind() - delay).Abs() < 5*time.Millisecond {
			n++
		}
	}
	return float64(n) / 4
}

func TestFollow(t *testing.T) {
	ref := longSpeech(t, "demo-instruct", 40*time.Second)
	t.Run("straight on", func(t *testing.T) {
		places := follow(t, ref, later(ref, time.Second), time.Second)
		if right := within(places, time.Second); right < 20 || right != float64(len(places))/4 {
			t.Errorf("of %d places %v s are right", len(places), right)
		}
	})
	t.Run("a part twice", func(t *testing.T) {
		twice := later(slices.Concat(ref[:10*Rate], ref[7*Rate:]), time.Second)
		places := follow(t, ref, twice, time.Second)
		before, after := within(places, time.Second), within(places, 4*time.Second)
		if before < 4 || after < 15 {
			t.Errorf("%v s are found before, %v s from the repetition on", before, after)
		}
	})
	t.Run("ten seconds left out", func(t *testing.T) {
		places := follow(t, ref, slices.Concat(make([]float32, 11*Rate), ref[10*Rate:]), time.Second)
		if places[0].At < 10500*time.Millisecond || within(places, time.Second) != float64(len(places))/4 {
			t.Errorf("the first of %d places is %v", len(places), places[0])
		}
	})
	t.Run("another speech", func(t *testing.T) {
		if places := follow(t, ref, longSpeech(t, "demo-congrats", 25*time.Second), 0); len(places) > 0 {
			t.Errorf("%d places of another speech, the first %v", len(places), places[0])
		}
	})
	t.Run("nothing to follow", func(t *testing.T) {
		if _, err := Follow(ref[:Rate/10], ref, 0, time.Second); err == nil {
			t.Error("a tenth of a second was followed")
		}
		if _, err := Follow(make([]float32, Rate), ref, 0, time.Second); err == nil {
			t.Error("silence was followed")
		}
	})
}
