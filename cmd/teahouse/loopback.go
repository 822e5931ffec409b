package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"teahouse/internal/audio"
	"teahouse/internal/voice"
	"teahouse/room"
)

// loopbackCmd lets somebody hear themselves: through the device alone, which
// shows whether microphone and speaker work and how late they are, or as others
// would hear them. It needs no home and no network.
type loopbackCmd struct {
	Through string        `default:"link" enum:"device,link" help:"device: straight from the microphone to the speaker; link: cleaned, encoded, over a simulated path, and played as others hear it."`
	Mic     string        `placeholder:"SPEC" help:"As of join."`
	Speaker string        `placeholder:"SPEC" help:"As of join."`
	Process string        `placeholder:"LIST" help:"As of join."`
	Gate    string        `placeholder:"GATE" help:"As of join."`
	Mode    string        `default:"standard" enum:"standard,shielded,thrifty,studio" help:"As of join: how it sounds, how late it is and what it takes."`
	Path    time.Duration `placeholder:"D" help:"How long the simulated path is, one way, such as 80ms."`
	Jitter  time.Duration `placeholder:"D" help:"By up to how much more packets are late, such as 60ms."`
	Loss    float64       `placeholder:"P" help:"How many percent of the packets are lost."`
	Depth   int           `placeholder:"N" help:"How often each frame is sent again, 0 to 3."`
	Seed    uint64        `placeholder:"S" default:"1" help:"Another number, other packets lost."`
	For     time.Duration `placeholder:"D" help:"Stop after D, such as 10s."`
	jsonFlag
}

// linkFlagNames mean nothing where there is no link.
var linkFlagNames = []string{"process", "gate", "mode", "path", "jitter", "loss", "depth", "seed"}

const (
	longestPath  = 2 * time.Second
	meterEvery   = 100 * time.Millisecond
	loopbackTail = time.Second // after a file has ended
)

func (c *loopbackCmd) voiceFlags() *voiceFlags {
	return &voiceFlags{Mic: c.Mic, Speaker: c.Speaker, Process: c.Process, Gate: c.Gate, Mode: c.Mode}
}

func (c *loopbackCmd) check(a *app) error {
	if err := c.voiceFlags().check(a.given); err != nil {
		return err
	}
	switch {
	case !(c.Loss >= 0 && c.Loss <= 100):
		return usage("--loss %g is no share of packets: give percent, 0 to 100", c.Loss)
	case c.Depth < 0 || c.Depth > 3:
		return usage("--depth %d is out of range: give 0 to 3", c.Depth)
	case c.Path < 0 || c.Path > longestPath:
		return usage("--path %v is out of range: give 0s to %v", c.Path, longestPath)
	case c.Jitter < 0 || c.Jitter > longestPath:
		return usage("--jitter %v is out of range: give 0s to %v", c.Jitter, longestPath)
	case c.For < 0:
		return usage("--for %v is negative; give a time such as --for 10s", c.For)
	}
	if c.Through == "device" {
		for _, flag := range linkFlagNames {
			if a.given[flag] {
				return usage("--%s is for a link: leave it out, or use it with --through link", flag)
			}
		}
	}
	return nil
}

func (c *loopbackCmd) Run(a *app) error {
	if err := c.check(a); err != nil {
		return c.fail(err)
	}
	flags := c.voiceFlags()
	if c.Through == "device" {
		flags.Process = "off"
	}
	hub := newHub()
	defer hub.close()
	log := (&homeFlags{LogLevel: "warn"}).logger(a.screen)
	s, err := openSound(flags, a.given, hub, log)
	if err != nil {
		return c.fail(err)
	}
	defer s.closeSystem()
	if s.notice != "" && !c.JSON {
		a.screen.println(s.notice)
	}
	if !c.JSON {
		a.screen.println("You hear yourself now; with loudspeakers that may howl, so use headphones. Ctrl-C ends it.")
	}
	ctx := a.ctx
	if c.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.For)
		defer cancel()
	}
	if c.Through == "device" {
		return c.fail(c.throughDevice(ctx, a, s))
	}
	return c.fail(c.throughLink(ctx, a, s, flags))
}

func (c *loopbackCmd) fail(err error) error {
	if err != nil && c.JSON {
		writeStdout(encode(newError(explain(err), "")))
	}
	return err
}

