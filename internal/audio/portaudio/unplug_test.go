//go:build lab

package portaudio

import (
	"errors"
	"math"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"teahouse/internal/audio"
	"teahouse/internal/audio/audiotest"
)

// talk plays a sine into a speaker and listens to a microphone, as a talk
// does.
type talk struct {
	system *System
	mic    audio.Microphone
	out    audio.Speaker
	events [2]chan Event // of the speaker, of the microphone
	said   atomic.Int64  // blocks
	heard  atomic.Int64
	loud   atomic.Int64 // when the tone was last heard, Unix ns; 0 never
	done   chan error
	device map[bool]string // by the last event
	stuck  bool            // PortAudio has hung, and still may
}

func startTalk(t *testing.T, microphone, speaker string) *talk {
	t.Helper()
	k := &talk{events: [2]chan Event{make(chan Event, 1000), make(chan Event, 1000)}, done: make(chan error, 2), device: map[bool]string{}}
	k.system = openSystem(t, Config{Notify: func(e Event) { *k.of(e.Microphone) <- e }})
	mic, out := must(k.system.OpenMicrophone(microphone))(t), must(k.system.OpenSpeaker(speaker))(t)
	k.mic, k.out = mic, out
	go func() {
		block := make([]float32, 2*audio.BlockFrames)
		for n := 0; ; n++ {
			for i := range block {
				block[i] = 0.5 * float32(math.Sin(2*math.Pi*997*float64(n*audio.BlockFrames+i/2)/audio.Rate))
			}
			if err := out.Write(block); err != nil {
				k.done <- err
				return
			}
			k.said.Add(1)
		}
	}()
	go func() {
		block := make([]float32, audio.BlockFrames)
		for {
			if _, err := mic.Read(block); err != nil {
				k.done <- err
				return
			}
			k.heard.Add(1)
			if audio.Peak(block) > 0.3 {
				k.loud.Store(time.Now().UnixNano())
			}
		}
	}()
	t.Cleanup(func() {
		if err := k.system.Close(); err != nil && !k.stuck {
			t.Error(err)
		}
		for range 2 {
			if err := <-k.done; !errors.Is(err, audio.ErrClosed) {
				t.Errorf("in the end: %v", err)
			}
		}
	})
	return k
}

// hears waits until the tone is heard after since, and says how long after.
func (k *talk) hears(t *testing.T, since time.Time, within time.Duration) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); k.loud.Load() < since.UnixNano(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing is heard")
		}
	}
	took := time.Unix(0, k.loud.Load()).Sub(since)
	t.Logf("sound after %v", took)
	if took > within {
		t.Errorf("sound only after %v", took)
	}
}

func (k *talk) of(microphone bool) *chan Event {
	if microphone {
		return &k.events[1]
	}
	return &k.events[0]
}

// event waits for the next event of the speaker, or of the microphone, that is
// not about the size of its buffers.
func (k *talk) event(t *testing.T, microphone bool) Event {
	t.Helper()
	for deadline := time.After(10 * time.Second); ; {
		select {
		case e := <-*k.of(microphone):
			if e.Err != nil || e.Device != k.device[microphone] {
				k.device[microphone] = e.Device
				return e
			}
		case <-deadline:
			t.Fatal("nothing was told")
		}
	}
}

// silent holds that nothing was heard for a while.
func (k *talk) silent(t *testing.T, d time.Duration) {
	t.Helper()
	time.Sleep(d)
	if ago := time.Since(time.Unix(0, k.loud.Load())); ago < d-100*time.Millisecond {
		t.Fatalf("the tone was heard %v ago, though its device is gone", ago)
	}
}

