package audio

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
)

// wavReadFrames is how many frames are decoded at a time.
const wavReadFrames = 512

// OpenWAV is a microphone that hears the WAV file at path: PCM of 16, 24 or
// 32 bits or 32-bit float, one or two channels, any rate from MinRate to
// MaxRate, converted to 48 kHz. A file that was cut off is played as far as it
// goes. Played once it ends in io.EOF, its last block filled up with silence;
// with loop it begins again without a gap.
//
// Errors name the file and wrap ErrWAV or what the system said.
func OpenWAV(path string, loop bool) (Starter, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open WAV file: %w", err)
	}
	if !info.Mode().IsRegular() { // a pipe would hang without a word
		return nil, fmt.Errorf("open WAV file %q: %w: it is not a regular file", path, ErrWAV)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open WAV file: %w", err)
	}
	src, err := newWAVSource(file, loop)
	if err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("open WAV file %q: %w", path, err)
	}
	src.name, src.closer = path, file
	return newPaced(src), nil
}

// wavSource is the samples of a WAV at 48 kHz.
type wavSource struct {
	name   string
	closer io.Closer
	file   io.ReadSeeker
	loop   bool
	format wavFormat
	resamp *Resampler // nil at 48 kHz

	in        *bufio.Reader
	left      int64 // frames until the data chunk ends
	ended     bool  // no more frames from the file
	raw       []byte
	samples   []float32 // decoded, interleaved
	from, to  int       // what of samples is not used yet, in frames
	got, gave int64     // frames decoded at the file's rate, given at 48 kHz
}

func newWAVSource(file io.ReadSeeker, loop bool) (*wavSource, error) {
	in := bufio.NewReaderSize(file, 1<<16)
	format, err := readWAVHeader(in)
	if err != nil {
		return nil, err
	}
	s := &wavSource{
		file: file, loop: loop, format: format, in: in, left: format.frames,
		raw:     make([]byte, wavReadFrames*format.frameBytes()),
		samples: make([]float32, wavReadFrames*format.channels),
	}
	if format.rate != Rate {
		if s.resamp, err = NewResampler(format.rate, Rate, format.channels, QualityFile); err != nil {
			return nil, err
		}
	}
	// The first samples now, so that a file without any is refused at once.
	if err := s.decode(); err != nil {
		return nil, err
	}
	if s.to == 0 {
		return nil, notWAV("holds no sound")
	}
	return s, nil
}

func (s *wavSource) channels() int { return s.format.channels }

func (s *wavSource) close() error {
	if s.closer == nil {
		return nil
	}
	return s.closer.Close()
}

// fill writes one block, its end silent if the file ends in it.
func (s *wavSource) fill(block []float32) error {
	ch := s.format.channels
	n := 0
	for n < BlockFrames {
		if s.from == s.to && !s.ended {
			if err := s.decode(); err != nil {
				return fmt.Errorf("read WAV file %q: %w", s.name, err)
			}
		}
		if s.from == s.to && s.ended && s.resamp == nil {
			break
		}
		took, wrote := s.convert(block[n*ch:], s.samples[s.from*ch:s.to*ch])
		s.from += took
		n += wrote
		s.gave += int64(wrote)
		if s.ended && s.gave >= s.total() {
			n -= int(s.gave - s.total())
			s.gave = s.total()
			break
		}
	}
	if n == 0 {
		return io.EOF
	}
	clear(block[n*ch:])
	return nil
}

// total is how many frames at 48 kHz the frames of the file make, rounded up.
func (s *wavSource) total() int64 {
	return (s.got*Rate + int64(s.format.rate) - 1) / int64(s.format.rate)
}

// convert takes and writes frames; after the end it drains the resampler.
func (s *wavSource) convert(dst, src []float32) (took, wrote int) {
	ch := s.format.channels
	if s.resamp == nil {
		n := copy(dst, src) / ch
		return n, n
	}
	if len(src) > 0 {
		took, wrote = s.resamp.Process(dst, src)
	} else {
		clear(s.samples)
		_, wrote = s.resamp.Process(dst, s.samples)
	}
	for i, x := range dst[:wrote*ch] { // the filter overshoots a little
		dst[i] = clip(x)
	}
	return took, wrote
}

// decode reads the next frames of the file, from its start again in a loop.
// At the end it sets ended.
func (s *wavSource) decode() error {
	s.from, s.to = 0, 0
	for pass := 0; ; pass++ {
		n, err := s.readFrames()
		if err != nil {
			return err
		}
		if n > 0 {
			s.format.decode(s.samples[:n*s.format.channels], s.raw)
			s.to = n
			s.got += int64(n)
			return nil
		}
		if !s.loop || pass > 0 || s.got == 0 {
			s.ended = true
			return nil
		}
		if _, err := s.file.Seek(s.format.offset, io.SeekStart); err != nil {
			return err
		}
		s.in.Reset(s.file)
		s.left = s.format.frames
	}
}

// readFrames reads whole frames into raw; 0 at the end of the file or of what
// its header promised. A cut-off frame at the end is left out.
func (s *wavSource) readFrames() (int, error) {
	size := s.format.frameBytes()
	want := int(min(s.left, wavReadFrames)) * size
	n, err := io.ReadFull(s.in, s.raw[:want])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return 0, err
	}
	n /= size
	if s.left != unknownFrames {
		s.left -= int64(n)
	}
	return n, nil
}
