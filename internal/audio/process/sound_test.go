package process

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"teahouse/internal/audio"
)

// prompts are those that were decoded already.
var prompts sync.Map

// prompt is a recorded prompt of Debian's asterisk-core-sounds-en-g722, one
// real voice, mono at 48 kHz. It must not be changed.
func prompt(t testing.TB, name string) []float32 {
	t.Helper()
	if pcm, ok := prompts.Load(name); ok {
		return pcm.([]float32)
	}
	for _, dir := range []string{"/usr/share/asterisk/sounds/en_US_f_Allison", "/usr/share/asterisk/sounds/en"} {
		file := filepath.Join(dir, name+".g722")
		if _, err := os.Stat(file); err != nil {
			continue
		}
		out, err := exec.Command("ffmpeg", "-v", "error", "-nostdin", "-f", "g722", "-i", file,
			"-f", "s16le", "-ar", "48000", "-ac", "1", "-").Output()
		if err != nil {
			t.Skipf("no ffmpeg to read recorded speech with: %v", err)
		}
		pcm := make([]float32, len(out)/2)
		for i := range pcm {
			pcm[i] = float32(int16(binary.LittleEndian.Uint16(out[2*i:]))) / 32768
		}
		prompts.Store(name, pcm)
		return pcm
	}
	t.Skip("no recorded speech: scripts/setup --lab installs it")
	return nil
}

// room is the impulse response, at 48 kHz, of a synthetic room: the direct
// sound after delay seconds, then a noise that decays by 60 dB in t60 seconds.
// Its energy is gain².
func room(delay, t60, gain float64, seed uint64) []float64 {
	rng := rand.New(rand.NewPCG(seed, 1))
	direct, n := int(delay*audio.Rate), int(t60*audio.Rate)
	h := make([]float64, direct+n)
	h[direct] = 1
	for i := 100; i < n; i++ { // the first reflection comes from 70 cm
		h[direct+i] = 0.05 * rng.NormFloat64() * math.Pow(10, -3*float64(i)/float64(n))
	}
	e := 0.0
	for _, x := range h {
		e += x * x
	}
	for i := range h {
		h[i] *= gain / math.Sqrt(e)
	}
	return h
}

// convolve is x in the room h, as long as x.
func convolve(x []float32, h []float64) []float32 {
	n := 1
	for n < len(x)+len(h) {
		n *= 2
	}
	a := make([]complex128, n)
	for i, v := range x {
		a[i] = complex(float64(v), 0)
	}
	for i, v := range h { // both are real: the other one goes into the imaginary part
		a[i] += complex(0, v)
	}
	fft(a)
	b := make([]complex128, n)
	for i := range a {
		p, q := a[i], a[(n-i)&(n-1)]
		q = complex(real(q), -imag(q))
		b[i] = (p + q) / 2 * (p - q) / 2i
		b[i] = complex(real(b[i]), -imag(b[i])) // the inverse by conjugation
	}
	fft(b)
	y := make([]float32, len(x))
	for i := range y {
		y[i] = float32(real(b[i]) / float64(n))
	}
	return y
}

// fft is the discrete Fourier transform of a, in place; len(a) is a power of 2.
func fft(a []complex128) {
	n := len(a)
	for i, j := 1, 0; i < n; i++ {
		bit := n >> 1
		for ; j&bit != 0; bit >>= 1 {
			j ^= bit
		}
		j ^= bit
		if i < j {
			a[i], a[j] = a[j], a[i]
		}
	}
	roots := make([]complex128, n/2)
	for i := range roots {
		sin, cos := math.Sincos(-2 * math.Pi * float64(i) / float64(n))
		roots[i] = complex(cos, sin)
	}
	for length := 2; length <= n; length *= 2 {
		half, stride := length/2, n/length
		for i := 0; i < n; i += length {
			for j := range half {
				u, v := a[i+j], a[i+j+half]*roots[j*stride]
				a[i+j], a[i+j+half] = u+v, u-v
			}
		}
	}
}

// power is the mean square of x, in dBFS.
func power(x []float32) float64 {
	s := 0.0
	for _, v := range x {
		s += float64(v) * float64(v)
	}
	return 10 * math.Log10(s/float64(max(1, len(x)))+1e-20)
}

