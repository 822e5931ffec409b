package audio

import (
	"errors"
	"strings"
	"testing"
)

func TestParseSpec(t *testing.T) {
	for _, test := range []struct {
		words   string
		want    Spec
		speaker bool
	}{
		{"default", Spec{}, true},
		{"HDA Intel PCH: ALC257 Analog (hw:0,0)", Spec{Kind: Named, Name: "HDA Intel PCH: ALC257 Analog (hw:0,0)"}, true},
		{"hw:0", Spec{Kind: Named, Name: "hw:0"}, true},
		{"耳机", Spec{Kind: Named, Name: "耳机"}, true},
		{"file:talk.wav", Spec{Kind: File, Path: "talk.wav"}, true},
		{"file:a:b.wav", Spec{Kind: File, Path: "a:b.wav"}, true},
		{"loop:/tmp/x.wav", Spec{Kind: Loop, Path: "/tmp/x.wav"}, false},
		{"tone:440", Spec{Kind: Tone, Hz: 440}, false},
		{"tone:997.5", Spec{Kind: Tone, Hz: 997.5}, false},
		{"silence", Spec{Kind: Silence}, false},
		{"none", Spec{Kind: None}, true},
	} {
		got, err := ParseSpec(test.words)
		if err != nil || got != test.want {
			t.Errorf("ParseSpec(%q) = %+v, %v", test.words, got, err)
		}
		if got.String() != test.words {
			t.Errorf("%q comes back as %q", test.words, got)
		}
		if err := got.CheckSpeaker(); (err == nil) != test.speaker || err != nil && !errors.Is(err, ErrSpec) {
			t.Errorf("%q as a speaker: %v", test.words, err)
		}
		if hardware := test.want.Kind == Default || test.want.Kind == Named; got.Hardware() != hardware {
			t.Errorf("%q is hardware: %v", test.words, got.Hardware())
		} else if hardware {
			if m, err := OpenMicrophone(got, nil); m != nil || !errors.Is(err, ErrNoDevice) {
				t.Errorf("microphone %q without sound cards: %v, %v", test.words, m, err)
			}
			if s, err := OpenSpeaker(got, nil); s != nil || !errors.Is(err, ErrNoDevice) {
				t.Errorf("speaker %q without sound cards: %v, %v", test.words, s, err)
			}
		}
	}
	for _, words := range []string{
		"", "file:", "loop:", "tone:", "tone:a", "tone:19", "tone:20001", "tone:NaN", "tone:Inf", "tone:-440",
		"a\nb", "file:a\x00b", "\x1b[31m", strings.Repeat("x", 5000),
	} {
		got, err := ParseSpec(words)
		if !errors.Is(err, ErrSpec) || got != (Spec{}) {
			t.Errorf("ParseSpec(%q) = %+v, %v", words, got, err)
		} else if strings.ContainsAny(err.Error(), "\n\x1b\x00") || len(err.Error()) > 400 {
			t.Errorf("ParseSpec(%q): %q", words, err)
		}
	}
}

// FuzzParseSpec: what is accepted comes back the same.
func FuzzParseSpec(f *testing.F) {
	for _, s := range []string{"default", "tone:440", "file:x.wav", "loop:y", "none", "silence", "USB: mic"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, words string) {
		spec, err := ParseSpec(words)
		if err != nil {
			return
		}
		if again, err := ParseSpec(spec.String()); err != nil || again != spec {
			t.Fatalf("%q is %+v, %q is %+v: %v", words, spec, spec, again, err)
		}
	})
}
