package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"teahouse/internal/audio"
	"teahouse/internal/audio/portaudio"
	"teahouse/internal/voice"
)

// sound are the devices of one run.
type sound struct {
	microphone audio.Microphone
	speaker    audio.Speaker
	system     *portaudio.System // nil where no sound card is used

	processor voice.Processor // nil: the sound is left as it is
	gate      audio.GateMode

	hub      *hub
	silent   bool   // there is no microphone
	recorder bool   // the speaker is a file
	notice   string // what a person should know about the devices
}

// openSound opens what the flags name. A sound card that was asked for and is
// not there is a failure; one that was only the default is done without, with
// a notice.
func openSound(f *voiceFlags, given map[string]bool, hub *hub, log *slog.Logger) (*sound, error) {
	s := &sound{hub: hub}
	if err := s.open(f, given, log); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *sound) open(f *voiceFlags, given map[string]bool, log *slog.Logger) error {
	mic, err := f.micSpec()
	if err != nil {
		return err
	}
	speaker, err := f.speakerSpec()
	if err != nil {
		return err
	}
	s.recorder = speaker.Kind == audio.File
	var hardware audio.Hardware
	var noSystem error
	if mic.Hardware() || speaker.Hardware() {
		config := portaudio.Config{Stereo: f.mode() == voice.Studio, Log: log, Notify: s.deviceChanged}
		if s.system, noSystem = portaudio.Open(config); noSystem == nil {
			hardware = s.system
		}
	}
	missing := []string{}
	s.microphone, err = audio.OpenMicrophone(mic, hardware)
	if err != nil {
		if given["mic"] || !mic.Hardware() {
			return deviceFailure("--mic", mic, errors.Join(err, noSystem))
		}
		log.Info("no microphone", "err", err)
		missing = append(missing, "microphone")
		mic = audio.Spec{Kind: audio.None}
		s.microphone = audio.NewNoMicrophone()
	}
	s.silent = mic.Kind == audio.None
	s.speaker, err = audio.OpenSpeaker(speaker, hardware)
	if err != nil {
		if given["speaker"] || !speaker.Hardware() {
			return deviceFailure("--speaker", speaker, errors.Join(err, noSystem))
		}
		log.Info("no speaker", "err", err)
		missing = append(missing, "speaker")
		speaker = audio.Spec{Kind: audio.None}
		s.speaker = audio.NewNoSpeaker()
	}
	s.notice = noticeOf(missing)
	return s.clean(f, mic, speaker)
}

// deviceChanged tells of a device that was lost, or replaced, or is there
// again, from PortAudio's keeper.
func (s *sound) deviceChanged(e portaudio.Event) { s.hub.publish(newDevice(e, time.Now())) }

func newDevice(e portaudio.Event, at time.Time) deviceEvent {
	out := deviceEvent{
		head: headOf("device", at, ""), Kind: "speaker", State: "up", Name: plain(e.Device),
		Replaced: e.Replaced, PeriodMs: ms(e.Period),
	}
	if e.Microphone {
		out.Kind = "microphone"
	}
	if e.Device == "" {
		out.State = "down"
	}
	if e.Err != nil {
		out.Reason = plain(e.Err.Error())
	}
	return out
}

// chooseDevice is the verb device.
func (s *seat) chooseDevice(kind, words string) reply {
	var device any
	switch kind {
	case "mic":
		device = s.sound.microphone
	case "speaker":
		device = s.sound.speaker
	default:
		return reply{Code: exitUsage, Message: fmt.Sprintf("%.20q is neither mic nor speaker", kind)}
	}
	spec, err := audio.ParseSpec(words)
	if err != nil || !spec.Hardware() {
		return reply{Code: exitUsage, Message: fmt.Sprintf("%.80q is no sound card: give default, or a name that `teahouse devices` lists", plain(words))}
	}
	chooser, ok := device.(audio.Chooser)
	if !ok {
		return refused("this node's %s is no sound card, and stays what it is: start again with another --%s", kind, kind)
	}
	if err := chooser.Choose(spec.Name); err != nil {
		return replyOf(deviceFailure(kind, spec, err))
	}
	return okay("the %s is %s", kind, plain(spec.String()))
}

