package process

import (
	"fmt"
	"math"
	"testing"
)

// TestFourier: against the sum that defines it, and back.
func TestFourier(t *testing.T) {
	for _, size := range []int{8, 16, 32, 512, 1024} {
		x := white(size, uint64(size))
		f := newFourier(size)
		re, im := make([]float32, size/2+1), make([]float32, size/2+1)
		f.forward(re, im, x)
		for k := range re {
			var wantR, wantI float64
			for i, v := range x {
				sin, cos := math.Sincos(-2 * math.Pi * float64(k*i%size) / float64(size))
				wantR += float64(v) * cos
				wantI += float64(v) * sin
			}
			if off := math.Hypot(float64(re[k])-wantR, float64(im[k])-wantI); off > 1e-5*float64(size) {
				t.Fatalf("size %d, bin %d: %v%+vi, not %v%+vi", size, k, re[k], im[k], wantR, wantI)
			}
		}
		y := make([]float32, size)
		f.backward(y, re, im)
		for i := range y {
			if math.Abs(float64(y[i]-x[i])) > 1e-5 {
				t.Fatalf("size %d, sample %d comes back as %v, not %v", size, i, y[i], x[i])
			}
		}
	}
}

func BenchmarkFourier(b *testing.B) {
	for _, size := range []int{512, 1024} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			f := newFourier(size)
			x, re, im := white(size, 1), make([]float32, size/2+1), make([]float32, size/2+1)
			for b.Loop() {
				f.forward(re, im, x)
			}
		})
	}
}
