//go:build lab

package scenario

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"teahouse/internal/lab"
)

// sounding starts a sound server, and waits in line for it.
func sounding(t *testing.T, mic, speaker lab.Sink, others ...lab.Sink) (*stage, *lab.Pulse) {
	t.Helper()
	s := newSoundStage(t)
	pulse, err := lab.StartPulseOf(soon(t), filepath.Join(s.dir, "pulse"), mic, speaker, others...)
	if errors.Is(err, lab.ErrNoPulse) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	must(t, err)
	t.Cleanup(pulse.Close)
	return s, pulse
}

// used waits until so many play and record at the sound server.
func used(t *testing.T, pulse *lab.Pulse, players, recorders int) {
	t.Helper()
	for ctx := soon(t); ; time.Sleep(50 * time.Millisecond) {
		playing, recording, err := pulse.Streams(ctx)
		must(t, err)
		if playing >= players && recording >= recorders {
			return
		}
	}
}

// Issue 2, item 6: speech played into A's microphone comes out of B's speaker,
// through PortAudio, ALSA and PulseAudio at both ends; mouth to ear is
// measured by sound, from the monitor of the one null sink to that of the
// other.
//
// A sound server without the clock of a sound card stutters with the machine
// (at a load of 8 about one run in five missed 300 ms), so it is asked up to
// three times; what does not get through does not in any. That the program
// itself leaves no gap is what TestSpeechOverEachTransport shows.
func TestMouthToEar(t *testing.T) {
	s, pulse := sounding(t, lab.Sink{Name: "mic"}, lab.Sink{Name: "spk", Speaker: true})
	_, wav := speech(t, s.dir, "demo-congrats", warmUp+8*time.Second)
	s.bootstrap(t, nil)
	s.env = pulse.Env()
	b := s.join(t, nil, "b", "none", "default")
	b.event(t, "joined", nil)
	a := s.join(t, nil, "a", "default", "none")
	member := a.member(t)
	b.event(t, "link", nil)
	used(t, pulse, 1, 1)
	through := false
	for try := 0; try < 3 && !through; try++ {
		through = mouthToEar(t, pulse, "mic", "spk", wav)
		stats := b.lastStats(member)
		t.Logf("teahouse says: mouth to ear %v ms, received %v, lost %v, late %v, concealed %v, stretched %v ms, jitter %v ms, delay %v ms",
			stats.Number("mouth_to_ear_ms"), stats.Number("received"), stats.Number("lost"), stats.Number("late"), stats.Number("concealed"),
			stats.Number("stretched_ms"), stats.Number("jitter_ms"), stats.Number("delay_ms"))
	}
	if !through {
		t.Error("the speech does not come through")
	}
	a.leaves(t)
	b.leaves(t)
}

// warmUp is said but not measured: the delay moves while the sound server
// settles on the streams that have just come.
const warmUp = 5 * time.Second

// played plays a file into a sink, and records it there and at another.
func played(t *testing.T, pulse *lab.Pulse, mic, speaker, wav string) (mouth, ear *lab.Recording) {
	t.Helper()
	ctx := soon(t)
	mouth, err := pulse.Record(ctx, mic+".monitor")
	must(t, err)
	defer mouth.Stop()
	ear, err = pulse.Record(ctx, speaker+".monitor")
	must(t, err)
	defer ear.Stop()
	time.Sleep(2500 * time.Millisecond) // the first 2 s of a monitor are lost (LIBRARIES)
	must(t, pulse.Play(ctx, mic, wav))
	time.Sleep(time.Second)
	return mouth, ear
}

// mouthToEar plays speech at a microphone and tells whether it came out of a
// speaker.
func mouthToEar(t *testing.T, pulse *lab.Pulse, mic, speaker, wav string) bool {
	t.Helper()
	mouth, ear := played(t, pulse, mic, speaker, wav)
	d, c, err := lab.PlayedAfter(mouth, ear, warmUp)
	must(t, err)
	good, least, most, missing := 0, time.Duration(0), time.Duration(0), time.Duration(0)
	for _, w := range c.Windows {
		if w.Correlation >= 0.8 {
			good++
		}
		least, most = min(least, w.Lag-c.Lag), max(most, w.Lag-c.Lag)
	}
	for _, g := range c.Gaps {
		missing += g.Length
	}
	t.Logf("mouth to ear %v by sound, moved by %v to %v; correlation median %.3f, worst %.3f, good in %d of %d half seconds; missing %v in %d gaps",
		d.Round(100*time.Microsecond), least.Round(100*time.Microsecond), most.Round(100*time.Microsecond),
		c.Median, c.Worst, good, len(c.Windows), missing, len(c.Gaps))
	// A half second in which playout changed its delay agrees with itself in
	// parts only: most must agree as a whole.
	return c.Median >= 0.85 && 3*good >= 2*len(c.Windows) && missing <= 200*time.Millisecond &&
		d > 0 && d < 200*time.Millisecond
}
