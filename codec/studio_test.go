package codec

import (
	"math"
	"testing"
)

// tones is n samples of stereo: one tone to the left, another to the right.
func tones(n int, left, right float64) []float32 {
	pcm := make([]float32, 2*n)
	for i := range n {
		pcm[2*i] = float32(0.25 * math.Sin(2*math.Pi*left*float64(i)/Rate))
		pcm[2*i+1] = float32(0.25 * math.Sin(2*math.Pi*right*float64(i)/Rate))
	}
	return pcm
}

// Each setting of the studio keeps left and right apart, and what is above
// 15 kHz, in packets of one length.
func TestStudioIsStereoAndWide(t *testing.T) {
	const left, right = 1000.0, 16500.0
	for _, s := range []Setting{Studio(true, 0), Studio(false, 0), Studio(false, 2)} {
		e, err := NewEncoder(EncoderConfig{Channels: 2, Application: LowDelay, FrameSamples: s.FrameSamples, Bitrate: s.Bitrate})
		if err != nil {
			t.Fatal(err)
		}
		d, err := NewDecoder(2)
		if err != nil {
			t.Fatal(err)
		}
		const frames = 100
		in := tones(frames*s.FrameSamples, left, right)
		packet, out := make([]byte, MaxOpus), make([]float32, 2*MaxFrame)
		var heard [2][]float32
		for i := range frames {
			n, err := e.Encode(packet, in[2*i*s.FrameSamples:2*(i+1)*s.FrameSamples])
			if err != nil {
				t.Fatal(err)
			}
			if want := s.Bitrate / 8 * s.FrameSamples / Rate; n != want {
				t.Fatalf("%+v: frame %d has %d bytes, not %d", s, i, n, want)
			}
			got, err := d.Decode(out, packet[:n])
			if err != nil || got != s.FrameSamples {
				t.Fatal(got, err)
			}
			for j := range got {
				heard[0], heard[1] = append(heard[0], out[2*j]), append(heard[1], out[2*j+1])
			}
		}
		for ch, own := range []float64{left, right} {
			half := heard[ch][len(heard[ch])/2:]
			mine, others := level(half, own), level(half, left+right-own)
			t.Logf("%d kbit/s, %d ms, channel %d: %.1f dB, crosstalk %.1f dB", s.Bitrate/1000, s.FrameSamples/48, ch, mine, others)
			if mine < -3 {
				t.Errorf("%+v: %v Hz come out %.1f dB lower", s, own, -mine)
			}
			if others > -30 {
				t.Errorf("%+v: the other side's tone is at %.1f dB", s, others)
			}
		}
	}
}

// level is how loud the tone hz is in mono sound, in dB above an amplitude of 0.25.
func level(mono []float32, hz float64) float64 {
	var re, im float64
	for i, x := range mono {
		sin, cos := math.Sincos(2 * math.Pi * hz * float64(i) / Rate)
		re, im = re+float64(x)*cos, im+float64(x)*sin
	}
	return 20 * math.Log10(2*math.Hypot(re, im)/float64(len(mono))/0.25)
}

// The thrifty setting is one that the encoder takes, at a third less than base
// on the wire: the headers of each packet are 97 bytes (design, section 6).
func TestThriftyIsLess(t *testing.T) {
	onWire := func(s Setting) int {
		packets := encodeAll(t, config(s), speech(t)[:2*Rate])
		for _, p := range packets {
			if len(p) != len(packets[0]) {
				t.Fatalf("%+v: packets of %d and %d bytes", s, len(p), len(packets[0]))
			}
		}
		return (len(packets[0]) + 97) * 8 * Rate / s.FrameSamples
	}
	base, thrifty := onWire(Base(false, 32000)), onWire(Thrifty())
	t.Logf("base %d bit/s, thrifty %d bit/s", base, thrifty)
	if thrifty > base*2/3 {
		t.Errorf("thrifty takes %d bit/s, base %d", thrifty, base)
	}
}
