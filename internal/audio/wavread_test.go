package audio

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func put(t *testing.T, file []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "in.wav")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// sine is 16-bit samples of amplitude 0.5.
func sine(rate, frames int, hz float64) []byte {
	var b []byte
	for i := range frames {
		v := int16(math.Round(16384 * math.Sin(2*math.Pi*hz*float64(i)/float64(rate))))
		b = append(b, byte(v), byte(v>>8))
	}
	return b
}

// drain is all that a source gives.
func drain(t *testing.T, s *wavSource) (all []float32) {
	t.Helper()
	block := make([]float32, BlockFrames*s.channels())
	for {
		if err := s.fill(block); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, block...)
	}
}

// TestWAVRates: a file of any rate becomes the same sound, sample 0 at the
// same instant, as long as before.
func TestWAVRates(t *testing.T) {
	for _, rate := range []int{8000, 11025, 16000, 22050, 32000, 44100, 48000, 44099, 88200, 96000, 192000} {
		const hz = 997
		s, err := newWAVSource(bytes.NewReader(simple(format(wavPCM, 1, rate, 16), sine(rate, rate/2, hz))), false)
		if err != nil {
			t.Fatal(err)
		}
		all := drain(t, s)
		frames := (rate/2*Rate + rate - 1) / rate
		if blocks := (frames + BlockFrames - 1) / BlockFrames; len(all) != blocks*BlockFrames {
			t.Errorf("%d Hz: %d samples, not %d blocks", rate, len(all), blocks)
		}
		for i := frames; i < len(all); i++ {
			if all[i] != 0 {
				t.Fatalf("%d Hz: the last block is not filled up with silence", rate)
			}
		}
		// Beginning and end are cut hard, which rings.
		noise, n := 0.0, 0
		for i := 1000; i < frames-1000; i++ {
			d := float64(all[i]) - 0.5*math.Sin(2*math.Pi*hz*float64(i)/Rate)
			noise += d * d
			n++
		}
		if snr := 10 * math.Log10(0.125/(noise/float64(n))); snr < 88 { // 16 bits at -6 dBFS: 92
			t.Errorf("%d Hz: %.1f dB", rate, snr)
		}
	}
}

// TestWAVLoop: the end and the beginning of a loop meet without a gap.
func TestWAVLoop(t *testing.T) {
	for _, rate := range []int{Rate, 44100} {
		// 7 periods of a sine, not a multiple of a block.
		frames := rate / 100 * 7
		s, err := newWAVSource(bytes.NewReader(simple(format(wavPCM, 1, rate, 16), sine(rate, frames, 100))), true)
		if err != nil {
			t.Fatal(err)
		}
		block := make([]float32, BlockFrames)
		for b := range 500 {
			if err := s.fill(block); err != nil {
				t.Fatal(err)
			}
			for i, x := range block {
				want := 0.5 * math.Sin(2*math.Pi*100*float64(b*BlockFrames+i)/Rate)
				// The first ms rings where the sound sets in.
				if math.Abs(float64(x)-want) > 1e-4 && b > 0 {
					t.Fatalf("%d Hz: block %d, sample %d is %v, not %v", rate, b, i, x, want)
				}
			}
		}
	}
}

// shrunk is a file that was emptied after it had been read once.
type shrunk struct{ *bytes.Reader }

func (s shrunk) Seek(int64, int) (int64, error) { return s.Reader.Seek(0, io.SeekEnd) }

// TestWAVLoopOfNothing: a loop whose file went away ends instead of looking for
// a sample for ever.
func TestWAVLoopOfNothing(t *testing.T) {
	file := simple(format(wavPCM, 1, Rate, 16), sine(Rate, 2*BlockFrames, 100))
	s, err := newWAVSource(shrunk{bytes.NewReader(file)}, true)
	if err != nil {
		t.Fatal(err)
	}
	if all := drain(t, s); len(all) != 2*BlockFrames {
		t.Errorf("%d samples", len(all))
	}
}

func TestWAVOpenErrors(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing.wav")
	if _, err := OpenWAV(missing, false); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), missing) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := OpenWAV(dir, false); !errors.Is(err, ErrWAV) || !strings.Contains(err.Error(), dir) {
		t.Errorf("folder: %v", err)
	}
	text := put(t, []byte("this is not sound"))
	if _, err := OpenWAV(text, false); !errors.Is(err, ErrWAV) || !strings.Contains(err.Error(), text) {
		t.Errorf("text: %v", err)
	}
	if m, err := OpenMicrophone(Spec{Kind: File, Path: missing}, nil); m != nil || err == nil {
		t.Errorf("OpenMicrophone of a missing file: %v, %v", m, err)
	}
	if s, err := OpenSpeaker(Spec{Kind: File, Path: filepath.Join(dir, "no", "out.wav")}, nil); s != nil || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenSpeaker in a missing folder: %v, %v", s, err)
	}
	if s, err := OpenSpeaker(Spec{Kind: File, Path: "/dev/null"}, nil); s != nil || err == nil {
		t.Errorf("OpenSpeaker of a device: %v, %v", s, err)
	}
}

// TestHold: a file that is held is silent at its pace, and speaks from its
// first sample after Start.
func TestHold(t *testing.T) {
	path := put(t, simple(format(wavPCM, 1, Rate, 16), bytes.Repeat([]byte{0, 64}, 3*BlockFrames)))
	synctest.Test(t, func(t *testing.T) {
		m, err := OpenWAV(path, false)
		if err != nil {
			t.Fatal(err)
		}
		m.Hold()
		began := time.Now()
		time.AfterFunc(505*time.Millisecond, m.Start)
		block := make([]float32, BlockFrames)
		spoken := 0
		for i := 0; ; i++ {
			at, err := m.Read(block)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if at != began.Add(time.Duration(i)*BlockDuration) {
				t.Errorf("block %d at %v", i, at.Sub(began))
			}
			want := float32(0)
			if i > 50 { // the first block that begins after 505 ms
				want = 0.5
				spoken++
			}
			for _, x := range block {
				if x != want {
					t.Fatalf("block %d has a sample of %v, not %v", i, x, want)
				}
			}
		}
		if spoken != 3 {
			t.Errorf("%d blocks spoken, not 3", spoken)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestMicrophoneCatchesUp: a reader that was away for a moment gets what it
// missed at once; one that was away for long loses nothing of a file either,
// but is not sent a burst.
func TestMicrophoneCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewTone(440)
		defer func() { _ = m.Close() }()
		block := make([]float32, BlockFrames)
		read := func() time.Time {
			t.Helper()
			at, err := m.Read(block)
			if err != nil {
				t.Fatal(err)
			}
			return at
		}
		first := read()
		time.Sleep(105 * time.Millisecond)
		now := time.Now()
		for i := range 10 {
			if at := read(); at != first.Add(time.Duration(i+1)*BlockDuration) || time.Now() != now {
				t.Fatalf("block %d at %v, after %v", i, at.Sub(first), time.Since(now))
			}
		}
		last := read()
		if time.Since(now) != 5*time.Millisecond {
			t.Errorf("the next block took %v", time.Since(now))
		}
		time.Sleep(time.Minute)
		now = time.Now()
		late := read()
		if late.Sub(last) < 59*time.Second || late.Add(maxMicLag+BlockDuration).Before(now) {
			t.Errorf("a minute later: %v after the one before", late.Sub(last))
		}
		for range 30 {
			read()
		}
		if took := time.Since(now); took < 9*BlockDuration {
			t.Errorf("30 blocks in %v: a burst", took)
		}
	})
}
