//go:build lab

package portaudio

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"teahouse/internal/audio"
	"teahouse/internal/audio/audiotest"
)

// These tests run the real PortAudio path between the null sinks of a
// PulseAudio server of their own:
//
//	go test -tags nolibopusfile,lab -v ./internal/audio/portaudio

// only is a Config.rates.
func only(rate int) func(string) []int { return func(string) []int { return []int{rate} } }

// settle is how long the path takes to come to rest after opening.
const settle = time.Second

func openSystem(t *testing.T, config Config) *System {
	t.Helper()
	config.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	s, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestConformance(t *testing.T) {
	audiotest.NewPulse(t, "loop").Setenv(t)
	s := openSystem(t, Config{})
	config := audiotest.Config{
		// A null sink keeps time by the processor, which a busy machine keeps from it.
		Slack: 600 * time.Millisecond, Spacing: 12 * time.Millisecond, Lead: 100 * time.Millisecond, Settle: settle,
	}
	t.Run("microphone", func(t *testing.T) {
		audiotest.Microphone(t, config, func(t *testing.T) audio.Microphone { return must(s.OpenMicrophone(""))(t) })
	})
	t.Run("speaker", func(t *testing.T) {
		audiotest.Speaker(t, config, func(t *testing.T) audio.Speaker { return must(s.OpenSpeaker(""))(t) })
	})
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestDevices(t *testing.T) {
	audiotest.NewPulse(t, "loop").Setenv(t)
	s := openSystem(t, Config{})
	list, err := s.Devices()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range list {
		t.Logf("%+v", d)
	}
	i := slices.IndexFunc(list, func(d Device) bool { return d.DefaultInput })
	if i < 0 || list[i].Inputs == 0 || list[i].HostAPI != "ALSA" {
		t.Fatalf("default microphone is number %d of %+v", i, list)
	}
	mic := must(s.OpenMicrophone(list[i].Name))(t)
	if err := mic.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.OpenSpeaker("no such thing"); !errors.Is(err, audio.ErrNoDevice) {
		t.Errorf("open a speaker that is not there: %v", err)
	}
	if _, err := Open(Config{}); err == nil {
		t.Error("a second System was opened")
	}
}

// TestLoop measures, by sound, how long it takes from Write to Read through a
// null sink, and what the devices say about it.
func TestLoop(t *testing.T) {
	audiotest.NewPulse(t, "loop").Setenv(t)
	for _, safe := range []bool{false, true} {
		t.Run(fmt.Sprintf("period %d", steps[map[bool]int{true: 1}[safe]].period), func(t *testing.T) {
			measureLoop(t, openSystem(t, Config{Safe: safe}))
		})
	}
}

// measureLoop plays bursts of noise and finds them in what the microphone
// hears.
func measureLoop(t *testing.T, s *System) {
	const bursts, every = 20, 25 // each 250 ms
	mic, speaker := must(s.OpenMicrophone(""))(t), must(s.OpenSpeaker(""))(t)
	type heard struct{ read, at time.Time }
	type said struct{ write, air time.Time }
	ears, mouth := make(chan heard, 1000), make(chan said, 1000)
	go func() {
		defer close(ears)
		block := make([]float32, audio.BlockFrames)
		quiet := every / 2
		for {
			at, err := mic.Read(block)
			if err != nil {
				return
			}
			quiet++
			for i, x := range block {
				if math.Abs(float64(x)) > 0.1 && quiet > every/2 {
					quiet = 0
					offset := time.Duration(i) * time.Second / audio.Rate
					ears <- heard{time.Now(), at.Add(offset)}
				} else if math.Abs(float64(x)) > 0.1 {
					quiet = 0
				}
			}
		}
	}()
	go func() {
		defer close(mouth)
		block := make([]float32, 2*audio.BlockFrames)
		for i := range int(settle/audio.BlockDuration) + bursts*every {
			clear(block)
			before := time.Now()
			if i >= int(settle/audio.BlockDuration) && i%every == 0 {
				for k := range block {
					block[k] = 0.5 * float32(1-2*rand.IntN(2))
				}
				mouth <- said{before, before.Add(speaker.Latency())}
			}
			if err := speaker.Write(block); err != nil {
				return
			}
		}
	}()
	var loop, told []time.Duration
	missed := 0
	for m := range mouth {
		// A burst is some tens of ms under way, and the next is 250 ms later.
		timeout := time.After(time.Until(m.write.Add(every * audio.BlockDuration * 3 / 4)))
		select {
		case e := <-ears:
			loop = append(loop, e.read.Sub(m.write))
			told = append(told, e.at.Sub(m.air))
		case <-timeout:
			missed++
		}
	}
	if missed > bursts/4 {
		t.Fatalf("%d of %d bursts were not heard", missed, bursts)
	}
	t.Logf("%d of %d bursts missed", missed, bursts)
	t.Logf("underruns %d; microphone says %v, speaker says %v", speaker.Underruns(), mic.Latency(), speaker.Latency())
	if err := mic.Close(); err != nil {
		t.Error(err)
	}
	if err := speaker.Close(); err != nil {
		t.Error(err)
	}
	for range ears { // what came too late, if anything; its sender ends now
	}
	slices.Sort(loop)
	slices.Sort(told)
	t.Logf("Write to Read: least %v, median %v, most %v", loop[0], loop[len(loop)/2], loop[len(loop)-1])
	t.Logf("not accounted for by the latencies told: least %v, median %v, most %v", told[0], told[len(told)/2], told[len(told)-1])
	if m := loop[len(loop)/2]; m > 120*time.Millisecond {
		t.Errorf("loop of %v", m)
	}
}

// TestContinuous plays a sine through a null sink and hears it without a
// break, at 48 kHz and through the resamplers of a device that does other
// rates.
func TestContinuous(t *testing.T) {
	audiotest.NewPulse(t, "loop").Setenv(t)
	for _, rate := range []int{48000, 44100, 22050} {
		for _, stereo := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d Hz, stereo %v", rate, stereo), func(t *testing.T) {
				s := openSystem(t, Config{rates: only(rate), Stereo: stereo, Safe: true})
				hearSine(t, s)
			})
		}
	}
}

