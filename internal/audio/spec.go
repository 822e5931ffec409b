package audio

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
)

// Kind is what a [Spec] names.
type Kind int

// The kinds of a Spec.
const (
	Default Kind = iota // the sound card that the system would take
	Named               // the sound card called Spec.Name
	File                // the WAV Spec.Path: played once, or recorded to
	Loop                // the WAV Spec.Path, played again and again
	Tone                // a sine of Spec.Hz
	Silence             // a microphone in a silent room
	None                // nothing captured, nothing played
)

// Spec names a microphone or a speaker as --mic and --speaker do. The zero
// value is the default device.
type Spec struct {
	Kind Kind
	Name string  // Named
	Path string  // File, Loop
	Hz   float64 // Tone: 20 to 20,000
}

// maxSpec bounds the words of a Spec, in bytes: a path of PATH_MAX and a
// prefix.
const maxSpec = 4096 + 8

const specForms = `give default, a device's name (see teahouse devices), file:PATH.wav, loop:PATH.wav, tone:HZ, silence or none`

// ParseSpec reads
//
//	default | DEVICE NAME | file:PATH.wav | loop:PATH.wav | tone:HZ | silence | none
//
// What is none of the others is a device's name, colons and all. The error
// is one sentence and wraps ErrSpec.
func ParseSpec(s string) (Spec, error) {
	switch {
	case s == "":
		return Spec{}, fmt.Errorf("%w: an empty word; %s", ErrSpec, specForms)
	case len(s) > maxSpec:
		return Spec{}, fmt.Errorf("%w: a name of %d bytes; %s", ErrSpec, len(s), specForms)
	case strings.ContainsFunc(s, unicode.IsControl):
		return Spec{}, fmt.Errorf("%w: %q has control characters in it; %s", ErrSpec, s, specForms)
	}
	switch s {
	case "default":
		return Spec{Kind: Default}, nil
	case "silence":
		return Spec{Kind: Silence}, nil
	case "none":
		return Spec{Kind: None}, nil
	}
	prefix, rest, found := strings.Cut(s, ":")
	if !found {
		return Spec{Kind: Named, Name: s}, nil
	}
	switch prefix {
	case "file", "loop":
		if rest == "" {
			return Spec{}, fmt.Errorf("%w: %q names no file; write %s:PATH.wav", ErrSpec, s, prefix)
		}
		kind := File
		if prefix == "loop" {
			kind = Loop
		}
		return Spec{Kind: kind, Path: rest}, nil
	case "tone":
		hz, err := strconv.ParseFloat(rest, 64)
		if err != nil || math.IsNaN(hz) || hz < 20 || hz > 20000 {
			return Spec{}, fmt.Errorf("%w: %q is no tone; write tone:HZ with 20 to 20000, such as tone:440", ErrSpec, s)
		}
		return Spec{Kind: Tone, Hz: hz}, nil
	}
	return Spec{Kind: Named, Name: s}, nil
}

// String is what ParseSpec reads back.
func (s Spec) String() string {
	switch s.Kind {
	case Default:
		return "default"
	case Named:
		return s.Name
	case File:
		return "file:" + s.Path
	case Loop:
		return "loop:" + s.Path
	case Tone:
		return "tone:" + strconv.FormatFloat(s.Hz, 'f', -1, 64)
	case Silence:
		return "silence"
	case None:
		return "none"
	}
	return fmt.Sprintf("Kind(%d)", int(s.Kind))
}

// Hardware tells whether s is a sound card.
func (s Spec) Hardware() bool { return s.Kind == Default || s.Kind == Named }

// CheckSpeaker is nil if s can be a speaker: a sound card, a file, or none.
// The error is one sentence and wraps ErrSpec.
func (s Spec) CheckSpeaker() error {
	switch s.Kind {
	case Default, Named, File, None:
		return nil
	}
	return fmt.Errorf("%w: %q cannot be a speaker; give default, a device's name, file:PATH.wav or none", ErrSpec, s)
}

// Hardware opens the sound cards of this machine; the leaf portaudio is one.
// An empty name is the default device. A name that nothing bears, and a
// machine without a sound card, give an error that wraps ErrNoDevice.
type Hardware interface {
	OpenMicrophone(name string) (Microphone, error)
	OpenSpeaker(name string) (Speaker, error)
}

// OpenMicrophone opens what spec names. hw may be nil if the program has no
// sound cards. The result of File, Loop, Tone and Silence is a [Starter].
func OpenMicrophone(spec Spec, hw Hardware) (Microphone, error) {
	switch spec.Kind {
	case Default, Named:
		if hw == nil {
			return nil, fmt.Errorf("microphone %q: %w", spec, ErrNoDevice)
		}
		return hw.OpenMicrophone(spec.Name)
	case File, Loop:
		// Not in one return: a nil *paced would be a Microphone that is not nil.
		m, err := OpenWAV(spec.Path, spec.Kind == Loop)
		if err != nil {
			return nil, err
		}
		return m, nil
	case Tone:
		return NewTone(spec.Hz), nil
	case Silence:
		return NewSilence(), nil
	case None:
		return NewNoMicrophone(), nil
	}
	return nil, fmt.Errorf("%w: %v", ErrSpec, spec)
}

// OpenSpeaker opens what spec names. hw may be nil if the program has no
// sound cards. A File is created, or emptied.
func OpenSpeaker(spec Spec, hw Hardware) (Speaker, error) {
	if err := spec.CheckSpeaker(); err != nil {
		return nil, err
	}
	switch spec.Kind {
	case File:
		return CreateWAV(spec.Path)
	case None:
		return NewNoSpeaker(), nil
	}
	if hw == nil {
		return nil, fmt.Errorf("speaker %q: %w", spec, ErrNoDevice)
	}
	return hw.OpenSpeaker(spec.Name)
}
