package codec

import "time"

const (
	slotCount  = 128  // frames that wait at once: 1.28 s of 10 ms frames
	fateCount  = 1024 // counters whose end is remembered, as replay windows do
	jumpFrames = 3000 // a gap in the counters beyond this is another stream
	reorder    = 16   // frames before the newest that are waited for after a gap
	oldRun     = 8    // frames too old in a row mean a sender that restarted
	mediaJump  = 2e9  // ns off the path's base: media time has jumped
)

// fate is how a frame ended.
type fate uint8

const (
	unknown     fate = iota
	done             // played or skipped, or its late copy has come already
	missed           // something stood in for it; a copy may still come
	missedKnown      // the same, and when it became available is measured
)

// slotState is what a slot holds for the counter that it names.
type slotState uint8

const (
	empty slotState = iota
	noted           // its in-band copy has come in the next frame
	full            // the frame itself
)

type slot struct {
	state                slotState
	counter              uint32
	media                int64 // unwrapped, samples
	rel                  int64 // relative delay, ns
	info                 packetInfo
	spurtStart, spurtEnd bool
	repaired             bool
	level                uint8
	length               int
	opus                 [MaxOpus]byte
}

// intake is the reordering buffer: frames by counter, from next on.
type intake struct {
	slots   [slotCount]slot
	fates   [fateCount]fate
	begun   bool
	next    uint32 // the counter that is due
	known   int    // how many counters before next have a fate, at most fateCount
	newest  uint32 // highest counter seen
	media   int64  // of newest, unwrapped
	waiting int    // full slots
	old     int    // frames in a row that were too old
}

// reset empties the buffer and tells how many frames were waiting.
func (in *intake) reset() (skipped uint64) {
	skipped = uint64(in.waiting)
	for i := range in.slots {
		in.slots[i].state = empty
	}
	in.begun, in.known, in.waiting, in.old = false, 0, 0, 0
	return skipped
}

func (in *intake) slot(counter uint32) *slot { return &in.slots[counter%slotCount] }

// holds tells what there is of a counter that is next or after it.
func (in *intake) holds(counter uint32) slotState {
	s := in.slot(counter)
	if s.counter != counter {
		return empty
	}
	return s.state
}

// first is the waiting frame with the lowest counter, or nil.
func (in *intake) first() *slot {
	if in.waiting == 0 {
		return nil
	}
	for c := in.next; c != in.next+slotCount; c++ {
		if in.holds(c) == full {
			return in.slot(c)
		}
	}
	return nil
}

// fate tells how a counter before next ended.
func (in *intake) fate(counter uint32) fate {
	if in.next-counter > uint32(in.known) {
		return unknown
	}
	return in.fates[counter%fateCount]
}

func (in *intake) setFate(counter uint32, f fate) { in.fates[counter%fateCount] = f }

// settle gives the frame that is due its fate and goes on to the next.
func (in *intake) settle(f fate) {
	if s := in.slot(in.next); s.counter == in.next {
		if s.state == full {
			in.waiting--
		} else if s.state == noted && f == missed {
			f = missedKnown
		}
		s.state = empty
	}
	in.fates[in.next%fateCount] = f
	in.known = min(in.known+1, fateCount)
	in.next++
}

// unwrap extends media time to 64 bits, near the newest frame's.
func (in *intake) unwrap(media uint32) int64 {
	return in.media + int64(int32(media-uint32(in.media)))
}