// noticeOf is one sentence about devices that were only the default.
func noticeOf(missing []string) string {
	switch {
	case len(missing) == 2:
		return "There is no sound card here, so you say and hear nothing, but you see who is there; plug one in, or see `teahouse devices`."
	case len(missing) == 1 && missing[0] == "microphone":
		return "There is no microphone here, so you only listen; plug one in, or name one with --mic (see `teahouse devices`)."
	case len(missing) == 1:
		return "There is no speaker here, so you hear nothing; plug one in, or name one with --speaker (see `teahouse devices`)."
	}
	return ""
}

// deviceFailure says what is the matter with a device that was asked for.
func deviceFailure(flag string, spec audio.Spec, err error) *failure {
	var path *fs.PathError
	switch {
	case errors.Is(err, audio.ErrSpec):
		return usage("%s: %v", flag, err)
	case errors.Is(err, audio.ErrNoDevice) && spec.Kind == audio.Named:
		return wrap(err, exitAudio, "device", "%s: there is no sound device %q: `teahouse devices` lists those there are", flag, spec.Name)
	case errors.Is(err, audio.ErrNoDevice):
		return wrap(err, exitAudio, "device", "%s: there is no sound card: plug one in, or give %s none", flag, flag)
	case errors.Is(err, audio.ErrWAV):
		return wrap(err, exitAudio, "file", "%s: %v", flag, err) // it has the remedy
	case errors.Is(err, fs.ErrNotExist) && flag == "--speaker":
		return wrap(err, exitAudio, "file", "%s: the directory of %s is not there: make it, or check the path", flag, spec.Path)
	case errors.Is(err, fs.ErrNotExist):
		return wrap(err, exitAudio, "file", "%s: %s is not there: check the path", flag, spec.Path)
	case errors.As(err, &path):
		return wrap(err, exitAudio, "file", "%s: %s: %v: check the path and its permissions", flag, path.Path, path.Err)
	}
	return wrap(err, exitAudio, "device", "%s: %v: try another device (`teahouse devices` lists them)", flag, err)
}

// close ends what voice.Voice has not taken over.
func (s *sound) close() {
	if s.microphone != nil {
		_ = s.microphone.Close()
	}
	if s.speaker != nil {
		_ = s.speaker.Close()
	}
	if s.processor != nil {
		_ = s.processor.Close()
	}
	s.closeSystem()
}

func (s *sound) closeSystem() {
	if s.system != nil {
		_ = s.system.Close()
		s.system = nil
	}
}

// devicesCmd lists sound cards.
type devicesCmd struct {
	jsonFlag
}

func (c *devicesCmd) Run(*app) error {
	system, err := portaudio.Open(portaudio.Config{})
	if err != nil {
		return wrap(err, exitAudio, "device", "the sound system does not answer (%v): check that it is installed and running", err)
	}
	defer system.Close()
	devices, err := system.Devices()
	if err != nil {
		return wrap(err, exitAudio, "device", "the sound devices cannot be listed (%v): check that the sound system runs", err)
	}
	if c.JSON {
		for _, d := range devices {
			printJSON(struct {
				Name           string  `json:"name"`
				System         string  `json:"system"`
				Inputs         int     `json:"inputs"`
				Outputs        int     `json:"outputs"`
				Rate           float64 `json:"rate"`
				DefaultMic     bool    `json:"default_mic"`
				DefaultSpeaker bool    `json:"default_speaker"`
			}{d.Name, d.HostAPI, d.Inputs, d.Outputs, d.Rate, d.DefaultInput, d.DefaultOutput})
		}
		return nil
	}
	if len(devices) == 0 {
		fmt.Fprintln(os.Stderr, "There is no sound card here; --mic and --speaker also take file:PATH.wav, and none.")
		return nil
	}
	for _, kind := range []struct {
		title     string
		has       func(portaudio.Device) bool
		isDefault func(portaudio.Device) bool
	}{
		{"Microphones (--mic NAME)", func(d portaudio.Device) bool { return d.Inputs > 0 }, func(d portaudio.Device) bool { return d.DefaultInput }},
		{"Speakers (--speaker NAME)", func(d portaudio.Device) bool { return d.Outputs > 0 }, func(d portaudio.Device) bool { return d.DefaultOutput }},
	} {
		fmt.Println(kind.title)
		none := true
		for _, d := range devices {
			if !kind.has(d) {
				continue
			}
			none = false
			mark := " "
			if kind.isDefault(d) {
				mark = "*"
			}
			fmt.Printf("  %s %s\n", mark, plain(d.Name))
		}
		if none {
			fmt.Println("    none")
		}
	}
	return nil
}
