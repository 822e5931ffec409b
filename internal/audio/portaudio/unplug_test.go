//go:build lab

package portaudio

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"teahouse/internal/audio"
	"teahouse/internal/audio/audiotest"
)

// fault is something that happens to the sound devices of a talk.
type fault struct {
	name                string
	sinks               []string
	speaker, microphone string // the defaults, and what is opened:
	opens               [2]string
	// before: the tone is heard before. Otherwise it goes where nobody listens.
	before bool
	// happens makes it so, and gives the moment from which sound must be back.
	happens func(t *testing.T, k *talk, pulse *audiotest.Pulse) time.Time
	// told: both devices are lost, and are there again.
	told bool
}

// Whatever happens to a talk's devices or to the sound server: the tone that is
// said is heard again within 2 s, by its samples, and time goes by meanwhile as
// if nothing had been. In each case the server may move the sound by itself,
// which no program sees through ALSA, or take it away, so that we move; what is
// heard is the same.
//
// A server without the clock of a card stutters with the machine: it is asked
// up to three times, each time with a talk and a server of its own.
func TestSoundReturns(t *testing.T) {
	for _, f := range []fault{
		{
			name: "the speaker goes, there is another", sinks: []string{"headset", "inner"}, speaker: "inner", microphone: "inner",
			opens: [2]string{"headset", "inner_mic"},
			happens: func(t *testing.T, _ *talk, pulse *audiotest.Pulse) time.Time {
				gone := time.Now()
				pulse.Unplug(t, "headset")
				return gone
			},
		},
		{
			name: "the microphone goes, there is another", sinks: []string{"headset", "inner"}, speaker: "inner", microphone: "inner",
			opens: [2]string{"inner", "headset_mic"},
			happens: func(t *testing.T, _ *talk, pulse *audiotest.Pulse) time.Time {
				gone := time.Now()
				pulse.Unplug(t, "headset")
				return gone
			},
		},
		{
			name: "both go, there are others", sinks: []string{"headset", "inner"}, speaker: "headset", microphone: "headset", before: true,
			happens: func(t *testing.T, _ *talk, pulse *audiotest.Pulse) time.Time {
				gone := time.Now()
				pulse.Unplug(t, "headset")
				return gone
			},
		},
		{
			name: "the only ones go and come back", sinks: []string{"loop"}, speaker: "loop", microphone: "loop", before: true, told: true,
			happens: func(t *testing.T, k *talk, pulse *audiotest.Pulse) time.Time {
				pulse.Unplug(t, "loop")
				time.Sleep(time.Second) // what is under way, and longer than it takes to look for them
				k.silent(t, time.Second)
				pulse.Plug(t, "loop")
				pulse.SetDefault(t, "loop", "loop")
				return time.Now()
			},
		},
		{
			name: "the only ones, called by name, go and come back at once", sinks: []string{"loop"}, speaker: "loop", microphone: "loop", before: true,
			opens: [2]string{"loop", "loop_mic"},
			happens: func(t *testing.T, _ *talk, pulse *audiotest.Pulse) time.Time {
				pulse.Unplug(t, "loop")
				pulse.Plug(t, "loop")
				return time.Now()
			},
		},
		{
			name: "the server is killed, and starts again", sinks: []string{"loop"}, speaker: "loop", microphone: "loop", before: true, told: true,
			happens: func(t *testing.T, k *talk, pulse *audiotest.Pulse) time.Time {
				pulse.Stop(t)
				k.silent(t, 2*time.Second)
				pulse.Start(t)
				return time.Now()
			},
		},
		{
			name: "the server stands still, and goes on", sinks: []string{"loop"}, speaker: "loop", microphone: "loop", before: true,
			happens: func(t *testing.T, k *talk, pulse *audiotest.Pulse) time.Time {
				time.Sleep(startLimit) // until then a stream may take its time
				pulse.Freeze(t)
				defer pulse.Thaw(t)
				time.Sleep(time.Second)
				k.silent(t, 2*time.Second)
				return time.Now()
			},
		},
		{
			// The watchdog: what stops calling is opened again after 500 ms.
			name: "the devices are suspended, and go on", sinks: []string{"loop"}, speaker: "loop", microphone: "loop", before: true,
			happens: func(t *testing.T, k *talk, pulse *audiotest.Pulse) time.Time {
				time.Sleep(startLimit) // until then a stream may take its time
				still := time.Now()
				pulse.Suspend(t, "loop", true)
				for _, microphone := range []bool{false, true} {
					if e, ok := k.event(microphone, func(e Event) bool { return errors.Is(e.Err, errDead) }, patience); !ok || e.Device != "" {
						t.Errorf("that it (the microphone %v) stood still was told as %+v, %v", microphone, e, ok)
					}
				}
				if took := time.Since(still); took < silenceLimit-50*time.Millisecond {
					t.Errorf("given up after %v, though a device may be silent for %v", took, silenceLimit)
				}
				for _, microphone := range []bool{false, true} {
					if e, ok := k.event(microphone, func(e Event) bool { return e.Device != "" }, patience); !ok {
						t.Errorf("it (the microphone %v) was not opened again: %+v", microphone, e)
					}
				}
				t.Logf("opened again %v after it stood still", time.Since(still))
				k.silent(t, time.Second)
				pulse.Suspend(t, "loop", false)
				return time.Now()
			},
		},
		{
			name: "the default speaker becomes another", sinks: []string{"headset", "inner"}, speaker: "headset", microphone: "inner",
			happens: func(t *testing.T, _ *talk, pulse *audiotest.Pulse) time.Time {
				moved := time.Now()
				pulse.SetDefault(t, "inner", "inner")
				return moved
			},
		},
		{
			name: "the default microphone becomes another", sinks: []string{"headset", "inner"}, speaker: "headset", microphone: "inner",
			happens: func(t *testing.T, _ *talk, pulse *audiotest.Pulse) time.Time {
				moved := time.Now()
				pulse.SetDefault(t, "headset", "headset")
				return moved
			},
		},
	} {
		t.Run(f.name, func(t *testing.T) {
			for try := 1; ; try++ {
				took, still := f.try(t)
				t.Logf("sound after %v%s", took, still)
				if took <= 2*time.Second && still == "" {
					return
				}
				if try == 3 {
					t.Fatalf("sound only after %v%s", took, still)
				}
			}
		})
	}
}

