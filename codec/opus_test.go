package codec

import (
	"errors"
	"fmt"
	"testing"
)

func TestRoundTrip(t *testing.T) {
	pcm := speech(t)[:4*Rate]
	for _, samples := range []int{480, 960, 1920, 2880} {
		for _, channels := range []int{1, 2} {
			t.Run(fmt.Sprintf("%dms/%dch", samples/48, channels), func(t *testing.T) {
				packets := encodeAll(t, EncoderConfig{FrameSamples: samples, Bitrate: 48000, Complexity: 10}, pcm)
				d, err := NewDecoder(channels)
				if err != nil {
					t.Fatal(err)
				}
				var mono []float32
				out := make([]float32, MaxFrame*channels)
				for i, p := range packets {
					if len(p) != len(packets[0]) {
						t.Fatalf("frame %d has %d bytes, the first %d: not a constant bit rate", i, len(p), len(packets[0]))
					}
					n, err := d.Decode(out, p)
					if err != nil || n != samples {
						t.Fatalf("frame %d: %d samples, %v", i, n, err)
					}
					for i := range n {
						mono = append(mono, out[i*channels])
						if channels == 2 && out[2*i] != out[2*i+1] {
							t.Fatal("a mono packet came out with different channels")
						}
					}
				}
				// 6.5 ms of look-ahead, RFC 6716 section 2.
				c, lag := correlation(pcm[Rate:2*Rate], mono[Rate:2*Rate+1000], 480)
				if c < 0.9 || lag < 250 || lag > 400 {
					t.Errorf("correlation %.3f at %d samples", c, lag)
				}
				t.Logf("correlation %.3f at %.1f ms, %d bytes", c, float64(lag)/48, len(packets[0]))
			})
		}
	}
}

func TestStereoStaysStereo(t *testing.T) {
	voice := speech(t)[:2*Rate]
	pcm := make([]float32, 2*len(voice))
	for i, s := range voice {
		pcm[2*i] = s
	}
	packets := encodeAll(t, EncoderConfig{Channels: 2, Application: Audio, Bitrate: 96000}, pcm)
	d, _ := NewDecoder(2)
	out := make([]float32, 2*MaxFrame)
	var left, right float64
	for _, p := range packets {
		n, err := d.Decode(out, p)
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			left += float64(out[2*i] * out[2*i])
			right += float64(out[2*i+1] * out[2*i+1])
		}
	}
	if right > left/100 {
		t.Errorf("a voice on the left leaks: energy %.3f left, %.3f right", left, right)
	}
}

