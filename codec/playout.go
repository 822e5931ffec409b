package codec

const (
	chunk    = 480  // samples made up at a time, at most
	lateMost = 60e6 // ns that a spurt may begin late rather than lose its first frames
	lateKeep = 2    // a frame of which more than 1/2 of what was made up is left out is late
)

// produce puts what comes next onto the empty tape. It may put nothing there
// when only the state has changed, but not twice in a row for ever: each time
// a frame is settled or the state goes to idle, where rest writes.
func (r *Receiver) produce() {
	if r.state == idle {
		r.produceIdle()
		return
	}
	f := r.intake.first()
	if f == nil {
		if r.concealed >= concealMost {
			r.state = idle
			return
		}
		r.bridge(r.piece())
		return
	}
	gap := f.media - r.pos
	lost := int64(f.counter - r.intake.next)
	switch {
	case gap <= 0:
		r.settleBefore(f.counter)
		r.play(f, int(-gap))
	case lost == 0 && (f.spurtStart || gap > MaxFrame), gap > lost*MaxFrame && lost > 0:
		// More time went by than frames: the sender paused, and its
		// last frame did not say so or was lost.
		r.endSpurt()
	case lost == 0: // the sender's microphone stumbled
		r.bridge(min(r.piece(), int(gap)))
	case f.info.fec && !r.lastCELT && gap == int64(f.info.samples):
		r.playCopy(f)
	default:
		n := min(r.piece(), int(gap))
		if copied := int64(f.info.samples); f.info.fec && gap > copied {
			n = min(n, int(gap-copied)) // stop where the copy begins
		}
		r.bridge(n)
	}
}

// piece is how many samples are made up at a time: what this Pull needs, so that
// a frame that comes before the next is not missed by more than that.
func (r *Receiver) piece() int { return max(min(r.blockSize, chunk), joinLength) }

// produceIdle begins a spurt, once its first frame has waited for the target
// delay; until then it rests. It begins at the start of a Pull, unless frames do
// not keep to that anyway.
//
// Nothing is heard now, so this is where the delay is set for free. The first
// frame may be late; a spurt may begin up to lateMost late for it, and what is
// older than that is left out.
func (r *Receiver) produceIdle() {
	for f := r.intake.first(); f != nil; f = r.intake.first() {
		uneven := r.uneven(f.info.samples)
		if r.filled > 0 && uneven == 0 {
			break
		}
		r.retarget(f.info.samples)
		due := r.window.base + nanoseconds(f.media+int64(f.info.samples)) + r.target + uneven
		at := r.block + nanoseconds(int64(r.filled))
		if early := due - at; early > 0 {
			if uneven > 0 && early < nanoseconds(int64(r.blockSize-r.filled)) {
				r.rest(samplesIn(early) + 1)
				return
			}
			break
		}
		r.settleBefore(f.counter)
		if at-due <= lateMost+uneven {
			r.state, r.pos = playing, f.media
			r.play(f, 0)
			return
		}
		if f.rel-r.window.base > r.target+lateMost {
			r.missLate()
		} else {
			r.skip() // it was there; nobody pulled
		}
	}
	r.rest(r.blockSize - r.filled)
}

// endSpurt goes idle at once.
func (r *Receiver) endSpurt() {
	r.fadeAway()
	r.state = idle
}

// bridge makes n samples up in the place of what is missing.
func (r *Receiver) bridge(n int) {
	r.conceal(n)
	r.pos += int64(n)
}

// playCopy plays the frame before f from the rough copy in f.
func (r *Receiver) playCopy(f *slot) {
	n := f.info.samples
	out := r.work[:2*n]
	if r.unheard {
		r.settleBefore(f.counter - 1)
		r.miss(true)
		r.concealed = 0
		r.pass(out)
		r.pos += int64(n)
		return
	}
	r.freshen()
	if r.dec.DecodeFEC(out, f.opus[:f.length]) != nil {
		r.bridge(min(r.piece(), n))
		return
	}
	r.settleBefore(f.counter - 1)
	r.miss(true)
	r.real(out)
	r.pos += int64(n)
}

