package audio

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
)

// wav is a WAV file to be put together: chunks as given, sizes computed
// unless forced.
type wav struct {
	form   string // RIFF
	chunks []chunk
}

type chunk struct {
	id   string
	body []byte
	size int64 // -1: len(body)
}

func (w wav) bytes() []byte {
	form := w.form
	if form == "" {
		form = "RIFF"
	}
	b := []byte(form + "\x00\x00\x00\x00WAVE")
	for _, c := range w.chunks {
		size := uint32(len(c.body))
		if c.size >= 0 {
			size = uint32(c.size)
		}
		b = append(b, c.id...)
		b = binary.LittleEndian.AppendUint32(b, size)
		b = append(b, c.body...)
		if len(c.body)%2 == 1 {
			b = append(b, 0)
		}
	}
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-8))
	return b
}

// format is the body of a fmt chunk.
func format(tag, channels, rate, bits int) []byte {
	le := binary.LittleEndian
	b := le.AppendUint16(nil, uint16(tag))
	b = le.AppendUint16(b, uint16(channels))
	b = le.AppendUint32(b, uint32(rate))
	b = le.AppendUint32(b, uint32(rate*channels*bits/8))
	b = le.AppendUint16(b, uint16(channels*bits/8))
	return le.AppendUint16(b, uint16(bits))
}

// extensible is the same as WAVE_FORMAT_EXTENSIBLE.
func extensible(tag, channels, rate, bits int) []byte {
	b := format(wavExtensible, channels, rate, bits)
	b = append(b, 22, 0, byte(bits), 0, 3, 0, 0, 0, byte(tag), byte(tag>>8))
	return append(b, wavSubFormat...)
}

func simple(fmtBody, data []byte) []byte {
	return wav{chunks: []chunk{{"fmt ", fmtBody, -1}, {"data", data, -1}}}.bytes()
}

// TestWAVFormats plays the same samples from every format.
func TestWAVFormats(t *testing.T) {
	want := []float32{0, 0.5, -0.5, -1, 0.25, -0.125}
	encode := func(bits int, float bool) (b []byte) {
		for _, x := range want {
			switch {
			case float:
				b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
			default:
				v := uint32(int32(float64(x) * float64(int64(1)<<(bits-1))))
				for i := range bits / 8 {
					b = append(b, byte(v>>(8*i)))
				}
			}
		}
		return b
	}
	for _, test := range []struct {
		name string
		body []byte
		data []byte
	}{
		{"16", format(wavPCM, 2, Rate, 16), encode(16, false)},
		{"24", format(wavPCM, 2, Rate, 24), encode(24, false)},
		{"32", format(wavPCM, 2, Rate, 32), encode(32, false)},
		{"float", format(wavFloat, 2, Rate, 32), encode(32, true)},
		{"extensible 24", extensible(wavPCM, 2, Rate, 24), encode(24, false)},
		{"extensible float", extensible(wavFloat, 2, Rate, 32), encode(32, true)},
		{"long fmt", append(format(wavPCM, 2, Rate, 16), 0, 0), encode(16, false)},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := newWAVSource(bytes.NewReader(simple(test.body, test.data)), false)
			if err != nil {
				t.Fatal(err)
			}
			block := make([]float32, 2*BlockFrames)
			if err := s.fill(block); err != nil {
				t.Fatal(err)
			}
			for i, x := range block {
				w := float32(0)
				if i < len(want) {
					w = want[i]
				}
				if x != w {
					t.Fatalf("sample %d is %v, not %v", i, x, w)
				}
			}
			if err := s.fill(block); err != io.EOF {
				t.Fatalf("at the end: %v", err)
			}
		})
	}
}

func TestWAVFloatIsBounded(t *testing.T) {
	var data []byte
	for _, x := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 7, -7, 0.5} {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(x)))
	}
	s, err := newWAVSource(bytes.NewReader(simple(format(wavFloat, 1, Rate, 32), data)), false)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]float32, BlockFrames)
	if err := s.fill(block); err != nil {
		t.Fatal(err)
	}
	for i, w := range []float32{0, 1, -1, 1, -1, 0.5} {
		if block[i] != w {
			t.Errorf("sample %d is %v, not %v", i, block[i], w)
		}
	}
}

