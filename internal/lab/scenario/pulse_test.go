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

// Issue 2, item 6: speech played into A's microphone comes out of B's speaker,
// through PortAudio, ALSA and PulseAudio at both ends; mouth to ear is
// measured by sound, from the monitor of the one null sink to that of the
// other.
func TestMouthToEar(t *testing.T) {
	s := newStage(t)
	pulse, err := lab.StartPulse(soon(t), filepath.Join(s.dir, "pulse"), "mic", "spk")
	if errors.Is(err, lab.ErrNoPulse) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	must(t, err)
	t.Cleanup(pulse.Close)
	// The delay moves while the sound server settles on the streams that have
	// just come: the first seconds are said, but not measured.
	const warmUp = 5 * time.Second
	_, wav := speech(t, s.dir, "demo-congrats", warmUp+8*time.Second)
	s.bootstrap(t, nil)
	s.env = pulse.Env()
	b := s.join(t, nil, "b", "none", "default")
	b.event(t, "joined", nil)
	a := s.join(t, nil, "a", "default", "none")
	member := a.member(t)
	b.event(t, "link", nil)
	for {
		playing, recording, err := pulse.Streams(soon(t))
		must(t, err)
		if playing >= 1 && recording >= 1 {
			break
		}
		if soon(t).Err() != nil {
			t.Fatalf("%d streams play and %d record", playing, recording)
		}
		time.Sleep(50 * time.Millisecond)
	}
	mouth, err := pulse.Record(soon(t), "mic.monitor")
	must(t, err)
	t.Cleanup(mouth.Stop)
	ear, err := pulse.Record(soon(t), "spk.monitor")
	must(t, err)
	t.Cleanup(ear.Stop)
	time.Sleep(2500 * time.Millisecond) // the first 2 s of a monitor are lost (LIBRARIES)
	must(t, pulse.Play(soon(t), "mic", wav))
	time.Sleep(time.Second)
	stats := b.lastStats(member)
	mouth.Stop()
	ear.Stop()
	a.leaves(t)
	b.leaves(t)
	d, c, err := lab.PlayedAfter(mouth, ear, warmUp)
	must(t, err)
	t.Logf("mouth to ear %v by sound (teahouse says %v ms); correlation of %d windows: median %.3f, worst %.3f; gaps %v",
		d.Round(100*time.Microsecond), stats.Number("mouth_to_ear_ms"), len(c.Windows), c.Median, c.Worst, c.Gaps)
	good, least, most := 0, time.Duration(0), time.Duration(0)
	for _, w := range c.Windows {
		if w.Correlation >= 0.8 {
			good++
		}
		least, most = min(least, w.Lag-c.Lag), max(most, w.Lag-c.Lag)
	}
	t.Logf("received %v, lost %v, late %v, concealed %v, stretched %v ms, jitter %v ms, delay %v ms", stats.Number("received"), stats.Number("lost"),
		stats.Number("late"), stats.Number("concealed"), stats.Number("stretched_ms"), stats.Number("jitter_ms"), stats.Number("delay_ms"))
	t.Logf("%d of %d half seconds are good; the delay moved by %v to %v", good, len(c.Windows),
		least.Round(100*time.Microsecond), most.Round(100*time.Microsecond))
	// A half second in which playout changed its delay agrees with itself in
	// parts only: most must agree as a whole. A sound server without a clock of
	// its own stutters with the machine; that the program itself leaves no gap
	// is what TestSpeechOverEachTransport shows.
	missing := time.Duration(0)
	for _, g := range c.Gaps {
		missing += g.Length
	}
	if c.Median < 0.85 || 3*good < 2*len(c.Windows) || missing > 800*time.Millisecond {
		t.Errorf("the speech has not come through: %v", c)
		for _, w := range c.Windows {
			t.Logf("at %v: %.3f, %v later", w.At, w.Correlation, w.Lag)
		}
	}
	if d <= 0 || d > 300*time.Millisecond {
		t.Errorf("mouth to ear %v", d)
	}
}