// TestReload: the only sound card, speaker and microphone, goes in mid-talk and
// comes back.
func TestReload(t *testing.T) {
	pulse := audiotest.NewPulse(t, "loop")
	pulse.Setenv(t)
	start := time.Now()
	k := startTalk(t, "", "")
	k.hears(t, start, 5*time.Second)
	for _, away := range []time.Duration{0, 3 * time.Second} {
		pulse.Unplug(t, "loop")
		for _, microphone := range []bool{false, true} {
			if e := k.event(t, microphone); e.Err == nil || e.Device != "" || e.Period != 0 {
				t.Errorf("the loss was told as %+v", e)
			}
		}
		k.silent(t, away)
		pulse.Plug(t, "loop")
		pulse.SetDefault(t, "loop", "loop")
		k.hears(t, time.Now(), 2*time.Second)
		for _, microphone := range []bool{false, true} {
			if e := k.event(t, microphone); e.Device == "" || e.Replaced || e.Period == 0 {
				t.Errorf("the return was told as %+v", e)
			}
		}
	}
	// Time went by as if nothing had been.
	want := time.Since(start) / audio.BlockDuration
	for name, n := range map[string]int64{"said": k.said.Load(), "heard": k.heard.Load()} {
		if n < int64(want)*7/10 || n > int64(want)+50 {
			t.Errorf("%s %d blocks in the time of %d", name, n, want)
		}
	}
}

// TestUnplug: a speaker that was named goes, the default one takes over, and
// the one that was named is taken again when it is back; the microphone, which
// is another device, captures all the while.
func TestUnplug(t *testing.T) {
	pulse := audiotest.NewPulse(t, "headset", "inner")
	pulse.Setenv(t)
	pulse.SetDefault(t, "inner", "inner")
	start := time.Now()
	k := startTalk(t, "inner_mic", "headset")
	k.silent(t, 2*time.Second) // what goes to the headset
	pulse.Unplug(t, "headset")
	k.hears(t, time.Now(), 2*time.Second)
	time.Sleep(3 * time.Second)
	pulse.Plug(t, "headset")
	time.Sleep(2 * time.Second)
	var moves []string
	for len(*k.of(false)) > 0 {
		switch e := <-*k.of(false); {
		case e.Device == "" && e.Err != nil:
			moves = append(moves, "lost")
		case e.Device == "default" && e.Replaced:
			moves = append(moves, "replaced")
		case e.Device == "headset" && !e.Replaced && len(moves) == 0: // with larger buffers, on a busy machine
		case e.Device == "headset" && !e.Replaced:
			moves = append(moves, "back")
		default:
			t.Errorf("told %+v", e)
		}
	}
	// Where the server gives the stream up, it is we who move, and go back.
	// Where it moves the sound to another sink by itself, which no program can
	// see through ALSA, it alone can move it back.
	if n := len(moves); n > 0 {
		k.silent(t, time.Second)
		if moves[0] != "lost" || moves[n-1] != "back" {
			t.Errorf("the speaker was %v", moves)
		}
	}
	t.Log(moves)
	if want, n := int64(time.Since(start)/audio.BlockDuration), k.heard.Load(); n < want-100 || n > want+50 {
		t.Errorf("the microphone gave %d blocks in the time of %d", n, want)
	}
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

// TestStartHangs: PortAudio hangs now and then when a device fails while it is
// started, which the monitor of a sink does as a speaker. The talk goes on, and
// other devices can still be chosen. In a process of its own, which is not fit
// for anything afterwards.
func TestStartHangs(t *testing.T) {
	const child = "TEAHOUSE_TEST_HANG"
	if os.Getenv(child) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestStartHangs$", "-test.v", "-test.timeout=2m")
		cmd.Env = append(os.Environ(), child+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	pulse := audiotest.NewPulse(t, "headset", "inner")
	pulse.Setenv(t)
	k := startTalk(t, "headset_mic", "inner")
	out := k.out.(audio.Chooser)
	for range 10 {
		err := out.Choose("inner_mic")
		k.stuck = errors.Is(err, errStuck)
		if k.stuck {
			break
		}
	}
	t.Logf("it has hung: %v", k.stuck)
	for _, speaker := range []string{"inner", "headset"} {
		if err := out.Choose(speaker); err != nil {
			t.Errorf("choose %s afterwards: %v", speaker, err)
		}
	}
	k.hears(t, time.Now(), 5*time.Second)
}
