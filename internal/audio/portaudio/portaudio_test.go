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
// for those of the start and not for one now and then.
func TestPressure(t *testing.T) {
	const second = int(time.Second / audio.BlockDuration)
	for _, test := range []struct {
		name  string
		at    []int // blocks at which an underrun comes
		until int
		want  bool
	}{
		{"none", nil, 60 * second, false},
		{"at the start", []int{1, 2, 3, 4, 5, 250}, 60 * second, false},
		{"one in 5 s", []int{1000, 1500, 2000, 2500, 3000}, 60 * second, false},
		{"three at once", []int{1000, 1001, 1002}, 1003, true},
		{"three within 2 s", []int{1010, 1100, 1200}, 1201, true},
	} {
		var p pressure
		var underruns uint64
		got := false
		for block := range test.until {
			for _, at := range test.at {
				if at == block {
					underruns++
				}
			}
			got = got || p.high(underruns)
		}
		if got != test.want {
			t.Errorf("%s: %v", test.name, got)
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
