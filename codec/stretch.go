package codec

// The delay follows its target by what is added to or removed from the sound
// at a joint: in silence whatever is wanted, in speech one pitch period where
// the voice is periodic enough (waveform similarity overlap-add: Verhelst and
// Roelands, ICASSP 1993; as in NetEq, the change is made where frames meet).
//
// A change within speech is heard a little and a delay that is some
// milliseconds off is not, so speech, and the short pauses within it, are
// changed only when they have to be: when frames come too late already, or the
// delay is much too long. Else a change waits for a real pause.
//
// What counts is when a frame is needed: at the start of the Pull in which its
// first sample is played. Shifting it within that Pull gains nothing, so
// changes are made in whole Pulls, plus what brings frames back to the start
// of one (phase 0).

const (
	shortestPeriod = 120       // samples, 2.5 ms: 400 Hz
	longestPeriod  = 720       // 15 ms: 67 Hz
	pause          = Rate / 4  // samples of quiet that part two phrases
	patience       = Rate / 2  // samples for which the delay is too long first
	restAfter      = Rate / 25 // samples between two changes within speech

	excessHysteresis = 5e6  // ns, beyond one Pull
	excessNotable    = 20e6 // ns too long, worth a change within a phrase
	excessMuch       = 80e6
	spareNeed        = 2e6  // ns that the target has beyond what was needed
	urgentShare      = 0.03 // of frames that come late
)

// slack is how a frame that begins at the joint stands to its turn.
type slack struct {
	ns    int64 // between its availability at best, and the Pull that needs it
	phase int   // samples from the start of that Pull to its first sample
	unit  int   // samples in which ns can be changed
}

// slackOf measures the slack of a frame that ends at media time end, if it
// goes onto the tape now. length is its length.
func (r *Receiver) slackOf(end int64, length int) slack {
	due := r.block + nanoseconds(int64(r.filled+r.tape.pending()))
	wait := due - (r.window.base + nanoseconds(end))
	r.delay = wait
	if uneven := r.uneven(length); uneven > 0 {
		return slack{ns: wait - uneven, unit: 1}
	}
	phase := (r.filled + r.tape.pending()) % r.blockSize
	return slack{ns: wait - nanoseconds(int64(phase)), phase: phase, unit: r.blockSize}
}

// uneven is how much earlier, in ns, than its first sample is played a frame
// may be needed because frames of that length do not all begin at the same
// phase of a Pull: 0 when they do.
func (r *Receiver) uneven(length int) int64 {
	if length%r.blockSize == 0 {
		return 0
	}
	return nanoseconds(int64(r.blockSize))
}

// retarget works the target out from what the window says.
func (r *Receiver) retarget(length int) {
	longest := r.maxTarget - nanoseconds(int64(length))
	r.target = max(min(max(r.minTarget, r.window.need+spareNeed), longest), 0)
}

// wantsGrowth is how many samples have to be added so that frames are in time
// again, or 0; urgent tells that more than a few come late as it is.
func (r *Receiver) wantsGrowth(s slack) (samples int, urgent bool) {
	lack := r.target - s.ns
	if lack <= 0 || s.ns >= r.window.need+spareNeed/2 {
		return 0, false
	}
	units := max(1, (samplesIn(min(lack, tooLate))+s.unit-1)/s.unit)
	return units*s.unit - s.phase, r.window.beyond(s.ns-spareNeed/2) > urgentShare
}

// wantsCut is how many samples are too many, or 0, and by how much time the
// delay is too long.
func (r *Receiver) wantsCut(s slack) (samples int, excess int64) {
	spare := s.ns - r.target
	excess = spare + nanoseconds(int64(s.phase))
	switch {
	case spare >= nanoseconds(int64(max(s.unit, 480)))+excessHysteresis:
		return samplesIn(min(spare, 1e9))/s.unit*s.unit + s.phase, excess
	case spare >= 0 && s.phase >= shortestPeriod:
		return s.phase, excess // costs no slack
	}
	return 0, 0
}

// stretch brings the delay nearer to the target by one change at the joint,
// after which there are fresh samples of real sound; s was measured there.
func (r *Receiver) stretch(joint, fresh int, s slack) {
	r.cooldown = max(0, r.cooldown-fresh)
	if grow, urgent := r.wantsGrowth(s); grow > 0 {
		r.excess = 0
		r.grow(joint, fresh, grow, urgent)
		return
	}
	cut, excess := r.wantsCut(s)
	if cut == 0 {
		r.excess = 0
		return
	}
	if r.excess += fresh; r.excess >= patience {
		r.shrink(joint, fresh, cut, excess)
	}
}

func (r *Receiver) grow(joint, fresh, wanted int, urgent bool) {
	width := min(joinLength, fresh)
	needed := pause
	if urgent {
		needed = joinLength
	}
	if quiet := r.voice.quietRun - fresh; quiet >= needed {
		n := max(min(wanted, quiet, tapeHistory), width)
		r.tape.repeat(joint, n, width)
		r.stretched(n)
		return
	}
	if !urgent || r.cooldown > 0 {
		return
	}
	if period, likeness := r.period(joint, width, -1, longestPeriod); likeness > r.leastLikeness(wanted > 2*Rate/50) {
		r.tape.repeat(joint, period, min(width, period))
		r.stretched(period)
		r.cooldown = restAfter
	}
}

func (r *Receiver) shrink(joint, fresh, wanted int, excess int64) {
	width := min(joinLength, fresh/3)
	needed := pause
	if excess >= excessNotable {
		needed = 0
	}
	if r.voice.quietRun >= fresh+needed {
		if n := min(wanted, fresh-width); n > 0 {
			r.tape.cut(joint, n, width)
			r.stretched(n)
		}
		return
	}
	if excess < excessNotable || r.cooldown > 0 {
		return
	}
	longest := min(wanted, fresh-width, longestPeriod)
	if period, likeness := r.period(joint, width, 1, longest); likeness > r.leastLikeness(excess > excessMuch) {
		r.tape.cut(joint, period, width)
		r.stretched(period)
		r.cooldown = restAfter
	}
}

// leastLikeness is how alike two pieces of speech must be to be joined.
func (r *Receiver) leastLikeness(pressing bool) float64 {
	if pressing {
		return 0.4
	}
	return 0.7
}

func (r *Receiver) stretched(samples int) { r.stretchedNs += nanoseconds(int64(samples)) }

// period finds the distance, at most longest, at which the sound before
// (direction -1) or after (1) the joint is most like that at the joint, by a
// coarse search at 8 kHz and a fine one around its best.
func (r *Receiver) period(joint, width, direction, longest int) (distance int, likeness float64) {
	const coarse = 6
	likeness = -1
	search := func(from, to, step int) {
		for d := max(from, shortestPeriod); d <= min(to, longest); d += step {
			if s := r.tape.similarity(joint, joint+direction*d, width, step); s > likeness {
				distance, likeness = d, s
			}
		}
	}
	search(shortestPeriod, longest, coarse)
	if distance == 0 {
		return 0, -1
	}
	near := distance
	likeness = -1
	search(near-coarse+1, near+coarse-1, 1)
	return distance, likeness
}
