package voice

import (
	"errors"
	"io"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"teahouse/codec"
	"teahouse/internal/audio"
	"teahouse/internal/mesh/meshtest"
	"teahouse/room"
)

// wire joins seats as rooms do, without a network: what is spoken on one side
// is heard on the other, with counters as the room gives them.
type wire struct {
	from room.Member
	to   []*Seat

	mu       sync.Mutex
	muted    bool
	hearers  int
	counter  uint32
	instance uint64
	spoken   []spoken
	drop     func(counter uint32) bool
}

type spoken struct {
	media      uint32
	start, end bool
	level      uint8
	muted      bool
	length     int
}

func (w *wire) Speak(f *room.Frame) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counter++
	w.spoken = append(w.spoken, spoken{f.MediaTime, f.SpurtStart, f.SpurtEnd, f.Level, w.muted, len(f.Opus)})
	if w.muted || w.drop != nil && w.drop(w.counter) {
		return nil
	}
	g := *f
	g.Counter, g.Instance = w.counter, w.instance
	for _, s := range w.to {
		s.Heard(w.from, &g, time.Now())
	}
	return nil
}

func (w *wire) SetMuted(muted bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.muted = muted
	return nil
}

func (w *wire) SwitchFlows() {}

func (w *wire) Flows() room.Flows { return room.Flows{Base: 1} }

func (w *wire) Hearers() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hearers
}

func (w *wire) setHearers(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hearers = n
}

func (w *wire) heard() []spoken {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.spoken)
}

// sink is a speaker that remembers everything.
type sink struct {
	audio.Speaker
	mu  sync.Mutex
	all []float32
}

func newSink() *sink { return &sink{Speaker: audio.NewNoSpeaker()} }

func (s *sink) Write(block []float32) error {
	s.mu.Lock()
	s.all = append(s.all, block...)
	s.mu.Unlock()
	return s.Speaker.Write(block)
}

func (s *sink) sound() []float32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}

func start(t *testing.T, cfg Config) *Voice {
	t.Helper()
	v, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	v.Start()
	return v
}

func closeAll(t *testing.T, all ...*Voice) {
	t.Helper()
	for _, v := range all {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
		if err := v.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
	}
}

// power of the tone hz in the left channel of stereo sound, as the part of
// all power there (Goertzel).
func power(stereo []float32, hz float64) (part, rms float64) {
	w := 2 * math.Pi * hz / audio.Rate
	var re, im, sum float64
	n := len(stereo) / 2
	for i := range n {
		x := float64(stereo[2*i])
		re += x * math.Cos(w*float64(i))
		im += x * math.Sin(w*float64(i))
		sum += x * x
	}
	if sum == 0 {
		return 0, 0
	}
	return 2 * (re*re + im*im) / float64(n) / sum, math.Sqrt(sum / float64(n))
}

// second cuts one second of stereo sound.
func second(stereo []float32, from time.Duration) []float32 {
	i := int(from * audio.Rate / time.Second)
	return stereo[2*i : 2*(i+audio.Rate)]
}

var ada, bo, cy = room.Member{1}, room.Member{2}, room.Member{3}

func TestToneFromMicrophoneToSpeaker(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		out := newSink()
		listener := start(t, Config{Speaker: out})
		seat := listener.Sit(room.ID{1}, true)
		talker := start(t, Config{Microphone: audio.NewTone(440)})
		w := &wire{from: ada, to: []*Seat{seat}}
		talker.Sit(room.ID{1}, false).Attach(w)
		time.Sleep(3 * time.Second)
		closeAll(t, talker, listener)
		part, rms := power(second(out.sound(), time.Second), 440)
		if part < 0.95 {
			t.Errorf("the tone is %.2f of what is heard", part)
		}
		if want := audio.ToneLevel / math.Sqrt2; rms < 0.8*want || rms > 1.2*want {
			t.Errorf("heard at %.3f, spoken at %.3f", rms, want)
		}
		st := seat.Stats()
		if len(st) != 1 || st[0].Member != ada || st[0].Lost != 0 || st[0].Received < 140 || st[0].Sent != st[0].Received {
			t.Errorf("stats: %+v", st)
		}
		if d := listener.MouthToEar(st[0], 40*time.Millisecond); d < 40*time.Millisecond || d > 120*time.Millisecond {
			t.Errorf("mouth to ear estimated as %v", d)
		}
	})
}

