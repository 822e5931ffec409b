package audio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"time"
)

// The header that CreateWAV writes, little-endian. JUNK keeps the place of
// ds64, so that a recording that passes 4 GiB (6.2 h) becomes an RF64 (EBU Tech
// 3306) by its header alone.
//
//	 0 "RIFF"  4 size of the file - 8      "RF64"  0xFFFFFFFF
//	 8 "WAVE"
//	12 "JUNK" 16 28                        "ds64"  28
//	20 28 zero bytes                       u64 size of the file - 8, u64 bytes of samples, u64 frames, u32 0
//	48 "fmt " 52 16
//	56 u16 1 (PCM), u16 2 channels, u32 48000, u32 192000 bytes a second, u16 4 bytes a frame, u16 16 bits
//	72 "data" 76 bytes of samples          "data"  0xFFFFFFFF
const wavHeaderLen = 80

// wavHeaderEvery is how much of a recording a kill can cost, in time and in
// sound: a writer that catches up writes more than a second's in a second.
const wavHeaderEvery = time.Second

const (
	wavFrameBytes       = 4 // 16-bit stereo
	wavHeaderEveryBytes = Rate * wavFrameBytes
)

// wavHeader is the header of a recording of n bytes of samples.
func wavHeader(n uint64) [wavHeaderLen]byte {
	var h [wavHeaderLen]byte
	le := binary.LittleEndian
	copy(h[0:], "RIFF")
	copy(h[8:], "WAVEJUNK")
	le.PutUint32(h[16:], 28)
	copy(h[48:], "fmt ")
	le.PutUint32(h[52:], 16)
	le.PutUint16(h[56:], wavPCM)
	le.PutUint16(h[58:], 2)
	le.PutUint32(h[60:], Rate)
	le.PutUint32(h[64:], Rate*wavFrameBytes)
	le.PutUint16(h[68:], wavFrameBytes)
	le.PutUint16(h[70:], 16)
	copy(h[72:], "data")
	if riff := n + wavHeaderLen - 8; riff < math.MaxUint32 {
		le.PutUint32(h[4:], uint32(riff))
		le.PutUint32(h[76:], uint32(n))
	} else {
		copy(h[0:], "RF64")
		le.PutUint32(h[4:], math.MaxUint32)
		copy(h[12:], "ds64")
		le.PutUint64(h[20:], riff)
		le.PutUint64(h[28:], n)
		le.PutUint64(h[36:], n/wavFrameBytes)
		le.PutUint32(h[76:], math.MaxUint32)
	}
	return h
}

// CreateWAV is a speaker that records what it plays to a 48 kHz 16-bit stereo
// WAV file at path, readable by its owner alone (0600), emptied if it exists.
// Recording begins with the first Write and goes with the monotonic clock: a
// writer that comes late has its blocks taken at once until the file has
// caught up. The header is right once a second at least, and lacks less than a
// second of sound, so the file can be played however the program ends.
//
// A full disk makes Write fail; what was written stays playable.
func CreateWAV(path string) (Speaker, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("record to %q: it is not a regular file; give a path such as talk.wav, or none", path)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("record to WAV file: %w", err)
	}
	if info != nil { // an old file keeps its mode otherwise
		err = file.Chmod(0o600)
	}
	var sink *wavSink
	if err == nil {
		sink, err = newWAVSink(file, path)
	}
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("record to %q: %w", path, err)
	}
	return newPacedSpeaker(sink, true), nil
}

// wavFile is what a wavSink needs of a file.
type wavFile interface {
	io.WriterAt
	io.Closer
	Sync() error
}

// wavSink writes samples and keeps the header right.
type wavSink struct {
	file    wavFile
	name    string
	bytes   uint64 // of samples, written in full
	stamped time.Time
	counted uint64 // of bytes, by the header
	failed  error  // the first failure of write, which stays
	raw     [2 * BlockFrames * 2]byte
	header  [wavHeaderLen]byte
}

func newWAVSink(file wavFile, name string) (*wavSink, error) {
	s := &wavSink{file: file, name: name, stamped: time.Now()}
	if err := s.stamp(); err != nil {
		return nil, err
	}
	return s, nil
}

// stamp writes the header for what has been written.
func (s *wavSink) stamp() error {
	s.header = wavHeader(s.bytes)
	s.counted = s.bytes
	_, err := s.file.WriteAt(s.header[:], 0)
	return err
}

func (s *wavSink) write(block []float32, now time.Time) error {
	if s.failed != nil {
		return s.failed
	}
	for i, x := range block {
		binary.LittleEndian.PutUint16(s.raw[2*i:], uint16(toInt16(x)))
	}
	n, err := s.file.WriteAt(s.raw[:2*len(block)], wavHeaderLen+int64(s.bytes))
	s.bytes += uint64(n - n%wavFrameBytes)
	if err == nil && (now.Sub(s.stamped) >= wavHeaderEvery || s.bytes-s.counted >= wavHeaderEveryBytes) {
		s.stamped = now
		err = s.stamp()
	}
	if err != nil {
		s.failed = fmt.Errorf("record to %q: %w", s.name, withoutPath(err))
	}
	return s.failed
}

// close completes the header; after a full disk too, since it lies in the
// part that has been written.
func (s *wavSink) close() error {
	err := errors.Join(s.stamp(), s.file.Sync(), s.file.Close())
	if err != nil {
		return fmt.Errorf("record to %q: %w", s.name, err)
	}
	return nil
}

// withoutPath keeps an error from naming the file twice.
func withoutPath(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// toInt16 rounds to the nearest step, ties to even, and clips. The inverse of
// wavFormat.decode: samples that came from 16 bits come back the same.
func toInt16(x float32) int16 {
	if x != x {
		return 0
	}
	return int16(max(math.MinInt16, min(math.MaxInt16, math.RoundToEven(float64(x)*(1<<15)))))
}
