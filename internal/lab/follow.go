package lab

import (
	"fmt"
	"time"
)

// Parameters of [Follow].
const (
	// followStep decimates both sides to 4 kHz: what tells one moment of
	// speech from another is below 2 kHz.
	followStep = 12
	followHop  = Rate / followStep / 4 // 250 ms
	followSpan = Rate / followStep / 2 // 500 ms
	// Below this correlation a piece of sound is not taken to be a certain
	// piece of the speech: vowels of one voice are alike up to 0.87.
	followSure = 0.9
)

// Place is which part of the speech a half second of the sound is.
type Place struct {
	At          time.Duration // in the sound
	Of          time.Duration // in the speech
	Correlation float64
}

// Behind is how long after its place in the speech the piece was heard.
func (p Place) Behind() time.Duration { return p.At - p.Of }

// Follow finds, four times a second of the sound, which half second of the
// speech it is, as far as it is one: silence, mixtures and what was made up
// are left out. Unlike [Compare] it takes nothing for granted about the order,
// so that what was played twice or comes long after its time is seen. Only
// places within reach of being heard delay after their time are looked at.
func Follow(speech, sound []float32, delay, reach time.Duration) ([]Place, error) {
	if len(speech) < window {
		return nil, fmt.Errorf("a speech of %v is too short to follow", duration(len(speech)))
	}
	said, heard := decimated(speech), decimated(sound)
	loudest := 0.0
	for at := 0; at+followSpan <= len(said); at += followSpan {
		loudest = max(loudest, rms(said[at:at+followSpan]))
	}
	if loudest == 0 {
		return nil, fmt.Errorf("the speech is silent")
	}
	late, slack := samples(delay)/followStep, samples(reach)/followStep
	var places []Place
	for at := 0; at+followSpan <= len(heard); at += followHop {
		piece := heard[at : at+followSpan]
		if at-late+slack < 0 || at-late-slack > len(said) || rms(piece) < 0.1*loudest {
			continue
		}
		lag, c := align(piece, said, at-late, slack)
		if c < followSure {
			continue
		}
		places = append(places, Place{
			At: duration(at * followStep), Of: duration((at - late + lag) * followStep), Correlation: c,
		})
	}
	return places, nil
}

// decimated is decimate for what align takes.
func decimated(pcm []float32) []float32 {
	wide := decimate(pcm, followStep)
	out := make([]float32, len(wide))
	for i, s := range wide {
		out[i] = float32(s)
	}
	return out
}
