package codec

import "math"

const (
	tapeHistory = 1440 // samples kept behind the play head: 30 ms
	tapeLength  = tapeHistory + 3*MaxFrame
	joinLength  = 240 // 5 ms: the cross-fades and fades
)

// tape is the sound of one voice in one piece, stereo, interleaved: what was
// played last, then what is to be played. Positions are in samples (of both
// channels), and a joint is where newer sound begins. What is read comes
// glideDelay samples later than it stands there.
type tape struct {
	buf        []float32
	head, tail int // what is to be played is from head to tail
	phase      int // parts of a sample beyond head where it is read (glide.go)
}

func (t *tape) init() {
	t.buf = make([]float32, 2*tapeLength)
	t.head, t.tail, t.phase = tapeHistory, tapeHistory, 0
}

func (t *tape) pending() int { return t.tail - t.head }

// write puts sound at the end and answers the joint. There is always room for
// two frames and one repetition: nothing is written while more than a frame is
// to be played.
func (t *tape) write(pcm []float32) (joint int) {
	n := len(pcm) / 2
	if t.tail+n+tapeHistory > tapeLength {
		drop := t.head - tapeHistory
		copy(t.buf, t.buf[2*drop:2*t.tail])
		t.head, t.tail = t.head-drop, t.tail-drop
	}
	copy(t.buf[2*t.tail:], pcm)
	t.tail += n
	return t.tail - n
}

// from is the sound from a joint on.
func (t *tape) from(joint int) []float32 { return t.buf[2*joint : 2*t.tail] }

// cut removes the first n samples after the joint, fading from what followed
// there over to what follows now, over width samples. There must be n + width
// of them.
func (t *tape) cut(joint, n, width int) {
	x := t.buf[2*joint : 2*t.tail]
	for i := range width {
		a := rise(i, width)
		x[2*i] += a * (x[2*(i+n)] - x[2*i])
		x[2*i+1] += a * (x[2*(i+n)+1] - x[2*i+1])
	}
	copy(x[2*width:], x[2*(width+n):])
	t.tail -= n
}

// repeat plays the last n samples before the joint again, fading over to them
// from what follows there, over width samples, of which there must be so many
// after the joint, at most n. n is at most tapeHistory.
func (t *tape) repeat(joint, n, width int) {
	copy(t.buf[2*(joint+n):2*(t.tail+n)], t.buf[2*joint:2*t.tail])
	t.tail += n
	past, again, next := t.buf[2*(joint-n):], t.buf[2*joint:], t.buf[2*(joint+n):]
	// What follows the joint was moved to next; past ends where again begins.
	for i := range 2 * width {
		again[i] = next[i] + rise(i/2, width)*(past[i]-next[i])
	}
	copy(again[2*width:2*n], past[2*width:2*n]) // next may end before n
}

// ramp multiplies 5 ms from a position on by a gain that goes smoothly between
// two values; what is before and after is not touched.
func (t *tape) ramp(at int, from, to float32) {
	length := min(joinLength, t.tail-at)
	for i := range length {
		g := from + (to-from)*rise(i, length)
		t.buf[2*(at+i)] *= g
		t.buf[2*(at+i)+1] *= g
	}
}

// similarity is the normalised correlation, -1 to 1, of length samples (both
// channels summed, each step-th) at two positions. Silence is like anything.
func (t *tape) similarity(a, b, length, step int) float64 {
	var ab, aa, bb float64
	for i := 0; i < length; i += step {
		x := float64(t.buf[2*(a+i)] + t.buf[2*(a+i)+1])
		y := float64(t.buf[2*(b+i)] + t.buf[2*(b+i)+1])
		ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
	}
	if aa < 1e-9 && bb < 1e-9 {
		return 1
	}
	return ab / math.Sqrt(aa*bb+1e-18)
}

// fadeTable is a raised cosine from 0 to 1 in 256 steps.
var fadeTable = func() (table [257]float32) {
	for i := range table {
		table[i] = float32(0.5 - 0.5*math.Cos(math.Pi*float64(i)/256))
	}
	return table
}()

// rise is the raised cosine at the i-th of n steps.
func rise(i, n int) float32 {
	at := float32(i) + 0.5
	at *= 256 / float32(n)
	k := int(at)
	return fadeTable[k] + (at-float32(k))*(fadeTable[min(k+1, 256)]-fadeTable[k])
}
