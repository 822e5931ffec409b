package lab

import (
	"math"
	"math/bits"
	"math/cmplx"
)

// correlate gives, for each shift from 0 to len(long), the sum of
// short[i]·long[i+shift], with zeros beyond the end of long; by two FFTs, as
// the direct sum would take minutes.
func correlate(short, long []float64) []float64 {
	n := 1 << bits.Len(uint(len(short)+len(long)))
	// Both are real, so they share one transform: short as real part.
	x := make([]complex128, n)
	for i, v := range short {
		x[i] = complex(v, 0)
	}
	for i, v := range long {
		x[i] += complex(0, v)
	}
	fft(x)
	y := make([]complex128, n)
	for k := range x {
		mirror := cmplx.Conj(x[(n-k)%n])
		a, b := (x[k]+mirror)/2, (x[k]-mirror)/complex(0, 2)
		// Conjugated for the inverse by a forward transform.
		y[k] = cmplx.Conj(cmplx.Conj(a) * b)
	}
	fft(y)
	out := make([]float64, len(long)+1)
	for i := range out {
		out[i] = real(y[i]) / float64(n)
	}
	return out
}

// fft is the iterative radix-2 transform of Cooley and Tukey; the length is a
// power of two.
func fft(x []complex128) {
	n := len(x)
	if n < 2 {
		return
	}
	shift := 64 - bits.Len(uint(n-1))
	for i := range x {
		if j := int(bits.Reverse64(uint64(i)) >> shift); j > i {
			x[i], x[j] = x[j], x[i]
		}
	}
	roots := make([]complex128, n/2)
	for k := range roots {
		sin, cos := math.Sincos(-2 * math.Pi * float64(k) / float64(n))
		roots[k] = complex(cos, sin)
	}
	for half := 1; half < n; half *= 2 {
		stride := n / (2 * half)
		for start := 0; start < n; start += 2 * half {
			for k := range half {
				a, b := x[start+k], x[start+k+half]*roots[k*stride]
				x[start+k], x[start+k+half] = a+b, a-b
			}
		}
	}
}
