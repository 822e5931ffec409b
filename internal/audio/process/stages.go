package process

import (
	"fmt"
	"strings"
)

// Stages are what can be switched on and off. With any of them the sound also
// goes through a high-pass of 80 Hz; with none it is left as it is.
type Stages struct {
	Echo  bool // take what the speaker plays out of what the microphone hears
	Noise bool // suppress what is not speech
	Gain  bool // bring speech to one loudness
}

// All is every stage.
func All() Stages { return Stages{Echo: true, Noise: true, Gain: true} }

func (s Stages) any() bool { return s != Stages{} }

// String is how ParseStages reads it.
func (s Stages) String() string {
	var names []string
	for _, stage := range []struct {
		on   bool
		name string
	}{{s.Echo, "echo"}, {s.Noise, "noise"}, {s.Gain, "gain"}} {
		if stage.on {
			names = append(names, stage.name)
		}
	}
	if names == nil {
		return "off"
	}
	return strings.Join(names, ",")
}

// ParseStages reads "off", or any of echo, noise and gain with commas between
// them. The error is one sentence.
func ParseStages(text string) (Stages, error) {
	var s Stages
	if text == "off" {
		return s, nil
	}
	const forms = "give echo, noise and gain, those you want, with commas between them, or off"
	for name := range strings.SplitSeq(text, ",") {
		var stage *bool
		switch name {
		case "echo":
			stage = &s.Echo
		case "noise":
			stage = &s.Noise
		case "gain":
			stage = &s.Gain
		case "off":
			return Stages{}, fmt.Errorf("off excludes the others; %s", forms)
		case "":
			return Stages{}, fmt.Errorf("an empty word; %s", forms)
		default:
			return Stages{}, fmt.Errorf("%.20q is no stage of the processing; %s", name, forms)
		}
		if *stage {
			return Stages{}, fmt.Errorf("%s stands there twice; %s", name, forms)
		}
		*stage = true
	}
	return s, nil
}
