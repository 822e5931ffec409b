package sim

import (
	"slices"
	"testing"
	"time"
)

func TestDelays(t *testing.T) {
	var d Delays
	if d.Quantile(0.95) != 0 || d.Count() != 0 {
		t.Error("nothing has a delay")
	}
	for i := range 100 {
		d.add(time.Duration(i+1) * time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{0: time.Millisecond, 0.5: 50 * time.Millisecond, 0.95: 95 * time.Millisecond, 1: 100 * time.Millisecond} {
		if got := d.Quantile(q); got != want {
			t.Errorf("%v of delays are up to %v, want %v", q, got, want)
		}
	}
	var both Delays
	both.addAll(&d)
	both.addAll(&d)
	if both.Count() != 200 || both.Quantile(0.95) != 95*time.Millisecond {
		t.Errorf("two together: %d, %v", both.Count(), both.Quantile(0.95))
	}
	both.add(20*time.Millisecond + time.Nanosecond)
	if n := both.counts[201]; n != 1 {
		t.Error("a delay is not rounded up")
	}
}

func TestPairHeard(t *testing.T) {
	var p Pair
	for i, what := range []uint8{frameFirst, 0, 0, frameRepaired, 0, frameFirst, 0, 0, 0} {
		p.mark(uint32(i), frameExpected)
		if what != 0 && p.mark(uint32(i), what) {
			t.Errorf("frame %d was heard before", i)
		}
	}
	if !p.mark(0, frameFirst) {
		t.Error("a frame heard twice was not noticed")
	}
	p.mark(20, frameFirst) // by somebody who had just come: not expected
	if h, want := p.Heard(), (Heard{Expected: 9, First: 2, Repaired: 1, Lost: 6, Gaps: 3, Longest: 3}); h != want {
		t.Errorf("%+v, want %+v", h, want)
	}
}

func TestSpoken(t *testing.T) {
	s := spoken{who: 3, life: 2, window: 7, number: 1 << 31, at: 25 * time.Hour}
	b := make([]byte, frameBytes)
	s.encode(b)
	if got, ok := decodeSpoken(b); !ok || got != s {
		t.Errorf("%+v", got)
	}
	if _, ok := decodeSpoken(b[1:]); ok {
		t.Error("a frame of another length was taken")
	}
}

func TestShrink(t *testing.T) {
	s := Churn(1, 5, 5*time.Minute)
	needed := []Act{s.Steps[3].Do, s.Steps[len(s.Steps)/2].Do}
	plays := 0
	small := Shrink(s, func(s Scenario) bool {
		plays++
		for _, need := range needed {
			if !slices.ContainsFunc(s.Steps, func(s Step) bool { return same(s.Do, need) }) {
				return false
			}
		}
		return true
	})
	if len(small.Steps) != len(needed) {
		t.Errorf("%d steps of %d are left: %v", len(small.Steps), len(s.Steps), small)
	}
	if plays > 20*len(s.Steps) {
		t.Errorf("played %d times", plays)
	}
}

func same(a, b Act) bool {
	return Scenario{Steps: []Step{{Do: a}}}.String() == Scenario{Steps: []Step{{Do: b}}}.String()
}