// throughDevice plays the microphone as it is.
func (c *loopbackCmd) throughDevice(ctx context.Context, a *app, s *sound) error {
	levels := make(chan uint8, 1)
	ended := make(chan error, 1)
	go func() { // ends with the devices
		defer a.guard()
		ended <- voice.Through(s.microphone, s.speaker, func(level uint8) {
			select {
			case levels <- level:
			default: // the meter is slow
			}
		})
	}()
	tick := time.NewTicker(meterEvery)
	defer tick.Stop()
	level := uint8(audio.SilentLevel)
	for {
		select {
		case <-ctx.Done():
			err := errors.Join(s.microphone.Close(), s.speaker.Close())
			return errors.Join(deviceEnd(<-ended), deviceEnd(err))
		case err := <-ended:
			return errors.Join(deviceEnd(err), deviceEnd(errors.Join(s.microphone.Close(), s.speaker.Close())))
		case level = <-levels:
		case <-tick.C:
			a.screen.setBottom(meter(level))
		}
	}
}

func deviceEnd(err error) error {
	if err == nil {
		return nil
	}
	return wrap(err, exitAudio, "device", "the sound devices have failed (%v): try others (`teahouse devices` lists them)", err)
}

// throughLink is heard as others would.
func (c *loopbackCmd) throughLink(ctx context.Context, a *app, s *sound, flags *voiceFlags) (err error) {
	micEnded, speakerFailed := make(chan error, 1), make(chan error, 1)
	v, err := voice.New(voice.Config{
		Microphone: s.microphone, Processor: s.processor, Gate: s.gate, Mode: flags.mode(), Speaker: s.speaker, Recorder: s.recorder,
		OnMicrophoneEnd: func(err error) { micEnded <- err },
		OnSpeakerFailed: func(err error) { speakerFailed <- err },
	})
	if err != nil {
		return err
	}
	seat := v.Sit(room.ID{}, false)
	loop := voice.NewLoop(seat, voice.LoopConfig{Path: c.Path, Jitter: c.Jitter, Loss: c.Loss / 100, Depth: c.Depth, Seed: c.Seed})
	seat.Attach(loop)
	v.Press(true) // with push to talk too, one wants to hear something
	v.Start()
	begun := time.Now()
	tell := func() { c.tell(a, v, seat, float64(8*loop.Bytes())/max(time.Since(begun).Seconds(), 1)) }
	defer func() {
		a.screen.setBottom("")
		tell()
		seat.Leave()
		loop.Close()
		err = errors.Join(err, deviceEnd(v.Close()))
	}()
	var tail <-chan time.Time
	second, tick := time.NewTicker(time.Second), time.NewTicker(meterEvery)
	defer second.Stop()
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-micEnded:
			if err != nil {
				return deviceEnd(err)
			}
			tail = time.After(loopbackTail + c.Path + c.Jitter)
		case err := <-speakerFailed:
			return deviceEnd(err)
		case <-tail:
			return nil
		case <-second.C:
			if c.JSON {
				tell()
			}
		case <-tick.C:
			a.screen.setBottom(meter(v.Level()))
		}
	}
}

// tell prints how one hears oneself: the stats that others would have, and the
// bits per second that it took so far.
func (c *loopbackCmd) tell(a *app, v *voice.Voice, seat *voice.Seat, rate float64) {
	for _, m := range seat.Stats() {
		e := newStats(v, m, room.LinkInfo{RTT: 2 * c.Path, Depth: c.Depth}, rate, room.ID{})
		if c.JSON {
			writeStdout(encode(e))
			continue
		}
		a.screen.println(fmt.Sprintf("Of %d frames %d were lost; %d came by repair, %d were made up. From your mouth to your ear it took about %.0f ms, and %.0f kbit/s.",
			e.Sent, e.Lost, e.Repaired, e.Concealed, e.MouthToEar, e.KbitS))
	}
}

// meter shows a level, -dBov, from -60 dB to 0 in steps of 6.
func meter(level uint8) string {
	const steps = 10
	full := max(0, min(steps, (66-int(level))/6))
	return fmt.Sprintf(" %s%s %4d dB", strings.Repeat("#", full), strings.Repeat("-", steps-full), -int(level))
}
