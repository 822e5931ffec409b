//go:build lab

package lab

import (
	"errors"
	"os"
	"testing"
	"time"
)

// Two recorders of one place agree about when it was heard: their difference
// is the error of a measured mouth to ear.
func TestPulse(t *testing.T) {
	p, err := StartPulse(soon(t), t.TempDir(), "mic", "spk")
	if errors.Is(err, ErrNoPulse) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	speech := said(t, "demo-congrats")[:3*Rate]
	file := t.TempDir() + "/speech.wav"
	if err := WriteWAV(file, speech); err != nil {
		t.Fatal(err)
	}
	var recordings [3]*Recording
	for i, source := range []string{"mic.monitor", "mic.monitor", "spk.monitor"} {
		if recordings[i], err = p.Record(soon(t), source); err != nil {
			t.Fatal(err)
		}
		defer recordings[i].Stop()
	}
	if _, recording, err := p.Streams(soon(t)); err != nil || recording != 3 {
		t.Errorf("%d streams record, want 3: %v", recording, err)
	}
	time.Sleep(2 * time.Second) // the first of a monitor is lost (LIBRARIES)
	if err := p.Play(soon(t), "mic", file); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	for _, r := range recordings {
		r.Stop()
	}
	d, c, err := PlayedAfter(recordings[0], recordings[1], 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("error of the measurement %v; %v", d, c)
	if d.Abs() > 8*time.Millisecond || !passes(c) {
		t.Errorf("two recorders of one place: %v apart, %v", d, c)
	}
	pcm, _ := recordings[0].Samples()
	if c := compare(t, speech, pcm); !passes(c) {
		t.Errorf("what was played: %v", c)
	}
	if out, _ := recordings[2].Samples(); rms(out) > 0.0001 {
		t.Error("the speaker played what the microphone heard")
	}
}
