package audio

import (
	"fmt"
	"math"
)

// Limits of a Resampler's rates, in Hz.
const (
	MinRate = 1000
	MaxRate = 384000
)

// Quality of a Resampler: how many zero crossings of the sinc it keeps on
// each side, at the lower of the two rates. Its delay is that many samples,
// its transition band 6.4/Quality of the lower Nyquist frequency.
type Quality int

const (
	// QualityFile passes 0.9 of the band; its delay does not matter.
	QualityFile Quality = 64
	// QualityDevice passes 0.8 of the band (17.6 kHz at 44.1 kHz) for half
	// the delay, 0.7 ms.
	QualityDevice Quality = 32
)

const (
	// kaiserBeta gives 100 dB of stop band: 0.1102 (A - 8.7), J. F. Kaiser,
	// "Nonrecursive digital filter design using the I0-sinh window function",
	// 1974.
	kaiserBeta = 0.1102 * (100 - 8.7)
	// maxPhases bounds the table: ratios with more phases than this use
	// finePhases and interpolate between neighbours, whose error,
	// (pi/finePhases)²/24 of the highest frequency, is below -120 dB.
	maxPhases  = 640
	finePhases = 1024
	// chunkFrames is how much input is held beyond the filter's length.
	chunkFrames = 2048
)

// Resampler converts a stream from one sample rate to another with a
// polyphase bank of Kaiser-windowed sincs. Its output is aligned with its
// input: output sample n stands for the instant n/to of the input. It
// allocates nothing after construction. Not safe for concurrent use.
type Resampler struct {
	// Constant.
	channels int
	half     int  // taps on each side of the instant
	up, down int  // to/from in lowest terms
	rows     int  // phases in the table
	fine     bool // the table is coarser than up: interpolate
	table    []float32

	// hist holds have samples per channel; the next output's first tap is
	// at pos, and its instant lies phase/up beyond tap half-1.
	hist  [][]float32
	have  int
	pos   int
	phase int
}

// NewResampler converts channels (1 or 2) of sound at from Hz to Hz to, each
// MinRate to MaxRate.
func NewResampler(from, to, channels int, q Quality) (*Resampler, error) {
	if from < MinRate || from > MaxRate || to < MinRate || to > MaxRate || channels < 1 || channels > 2 || q < 4 || q > 256 {
		return nil, fmt.Errorf("resample %d channels from %d Hz to %d Hz, quality %d: out of range", channels, from, to, q)
	}
	g := gcd(from, to)
	r := &Resampler{channels: channels, up: to / g, down: from / g}
	// The band is that of the lower rate; the filter stretches accordingly.
	scale := math.Min(1, float64(to)/float64(from))
	r.half = int(math.Ceil(float64(q) / scale))
	r.rows = r.up
	if r.up > maxPhases {
		r.fine, r.rows = true, finePhases
	}
	r.table = sincTable(r.rows, r.half, scale, q, r.fine)
	r.hist = make([][]float32, channels)
	for c := range r.hist {
		r.hist[c] = make([]float32, 2*r.half+chunkFrames)
	}
	r.Reset()
	return r, nil
}

// Reset forgets the stream.
func (r *Resampler) Reset() {
	for c := range r.hist {
		clear(r.hist[c])
	}
	r.have, r.pos, r.phase = r.half-1, 0, 0
}

// Delay is how many input frames beyond an output's instant must be there
// before it can be made. To drain a stream that has ended, process that many
// frames of silence.
func (r *Resampler) Delay() int { return r.half }

// Process takes frames from src and writes converted ones to dst, both
// interleaved, until src is used up or dst is full. It returns how many
// frames it took and wrote.
func (r *Resampler) Process(dst, src []float32) (took, wrote int) {
	want, room := len(src)/r.channels, len(dst)/r.channels
	for {
		for wrote < room && r.pos+2*r.half <= r.have {
			r.output(dst[wrote*r.channels:])
			wrote++
		}
		if took == want || wrote == room {
			return took, wrote
		}
		took += r.input(src[took*r.channels:])
	}
}

