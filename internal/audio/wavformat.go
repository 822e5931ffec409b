package audio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// wavFormat is what the header of a WAV says about its samples.
type wavFormat struct {
	float    bool
	bits     int // 16, 24 or 32
	channels int // 1 or 2
	rate     int // Hz, MinRate to MaxRate
	// frames is how many the header promises; unknownFrames if it does not
	// say, as in a file whose writer was killed.
	frames int64
	// offset is where the first sample lies in the file, in bytes.
	offset int64
}

const unknownFrames = math.MaxInt64

func (f wavFormat) frameBytes() int { return f.channels * f.bits / 8 }

// Limits of a WAV header: chunks before the samples, and bytes of the fmt
// chunk that are looked at.
const (
	maxWAVChunks = 4096
	maxWAVFormat = 1 << 16
)

// Format tags (RFC 2361; Microsoft's mmreg.h).
const (
	wavPCM        = 1
	wavFloat      = 3
	wavExtensible = 0xFFFE
)

// wavSubFormat is how the GUIDs of WAVE_FORMAT_EXTENSIBLE go on after the two
// bytes of the format tag.
const wavSubFormat = "\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"

const wavRemedy = "make it a WAV with 16, 24 or 32-bit or float samples in one or two channels, for example with: ffmpeg -i SOUND -ac 1 -c:a pcm_s16le SOUND.wav"

// notWAV is one sentence and wraps ErrWAV.
func notWAV(format string, args ...any) error {
	return fmt.Errorf("%w: it %s; %s", ErrWAV, fmt.Sprintf(format, args...), wavRemedy)
}

// readWAVHeader reads r up to the first sample. RIFF and RF64 (EBU Tech 3306)
// are known; chunks that are not are skipped. It holds no more than the fmt
// chunk in memory, whatever the lengths in the file say.
func readWAVHeader(r io.Reader) (wavFormat, error) {
	var head [12]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return wavFormat{}, wavShort(err, "is too short")
	}
	form := string(head[:4])
	if form != "RIFF" && form != "RF64" || string(head[8:]) != "WAVE" {
		return wavFormat{}, notWAV("does not begin as one")
	}
	p := wavParser{r: r, offset: 12, long: form == "RF64"}
	for range maxWAVChunks {
		done, err := p.chunk()
		if err != nil {
			return wavFormat{}, err
		}
		if done {
			return p.f, nil
		}
	}
	return wavFormat{}, notWAV("has over %d chunks before its samples", maxWAVChunks)
}

type wavParser struct {
	r      io.Reader
	offset int64
	long   bool   // RF64: sizes of 0xFFFFFFFF stand in ds64
	data64 uint64 // from ds64
	known  bool   // f holds a format
	f      wavFormat
}

// chunk reads one chunk, and is done when it is the samples'.
func (p *wavParser) chunk() (done bool, err error) {
	var head [8]byte
	if _, err := io.ReadFull(p.r, head[:]); err != nil {
		return false, wavShort(err, "ends before its samples")
	}
	p.offset += 8
	size := binary.LittleEndian.Uint32(head[4:])
	switch string(head[:4]) {
	case "data":
		if !p.known {
			return false, notWAV("does not say what its samples are")
		}
		p.f.offset = p.offset
		p.f.frames = p.frames(size)
		return true, nil
	case "fmt ":
		if p.known {
			return false, notWAV("says twice what its samples are")
		}
		if size > maxWAVFormat {
			return false, notWAV("describes its samples in %d bytes", size)
		}
		body := make([]byte, size)
		if _, err := io.ReadFull(p.r, body); err != nil {
			return false, wavShort(err, "ends before its samples")
		}
		if err := p.f.parse(body); err != nil {
			return false, err
		}
		p.known = true
		return false, p.skipped(int64(size), int64(size&1))
	case "ds64":
		if p.long && size >= 16 {
			var body [16]byte
			if _, err := io.ReadFull(p.r, body[:]); err != nil {
				return false, wavShort(err, "ends before its samples")
			}
			p.data64 = binary.LittleEndian.Uint64(body[8:])
			return false, p.skipped(16, int64(size)-16+int64(size&1))
		}
	}
	return false, p.skipped(0, int64(size)+int64(size&1))
}

// skipped accounts for read bytes of a chunk and passes over rest more.
func (p *wavParser) skipped(read, rest int64) error {
	n, err := io.CopyN(io.Discard, p.r, rest)
	p.offset += read + n
	if err != nil {
		return wavShort(err, "ends before its samples")
	}
	return nil
}

// frames is how many a data chunk of size bytes promises. A writer that was
// killed, or wrote to a pipe, leaves 0 or 0xFFFFFFFF.
func (p *wavParser) frames(size uint32) int64 {
	n := uint64(size)
	if p.long && size == math.MaxUint32 {
		n = p.data64
	}
	if n == 0 || n == math.MaxUint32 || n > math.MaxInt64 {
		return unknownFrames
	}
	return int64(n) / int64(p.f.frameBytes())
}

// parse reads the body of a fmt chunk.
func (f *wavFormat) parse(b []byte) error {
	if len(b) < 16 {
		return notWAV("describes its samples in %d bytes", len(b))
	}
	tag := binary.LittleEndian.Uint16(b)
	channels := binary.LittleEndian.Uint16(b[2:])
	rate := binary.LittleEndian.Uint32(b[4:])
	align := binary.LittleEndian.Uint16(b[12:])
	bits := binary.LittleEndian.Uint16(b[14:])
	if tag == wavExtensible && len(b) >= 40 && string(b[26:40]) == wavSubFormat {
		tag = binary.LittleEndian.Uint16(b[24:])
	}
	switch {
	case tag == wavPCM && (bits == 16 || bits == 24 || bits == 32):
	case tag == wavFloat && bits == 32:
		f.float = true
	case tag == wavPCM || tag == wavFloat:
		return notWAV("has %d-bit samples", bits)
	default:
		return notWAV("is compressed (format %#04x)", tag)
	}
	if channels < 1 || channels > 2 {
		return notWAV("has %d channels", channels)
	}
	if rate < MinRate || rate > MaxRate {
		return notWAV("has a sample rate of %d Hz", rate)
	}
	f.bits, f.channels, f.rate = int(bits), int(channels), int(rate)
	if int(align) != f.frameBytes() {
		return notWAV("contradicts itself about the size of its samples")
	}
	return nil
}

// wavShort tells a file that ends from one that cannot be read.
func wavShort(err error, what string) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return notWAV("%s", what)
	}
	return err
}

// decode turns whole frames in b into samples, -1 to 1; dst is long enough.
// Floats beyond that are clipped, and what is not a number is 0.
func (f wavFormat) decode(dst []float32, b []byte) {
	switch {
	case f.float:
		for i := range dst {
			dst[i] = clip(math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:])))
		}
	case f.bits == 16:
		for i := range dst {
			dst[i] = float32(int16(binary.LittleEndian.Uint16(b[2*i:]))) / (1 << 15)
		}
	case f.bits == 24:
		for i := range dst {
			v := int32(b[3*i])<<8 | int32(b[3*i+1])<<16 | int32(b[3*i+2])<<24
			dst[i] = float32(v>>8) / (1 << 23)
		}
	default:
		for i := range dst {
			dst[i] = float32(int32(binary.LittleEndian.Uint32(b[4*i:]))) / (1 << 31)
		}
	}
}

// clip is x within -1 to 1; what is not a number is 0.
func clip(x float32) float32 {
	switch {
	case x != x:
		return 0
	case x > 1:
		return 1
	case x < -1:
		return -1
	}
	return x
}