// try has a talk, lets the fault happen, and says how long it took until sound
// was back, and, if it did, that time stood still for the talk.
func (f *fault) try(t *testing.T) (took time.Duration, still string) {
	pulse := audiotest.NewPulse(t, f.sinks...)
	defer pulse.Stop(t)
	pulse.Setenv(t)
	pulse.SetDefault(t, f.speaker, f.microphone)
	k := startTalk(t, f.opens[1], f.opens[0])
	defer k.close(t)
	start := time.Now()
	if f.before {
		if _, ok := k.back(start); !ok {
			t.Fatal("nothing is heard before")
		}
	} else {
		time.Sleep(time.Second)
		k.silent(t, time.Second)
	}
	from := f.happens(t, k, pulse)
	took, ok := k.back(from)
	if !ok {
		t.Fatal("nothing is heard any more")
	}
	for _, microphone := range []bool{false, true} {
		if !f.told {
			break
		}
		if e, ok := k.event(microphone, func(e Event) bool { return e.Device == "" }, time.Second); !ok || e.Err == nil || e.Period != 0 {
			t.Errorf("the loss (of the microphone %v) was told as %+v, %v", microphone, e, ok)
		}
		if e, ok := k.event(microphone, func(e Event) bool { return e.Device != "" }, 5*time.Second); !ok || e.Replaced || e.Period == 0 {
			t.Errorf("the return (of the microphone %v) was told as %+v, %v", microphone, e, ok)
		}
	}
	want := int64(time.Since(start) / audio.BlockDuration)
	for name, n := range map[string]int64{"said": k.said.Load(), "heard": k.heard.Load()} {
		if n < want*7/10 || n > want+50 {
			still += fmt.Sprintf("; %s %d blocks in the time of %d", name, n, want)
		}
	}
	return took, still
}