// input moves the history to the front and appends what fits.
func (r *Resampler) input(src []float32) int {
	if r.pos > 0 {
		// When the rate falls by much, the next output may lie beyond what
		// is there; the frames between are dropped as they come.
		drop := min(r.pos, r.have)
		for _, h := range r.hist {
			copy(h, h[drop:r.have])
		}
		r.have -= drop
		r.pos -= drop
	}
	n := min(len(r.hist[0])-r.have, len(src)/r.channels)
	for c, h := range r.hist {
		for i := range n {
			h[r.have+i] = src[i*r.channels+c]
		}
	}
	r.have += n
	return n
}

// output makes one frame and steps to the next instant.
func (r *Resampler) output(dst []float32) {
	taps := 2 * r.half
	if r.fine {
		at := float64(r.phase) / float64(r.up) * finePhases
		row := int(at)
		frac := float32(at - float64(row))
		a, b := r.table[row*taps:(row+1)*taps], r.table[(row+1)*taps:(row+2)*taps]
		for c, h := range r.hist {
			x := h[r.pos : r.pos+taps]
			ya, yb := dot(a, x), dot(b, x)
			dst[c] = ya + frac*(yb-ya)
		}
	} else {
		a := r.table[r.phase*taps : (r.phase+1)*taps]
		for c, h := range r.hist {
			dst[c] = dot(a, h[r.pos:r.pos+taps])
		}
	}
	r.phase += r.down
	r.pos += r.phase / r.up
	r.phase %= r.up
}

func dot(a, b []float32) float32 {
	b = b[:len(a)]
	var s0, s1, s2, s3 float32
	i := 0
	for ; i+4 <= len(a); i += 4 {
		x, y := a[i:i+4:i+4], b[i:i+4:i+4]
		s0 += x[0] * y[0]
		s1 += x[1] * y[1]
		s2 += x[2] * y[2]
		s3 += x[3] * y[3]
	}
	for ; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return (s0 + s1) + (s2 + s3)
}

// sincTable is rows of 2×half taps; row p is for an instant p/rows beyond tap
// half-1. With guard there is one more row, for interpolation.
func sincTable(rows, half int, scale float64, q Quality, guard bool) []float32 {
	// The transition band ends at the lower Nyquist frequency: its centre is
	// half its width, (A-7.95)/(2.285 · 2 Quality) radians (Kaiser), below.
	cutoff := scale * (1 - (100-7.95)/(2.285*2*float64(q))/(2*math.Pi))
	n := rows
	if guard {
		n++
	}
	taps := 2 * half
	table := make([]float32, n*taps)
	row := make([]float64, taps)
	for p := range n {
		sum := 0.0
		for k := range row {
			t := float64(k-(half-1)) - float64(p)/float64(rows)
			row[k] = cutoff * sinc(cutoff*t) * kaiser(t/float64(half))
			sum += row[k]
		}
		for k, v := range row {
			table[p*taps+k] = float32(v / sum) // exact at 0 Hz in every phase
		}
	}
	return table
}

func sinc(x float64) float64 {
	if x == 0 {
		return 1
	}
	return math.Sin(math.Pi*x) / (math.Pi * x)
}

// kaiser is the window at x, -1 to 1.
func kaiser(x float64) float64 {
	if x <= -1 || x >= 1 {
		return 0
	}
	return bessel0(kaiserBeta*math.Sqrt(1-x*x)) / bessel0(kaiserBeta)
}

// bessel0 is the modified Bessel function I0 by its power series.
func bessel0(x float64) float64 {
	sum, term := 1.0, 1.0
	for k := 1.0; term > 1e-17*sum; k++ {
		term *= (x / 2 / k) * (x / 2 / k)
		sum += term
	}
	return sum
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