// hearSine plays and hears until a second has come through without a break. A
// busy machine breaks it now and then; a fault in the path does so all the time.
func hearSine(t *testing.T, s *System) {
	const hz, enough, patience = 997, 100, time.Minute
	mic, speaker := must(s.OpenMicrophone(""))(t), must(s.OpenSpeaker(""))(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		block := make([]float32, 2*audio.BlockFrames)
		for n := 0; ; n++ {
			for i := range audio.BlockFrames {
				x := 0.5 * float32(math.Sin(2*math.Pi*hz*float64(n*audio.BlockFrames+i)/audio.Rate))
				block[2*i], block[2*i+1] = x, x
			}
			if err := speaker.Write(block); err != nil {
				return
			}
		}
	}()
	ch := mic.Channels()
	block := make([]float32, ch*audio.BlockFrames)
	// A sine of w obeys x[n] = 2 cos(w) x[n-1] - x[n-2]; a break does not.
	twice := 2 * math.Cos(2*math.Pi*hz/audio.Rate)
	var x1, x2 float64
	clean, all := 0, 0
	for start := time.Now(); clean < enough && time.Since(start) < patience; all++ {
		if _, err := mic.Read(block); err != nil {
			t.Fatal(err)
		}
		clean++
		for i := range audio.BlockFrames {
			x := float64(block[ch*i])
			if ch == 2 && math.Abs(x-float64(block[2*i+1])) > 1e-3 {
				t.Fatalf("left %v, right %v", x, block[2*i+1])
			}
			if math.Abs(x-twice*x1+x2) > 2e-3 { // 16 bits in the sink
				clean = 0
			}
			x1, x2 = x, x1
		}
		if p := audio.Peak(block); p < 0.49 || p > 0.51 {
			clean = 0
		}
	}
	t.Logf("%d clean blocks after %d; %d underruns", clean, all, speaker.Underruns())
	if clean < enough {
		t.Error("the sine never came through whole")
	}
	if err := mic.Close(); err != nil {
		t.Error(err)
	}
	if err := speaker.Close(); err != nil {
		t.Error(err)
	}
	<-done
}