// Frames are 20 ms apart in media time, the first and only the first of a
// spurt is marked, and all are equally long (RFC 6562).
func TestMediaTimeAndSpurts(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		v := start(t, Config{Microphone: audio.NewTone(300)})
		w := &wire{}
		seat := v.Sit(room.ID{}, false)
		seat.Attach(w)
		time.Sleep(time.Second + 5*time.Millisecond)
		mute(t, seat, true)
		n := len(w.heard())
		time.Sleep(500 * time.Millisecond)
		mute(t, seat, true) // once more: there is no spurt to end
		time.Sleep(500 * time.Millisecond)
		if late := w.heard()[n:]; len(late) > 0 {
			t.Errorf("%d frames were sent while muted", len(late))
		}
		mute(t, seat, false)
		time.Sleep(time.Second)
		closeAll(t, v)

		got := w.heard()
		if len(got) < 98 || len(got) > 101 {
			t.Fatalf("%d frames in 2 s", len(got))
		}
		for i, f := range got {
			first := i == 0 || i == n
			last := i == n-1
			if f.start != first {
				t.Errorf("frame %d: spurt start %v", i, f.start)
			}
			if f.end != last {
				t.Errorf("frame %d: spurt end %v", i, f.end)
			}
			if last && f.level != audio.SilentLevel {
				t.Errorf("the frame that ends the spurt has level %d: it must be silence", f.level)
			}
			if f.muted {
				t.Errorf("frame %d was sent to a muted room", i)
			}
			if f.length != got[0].length {
				t.Errorf("frame %d has %d bytes, the first %d", i, f.length, got[0].length)
			}
			if i == 0 {
				continue
			}
			step := f.media - got[i-1].media
			if i == n { // the second of silence passes in media time too
				if step < 47000 || step > 49000 {
					t.Errorf("over the mute media time moved by %d samples", step)
				}
			} else if step != 960 {
				t.Errorf("frame %d: media time moved by %d samples", i, step)
			}
		}
	})
}

func mute(t *testing.T, s *Seat, muted bool) {
	t.Helper()
	if err := s.SetMuted(muted); err != nil {
		t.Fatal(err)
	}
	if s.Muted() != muted {
		t.Errorf("Muted() is %v", !muted)
	}
}

// Mute is per room.
func TestMuteIsPerRoom(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		v := start(t, Config{Microphone: audio.NewTone(300)})
		one, two := &wire{}, &wire{}
		first, second := v.Sit(room.ID{1}, false), v.Sit(room.ID{2}, true)
		first.Attach(one)
		second.Attach(two)
		time.Sleep(500 * time.Millisecond)
		mute(t, first, true)
		mute(t, second, false)
		time.Sleep(500 * time.Millisecond)
		closeAll(t, v)
		if a, b := len(one.heard()), len(two.heard()); a < 23 || a > 26 || b < 23 || b > 26 {
			t.Errorf("%d and %d frames, want 25 each", a, b)
		}
		if !one.heard()[len(one.heard())-1].end || !two.heard()[0].start {
			t.Error("the spurts are not marked per room")
		}
	})
}

// scripted is a microphone whose blocks come at given times.
type scripted struct {
	at    []time.Time
	next  int
	level float32
	end   error
}

func (s *scripted) Channels() int          { return 2 }
func (s *scripted) Latency() time.Duration { return 0 }
func (s *scripted) Close() error           { return nil }

func (s *scripted) Read(block []float32) (time.Time, error) {
	if s.next == len(s.at) {
		return time.Time{}, s.end
	}
	for i := range block {
		block[i] = s.level
	}
	s.next++
	return s.at[s.next-1], nil
}

