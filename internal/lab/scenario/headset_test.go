//go:build lab

package scenario

import (
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"teahouse/internal/lab"
)

// headset is someone who talks by the default devices of a sound server, and
// somebody who hears them, without one.
type headset struct {
	pulse       *lab.Pulse
	who, friend *actor
}

// used waits until somebody plays into a sink or records from a monitor.
func (h *headset) used(t *testing.T, place string, most time.Duration) {
	t.Helper()
	ctx, asked := soon(t), time.Now()
	for there := false; !there; time.Sleep(20 * time.Millisecond) {
		var err error
		there, err = h.pulse.InUse(ctx, place)
		must(t, err)
		if !there && time.Since(asked) > 15*time.Second {
			t.Errorf("nobody uses %s", place)
			return
		}
	}
	took := time.Since(asked)
	t.Logf("%s is used after %v", place, took.Round(time.Millisecond))
	if took > most {
		t.Errorf("%s is used only after %v", place, took)
	}
}

// friendTone is what the friend says, in Hz.
const friendTone = 440

// sounds holds that the friend comes out of a sink.
func (h *headset) sounds(t *testing.T, sink string) {
	t.Helper()
	rec, err := h.pulse.Record(soon(t), sink+".monitor")
	must(t, err)
	time.Sleep(monitorDeaf + time.Second)
	rec.Stop()
	pcm, _ := rec.Samples()
	level, part := lab.Heard(pcm[max(0, len(pcm)-lab.Rate):], friendTone, 0.1)
	t.Logf("%s: the tone at %.3f for %.0f %% of the time", sink, level, 100*part)
	if part < 0.7 { // a server without the clock of a card stutters with the machine
		t.Errorf("the talk is heard from %s for %.0f %% of the time, at %.3f", sink, 100*part, level)
	}
}

// choose chooses a speaker, as a person does while they talk.
func (h *headset) choose(t *testing.T, s *stage, speaker string) {
	t.Helper()
	out, err := exec.CommandContext(soon(t), s.program, "ctl", "device", "--home", h.who.home, "speaker", speaker).CombinedOutput()
	if err != nil {
		t.Fatalf("choose %s: %v: %s", speaker, err, out)
	}
}

// sleeps stops the process for 3 s, and tells how long after it goes on the
// friend comes out of a sink again.
func (h *headset) sleeps(t *testing.T, sink string) (woken time.Time, took time.Duration) {
	t.Helper()
	rec, err := h.pulse.Record(soon(t), sink+".monitor")
	must(t, err)
	defer rec.Stop()
	must(t, h.who.Signal(syscall.SIGSTOP))
	time.Sleep(max(3*time.Second, monitorDeaf+time.Second))
	woken = time.Now()
	must(t, h.who.Signal(syscall.SIGCONT))
	time.Sleep(4 * time.Second)
	rec.Stop()
	pcm, begin := rec.Samples()
	slept := woken.Sub(begin)
	if _, part := lab.Heard(pcm[int((slept-time.Second).Seconds()*lab.Rate):int(slept.Seconds()*lab.Rate)], friendTone, 0.1); part > 0.2 {
		t.Errorf("who sleeps plays for %.0f %% of the time: the test tests nothing", 100*part)
	}
	at, ok := firstHeard(pcm, friendTone, slept, duration(pcm))
	if !ok {
		t.Fatalf("%s is not heard after the sleep", sink)
	}
	took = at - slept
	t.Logf("%s: heard %v after the sleep", sink, took.Round(10*time.Millisecond))
	return woken, took
}

func duration(pcm []float32) time.Duration { return time.Duration(len(pcm)) * time.Second / lab.Rate }

// monitorDeaf is how long a recorder of a null sink's monitor hears nothing at
// first (LIBRARIES), which is the sound server's affair.
const monitorDeaf = 2 * time.Second

// tone plays a tone of hz into a sink, as somebody speaks into a microphone,
// until the sink is unplugged or the test ends.
func (h *headset) tone(t *testing.T, dir, sink string, hz float64) {
	t.Helper()
	file := filepath.Join(dir, sink+".wav")
	must(t, lab.WriteWAV(file, tone(hz, 0.3, time.Minute)))
	ctx := t.Context()
	go func() { _ = h.pulse.Play(ctx, sink, file) }() // ends with the sink, or with the test
}

