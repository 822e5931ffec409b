package portaudio

import (
	"errors"
	"strings"
	"testing"
	"time"

	"teahouse/internal/audio"
)

// TestWithoutDevice runs on every machine, with sound cards and without.
func TestWithoutDevice(t *testing.T) {
	s, err := Open(Config{})
	if err != nil {
		t.Fatal(err)
	}
	const name = "a card that nobody has"
	for _, open := range []func() error{
		func() error { _, err := s.OpenMicrophone(name); return err },
		func() error { _, err := s.OpenSpeaker(name); return err },
	} {
		err := open()
		if !errors.Is(err, audio.ErrNoDevice) || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error is %v", err)
		}
	}
	if _, err := s.Devices(); err != nil {
		t.Error(err)
	}
	if err := s.Rescan(); err != nil {
		t.Error(err)
	}
	if other, err := Open(Config{}); err == nil {
		t.Errorf("a second System was opened: %v", other)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.OpenMicrophone(""); !errors.Is(err, audio.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if _, err := s.Devices(); !errors.Is(err, audio.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	again, err := Open(Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// TestPressure: larger buffers after three underruns within five seconds, not
// for those of the start and not for one now and then; smaller ones after a
// calm, in a pause.
func TestPressure(t *testing.T) {
	const second = int(time.Second / audio.BlockDuration)
	sound, silence := []float32{0.5, -0.5}, []float32{0.001, 0}
	always := func(int) []float32 { return silence }
	for _, test := range []struct {
		name    string
		at      []int // blocks at which an underrun comes
		block   func(int) []float32
		largest bool
		calm    int
		until   int
		want    verdict
	}{
		{name: "none", until: 60 * second},
		{name: "at the start", at: []int{1, 2, 3, 4, 5, 250}, until: 60 * second},
		{name: "one in 5 s", at: []int{1000, 1500, 2000, 2500, 3000}, until: 60 * second},
		{name: "three at once", at: []int{1000, 1001, 1002}, until: 1003, want: tooSmall},
		{name: "three within 2 s", at: []int{1010, 1100, 1200}, until: 1201, want: tooSmall},
		{name: "none larger", at: []int{1010, 1100, 1200}, largest: true, until: 60 * second},
		{name: "not calm for long enough", largest: true, calm: 60 * second, until: 60*second + quietBlocks - 2},
		{name: "calm", largest: true, calm: 60 * second, until: 60*second + quietBlocks - 1, want: tooLarge},
		{name: "an underrun begins anew", at: []int{50 * second}, largest: true, calm: 60 * second, until: 109 * second},
		{
			name: "not while somebody speaks", largest: true, calm: 60 * second, until: 200 * second,
			block: func(n int) []float32 {
				if n%quietBlocks == 0 {
					return sound
				}
				return silence
			},
		},
	} {
		p := pressure{calm: test.calm, largest: test.largest}
		var underruns uint64
		got := fits
		if test.block == nil {
			test.block = always
		}
		for block := 0; block < test.until && got == fits; block++ {
			for _, at := range test.at {
				if at == block {
					underruns++
				}
			}
			got = p.judge(underruns, test.block(block))
		}
		if got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

// TestBuffers: up by underruns, down by calm, and down less and less often
// where it does not last.
func TestBuffers(t *testing.T) {
	now := time.Now()
	b := newBuffers(false)
	blocks := func(d time.Duration) int { return int(d / audio.BlockDuration) }
	if b.step != 0 || b.calm() != 0 {
		t.Fatalf("begins as %+v", b)
	}
	want := calmFirst
	for n := range 10 {
		b.follow(errTooSmall, now)
		if b.step != len(steps)-1 || b.calm() != blocks(want) {
			t.Fatalf("after underruns %d: %+v, calm %d", n, b, b.calm())
		}
		now = now.Add(want)
		b.follow(errTooLarge, now)
		if b.step != 0 || b.calm() != 0 {
			t.Fatalf("after a calm %d: %+v", n, b)
		}
		now = now.Add(calmFirst / 2)
		want = min(2*want, calmMost)
	}
	now = now.Add(time.Hour)
	b.follow(errTooSmall, now)
	if b.calm() != blocks(calmFirst) {
		t.Errorf("small buffers did for an hour, and are tried again after %d blocks", b.calm())
	}
	if safe := newBuffers(true); safe.step != len(steps)-1 || safe.calm() != 0 {
		t.Errorf("safe: %+v", safe)
	}
}

// TestAttempts: at once after a long life, then every half second; less and
// less often for what dies as soon as it is opened.
func TestAttempts(t *testing.T) {
	now := time.Now()
	var a attempts
	a.died(now, time.Hour)
	if !a.due(now) {
		t.Error("a device that worked is not tried at once")
	}
	a.failed(now)
	if a.due(now.Add(retryEvery-1)) || !a.due(now.Add(retryEvery)) {
		t.Errorf("tried again at %v", a.next.Sub(now))
	}
	var waits []time.Duration
	for range 8 {
		a.died(now, time.Second)
		waits = append(waits, a.next.Sub(now))
	}
	if waits[0] != retryEvery || waits[1] != 2*retryEvery || waits[7] != retryMost {
		t.Errorf("what dies at once is tried after %v", waits)
	}
}

// TestStandingStill: a device that opens and never calls, for hours, has a
// stream nearly all the time, for the moment in which it goes on.
func TestStandingStill(t *testing.T) {
	start := time.Now()
	var a attempts
	a.died(start, time.Hour)
	now, without := start, time.Duration(0)
	for now.Sub(start) < time.Hour {
		grace := a.grace()
		if grace < startLimit || grace > graceMost {
			t.Fatalf("after %v it is given %v", now.Sub(start), grace)
		}
		now = now.Add(grace)
		a.stood(now)
		if wait := a.next.Sub(now); wait > retryEvery {
			t.Fatalf("after %v it is opened only %v later", now.Sub(start), wait)
		}
		without += a.next.Sub(now)
		now = a.next
	}
	if without > time.Minute {
		t.Errorf("no stream for %v of an hour", without)
	}
	a.died(now, time.Hour)
	if a.grace() != startLimit {
		t.Errorf("a device that has worked is given %v", a.grace())
	}
}

// TestSearch: rescans are rare where they interrupt somebody.
func TestSearch(t *testing.T) {
	start := time.Now()
	count := func(unlisted, others bool, d time.Duration) (n int) {
		var s search
		s.changed(start)
		for now := start; now.Sub(start) <= d; now = now.Add(retryEvery) {
			if s.due(now, unlisted, others) {
				n++
			}
		}
		return n
	}
	for _, c := range []struct {
		name             string
		unlisted, others bool
		least, most      int
	}{
		{"nothing works", false, false, 60, 60},
		{"not listed, others work", true, true, 5, 6}, // after 1, 3, 7, 15, 31 s
		{"listed, others work", false, true, 1, 1},
	} {
		if n := count(c.unlisted, c.others, time.Minute); n < c.least || n > c.most {
			t.Errorf("%s: %d rescans in a minute", c.name, n)
		}
	}
}

// TestStamp: time stamps rise evenly whatever the callbacks do, follow a
// clock that drifts, and jump when sound was lost.
func TestStamp(t *testing.T) {
	start := time.Now()
	var m microphone
	at := start
	for n := range 3000 {
		// 200 ppm fast, and 4 ms of jitter.
		real := start.Add(time.Duration(n) * 10002 * time.Microsecond)
		measured := real.Add(time.Duration(n*7919%9-4) * time.Millisecond)
		last := m.last
		at = m.stamp(measured, real.Add(15*time.Millisecond))
		m.last = at
		if n == 0 {
			continue
		}
		if step := at.Sub(last); step < 9*time.Millisecond || step > 11*time.Millisecond {
			t.Fatalf("block %d comes %v after the one before", n, step)
		}
		if off := at.Sub(real); off < -5*time.Millisecond || off > 5*time.Millisecond {
			t.Fatalf("block %d is %v off", n, off)
		}
	}
	late := at.Add(310 * time.Millisecond)
	if got := m.stamp(late, late.Add(time.Second)); got != late {
		t.Errorf("300 ms were lost, and the time stamp is %v", got.Sub(at))
	}
	if got := m.stamp(at.Add(-time.Second), late); got.Sub(at) != audio.BlockDuration-stampBack {
		t.Errorf("a time stamp %v after the one before, when it should go back", got.Sub(at))
	}
}

func TestRemap(t *testing.T) {
	mono, stereo := []float32{1, 2}, []float32{1, 3, 5, 7}
	one, two := make([]float32, 2), make([]float32, 4)
	remap(one, 1, stereo, 2)
	if one[0] != 2 || one[1] != 6 {
		t.Errorf("stereo to mono: %v", one)
	}
	remap(two, 2, mono, 1)
	if two[0] != 1 || two[1] != 1 || two[2] != 2 || two[3] != 2 {
		t.Errorf("mono to stereo: %v", two)
	}
	remap(two, 2, stereo, 2)
	if two[3] != 7 {
		t.Errorf("stereo to stereo: %v", two)
	}
}