// Sound that the microphone lost passes in media time, and a new spurt begins
// after it.
func TestLostSoundMovesMediaTime(t *testing.T) {
	begin := time.Unix(1000, 0)
	mic := &scripted{end: io.EOF, level: 0.5}
	for i := range 20 {
		at := begin.Add(time.Duration(i) * audio.BlockDuration)
		if i >= 9 { // in the middle of a frame
			at = at.Add(300 * time.Millisecond)
		}
		mic.at = append(mic.at, at)
	}
	ended := make(chan error, 1)
	v, err := New(Config{Microphone: mic, OnMicrophoneEnd: func(err error) { ended <- err }})
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{}
	v.Sit(room.ID{}, false).Attach(w)
	v.Start()
	if err := <-ended; err != nil {
		t.Errorf("the end of a file is reported as %v", err)
	}
	closeAll(t, v)
	got := w.heard()
	// 9 blocks: 4 frames, 1 block given up; 11 blocks: 5 frames and a half,
	// which is filled up; the end.
	want := []spoken{}
	for i, media := range []uint32{0, 960, 1920, 2880, 4320 + 14400, 5280 + 14400, 6240 + 14400, 7200 + 14400, 8160 + 14400, 9120 + 14400, 10080 + 14400} {
		want = append(want, spoken{media: media, start: i == 0 || i == 4, end: i == 10})
	}
	if len(got) != len(want) {
		t.Fatalf("%d frames, want %d: %+v", len(got), len(want), got)
	}
	for i, g := range got {
		if g.media != want[i].media || g.start != want[i].start || g.end != want[i].end {
			t.Errorf("frame %d: %+v, want %+v", i, g, want[i])
		}
	}
	if got[0].level != 6 { // 0.5 in both channels is 0.5 in mono: -6 dB
		t.Errorf("level %d, want 6: stereo is not mixed to mono as it should", got[0].level)
	}
}

func TestMicrophoneThatFails(t *testing.T) {
	broken := errors.New("unplugged")
	result := make(chan error, 1)
	v := start(t, Config{
		Microphone:      &scripted{end: broken},
		OnMicrophoneEnd: func(err error) { result <- err },
	})
	if err := <-result; !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	closeAll(t, v)
}

// A file starts when enough hear it, not while muted, and loses no sample.
func TestHeldMicrophone(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		v := start(t, Config{Microphone: audio.NewTone(300), HoldFor: 2})
		w := &wire{}
		seat := v.Sit(room.ID{}, true)
		seat.Attach(w)
		w.setHearers(2)
		time.Sleep(300 * time.Millisecond)
		if len(w.heard()) > 0 || v.Level() != audio.SilentLevel {
			t.Errorf("%d frames while muted, level %d", len(w.heard()), v.Level())
		}
		w.setHearers(1)
		mute(t, seat, false)
		time.Sleep(300 * time.Millisecond)
		if v.Level() != audio.SilentLevel {
			t.Error("started for one of two")
		}
		w.setHearers(2)
		time.Sleep(100 * time.Millisecond)
		if v.Level() > 20 {
			t.Errorf("not started for two: level %d", v.Level())
		}
		w.setHearers(0)
		time.Sleep(100 * time.Millisecond)
		if v.Level() > 20 {
			t.Error("stopped again")
		}
		closeAll(t, v)
	})
}

// Three voices from two rooms are mixed; who goes is no longer heard.
func TestManyVoices(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		out := newSink()
		listener := start(t, Config{Speaker: out})
		near, far := listener.Sit(room.ID{1}, true), listener.Sit(room.ID{2}, true)
		var talkers []*Voice
		for _, who := range []struct {
			m    room.Member
			hz   float64
			seat *Seat
		}{{ada, 300, near}, {bo, 500, near}, {cy, 700, far}} {
			v := start(t, Config{Microphone: audio.NewTone(who.hz)})
			v.Sit(room.ID{}, false).Attach(&wire{from: who.m, to: []*Seat{who.seat}})
			talkers = append(talkers, v)
		}
		near.SetVolume(bo, -200, false)
		time.Sleep(3 * time.Second)
		far.Leave()
		time.Sleep(3 * time.Second)
		closeAll(t, append(talkers, listener)...)
		all := out.sound()
		for _, c := range []struct {
			from         time.Duration
			a, b, c      float64 // least part of all power
			bMost, cMost float64
		}{{time.Second, 0.4, 0, 0.4, 0.01, 1}, {4 * time.Second, 0.9, 0, 0, 0.01, 0.01}} {
			sound := second(all, c.from)
			pa, _ := power(sound, 300)
			pb, _ := power(sound, 500)
			pc, _ := power(sound, 700)
			if pa < c.a || pc < c.c || pb > c.bMost || pc > c.cMost {
				t.Errorf("after %v: %.3f %.3f %.3f", c.from, pa, pb, pc)
			}
		}
	})
}

