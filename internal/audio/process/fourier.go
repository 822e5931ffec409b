package process

import (
	"math"
	"math/bits"
)

// fourier is the discrete Fourier transform of real sound, forward and back, of
// one size. The real signal is taken for a complex one of half the length,
// even samples real and odd ones imaginary, and what came of the two is told
// apart afterwards; the complex transform decimates in time, two stages at a
// time, which halves the passes over memory (J. W. Cooley and J. W. Tukey, "An
// algorithm for the machine calculation of complex Fourier series", 1965;
// H. V. Sorensen et al., "Real-valued fast Fourier transform algorithms",
// 1987). Real and imaginary parts are kept apart, in float32: complex64 is
// multiplied in float64 by the compiler, at twice the time.
//
// A value must not be used by two goroutines at once: it holds what it works on.
type fourier struct {
	half   int // complex points: half the size
	order  []int32
	passes []pass
	// e^(-2πik/size), k = 0 to half.
	cos, sin []float32
	a, b     []float32 // the complex signal
}

// pass joins four transforms of n points to one of 4n. Of w = e^(-2πi/4n) it
// knows w^k, w^2k and w^3k for k below n, real and imaginary part.
type pass struct {
	n                      int
	c1, s1, c2, s2, c3, s3 []float32
}

// newFourier is a transform of size real samples, a power of 2 from 8 up.
func newFourier(size int) *fourier {
	half := size / 2
	f := &fourier{
		half: half, order: make([]int32, half),
		cos: make([]float32, half+1), sin: make([]float32, half+1),
		a: make([]float32, half), b: make([]float32, half),
	}
	width := bits.Len(uint(half)) - 1
	for i := range f.order {
		f.order[i] = int32(bits.Reverse32(uint32(i)) >> (32 - width))
	}
	for k := range f.cos {
		sin, cos := math.Sincos(-2 * math.Pi * float64(k) / float64(size))
		f.cos[k], f.sin[k] = float32(cos), float32(sin)
	}
	n := 1
	if width%2 == 1 {
		n = 2 // the pass of two points needs no numbers
	}
	for ; n < half; n *= 4 {
		f.passes = append(f.passes, newPass(n))
	}
	return f
}

func newPass(n int) pass {
	all := make([]float32, 6*n)
	part := func(i int) []float32 { return all[i*n : (i+1)*n : (i+1)*n] }
	p := pass{n, part(0), part(1), part(2), part(3), part(4), part(5)}
	for k := range n {
		for power, at := range [][2][]float32{{p.c1, p.s1}, {p.c2, p.s2}, {p.c3, p.s3}} {
			sin, cos := math.Sincos(-2 * math.Pi * float64((power+1)*k) / float64(4*n))
			at[0][k], at[1][k] = float32(cos), float32(sin)
		}
	}
	return p
}

// complex transforms a and b, which are in reversed order.
func (f *fourier) complex() {
	a, b := f.a, f.b
	if f.passes[0].n == 2 {
		for i := 0; i+1 < len(a) && i+1 < len(b); i += 2 {
			a[i], a[i+1] = a[i]+a[i+1], a[i]-a[i+1]
			b[i], b[i+1] = b[i]+b[i+1], b[i]-b[i+1]
		}
	}
	for i := range f.passes {
		p := &f.passes[i]
		for at := 0; at < f.half; at += 4 * p.n {
			p.join(a[at:at+4*p.n], b[at:at+4*p.n])
		}
	}
}

func (p *pass) join(a, b []float32) {
	n := p.n
	a0, a1, a2, a3 := a[:n], a[n:2*n], a[2*n:3*n], a[3*n:4*n]
	b0, b1, b2, b3 := b[:n], b[n:2*n], b[2*n:3*n], b[3*n:4*n]
	c1, s1, c2, s2, c3, s3 := p.c1[:n], p.s1[:n], p.c2[:n], p.s2[:n], p.c3[:n], p.s3[:n]
	for k := range n {
		// In reversed order the second quarter holds the samples 2 mod 4.
		r1, i1 := a1[k]*c2[k]-b1[k]*s2[k], a1[k]*s2[k]+b1[k]*c2[k]
		r2, i2 := a2[k]*c1[k]-b2[k]*s1[k], a2[k]*s1[k]+b2[k]*c1[k]
		r3, i3 := a3[k]*c3[k]-b3[k]*s3[k], a3[k]*s3[k]+b3[k]*c3[k]
		evenR, evenI := a0[k]+r1, b0[k]+i1
		oddR, oddI := a0[k]-r1, b0[k]-i1
		sumR, sumI := r2+r3, i2+i3
		lessR, lessI := r2-r3, i2-i3
		a0[k], b0[k] = evenR+sumR, evenI+sumI
		a1[k], b1[k] = oddR+lessI, oddI-lessR
		a2[k], b2[k] = evenR-sumR, evenI-sumI
		a3[k], b3[k] = oddR-lessI, oddI+lessR
	}
}

// forward gives the spectrum of x, which has size samples: re and im have
// half+1 bins, from 0 to half the sampling rate.
func (f *fourier) forward(re, im, x []float32) {
	h := f.half
	x, re, im = x[:2*h], re[:h+1], im[:h+1]
	for i, j := range f.order {
		f.a[i], f.b[i] = x[2*j], x[2*j+1]
	}
	f.complex()
	a, b := f.a, f.b
	re[0], im[0] = a[0]+b[0], 0
	re[h], im[h] = a[0]-b[0], 0
	for k := 1; k < h; k++ {
		evenR, evenI := (a[k]+a[h-k])/2, (b[k]-b[h-k])/2
		oddR, oddI := (b[k]+b[h-k])/2, (a[h-k]-a[k])/2
		c, s := f.cos[k], f.sin[k]
		re[k] = evenR + oddR*c - oddI*s
		im[k] = evenI + oddR*s + oddI*c
	}
}

// backward is the inverse of forward.
func (f *fourier) backward(x, re, im []float32) {
	h := f.half
	x, re, im = x[:2*h], re[:h+1], im[:h+1]
	// The inverse is the transform of the conjugate.
	for i, j := range f.order {
		k := int(j)
		evenR, evenI := (re[k]+re[h-k])/2, (im[k]-im[h-k])/2
		lessR, lessI := (re[k]-re[h-k])/2, (im[k]+im[h-k])/2
		c, s := f.cos[k], -f.sin[k]
		oddR, oddI := lessR*c-lessI*s, lessR*s+lessI*c
		f.a[i], f.b[i] = evenR-oddI, -(evenI + oddR)
	}
	f.complex()
	scale := 1 / float32(h)
	for i := range h {
		x[2*i], x[2*i+1] = f.a[i]*scale, -f.b[i]*scale
	}
}
