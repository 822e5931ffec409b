package room

// replayWindow remembers which of the last 1,024 frame counters of one
// (epoch, instance, flow) have been accepted. Counters are compared modulo
// 2^32 (RFC 1982), so the window goes on over the wrap. The zero value has
// seen nothing. For one goroutine at a time.
//
// accept must be called only after the frame has opened: else anybody could
// push the window ahead.
type replayWindow struct {
	begun   bool
	highest uint32
	bits    [replaySize / 64]uint64 // bit c mod 1,024 for c in (highest-1,024, highest]
}

// replaySize is the width in frames: 10 s of 10 ms frames.
const replaySize = 1024

// seen tells whether counter would be refused: it was accepted before, or it
// is too old to tell. It changes nothing, so it may be asked first, to save
// the opening of second copies.
func (w *replayWindow) seen(counter uint32) bool {
	if !w.begun || counter-w.highest-1 < 1<<31-1 { // ahead by 1 to 2^31-1
		return false
	}
	if w.highest-counter >= replaySize {
		return true
	}
	word, bit := replayBit(counter)
	return w.bits[word]&bit != 0
}

// accept marks counter and answers true, or answers false if it is a replay
// or too old.
func (w *replayWindow) accept(counter uint32) bool {
	if w.seen(counter) {
		return false
	}
	switch ahead := counter - w.highest; {
	case !w.begun:
		w.begun, w.highest = true, counter
	case ahead < 1<<31:
		if ahead >= replaySize {
			w.bits = [replaySize / 64]uint64{}
		} else {
			for c := w.highest + 1; c != counter; c++ {
				word, bit := replayBit(c)
				w.bits[word] &^= bit
			}
		}
		w.highest = counter
	}
	word, bit := replayBit(counter)
	w.bits[word] |= bit
	return true
}

func replayBit(counter uint32) (word int, bit uint64) {
	i := counter % replaySize
	return int(i / 64), 1 << (i % 64)
}