// Who does not allow it is not in a recording, not before the roster says so
// either.
func TestRecordingConsent(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		out := newSink()
		listener := start(t, Config{Speaker: out, Recorder: true})
		seat := listener.Sit(room.ID{1}, true)
		a, b := start(t, Config{Microphone: audio.NewTone(300)}), start(t, Config{Microphone: audio.NewTone(700)})
		a.Sit(room.ID{}, false).Attach(&wire{from: ada, to: []*Seat{seat}})
		b.Sit(room.ID{}, false).Attach(&wire{from: bo, to: []*Seat{seat}})
		time.Sleep(2 * time.Second)
		seat.Update(room.MemberInfo{Member: ada, AllowRecording: true})
		seat.Update(room.MemberInfo{Member: bo})
		seat.SetVolume(bo, 6, false) // loudness is not consent
		time.Sleep(2 * time.Second)
		seat.Update(room.MemberInfo{Member: ada})
		time.Sleep(2 * time.Second)
		closeAll(t, a, b, listener)
		all := out.sound()
		for i, x := range all[:2*2*audio.Rate-audio.Rate/10] {
			if x != 0 {
				t.Fatalf("sample %d is %g before anyone allowed it", i, x)
			}
		}
		heard := second(all, 2500*time.Millisecond)
		if p, _ := power(heard, 300); p < 0.95 {
			t.Errorf("who allows it is %.3f of the recording", p)
		}
		if p, _ := power(heard, 700); p > 1e-4 {
			t.Errorf("who does not is %.6f of it", p)
		}
		for i, x := range second(all, 4500*time.Millisecond) {
			if x != 0 {
				t.Fatalf("sample %d is %g after the consent was taken back", i, x)
			}
		}
		if st := seat.Stats(); len(st) != 2 {
			t.Errorf("figures of %d voices, want 2: they are heard, not recorded", len(st))
		}
	})
}

func TestSpeakingEvents(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		type event struct {
			room   room.ID
			member room.Member
			on     bool
		}
		var events []event
		var mu sync.Mutex
		listener := start(t, Config{OnSpeaking: func(id room.ID, m room.Member, on bool) {
			mu.Lock()
			defer mu.Unlock()
			events = append(events, event{id, m, on})
		}})
		seat := listener.Sit(room.ID{9}, true)
		talker := start(t, Config{Microphone: audio.NewTone(300)})
		out := talker.Sit(room.ID{}, false)
		out.Attach(&wire{from: ada, to: []*Seat{seat}})
		time.Sleep(time.Second)
		mute(t, out, true)
		time.Sleep(time.Second)
		mute(t, out, false)
		time.Sleep(time.Second)
		seat.Gone(ada)
		time.Sleep(100 * time.Millisecond)
		closeAll(t, talker, listener)
		want := []event{{room.ID{9}, ada, true}, {room.ID{9}, ada, false}, {room.ID{9}, ada, true}, {room.ID{9}, ada, false}}
		mu.Lock()
		defer mu.Unlock()
		if len(events) < len(want) || !slices.Equal(events[:len(want)], want) {
			t.Errorf("got %v", events)
		}
	})
}

func TestSpeakingDetector(t *testing.T) {
	for _, c := range []struct {
		name   string
		levels []uint8
		on     []int // at which block it changed, on and off in turn
	}{
		{"silence", slices.Repeat([]uint8{127}, 100), nil},
		{"a click", append(slices.Repeat([]uint8{127}, 10), append([]uint8{10, 10}, slices.Repeat([]uint8{127}, 60)...)...), nil},
		{"speech with pauses", slices.Concat(slices.Repeat([]uint8{20}, 20), slices.Repeat([]uint8{80}, 30), slices.Repeat([]uint8{30}, 10), slices.Repeat([]uint8{127}, 50)), []int{2, 99}},
		{"between the two levels", slices.Concat(slices.Repeat([]uint8{48}, 20), slices.Repeat([]uint8{40}, 5), slices.Repeat([]uint8{48}, 100)), []int{22}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s speaking
			var got []int
			for i, l := range c.levels {
				if s.step(l) {
					got = append(got, i)
				}
			}
			if !slices.Equal(got, c.on) {
				t.Errorf("changed at %v, want %v", got, c.on)
			}
		})
	}
}

