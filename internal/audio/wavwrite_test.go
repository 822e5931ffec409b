package audio

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// recorded reads a recording's header and samples.
func recorded(t *testing.T, path string) (wavFormat, []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := readWAVHeader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return f, b[f.offset:]
}

func TestRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.wav")
	if err := os.WriteFile(path, make([]byte, 10000), 0o644); err != nil { // an older file
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s, err := CreateWAV(path)
		if err != nil {
			t.Fatal(err)
		}
		block := make([]float32, 2*BlockFrames)
		copy(block, []float32{0, 0.5, -0.5, 1, -1, 2, -2, float32(math.NaN()), 1.4 / 32768, -1.6 / 32768})
		for range 3 {
			if err := s.Write(block); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	})
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v", info.Mode())
	}
	f, data := recorded(t, path)
	if f.frames != 3*BlockFrames || int64(len(data)) != f.frames*wavFrameBytes {
		t.Errorf("%d frames promised, %d bytes there", f.frames, len(data))
	}
	want := []byte{0, 0, 0, 0x40, 0, 0xC0, 0xFF, 0x7F, 0, 0x80, 0xFF, 0x7F, 0, 0x80, 0, 0, 1, 0, 0xFE, 0xFF}
	for b := range 3 {
		if got := data[b*BlockFrames*4:][:len(want)]; !bytes.Equal(got, want) {
			t.Errorf("block %d begins with % x, not % x", b, got, want)
		}
	}
}

// TestRecordRoundTrip: what is recorded and played again is the same, and
// recorded again the same to the bit.
func TestRecordRoundTrip(t *testing.T) {
	for v := math.MinInt16; v <= math.MaxInt16; v++ {
		if got := toInt16(float32(v) / (1 << 15)); int(got) != v {
			t.Fatalf("%d comes back as %d", v, got)
		}
	}
}

// TestRecordCatchesUp: the file goes with the clock whatever the writer does.
func TestRecordCatchesUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.wav")
	synctest.Test(t, func(t *testing.T) {
		s, err := CreateWAV(path)
		if err != nil {
			t.Fatal(err)
		}
		block := make([]float32, 2*BlockFrames)
		n := 0
		write := func() time.Duration {
			t.Helper()
			before := time.Now()
			block[0] = float32(n) / (1 << 15)
			n++
			if err := s.Write(block); err != nil {
				t.Fatal(err)
			}
			return time.Since(before)
		}
		for range 100 {
			if took := write(); took != BlockDuration {
				t.Fatalf("Write took %v", took)
			}
		}
		time.Sleep(3 * time.Second)
		for i := range 299 {
			if took := write(); took != 0 {
				t.Fatalf("late Write number %d took %v", i, took)
			}
		}
		write()
		if took := write(); took != BlockDuration {
			t.Errorf("Write took %v after it had caught up", took)
		}
		if s.Underruns() != 1 {
			t.Errorf("%d underruns", s.Underruns())
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	f, data := recorded(t, path)
	if f.frames != 401*BlockFrames {
		t.Errorf("%d frames", f.frames)
	}
	for i := range 401 {
		if got := int(data[i*BlockFrames*4]) | int(data[i*BlockFrames*4+1])<<8; got != i {
			t.Fatalf("block %d is where %d should be", got, i)
		}
	}
}

// TestRecordHeader: at any moment the header promises what is there, and all
// but the last second of it.
func TestRecordHeader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.wav")
	synctest.Test(t, func(t *testing.T) {
		s, err := CreateWAV(path)
		if err != nil {
			t.Fatal(err)
		}
		block := make([]float32, 2*BlockFrames)
		for n := range 1000 {
			f, data := recorded(t, path)
			there := int64(len(data) / wavFrameBytes)
			if f.frames == unknownFrames {
				f.frames = 0
			}
			if f.frames > there || f.frames < there-Rate-BlockFrames {
				t.Fatalf("after %d blocks the header promises %d of %d frames", n, f.frames, there)
			}
			if err := s.Write(block); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestRecordKilled kills a process that records, as kill -9 does.
func TestRecordKilled(t *testing.T) {
	if path := os.Getenv("TEAHOUSE_TEST_RECORD"); path != "" {
		recordUntilKilled(path)
	}
	path := filepath.Join(t.TempDir(), "out.wav")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRecordKilled$")
	cmd.Env = append(os.Environ(), "TEAHOUSE_TEST_RECORD="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	scan := bufio.NewScanner(out)
	if !scan.Scan() { // it says so once there is more than a second
		t.Error("nothing was recorded")
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	f, data := recorded(t, path)
	if frames := int64(len(data) / wavFrameBytes); frames <= Rate || f.frames > frames || frames-f.frames > Rate {
		t.Errorf("header promises %d of %d frames", f.frames, frames)
	}
	m, err := OpenWAV(path, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

func recordUntilKilled(path string) {
	s, err := CreateWAV(path)
	if err != nil {
		panic(err)
	}
	block := make([]float32, 2*BlockFrames)
	for n := 0; ; n++ {
		if err := s.Write(block); err != nil {
			panic(err)
		}
		if n == 110 {
			fmt.Println("recording")
		}
	}
}

// fullDisk takes so many bytes and no more.
type fullDisk struct {
	left   int64
	data   []byte
	closed bool
}

func (f *fullDisk) WriteAt(b []byte, at int64) (int, error) {
	grow := at + int64(len(b)) - int64(len(f.data))
	n := len(b)
	if grow > f.left {
		n -= int(grow - f.left)
	}
	if end := at + int64(n); end > int64(len(f.data)) {
		f.left -= end - int64(len(f.data))
		f.data = append(f.data, make([]byte, end-int64(len(f.data)))...)
	}
	copy(f.data[at:], b[:n])
	if n < len(b) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

func (f *fullDisk) Sync() error  { return nil }
func (f *fullDisk) Close() error { f.closed = true; return nil }

// TestRecordFullDisk: an error that stays, and a file that plays.
func TestRecordFullDisk(t *testing.T) {
	disk := &fullDisk{left: wavHeaderLen + 3*BlockFrames*wavFrameBytes + 10}
	synctest.Test(t, func(t *testing.T) {
		sink, err := newWAVSink(disk, "talk.wav")
		if err != nil {
			t.Fatal(err)
		}
		s := newPacedSpeaker(sink, true)
		block := make([]float32, 2*BlockFrames)
		for range 3 {
			if err := s.Write(block); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			err := s.Write(block)
			if !errors.Is(err, syscall.ENOSPC) || err.Error() != `record to "talk.wav": no space left on device` {
				t.Fatalf("on a full disk: %v", err)
			}
		}
		if err := s.Close(); err != nil || !disk.closed {
			t.Errorf("Close: %v, closed %v", err, disk.closed)
		}
	})
	f, err := readWAVHeader(bytes.NewReader(disk.data))
	if err != nil || f.frames != 3*BlockFrames+2 {
		t.Errorf("header promises %d frames: %v", f.frames, err)
	}
	if _, err := newWAVSink(&fullDisk{left: 10}, "talk.wav"); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("no room for the header: %v", err)
	}
}