// play plays f, the frame that is due. overlap is how many samples have been
// made up in its place already.
func (r *Receiver) play(f *slot, overlap int) {
	n := f.info.samples
	r.retarget(n)
	s := r.slackOf(f.media+int64(n), n, 0)
	if s.ns > r.maxTarget+lateMost+r.uneven(n) {
		r.endSpurt() // the hard bound: begin again, nearer
		return
	}
	if overlap > 0 {
		r.playLate(f, overlap)
		return
	}
	joint, ok := r.take(f, false)
	if !ok {
		return
	}
	fresh := n
	for r.excess >= patience && fresh < 2*chunk && r.state == playing {
		next := r.intake.first() // a short frame may hold no pitch period
		if next == nil || next.counter != r.intake.next || next.media != r.pos {
			break
		}
		written := r.tape.tail - joint
		from, ok := r.take(next, false)
		joint = from - written // the tape may have been moved
		if !ok {
			break
		}
		fresh += next.info.samples
	}
	r.stretch(joint, min(fresh, r.tape.tail-joint), s)
}

// playLate plays f where overlap samples have been made up in its place. They
// are left out of it, so that the delay stays; but if the delay has to grow soon,
// then here by as much as it has to: what was made up is heard beside f. If
// nothing is left of it its turn has passed altogether.
func (r *Receiver) playLate(f *slot, overlap int) {
	n := f.info.samples
	keep := 0
	if grow, urgent := r.wantsGrowth(r.slackOf(f.media+int64(n), n, overlap)); urgent {
		keep = min(grow, overlap)
	}
	if overlap-keep >= n {
		r.missLate()
		return
	}
	if keep > 0 {
		r.breakOff() // what was made up fades out beneath f
	}
	joint, ok := r.take(f, keep < overlap/lateKeep)
	if !ok {
		return
	}
	if drop := overlap - keep; drop > 0 {
		r.tape.cut(joint, drop, min(joinLength, n-drop))
	}
	r.delay += nanoseconds(int64(keep))
	r.stretchedNs += nanoseconds(int64(keep))
	r.excess, r.hurry = 0, false
	if r.glide > 0 {
		r.glideBy(0, glideSlow) // no shorter than this
	}
}

// take decodes the frame that is due onto the tape, from the joint on, and
// settles it. ok is false if it could not be decoded, and something was made up.
func (r *Receiver) take(f *slot, late bool) (joint int, ok bool) {
	n := f.info.samples
	out := r.work[:2*n]
	r.lastCELT = f.info.celt
	r.claim = f.level
	got, err := n, error(nil)
	if r.unheard {
		r.stats.Unheard++
	} else {
		r.freshen()
		got, err = r.dec.Decode(out, f.opus[:f.length])
	}
	switch {
	case err != nil || got != n:
		r.stats.Lost++
		r.stats.Undecodable++
		r.stats.Concealed++
		r.intake.settle(done)
		missing := int(min(max(f.media+int64(n)-r.pos, 0), MaxFrame))
		if missing > 0 {
			r.bridge(missing)
		}
		return r.tape.tail - missing, false
	case late:
		r.missLate()
	case f.repaired:
		r.stats.Repaired++
		r.intake.settle(done)
	default:
		r.stats.OnTime++
		r.intake.settle(done)
	}
	if r.unheard {
		r.concealed = 0
		joint = r.pass(out)
	} else {
		joint = r.real(out)
	}
	r.pos = f.media + int64(n)
	if f.spurtEnd {
		r.tape.ramp(r.tape.tail-joinLength, 1, 0)
		r.gain, r.state = 0, idle
	}
	return joint, true
}

// real puts decoded sound onto the tape, fading in where there was none.
func (r *Receiver) real(out []float32) (joint int) {
	sanitise(out)
	r.voice.hear(out)
	joint = r.tape.write(out)
	if r.gain < 1 {
		r.tape.ramp(joint, r.gain, 1)
		if r.concealed > 0 {
			r.voice.addNoise(r.tape.from(joint)[:2*joinLength], 1-r.gain, 0)
		}
	}
	r.blend(joint)
	r.gain, r.concealed, r.voiced, r.active = 1, 0, true, true
	return joint
}