// A member who restarts is another stream of the same person; the figures go
// on.
func TestRestartedMember(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		out := newSink()
		listener := start(t, Config{Speaker: out})
		seat := listener.Sit(room.ID{}, true)
		for instance := range uint64(2) {
			talker := start(t, Config{Microphone: audio.NewTone(440)})
			talker.Sit(room.ID{}, false).Attach(&wire{from: ada, to: []*Seat{seat}, instance: instance + 1})
			time.Sleep(2 * time.Second)
			closeAll(t, talker)
		}
		st := seat.Stats()
		closeAll(t, listener)
		if len(st) != 1 || st[0].Sent < 190 || st[0].Sent > 210 || st[0].Received < 190 || st[0].Lost > 5 {
			t.Errorf("stats: %+v", st)
		}
		// It is in tune with itself over the whole second: playout has begun
		// at its target, and has nothing to make good.
		if p, _ := power(second(out.sound(), 2800*time.Millisecond), 440); p < 0.99 {
			t.Errorf("after the restart the tone is %.3f of what is heard", p)
		}
		if d := st[0].StretchedDuration; d > time.Millisecond {
			t.Errorf("playout was stretched by %v on a clean path", d)
		}
	})
}

// Lost frames are counted as lost.
func TestLossIsCounted(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		listener := start(t, Config{})
		seat := listener.Sit(room.ID{}, true)
		talker := start(t, Config{Microphone: audio.NewTone(440)})
		talker.Sit(room.ID{}, false).Attach(&wire{from: ada, to: []*Seat{seat}, drop: func(n uint32) bool { return n%10 == 5 }})
		time.Sleep(10 * time.Second)
		st := seat.Stats()
		closeAll(t, talker, listener)
		if len(st) != 1 || st[0].Lost < 45 || st[0].Lost > 51 || st[0].Sent-st[0].Received < 45 {
			t.Errorf("stats: %+v", st)
		}
	})
}

type brokenSpeaker struct {
	audio.Speaker
	left int
}

func (b *brokenSpeaker) Write(block []float32) error {
	if b.left--; b.left < 0 {
		return errors.New("disk full")
	}
	return b.Speaker.Write(block)
}

func TestSpeakerThatFails(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		failed := 0
		listener := start(t, Config{
			Speaker:         &brokenSpeaker{audio.NewNoSpeaker(), 50},
			OnSpeakerFailed: func(error) { failed++ },
		})
		seat := listener.Sit(room.ID{}, true)
		talker := start(t, Config{Microphone: audio.NewTone(440)})
		talker.Sit(room.ID{}, false).Attach(&wire{from: ada, to: []*Seat{seat}})
		time.Sleep(3 * time.Second)
		st := seat.Stats()
		closeAll(t, talker, listener)
		if failed != 1 || len(st) != 1 || st[0].Played() < 130 {
			t.Errorf("failed %d times, stats %+v", failed, st)
		}
	})
}

// From the microphone's block to Speak, and from Heard to the speaker's
// block, nothing is allocated.
func TestNoAllocations(t *testing.T) {
	listener, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	seat := listener.Sit(room.ID{}, true)
	talker, err := New(Config{Microphone: audio.NewTone(440), Encoder: codec.EncoderConfig{FEC: true, ExpectedLossPercent: 5}})
	if err != nil {
		t.Fatal(err)
	}
	fast := &fastWire{seat: seat}
	talker.Sit(room.ID{}, false).Attach(fast)
	at := time.Now()
	c := talker.capture
	step := func() {
		for range 2 {
			for i := range c.block {
				c.block[i] = float32(0.2 * math.Sin(float64(i)/9))
			}
			at = at.Add(audio.BlockDuration)
			fast.at = at
			c.step(at)
			listener.playout.mix(at)
			listener.playout.mix(at.Add(audio.BlockDuration / 2))
		}
	}
	for range 100 {
		step()
	}
	if n := testing.AllocsPerRun(500, step); n != 0 {
		t.Errorf("%v allocations per frame", n)
	}
	closeAll(t, talker, listener)
	if st := seat.Stats(); len(st) != 1 || st[0].OnTime < 550 {
		t.Errorf("nothing was really played: %+v", st)
	}
}