// Push takes one frame that has come; it copies what it keeps. Copies, frames
// in any order, and frames too old or too new are all welcome.
func (r *Receiver) Push(f *Frame, arrival time.Time) {
	info, err := parsePacket(f.Opus)
	if err != nil {
		r.stats.Refused++
		return
	}
	in := &r.intake
	now := r.since(arrival)
	if !in.begun {
		in.begin(f)
	}
	ahead := int32(f.Counter - in.next)
	if ahead < 0 && in.known == 0 && in.newest-f.Counter < slotCount {
		in.next, ahead = f.Counter, 0 // the first ones came out of order
	}
	media := in.unwrap(f.MediaTime)
	rel := now - nanoseconds(media+int64(info.samples))
	if ahead < 0 {
		r.pushOld(f, rel, now)
		return
	}
	in.old = 0
	if in.holds(f.Counter) == full {
		r.stats.Doubled++
		return
	}
	if r.pathJumped(rel, now) || ahead > jumpFrames {
		r.restart()
		r.window.rebase()
		in.begin(f)
		media = in.media
		rel = now - nanoseconds(media+int64(info.samples))
	} else if ahead >= slotCount {
		r.settleBefore(f.Counter - reorder)
	}

	if in.holds(f.Counter) != noted {
		r.window.add(rel, now, !f.Repaired && f.Counter-in.newest < 1<<31)
	}
	if f.Counter-in.newest < 1<<31 {
		in.newest, in.media = f.Counter, media
	}
	if info.fec {
		r.noteCopy(f.Counter-1, now-nanoseconds(media), now)
	}
	s := in.slot(f.Counter)
	s.state, s.counter = full, f.Counter
	s.media, s.rel, s.info = media, rel, info
	s.spurtStart, s.spurtEnd, s.repaired, s.level = f.SpurtStart, f.SpurtEnd, f.Repaired, f.Level
	s.length = copy(s.opus[:], f.Opus)
	in.waiting++
	r.stats.Received++
}

// begin starts a stream with f.
func (in *intake) begin(f *Frame) {
	in.begun, in.known, in.old = true, 0, 0
	in.next, in.newest, in.media = f.Counter, f.Counter, int64(f.MediaTime)
}

// pathJumped tells whether a frame's media time makes no sense beside those
// before: a jump of the sender's clock, or of the path for half a second.
func (r *Receiver) pathJumped(rel, now int64) bool {
	w := &r.window
	if !w.measured {
		return false
	}
	off := abs(rel - w.base)
	return off > mediaJump+(now-w.last)/1e6*driftPPM || rel-w.base > tooLate && w.longer(now)
}

// pushOld takes a frame whose turn has passed.
func (r *Receiver) pushOld(f *Frame, rel, now int64) {
	switch r.intake.fate(f.Counter) {
	case missed:
		r.window.add(rel, now, false)
		fallthrough
	case missedKnown:
		r.intake.setFate(f.Counter, done)
		r.stats.Received++
		r.stats.Late++
	case done:
		r.stats.Doubled++
	default:
		r.stats.Refused++
		if r.intake.old++; r.intake.old >= oldRun {
			r.restart()
			r.window.rebase()
		}
		return
	}
	r.intake.old = 0
}

// noteCopy measures when a frame became available as the rough copy within
// the frame after it, unless it came by itself before.
func (r *Receiver) noteCopy(counter uint32, rel, now int64) {
	in := &r.intake
	if ahead := int32(counter - in.next); ahead < 0 {
		if in.fate(counter) == missed {
			r.window.add(rel, now, false)
			in.setFate(counter, missedKnown)
		}
		return
	}
	if in.holds(counter) == empty {
		r.window.add(rel, now, false)
		s := in.slot(counter)
		s.state, s.counter = noted, counter
	}
}

// settleBefore gives every frame before counter its fate: those that wait are
// skipped, those that do not are missed.
func (r *Receiver) settleBefore(counter uint32) {
	for r.intake.next != counter {
		if r.intake.holds(r.intake.next) == full {
			r.skip()
		} else {
			r.miss(false)
		}
	}
}

// skip leaves out the frame that is due, though it is there.
func (r *Receiver) skip() {
	r.stats.Skipped++
	r.intake.settle(done)
}

// miss settles the frame that is due as lost; byFEC tells what stood in.
func (r *Receiver) miss(byFEC bool) {
	r.stats.Lost++
	if byFEC {
		r.stats.FEC++
	} else {
		r.stats.Concealed++
	}
	if r.intake.holds(r.intake.next) == empty {
		r.window.lost()
	}
	r.intake.settle(missed)
}

// missLate settles the frame that is due as late, though it is there now.
func (r *Receiver) missLate() {
	r.stats.Lost++
	r.stats.Late++
	r.stats.Concealed++
	r.intake.settle(done)
}
