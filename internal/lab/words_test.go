//go:build linux

package lab

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// The judge knows every digit that is clean, and hears none in silence.
func TestRecognise(t *testing.T) {
	pad := make([]float32, 3*Rate/10)
	var sounds [][]float32
	for n := range Digits {
		pcm, err := Prompt(t.Context(), fmt.Sprintf("digits/%d", n))
		if errors.Is(err, ErrNoSpeech) {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		sounds = append(sounds, append(append(append([]float32{}, pad...), pcm...), pad...))
	}
	sounds = append(sounds, make([]float32, samples(time.Second)))
	words, err := Recognise(t.Context(), sounds)
	if errors.Is(err, ErrNoRecogniser) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	for n, word := range Digits {
		if words[n] != word {
			t.Errorf("%q was heard as %q", word, words[n])
		}
	}
	if words[10] != "" {
		t.Errorf("silence was heard as %q", words[10])
	}
}