type fastWire struct {
	seat    *Seat
	counter uint32
	at      time.Time
	frame   room.Frame
}

func (w *fastWire) SetMuted(bool) error { return nil }
func (w *fastWire) Hearers() int        { return 1 }
func (w *fastWire) Flows() room.Flows   { return room.Flows{Base: 1} }
func (w *fastWire) SwitchFlows()        {}

func (w *fastWire) Speak(f *room.Frame) error {
	w.counter++
	w.frame = *f
	w.frame.Counter = w.counter
	w.seat.Heard(ada, &w.frame, w.at)
	return nil
}

func BenchmarkFrameThroughBothPipelines(b *testing.B) {
	listener, err := New(Config{})
	if err != nil {
		b.Fatal(err)
	}
	seat := listener.Sit(room.ID{}, true)
	talker, err := New(Config{Microphone: audio.NewTone(440)})
	if err != nil {
		b.Fatal(err)
	}
	fast := &fastWire{seat: seat}
	talker.Sit(room.ID{}, false).Attach(fast)
	at := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		for range 2 {
			at = at.Add(audio.BlockDuration)
			fast.at = at
			talker.capture.step(at)
			listener.playout.mix(at)
			listener.playout.mix(at.Add(audio.BlockDuration / 2))
		}
	}
}

// A machine that stands still costs a recording nothing: it catches up, and
// what came meanwhile is played at its own time, not left out to be prompt.
func TestRecordingOutlivesAStall(t *testing.T) {
	for _, stalled := range []time.Duration{700 * time.Millisecond, 1900 * time.Millisecond} {
		t.Run(stalled.String(), func(t *testing.T) { recordOverStall(t, stalled) })
	}
}

func recordOverStall(t *testing.T, d time.Duration) {
	meshtest.Bubble(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "out.wav")
		file, err := audio.CreateWAV(path)
		if err != nil {
			t.Fatal(err)
		}
		stalled := false
		listener := start(t, Config{Speaker: file, Recorder: true, OnSpeaking: func(_ room.ID, _ room.Member, on bool) {
			if on && !stalled { // on the playout goroutine
				stalled = true
				time.Sleep(d)
			}
		}})
		seat := listener.Sit(room.ID{1}, true)
		seat.Update(room.MemberInfo{Member: ada, AllowRecording: true})
		talker := start(t, Config{Microphone: audio.NewTone(440)})
		talker.Sit(room.ID{1}, false).Attach(&wire{from: ada, to: []*Seat{seat}})
		time.Sleep(3 * time.Second)
		closeAll(t, talker, listener)
		if !stalled {
			t.Fatal("nothing stood still")
		}
		sound := readStereo(t, path)
		if n := len(sound) / 2; n < 29*audio.Rate/10 {
			t.Errorf("%d samples in 3 s", n)
		}
		heard := 0
		for i := 0; i+2*audio.BlockFrames <= len(sound); i += 2 * audio.BlockFrames {
			if part, rms := power(sound[i:i+2*audio.BlockFrames], 440); part > 0.8 && rms > 0.05 {
				heard++
			}
		}
		if s := seat.Stats()[0]; heard < 290 || s.Lost > 0 || s.Skipped > 0 {
			t.Errorf("%d ms of 3 s were recorded; %+v", heard*10, s)
		}
	})
}

func readStereo(t *testing.T, path string) (sound []float32) {
	t.Helper()
	m, err := audio.OpenWAV(path, false)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for {
		block := make([]float32, 2*audio.BlockFrames)
		if _, err := m.Read(block); err != nil {
			return sound
		}
		sound = append(sound, block...)
	}
}
