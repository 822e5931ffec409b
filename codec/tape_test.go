package codec

import "testing"

// A long repetition of which little follows the joint, where the tape is
// nearly full: only the fade needs what follows, and there is no more of it.
func TestRepeatAtTheEndOfTheTape(t *testing.T) {
	const fresh, n, width = 480, tapeHistory, joinLength
	var tape tape
	tape.init()
	tape.tail = tapeLength - n // so that the repetition just fits
	tape.head = tape.tail - fresh
	joint := tape.tail - fresh
	for i := range tape.buf {
		tape.buf[i] = float32(i)
	}
	tape.repeat(joint, n, width)
	if tape.tail != tapeLength {
		t.Fatalf("the tape ends at %d, want %d", tape.tail, tapeLength)
	}
	for i := 2 * width; i < 2*n; i++ {
		if got, want := tape.buf[2*joint+i], float32(2*(joint-n)+i); got != want {
			t.Fatalf("sample %d of the repetition is %v, want %v", i, got, want)
		}
	}
	for i := range 2 * fresh {
		if got, want := tape.buf[2*(joint+n)+i], float32(2*joint+i); got != want {
			t.Fatalf("sample %d after the repetition is %v, want %v", i, got, want)
		}
	}
}