// The copy in the next frame must be much nearer to the lost frame than
// concealment, and parsePacket must know which packets bear one.
func TestFECBeatsConcealment(t *testing.T) {
	pcm := speech(t)[:8*Rate]
	for _, c := range []EncoderConfig{
		{FrameSamples: 960, Bitrate: 32000, FEC: true, ExpectedLossPercent: 20},
		{FrameSamples: 480, Bitrate: 32000, FEC: true, ExpectedLossPercent: 20},
		{FrameSamples: 1920, Bitrate: 24000, FEC: true, ExpectedLossPercent: 20},
		{FrameSamples: 2880, Bitrate: 24000, FEC: true, ExpectedLossPercent: 20},
	} {
		t.Run(fmt.Sprint(c.FrameSamples/48, "ms"), func(t *testing.T) {
			packets := encodeAll(t, c, pcm)
			whole, withFEC, withPLC := make([]float32, c.FrameSamples), make([]float32, c.FrameSamples), make([]float32, c.FrameSamples)
			ref, _ := NewDecoder(1)
			fec, _ := NewDecoder(1)
			plc, _ := NewDecoder(1)
			var sumFEC, sumPLC float64
			var n, flagged int
			for i := 0; i+1 < len(packets); i++ {
				if _, err := ref.Decode(whole, packets[i]); err != nil {
					t.Fatal(err)
				}
				next, err := parsePacket(packets[i+1])
				if err != nil {
					t.Fatal(err)
				}
				if next.fec {
					flagged++
				}
				if i%6 != 5 {
					_, _ = fec.Decode(withFEC, packets[i])
					_, _ = plc.Decode(withPLC, packets[i])
					continue
				}
				if err := fec.DecodeFEC(withFEC, packets[i+1]); err != nil {
					t.Fatal(err)
				}
				if err := plc.DecodePLC(withPLC); err != nil {
					t.Fatal(err)
				}
				if next.fec && rms(whole) > 0.02 {
					a, _ := correlation(whole, withFEC, 24)
					b, _ := correlation(whole, withPLC, 24)
					sumFEC, sumPLC, n = sumFEC+a, sumPLC+b, n+1
				}
			}
			if n < 10 {
				t.Fatalf("only %d lost frames with a copy (%d of %d packets bear one)", n, flagged, len(packets))
			}
			t.Logf("%d of %d bear a copy; correlation FEC %.2f, concealment %.2f over %d", flagged, len(packets), sumFEC/float64(n), sumPLC/float64(n), n)
			if sumFEC < sumPLC+0.05*float64(n) {
				t.Error("FEC is no better than concealment")
			}
		})
	}
	for i, p := range encodeAll(t, EncoderConfig{}, pcm) {
		if info, _ := parsePacket(p); info.fec {
			t.Fatalf("packet %d of an encoder without FEC is said to bear a copy", i)
		}
	}
}

func TestEncoderChanges(t *testing.T) {
	e, err := NewEncoder(EncoderConfig{})
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]byte, MaxOpus)
	for _, step := range []struct{ bitrate, samples, bytes int }{
		{32000, 960, 80}, {24000, 960, 60}, {24000, 1920, 120}, {48000, 480, 60}, {32000, 2880, 240},
	} {
		if err := errors.Join(e.SetBitrate(step.bitrate), e.SetFrameSamples(step.samples)); err != nil {
			t.Fatal(err)
		}
		if n, err := e.Encode(dst, make([]float32, step.samples)); err != nil || n != step.bytes {
			t.Errorf("%d bit/s, %d samples: %d bytes, %v", step.bitrate, step.samples, n, err)
		}
	}
	for name, err := range map[string]error{
		"bit rate":   e.SetBitrate(100),
		"frame":      e.SetFrameSamples(500),
		"complexity": e.SetComplexity(11),
		"loss":       e.SetFEC(true, 101),
	} {
		if !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if e.Config().Bitrate != 32000 {
		t.Error("a refused change was kept")
	}
	if _, err := e.Encode(dst, make([]float32, 960)); !errors.Is(err, ErrConfig) {
		t.Errorf("frame of another length: %v", err)
	}
	if _, err := NewEncoder(EncoderConfig{Channels: 3}); !errors.Is(err, ErrConfig) {
		t.Errorf("3 channels: %v", err)
	}
	if _, err := NewDecoder(0); !errors.Is(err, ErrConfig) {
		t.Errorf("decoder of 0 channels: %v", err)
	}
}