// active is the mean square, in dBFS, of the blocks of x that are within 25 dB
// of its loudest.
func active(x []float32) float64 {
	var levels []float64
	loudest := math.Inf(-1)
	for i := 0; i+audio.BlockFrames <= len(x); i += audio.BlockFrames {
		levels = append(levels, power(x[i:i+audio.BlockFrames]))
		loudest = max(loudest, levels[len(levels)-1])
	}
	sum, n := 0.0, 0
	for _, l := range levels {
		if l > loudest-25 {
			sum += math.Pow(10, l/10)
			n++
		}
	}
	return 10 * math.Log10(sum/float64(n))
}

// atLevel is x at the given level of its active parts.
func atLevel(x []float32, dbfs float64) []float32 {
	return scaled(x, math.Pow(10, (dbfs-active(x))/20))
}

func scaled(x []float32, by float64) []float32 {
	y := make([]float32, len(x))
	for i, v := range x {
		y[i] = float32(float64(v) * by)
	}
	return y
}

// mix adds b to a copy of a, from sample at on.
func mix(a, b []float32, at int) []float32 {
	y := append([]float32(nil), a...)
	for i, v := range b {
		if at+i < len(y) {
			y[at+i] += v
		}
	}
	return y
}

// white is noise of n samples, uniform, with a mean square of 0 dBFS.
func white(n int, seed uint64) []float32 {
	rng := rand.New(rand.NewPCG(seed, 2))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32((rng.Float64()*2 - 1) * math.Sqrt(3))
	}
	return x
}

// fan is the noise of a fan: brown air noise, and the blades' hum at 120 Hz
// with its harmonics.
func fan(n int, dbfs float64, seed uint64) []float32 {
	x := white(n, seed)
	var low, lower float32
	for i, v := range x {
		low += 0.06 * (v - low) // -3 dB at about 480 Hz
		lower += 0.3 * (v - lower)
		hum := 0.0
		for h := 1.0; h <= 6; h++ {
			hum += math.Sin(2*math.Pi*120*h*float64(i)/audio.Rate+h*h) / h
		}
		x[i] = low + 0.1*lower + 0.05*float32(hum)
	}
	return scaled(x, math.Pow(10, (dbfs-power(x))/20))
}

// babble is eight stretches of talk at once.
func babble(t testing.TB, n int, dbfs float64) []float32 {
	talk := prompt(t, "demo-instruct")
	x := make([]float32, n)
	for v := range 8 {
		from := v * len(talk) / 8
		for i := range x {
			x[i] += talk[(from+i)%len(talk)]
		}
	}
	return scaled(x, math.Pow(10, (dbfs-power(x))/20))
}

// run puts x through p as a microphone would, and gives back what comes out,
// aligned with x: Delay is taken away.
func run(p *Processor, x []float32) []float32 {
	late := int(p.Delay().Seconds() * audio.Rate)
	y := append(append([]float32(nil), x...), make([]float32, late+audio.BlockFrames)...)
	y = y[:len(y)/audio.BlockFrames*audio.BlockFrames]
	for i := 0; i < len(y); i += audio.BlockFrames {
		p.Process(y[i:i+audio.BlockFrames], start.Add(nominal(i)))
	}
	return y[late:][:len(x)]
}

func writeWAV(t testing.TB, path string, pcm []float32, rate int) {
	t.Helper()
	var b bytes.Buffer
	b.WriteString("RIFF")
	le := binary.LittleEndian
	header := le.AppendUint32(nil, uint32(36+2*len(pcm)))
	header = append(header, "WAVEfmt "...)
	header = le.AppendUint32(header, 16)
	header = le.AppendUint16(header, 1)
	header = le.AppendUint16(header, 1)
	header = le.AppendUint32(header, uint32(rate))
	header = le.AppendUint32(header, uint32(2*rate))
	header = le.AppendUint16(header, 2)
	header = le.AppendUint16(header, 16)
	header = append(header, "data"...)
	header = le.AppendUint32(header, uint32(2*len(pcm)))
	b.Write(header)
	for _, x := range pcm {
		_ = binary.Write(&b, le, int16(max(-32767, min(x*32767, 32767))))
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}