// TestWAVLayouts finds the samples wherever they lie.
func TestWAVLayouts(t *testing.T) {
	fmtChunk := chunk{"fmt ", format(wavPCM, 1, Rate, 16), -1}
	data := []byte{0, 64, 0, 32, 0, 16} // three samples: 0.5, 0.25, 0.125
	ds64 := make([]byte, 28)
	binary.LittleEndian.PutUint64(ds64[8:], 6)
	list := chunk{"LIST", []byte("odd length!"), -1}
	for _, test := range []struct {
		name   string
		file   []byte
		frames int
	}{
		{"chunks around", wav{chunks: []chunk{list, fmtChunk, {"fact", make([]byte, 4), -1}, {"data", data, -1}, list}}.bytes(), 3},
		{"odd data", wav{chunks: []chunk{fmtChunk, {"data", data[:5], -1}, list}}.bytes(), 2},
		{"cut off", wav{chunks: []chunk{fmtChunk, {"data", data, 1000}}}.bytes(), 3},
		{"cut off in a frame", wav{chunks: []chunk{fmtChunk, {"data", data[:4], 1000}}}.bytes(), 2},
		{"writer killed", wav{chunks: []chunk{fmtChunk, {"data", data, 0}}}.bytes(), 3},
		{"written to a pipe", wav{chunks: []chunk{fmtChunk, {"data", data, math.MaxUint32}}}.bytes(), 3},
		{"RF64", wav{form: "RF64", chunks: []chunk{{"ds64", ds64, -1}, fmtChunk, {"data", data, math.MaxUint32}, list}}.bytes(), 3},
		{"RF64 with its own size", wav{form: "RF64", chunks: []chunk{{"ds64", ds64, -1}, fmtChunk, {"data", data[:4], -1}, list}}.bytes(), 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := newWAVSource(bytes.NewReader(test.file), false)
			if err != nil {
				t.Fatal(err)
			}
			block := make([]float32, BlockFrames)
			if err := s.fill(block); err != nil {
				t.Fatal(err)
			}
			want := []float32{0.5, 0.25, 0.125}
			for i := range 4 {
				w := float32(0)
				if i < test.frames {
					w = want[i]
				}
				if block[i] != w {
					t.Errorf("sample %d is %v, not %v", i, block[i], w)
				}
			}
			if s.gave != int64(test.frames) {
				t.Errorf("%d frames, not %d", s.gave, test.frames)
			}
		})
	}
}

// TestWAVRefusals: one sentence each, with what to do.
func TestWAVRefusals(t *testing.T) {
	ok := format(wavPCM, 1, Rate, 16)
	bad := func(change func([]byte)) []byte {
		b := bytes.Clone(ok)
		change(b)
		return b
	}
	data := make([]byte, 10)
	for _, test := range []struct {
		name string
		file []byte
		says string
	}{
		{"empty", nil, "too short"},
		{"short", []byte("RIFF"), "too short"},
		{"not RIFF", []byte("OggS\x00\x00\x00\x00WAVEfmt "), "does not begin as one"},
		{"not WAVE", []byte("RIFF\x00\x00\x00\x00AVI fmt "), "does not begin as one"},
		{"no samples", wav{chunks: []chunk{{"fmt ", ok, -1}}}.bytes(), "ends before its samples"},
		{"no format", wav{chunks: []chunk{{"data", data, -1}}}.bytes(), "does not say what its samples are"},
		{"two formats", wav{chunks: []chunk{{"fmt ", ok, -1}, {"fmt ", ok, -1}, {"data", data, -1}}}.bytes(), "says twice"},
		{"short format", simple(ok[:14], data), "in 14 bytes"},
		{"huge format", wav{chunks: []chunk{{"fmt ", ok, 1 << 30}}}.bytes(), "in 1073741824 bytes"},
		{"chunk beyond the end", wav{chunks: []chunk{{"LIST", data, 1 << 31}}}.bytes(), "ends before its samples"},
		{"8 bits", simple(format(wavPCM, 1, Rate, 8), data), "8-bit"},
		{"64-bit float", simple(format(wavFloat, 1, Rate, 64), data), "64-bit"},
		{"compressed", simple(format(0x11, 1, Rate, 4), data), "compressed (format 0x0011)"},
		{"other GUID", simple(append(extensible(wavPCM, 1, Rate, 16)[:26], make([]byte, 14)...), data), "compressed (format 0xfffe)"},
		{"no channels", simple(format(wavPCM, 0, Rate, 16), data), "0 channels"},
		{"six channels", simple(format(wavPCM, 6, Rate, 16), data), "6 channels"},
		{"slow", simple(format(wavPCM, 1, 999, 16), data), "999 Hz"},
		{"fast", simple(format(wavPCM, 1, MaxRate+1, 16), data), "384001 Hz"},
		{"contradiction", simple(bad(func(b []byte) { b[12] = 3 }), data), "contradicts itself"},
		{"no sound", simple(ok, nil), "holds no sound"},
		{"half a frame", simple(ok, data[:1]), "holds no sound"},
		{"many chunks", append(wav{}.bytes(), bytes.Repeat([]byte("LIST\x00\x00\x00\x00"), maxWAVChunks+1)...), "over 4096 chunks"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := newWAVSource(bytes.NewReader(test.file), false)
			if !errors.Is(err, ErrWAV) {
				t.Fatalf("error is %v", err)
			}
			if !strings.Contains(err.Error(), test.says) || !strings.Contains(err.Error(), "ffmpeg") || strings.Contains(err.Error(), "\n") {
				t.Errorf("error is %q", err)
			}
		})
	}
}