func TestOpusAllocatesNothing(t *testing.T) {
	e, _ := NewEncoder(EncoderConfig{FEC: true, ExpectedLossPercent: 10})
	d, _ := NewDecoder(2)
	pcm, dst, out := speech(t)[:960], make([]byte, MaxOpus), make([]float32, 2*MaxFrame)
	if n := testing.AllocsPerRun(100, func() {
		n, err := e.Encode(dst, pcm)
		if err != nil {
			t.Fatal(err)
		}
		_ = d.DecodePLC(out[:960])
		_ = d.DecodeFEC(out[:1920], dst[:n])
		if _, err := d.Decode(out, dst[:n]); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
}

func TestParsePacket(t *testing.T) {
	for _, c := range []struct {
		name string
		p    []byte
		want packetInfo
		err  error
	}{
		{"silk 20 ms", []byte{1 << 3, 0x80}, packetInfo{960, false, false}, nil},
		{"silk 20 ms with copy", []byte{1 << 3, 0x40}, packetInfo{960, false, true}, nil},
		{"silk 60 ms with copy", []byte{3 << 3, 0x10}, packetInfo{2880, false, true}, nil},
		{"hybrid 10 ms stereo, copy of the side", []byte{14<<3 | 4, 0x10}, packetInfo{480, false, true}, nil},
		{"celt 10 ms", []byte{18 << 3, 0xff}, packetInfo{480, true, false}, nil},
		{"celt 4 × 2.5 ms", []byte{16<<3 | 3, 4, 1, 2, 3, 4}, packetInfo{480, true, false}, nil},
		{"padded silk with copy", []byte{1<<3 | 3, 0x41, 1, 0x40, 0}, packetInfo{960, false, true}, nil},
		{"two different silk", []byte{1<<3 | 2, 1, 0x40, 0}, packetInfo{1920, false, true}, nil},
		{"empty", nil, packetInfo{}, ErrPacket},
		{"celt 2.5 ms", []byte{16 << 3, 0}, packetInfo{}, ErrPacket},
		{"120 ms", []byte{3<<3 | 1, 0, 0}, packetInfo{}, ErrPacket},
		{"no frames", []byte{1<<3 | 3, 0}, packetInfo{}, ErrPacket},
		{"endless padding", []byte{1<<3 | 3, 0x41, 255, 255}, packetInfo{}, ErrPacket},
		{"two equal of odd length", []byte{1<<3 | 1, 0, 0, 0}, packetInfo{}, ErrPacket},
		{"too long", make([]byte, MaxOpus+1), packetInfo{}, ErrPacket},
	} {
		got, err := parsePacket(c.p)
		if !errors.Is(err, c.err) || err == nil && got != c.want {
			t.Errorf("%s: %+v, %v; want %+v, %v", c.name, got, err, c.want, c.err)
		}
	}
}

// What parsePacket takes and libopus decodes has the length that parsePacket
// says.
func FuzzParsePacket(f *testing.F) {
	for _, samples := range []int{480, 960, 1920, 2880} {
		f.Add(encodeAll(f, EncoderConfig{FrameSamples: samples, FEC: true, ExpectedLossPercent: 20}, syntheticSpeech(samples, 3))[0])
	}
	f.Add([]byte{0x0b, 0x41, 0x01, 0x40, 0x00})
	d, err := NewDecoder(2)
	if err != nil {
		f.Fatal(err)
	}
	out := make([]float32, 2*MaxFrame)
	f.Fuzz(func(t *testing.T, p []byte) {
		info, err := parsePacket(p)
		if err != nil {
			return
		}
		if n, err := d.Decode(out, p); err == nil && n != info.samples {
			t.Fatalf("%x: libopus decodes %d samples, parsePacket says %d", p, n, info.samples)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	pcm, dst := speech(b), make([]byte, MaxOpus)
	for _, c := range []EncoderConfig{{FrameSamples: 480}, {FrameSamples: 960}, {FrameSamples: 960, Complexity: 5}} {
		e, _ := NewEncoder(c)
		b.Run(fmt.Sprintf("%dms/complexity%d", c.FrameSamples/48, e.Config().Complexity), func(b *testing.B) {
			b.ReportAllocs()
			at := 0
			for b.Loop() {
				if at += c.FrameSamples; at+c.FrameSamples > len(pcm) {
					at = 0
				}
				if _, err := e.Encode(dst, pcm[at:at+c.FrameSamples]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	packets := encodeAll(b, EncoderConfig{}, speech(b))
	d, _ := NewDecoder(2)
	out := make([]float32, 2*MaxFrame)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, err := d.Decode(out, packets[i%len(packets)]); err != nil {
			b.Fatal(err)
		}
		i++
	}
}