// TestAllocations: none on the way from and to the rings.
func TestAllocations(t *testing.T) {
	audiotest.NewPulse(t, "loop").Setenv(t)
	for _, rate := range []int{48000, 44100} {
		s := openSystem(t, Config{rates: only(rate), Safe: true})
		mic, speaker := must(s.OpenMicrophone(""))(t), must(s.OpenSpeaker(""))(t)
		heard, played := make([]float32, audio.BlockFrames), make([]float32, 2*audio.BlockFrames)
		for until := time.Now().Add(settle); time.Now().Before(until); {
			if _, err := mic.Read(heard); err != nil {
				t.Fatal(err)
			}
		}
		if n := testing.AllocsPerRun(100, func() {
			_, _ = mic.Read(heard)
		}); n != 0 {
			t.Errorf("%d Hz: %v allocations a Read", rate, n)
		}
		for range 20 {
			if err := speaker.Write(played); err != nil {
				t.Fatal(err)
			}
		}
		if n := testing.AllocsPerRun(100, func() {
			_ = speaker.Write(played)
		}); n != 0 {
			t.Errorf("%d Hz: %v allocations a Write", rate, n)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestServerDies: the sound server is killed under both devices; they go on
// without sound, and have it again within 2 s of its return.
func TestServerDies(t *testing.T) {
	pulse := audiotest.NewPulse(t, "loop")
	pulse.Setenv(t)
	events := make(chan Event, 100)
	s := openSystem(t, Config{Notify: func(e Event) { events <- e }})
	mic, speaker := must(s.OpenMicrophone(""))(t), must(s.OpenSpeaker(""))(t)
	loud := make(chan bool, 1)
	var blocks [2]int
	done := make(chan error, 2)
	go func() {
		block := make([]float32, 2*audio.BlockFrames)
		for i := range block {
			block[i] = 0.5
		}
		for {
			if err := speaker.Write(block); err != nil {
				done <- err
				return
			}
			blocks[0]++
		}
	}()
	go func() {
		block := make([]float32, audio.BlockFrames)
		for {
			if _, err := mic.Read(block); err != nil {
				done <- err
				return
			}
			blocks[1]++
			select {
			case <-loud:
			default:
			}
			loud <- audio.Peak(block) > 0.3
		}
	}()
	hear := func(within time.Duration) bool {
		deadline := time.After(within)
		for {
			select {
			case l := <-loud:
				if l {
					return true
				}
			case <-deadline:
				return false
			}
		}
	}
	start := time.Now()
	if !hear(5 * time.Second) {
		t.Fatal("nothing heard before")
	}
	pulse.Stop(t)
	for lost := 0; lost < 2; {
		select {
		case e := <-events:
			if e.Err == nil || e.Device != "" {
				t.Fatalf("event %+v", e)
			}
			lost++
		case <-time.After(5 * time.Second):
			t.Fatal("the loss was not noticed")
		}
	}
	time.Sleep(2 * time.Second)
	pulse.Start(t)
	back := time.Now()
	if !hear(5 * time.Second) {
		t.Fatal("nothing heard after")
	}
	t.Logf("sound %v after the server's return", time.Since(back))
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := <-done; !errors.Is(err, audio.ErrClosed) {
			t.Errorf("in the end: %v", err)
		}
	}
	want := int(time.Since(start) / audio.BlockDuration)
	for i, n := range blocks {
		if n < want-150 || n > want+30 { // each may be waited for, 500 ms, at the start and at the death
			t.Errorf("%d blocks passed in the time of %d (device %d)", n, want, i)
		}
	}
}

// TestServerHangs: Close comes back though the server does not, and when the
// server does, all is given back.
func TestServerHangs(t *testing.T) {
	pulse := audiotest.NewPulse(t, "loop")
	pulse.Setenv(t)
	s, err := Open(Config{})
	if err != nil {
		t.Fatal(err)
	}
	mic := must(s.OpenMicrophone(""))(t)
	block := make([]float32, audio.BlockFrames)
	for range 100 {
		if _, err := mic.Read(block); err != nil {
			t.Fatal(err)
		}
	}
	pulse.Freeze(t)
	start := time.Now()
	done := make(chan error)
	go func() {
		for {
			if _, err := mic.Read(block); err != nil {
				done <- err
				return
			}
		}
	}()
	time.Sleep(time.Second) // the keeper is at it, and hangs as well
	if err := s.Close(); err == nil {
		t.Error("Close went well with a server that hangs")
	}
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("Close took %v", took)
	}
	pulse.Thaw(t)
	if err := <-done; !errors.Is(err, audio.ErrClosed) {
		t.Errorf("Read gave %v", err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		again, err := Open(Config{})
		if err == nil {
			if err := again.Close(); err != nil {
				t.Error(err)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// TestQuiet: nothing that C libraries print reaches descriptor 2 while
// PortAudio probes and a server dies, and what Go prints there does.
func TestQuiet(t *testing.T) {
	pulse := audiotest.NewPulse(t, "loop")
	pulse.Setenv(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := syscall.Dup(2)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Dup2(int(w.Fd()), 2); err != nil {
		t.Fatal(err)
	}
	restore := func() {
		if stderr >= 0 {
			_ = syscall.Dup2(stderr, 2)
			_ = syscall.Close(stderr)
			_ = w.Close()
			stderr = -1
		}
	}
	defer restore()
	s, err := Open(Config{})
	if err != nil {
		t.Fatal(err)
	}
	mic := must(s.OpenMicrophone(""))(t)
	if _, err := s.OpenSpeaker("hw:99"); err == nil {
		t.Error("a card that is not there was opened")
	}
	// To the descriptor itself, which is what was replaced: os.Stderr need not be it under go test -json.
	if _, err := syscall.Write(2, []byte("ours\n")); err != nil {
		t.Fatal(err)
	}
	pulse.Stop(t)
	block := make([]float32, audio.BlockFrames)
	for range 200 {
		if _, err := mic.Read(block); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	restore()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != "ours\n" {
		t.Errorf("standard error got %q", text)
	}
}