type broken struct{ io.ReadSeeker }

var errBroken = errors.New("input/output error")

func (broken) Read([]byte) (int, error) { return 0, errBroken }

// TestWAVReadError: a disk that fails is not the file's fault.
func TestWAVReadError(t *testing.T) {
	if _, err := newWAVSource(broken{}, false); !errors.Is(err, errBroken) || errors.Is(err, ErrWAV) {
		t.Errorf("error is %v", err)
	}
}

var goldenWAVHeader = map[string]string{
	"one second": "5249464648ee0200574156454a554e4b1c0000000000000000000000000000000000000000000000" +
		"0000000000000000666d7420100000000100020080bb000000ee0200040010006461746100ee0200",
	"12 h": "52463634ffffffff57415645647336341c0000004800000002000000000000000200000000000080" +
		"0000000000000000666d7420100000000100020080bb000000ee02000400100064617461ffffffff",
}

func TestWAVHeaderGolden(t *testing.T) {
	small, big := wavHeader(192000), wavHeader(1<<33)
	for _, test := range []struct {
		name   string
		header [wavHeaderLen]byte
		frames int64
	}{
		{"one second", small, 48000},
		{"12 h", big, 1 << 31},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := hex.EncodeToString(test.header[:]); got != goldenWAVHeader[test.name] {
				t.Errorf("header is\n%s", got)
			}
			f, err := readWAVHeader(bytes.NewReader(test.header[:]))
			if err != nil {
				t.Fatal(err)
			}
			want := wavFormat{bits: 16, channels: 2, rate: Rate, frames: test.frames, offset: wavHeaderLen}
			if f != want {
				t.Errorf("reads as %+v, not %+v", f, want)
			}
		})
	}
}

// FuzzWAV: whatever the file, its sound is finite and within -1 to 1, there
// is no more of it than the file has room for, and it ends.
func FuzzWAV(f *testing.F) {
	samples := bytes.Repeat([]byte{1, 2, 3, 130, 250, 0, 17, 128, 127, 255, 255, 255}, 40)
	f.Add(simple(format(wavPCM, 1, 8000, 16), samples))
	f.Add(simple(format(wavPCM, 2, 44100, 24), samples))
	f.Add(simple(format(wavPCM, 1, 96000, 32), samples))
	f.Add(simple(format(wavFloat, 2, 22050, 32), samples))
	f.Add(simple(extensible(wavFloat, 1, 44099, 32), samples))
	f.Add(wav{form: "RF64", chunks: []chunk{{"ds64", make([]byte, 28), -1}, {"fmt ", format(wavPCM, 1, Rate, 16), -1}, {"data", samples, math.MaxUint32}}}.bytes())
	f.Fuzz(func(t *testing.T, file []byte) {
		s, err := newWAVSource(bytes.NewReader(file), false)
		if err != nil {
			return
		}
		most := int64(len(file)/s.format.frameBytes())*Rate/int64(s.format.rate) + 1
		block := make([]float32, BlockFrames*s.channels())
		for n := int64(0); ; n++ {
			err := s.fill(block)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if n*BlockFrames > most {
				t.Fatalf("%d blocks from %d bytes", n, len(file))
			}
			for _, x := range block {
				if !(x >= -1 && x <= 1) {
					t.Fatalf("sample %v", x)
				}
			}
		}
	})
}
