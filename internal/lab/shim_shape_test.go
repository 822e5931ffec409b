package lab

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// fate is what became of a packet.
type fate struct {
	leaves time.Duration
	lost   bool
}

// fates sends n packets, one each interval.
func fates(s *shaper, n int, interval time.Duration) (all []fate) {
	for i := range n {
		leaves, lost := s.pass(time.Duration(i) * interval)
		all = append(all, fate{leaves, lost})
	}
	return all
}

// One seed, one fate; another seed or direction, another.
func TestShaperSeed(t *testing.T) {
	shape := Shape{Delay: 20 * time.Millisecond, Jitter: 10 * time.Millisecond, Burst: 100 * time.Millisecond, Every: time.Second}
	play := func(seed uint64, direction string) []fate {
		return fates(newShaper(shape, seed, direction), 1000, 5*time.Millisecond)
	}
	first := play(7, "elm up")
	if !slices.Equal(first, play(7, "elm up")) {
		t.Error("the same seed gives something else")
	}
	if slices.Equal(first, play(8, "elm up")) || slices.Equal(first, play(7, "elm down")) {
		t.Error("another seed or direction gives the same")
	}
	// When bursts come does not depend on what is sent.
	thin := fates(newShaper(shape, 7, "elm up"), 500, 10*time.Millisecond)
	for i, f := range thin {
		if f.lost != first[2*i].lost {
			t.Fatalf("at %v: lost is %v or %v, by what was sent before", time.Duration(i)*10*time.Millisecond, f.lost, first[2*i].lost)
		}
	}
}

func TestShaperDelayAndJitter(t *testing.T) {
	const n = 20000
	for _, inOrder := range []bool{false, true} {
		s := newShaper(Shape{Delay: 20 * time.Millisecond, Jitter: 10 * time.Millisecond, InOrder: inOrder}, 1, "x")
		var took []time.Duration
		overtaken := 0
		var last time.Duration
		for i, f := range fates(s, n, time.Millisecond) {
			if f.lost {
				t.Fatal("lost")
			}
			if f.leaves < last {
				overtaken++
			}
			last = f.leaves
			took = append(took, f.leaves-time.Duration(i)*time.Millisecond)
		}
		slices.Sort(took)
		if took[0] < 20*time.Millisecond || took[n-1] > 30*time.Millisecond {
			t.Errorf("in order %v: packets took %v to %v", inOrder, took[0], took[n-1])
		}
		if inOrder != (overtaken == 0) {
			t.Errorf("in order %v: %d packets were overtaken", inOrder, overtaken)
		}
		if middle := took[n/2]; !inOrder && (middle < 24500*time.Microsecond || middle > 25500*time.Microsecond) {
			t.Errorf("half of the packets took more than %v", middle)
		}
	}
	if leaves, lost := newShaper(Shape{}, 1, "x").pass(time.Second); leaves != time.Second || lost {
		t.Errorf("a shape that does nothing: %v, %v", leaves, lost)
	}
}

// Bursts are as long and as far from each other as they should.
func TestShaperBursts(t *testing.T) {
	const step = time.Millisecond
	shape := Shape{Burst: 200 * time.Millisecond, Every: 2 * time.Second}
	all := fates(newShaper(shape, 3, "x"), 2_000_000, step)
	lost, begun := 0, []int{}
	for i, f := range all {
		if !f.lost {
			continue
		}
		if lost++; !all[i-1].lost {
			begun = append(begun, i)
			if !all[i+199].lost || all[i+201].lost {
				t.Fatalf("the burst at %d is not 200 ms long", i)
			}
		}
	}
	if part := float64(lost) / float64(len(all)); part < 0.095 || part > 0.105 {
		t.Errorf("%.3f were lost, want a tenth", part)
	}
	for i := 1; i < len(begun); i++ {
		if gap := time.Duration(begun[i]-begun[i-1]) * step; gap < time.Second-step || gap > 3*time.Second+step {
			t.Errorf("from one burst to the next it is %v", gap)
		}
	}
	// A time far later is found without walking through what would have been sent.
	s := newShaper(shape, 3, "x")
	_, late := s.pass(1_999_999 * step)
	if late != all[1_999_999].lost {
		t.Error("a packet that comes alone meets another fate")
	}
}

// Held packets leave by their time, and in the order they came where that is
// the same.
func TestHeld(t *testing.T) {
	var h held
	random := rand.New(rand.NewPCG(1, 2))
	var last heldPacket
	number := uint64(0)
	for round := range 5000 {
		if round < 4000 && (len(h) == 0 || random.IntN(2) == 0) {
			leaves := last.leaves + time.Duration(random.IntN(50))
			h.push(heldPacket{leaves: leaves, number: number})
			number++
			continue
		}
		if len(h) == 0 {
			break
		}
		p := h.pop()
		if p.before(last) {
			t.Fatalf("%v leaves after %v", p, last)
		}
		last = p
	}
}