// TestReplugged: a speaker that was named goes, the default one takes over, and
// the one that was named comes back. Where the server gave the stream up, we
// moved, and go back to what was named; where the server moved the sound by
// itself, which no program can see through ALSA, it alone can move it back.
// Either way it is told truly, and the sound is there, and the microphone, which
// is another device, captures all the while.
func TestReplugged(t *testing.T) {
	pulse := audiotest.NewPulse(t, "headset", "inner")
	pulse.Setenv(t)
	pulse.SetDefault(t, "inner", "inner")
	k := startTalk(t, "inner_mic", "headset")
	start := time.Now()
	time.Sleep(time.Second)
	k.silent(t, time.Second) // what goes to the headset
	gone := time.Now()
	pulse.Unplug(t, "headset")
	k.hears(t, gone, patience)
	_, replaced := k.event(false, func(e Event) bool { return e.Device == "default" && e.Replaced }, 2*time.Second)
	pulse.Plug(t, "headset")
	plugged := time.Now()
	if replaced {
		if _, ok := k.event(false, func(e Event) bool { return e.Device == "headset" && !e.Replaced }, patience); !ok {
			t.Fatal("what was named is not taken again")
		}
		if n, want := k.heard.Load(), int64(time.Since(start)/audio.BlockDuration); n < want-100 || n > want+50 {
			t.Errorf("the microphone gave %d blocks in the time of %d", n, want)
		}
		// Who wants to hear it must listen there.
		time.Sleep(300 * time.Millisecond) // what is under way
		k.silent(t, time.Second)
		plugged = time.Now()
		if err := k.mic.(audio.Chooser).Choose("headset_mic"); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("replaced by us: %v", replaced)
	k.hears(t, plugged, patience)
}

// TestChoose: another speaker and another microphone in mid-talk, and one that
// was not there when the devices were listed; what cannot be opened changes
// nothing.
func TestChoose(t *testing.T) {
	pulse := audiotest.NewPulse(t, "headset", "inner")
	pulse.Setenv(t)
	k := startTalk(t, "headset_mic", "inner")
	choose := func(d any, name string) error { return d.(audio.Chooser).Choose(name) }
	k.silent(t, time.Second) // the one plays to inner, the other listens to headset
	if err := choose(k.out, "headset"); err != nil {
		t.Fatal(err)
	}
	k.hears(t, time.Now(), 2*time.Second)
	if err := choose(k.mic, "inner_mic"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond) // what is under way
	k.silent(t, time.Second)
	if err := choose(k.out, "nothing like that"); !errors.Is(err, audio.ErrNoDevice) {
		t.Errorf("a device that is not there: %v", err)
	}
	k.silent(t, time.Second)
	pulse.SetDefault(t, "inner", "inner")
	if err := choose(k.out, ""); err != nil {
		t.Error(err)
	}
	k.hears(t, time.Now(), 2*time.Second)
	for len(k.events[0]) > 0 {
		if e := <-k.events[0]; e.Device == "" && e.Err == nil {
			t.Errorf("told %+v", e)
		}
	}
	if err := k.out.Close(); err != nil {
		t.Error(err)
	}
	if err := choose(k.out, "headset"); !errors.Is(err, audio.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// TestRefused: the monitor of a sink is listed as a speaker and is none. It is
// refused as often as it is chosen, at once, and the talk goes on with what it
// had. PortAudio, asked for it, hangs now and then, and now and then it ends the
// program (openable.c).
func TestRefused(t *testing.T) {
	pulse := audiotest.NewPulse(t, "headset", "inner")
	pulse.Setenv(t)
	k := startTalk(t, "headset_mic", "headset")
	out := k.out.(audio.Chooser)
	k.hears(t, time.Now(), 5*time.Second)
	for range 40 {
		if err := out.Choose("inner_mic"); err == nil || errors.Is(err, errStuck) {
			t.Fatalf("a monitor as a speaker: %v", err)
		}
	}
	k.hears(t, time.Now(), 2*time.Second)
	for _, speaker := range []string{"inner", "headset"} {
		if err := out.Choose(speaker); err != nil {
			t.Errorf("choose %s afterwards: %v", speaker, err)
		}
	}
	k.hears(t, time.Now(), 2*time.Second)
}
