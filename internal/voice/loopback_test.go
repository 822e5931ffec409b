package voice

import (
	"testing"
	"time"

	"teahouse/internal/audio"
	"teahouse/internal/mesh/meshtest"
	"teahouse/room"
)

// loop plays a tone over a loop for eight seconds; s are the figures of all of
// them, settled those of the last four, when playout knows the path.
func loop(t *testing.T, c LoopConfig) (sound []float32, s, settled MemberStats) {
	t.Helper()
	meshtest.Bubble(t, func(t *testing.T) {
		out := newSink()
		v := start(t, Config{Microphone: audio.NewTone(440), Speaker: out})
		seat := v.Sit(room.ID{1}, false)
		l := NewLoop(seat, c)
		seat.Attach(l)
		for range 2 {
			time.Sleep(4 * time.Second)
			if all := seat.Stats(); len(all) > 0 {
				settled = all[0]
				settled.Sent -= s.Sent
				settled.Concealed -= s.Concealed
				s = all[0]
			}
		}
		seat.Leave()
		l.Close()
		l.Close()
		closeAll(t, v)
		sound = out.sound()
	})
	return sound, s, settled
}

// begins is when the tone is first heard.
func begins(t *testing.T, stereo []float32) time.Duration {
	t.Helper()
	for i := 0; i < len(stereo); i += 2 {
		if stereo[i] > 0.02 {
			return time.Duration(i/2) * time.Second / audio.Rate
		}
	}
	t.Fatal("nothing is heard")
	return 0
}

// One hears oneself over the link that was asked for: as late, as lossy, and as
// well repaired.
func TestLoop(t *testing.T) {
	clean, s, _ := loop(t, LoopConfig{})
	if part, _ := power(second(clean, 2*time.Second), 440); part < 0.99 || s.Lost > 0 || s.Repaired > 0 {
		t.Errorf("clean: %.3f, %+v", part, s)
	}
	far, s, _ := loop(t, LoopConfig{Path: 150 * time.Millisecond})
	if d := begins(t, far) - begins(t, clean); d < 140*time.Millisecond || d > 165*time.Millisecond || s.Lost > 0 {
		t.Errorf("150 ms away it is heard %v later; %+v", d, s)
	}
	_, s, _ = loop(t, LoopConfig{Loss: 0.2, Seed: 1})
	if share := float64(s.Lost) / float64(s.Sent); share < 0.1 || share > 0.3 {
		t.Errorf("of 20 %% loss %.0f %% are lost", 100*share)
	}
	_, s, settled := loop(t, LoopConfig{Loss: 0.2, Depth: 3, Seed: 1})
	if share := float64(settled.Concealed) / float64(settled.Sent); share > 0.07 || s.Repaired < 20 {
		t.Errorf("with repair %.1f %% are made up: %+v", 100*share, settled)
	}
	_, s, _ = loop(t, LoopConfig{Jitter: 60 * time.Millisecond, Seed: 1})
	if s.Jitter < 5*time.Millisecond || s.Delay < 20*time.Millisecond || s.OnTime < s.Sent*9/10 {
		t.Errorf("with jitter: %+v", s)
	}
	silent, _, _ := loop(t, LoopConfig{Loss: 1, Path: time.Millisecond, Seed: 1})
	for i, x := range silent {
		if x != 0 {
			t.Fatalf("sample %d of %g, though every packet is lost", i, x)
		}
	}
}

// From device to device nothing is between them, whatever channels there are.
func TestThrough(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		mic, out := audio.NewTone(440), newSink()
		ended := make(chan error, 1)
		loudest := uint8(127)
		go func() { ended <- Through(mic, out, func(l uint8) { loudest = min(loudest, l) }) }()
		time.Sleep(1500 * time.Millisecond)
		if err := mic.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if part, _ := power(second(out.sound(), 300*time.Millisecond), 440); part < 0.999 || loudest > 30 {
			t.Errorf("the tone is %.3f of it, at %d", part, loudest)
		}
	})
}

// TestLoopModes: each mode can be tried, is heard, and takes what it takes.
func TestLoopModes(t *testing.T) {
	for m, want := range map[Mode]float64{Standard: 67, Shielded: 67, Thrifty: 41, Studio: 131} {
		meshtest.Bubble(t, func(t *testing.T) {
			out := newSink()
			v := start(t, Config{Microphone: audio.NewTone(440), Speaker: out, Mode: m, Gate: audio.GatePTT})
			v.Press(true)
			seat := v.Sit(room.ID{1}, false)
			l := NewLoop(seat, LoopConfig{Path: 20 * time.Millisecond})
			seat.Attach(l)
			time.Sleep(time.Second)
			before := l.Bytes()
			time.Sleep(10 * time.Second)
			if rate := float64(8*(l.Bytes()-before)) / 10000; rate < 0.98*want || rate > 1.02*want {
				t.Errorf("%v takes %.1f kbit/s, not %v", m, rate, want)
			}
			seat.Leave()
			l.Close()
			closeAll(t, v)
			if part, _ := power(second(out.sound(), 3*time.Second), 440); part < 0.98 {
				t.Errorf("%v: of the tone %.3f is heard", m, part)
			}
		})
	}
}
