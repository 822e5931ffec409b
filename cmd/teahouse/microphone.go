package main

import (
	"time"

	"teahouse/internal/audio"
	"teahouse/internal/audio/process"
	"teahouse/internal/voice"
)

// What is done to the microphone before it is heard, and push to talk.

// cleaning is what --process and --gate say. Where they say nothing, a sound
// card is cleaned and its gate opens by voice, while a file or a tone, which
// is meant to arrive as it is, goes through untouched. Echo comes from a sound
// card that plays, so without one there is none to cancel.
func (f *voiceFlags) cleaning(mic, speaker audio.Spec) (stages process.Stages, gate audio.GateMode, err error) {
	if mic.Hardware() {
		stages, gate = process.All(), audio.GateVoice
		stages.Echo = speaker.Hardware()
	}
	if f.Process != "" {
		if stages, err = process.ParseStages(f.Process); err != nil {
			return stages, gate, usage("--process: %v", err)
		}
	}
	if f.Gate != "" {
		if gate, err = audio.ParseGate(f.Gate); err != nil {
			return stages, gate, usage("--gate: %v", err)
		}
	}
	return stages, gate, nil
}

// mode is what --mode says; kong has checked it, and the empty word is standard.
func (f *voiceFlags) mode() voice.Mode {
	m, err := voice.ParseMode(f.Mode)
	if err != nil {
		return voice.Standard
	}
	return m
}

// checkMode refuses flags that a mode leaves without a meaning.
func (f *voiceFlags) checkMode(given map[string]bool) error {
	switch f.mode() {
	case voice.Studio:
		if given["gate"] && f.Gate != audio.GateOpen.String() {
			return usage("--mode studio has no gate: leave --gate out, or choose another mode")
		}
		if given["process"] && f.Process != "off" {
			return usage("--mode studio cleans nothing: leave --process out, or choose another mode")
		}
	case voice.Thrifty:
		if given["gate"] && f.Gate == audio.GateOpen.String() {
			return usage("--mode thrifty needs a gate that shuts: give --gate voice or --gate ptt, or choose another mode")
		}
	case voice.Shielded:
		if f.ListenOnly || f.Mic == "none" {
			return usage("--mode shielded needs a microphone, since who only listens sends no voice: give --mic silence to be seen like the others")
		}
	}
	return nil
}

// clean sets up what the flags ask for.
func (s *sound) clean(f *voiceFlags, mic, speaker audio.Spec) error {
	stages, gate, err := f.cleaning(mic, speaker)
	if err != nil {
		return err
	}
	s.gate = gate
	if s.silent || stages == (process.Stages{}) {
		return nil
	}
	p, err := process.New(process.Config{Stages: stages})
	if err != nil {
		return wrap(err, exitAudio, "device", "the microphone cannot be cleaned (%v): try --process off", err)
	}
	s.processor = p
	return nil
}

// ptt presses or releases the key of push to talk.
func (s *seat) ptt(key string) reply {
	if s.silent {
		return refused("there is no microphone here: start again with --mic to speak")
	}
	if s.voice.Gate() != audio.GatePTT {
		return refused("push to talk is off: start again with --gate ptt")
	}
	down := key == "press" || key == "toggle" && !s.voice.Pressed()
	switch key {
	case "press", "release", "toggle":
	default:
		return reply{Code: exitUsage, Message: "say ptt press, ptt release or ptt toggle"}
	}
	if s.voice.Pressed() != down {
		s.voice.Press(down)
		s.house.hub.publish(pttEvent{headOf("ptt", time.Now(), s.id.String()), down})
	}
	switch {
	case !down:
		return okay("push to talk is up")
	case s.place.Muted():
		return okay("push to talk is down, but you are muted")
	default:
		return okay("push to talk is down")
	}
}
