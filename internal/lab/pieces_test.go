//go:build linux

package lab

import (
	"slices"
	"testing"
	"time"
)

// glided is pcm read faster by so many parts in 1,000, by linear interpolation.
func glided(pcm []float32, parts float64) []float32 {
	out := make([]float32, 0, len(pcm))
	for at := 0.0; int(at)+1 < len(pcm); at += 1 + parts/1000 {
		i := int(at)
		part := float32(at - float64(i))
		out = append(out, pcm[i]+part*(pcm[i+1]-pcm[i]))
	}
	return out
}

// Sound whose delay moves is whole; what is lost or another's is not.
func TestWhole(t *testing.T) {
	ref := said(t, "demo-congrats")
	other := said(t, "demo-instruct")
	holes := slices.Clone(ref)
	for at := 0; at+Rate/2 <= len(holes); at += Rate / 2 { // 150 ms of each half second
		clear(holes[at+Rate/10 : at+Rate/4])
	}
	for _, c := range []struct {
		name        string
		sound       []float32
		least, most float64 // of the median
	}{
		{"as it was", ref, 0.999, 1},
		{"4 ms a second faster", glided(ref, 4), 0.97, 1},
		{"8 ms a second slower", glided(ref, -8), 0.93, 1},
		{"with holes", holes, 0.3, 0.85},
		{"somebody else", other, 0, 0.5},
	} {
		got, err := CompareWithin(ref, later(c.sound, 300*time.Millisecond), 100*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		whole := slices.Sorted(slices.Values(got.Whole(ref, later(c.sound, 300*time.Millisecond))))
		median := whole[len(whole)/2]
		t.Logf("%s: median %.3f (as one piece %.3f), worst %.3f", c.name, median, got.Median, whole[0])
		if median < c.least || median > c.most {
			t.Errorf("%s: median %.3f, to be %.2f to %.2f", c.name, median, c.least, c.most)
		}
	}
}