// DESIGN section 8: the headset is pulled out in mid-talk. The talk goes on by
// what else there is within 2 s, and by the headset again once that is back;
// with nothing else there, it is silent meanwhile.
func TestHeadsetUnplugged(t *testing.T) {
	s, pulse := sounding(t, lab.Sink{Name: "mic"}, lab.Sink{Name: "spk", Speaker: true},
		lab.Sink{Name: "inner", Speaker: true, Named: true}, lab.Sink{Name: "mic2"})
	ctx := within(t, 2*patience)
	s.bootstrap(t, nil)
	h := &headset{pulse: pulse}
	h.friend = s.join(t, nil, "friend", "tone:440", "record")
	begun := h.friend.event(t, "joined", nil).Seen
	s.env = pulse.Env()
	h.who = s.join(t, nil, "who", "default", "default")
	h.tone(t, s.dir, "mic", 550)
	h.tone(t, s.dir, "mic2", 770)
	h.friend.hears(t, h.who.member(t))
	h.used(t, "spk", patience)
	h.sounds(t, "spk")

	// Another speaker is chosen by name, and the default one again.
	h.choose(t, s, "inner")
	h.used(t, "inner", 2*time.Second)
	h.sounds(t, "inner")
	h.choose(t, s, "default")
	h.used(t, "spk", 2*time.Second)

	// The headset's speaker goes, and there is another one.
	must(t, pulse.Unplug(ctx, "spk"))
	h.used(t, "inner", 2*time.Second)
	h.sounds(t, "inner")
	// Its microphone goes, and there is another one.
	gone := time.Now()
	must(t, pulse.Unplug(ctx, "mic"))
	must(t, pulse.SetDefault(ctx, "", "mic2"))
	h.used(t, "mic2.monitor", 2*time.Second)
	time.Sleep(monitorDeaf + time.Second)
	// All goes, and the headset is put in again.
	bare := time.Now()
	must(t, pulse.Unplug(ctx, "inner"))
	must(t, pulse.Unplug(ctx, "mic2"))
	time.Sleep(3 * time.Second)
	must(t, pulse.Plug(ctx, "mic", false))
	must(t, pulse.Plug(ctx, "spk", true))
	must(t, pulse.SetDefault(ctx, "spk", "mic"))
	back := time.Now()
	h.tone(t, s.dir, "mic", 550)
	h.used(t, "spk", 2*time.Second)
	h.used(t, "mic.monitor", 2*time.Second)
	h.sounds(t, "spk")

	// The machine sleeps; where it is busy as well, up to three times.
	woken, took := h.sleeps(t, "spk")
	for range 2 {
		if took > 2*time.Second {
			woken, took = h.sleeps(t, "spk")
		}
	}
	if took > 2*time.Second {
		t.Errorf("the friend is heard only %v after a sleep", took)
	}
	end := time.Now()
	if h.who.Ended() || h.friend.Ended() {
		t.Fatal("somebody has ended")
	}
	h.who.leaves(t)
	h.friend.leaves(t)
	pcm, err := lab.ReadMono(h.friend.speaker)
	must(t, err)
	for _, m := range []struct {
		name     string
		hz       float64
		from, to time.Time // when it must be heard
		most     time.Duration
	}{
		{"the headset's microphone", 550, begun, gone, patience},
		{"the other microphone", 770, gone, bare, 2*time.Second + monitorDeaf},
		{"the headset's microphone again", 550, back, woken, 2*time.Second + monitorDeaf},
		{"the headset's microphone after the sleep", 550, woken, end, 2*time.Second + monitorDeaf},
	} {
		at, ok := firstHeard(pcm, m.hz, m.from.Sub(begun), m.to.Sub(begun))
		if !ok {
			t.Errorf("%s is not heard", m.name)
			continue
		}
		took := at - m.from.Sub(begun)
		t.Logf("%s: heard after %v", m.name, took.Round(10*time.Millisecond))
		if took > m.most {
			t.Errorf("%s is heard only after %v", m.name, took)
		}
	}
	if at, ok := firstHeard(pcm, 770, 0, gone.Sub(begun)); ok {
		t.Errorf("the other microphone was heard at %v, before it was chosen: the test tests nothing", at)
	}
}

// firstHeard is where the tone of hz is first there for half a second, between
// two places of the sound.
func firstHeard(pcm []float32, hz float64, from, to time.Duration) (time.Duration, bool) {
	const block = lab.Rate / 10
	in := 0
	for at := int(from.Seconds() * lab.Rate); at+block <= min(len(pcm), int(to.Seconds()*lab.Rate)); at += block {
		if in++; lab.ToneLevel(pcm[at:at+block], hz) < 0.05 {
			in = 0
		}
		if in == 5 {
			return time.Duration(at-4*block) * time.Second / lab.Rate, true
		}
	}
	return 0, false
}
