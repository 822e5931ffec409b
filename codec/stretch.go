package codec

// The delay follows its target by what is added to or removed from the sound
// at a joint: in silence whatever is wanted, in speech one pitch period where
// the voice is periodic enough (waveform similarity overlap-add: Verhelst and
// Roelands, ICASSP 1993; as in NetEq, the change is made where frames meet).
// What can wait a few seconds is done by a glide instead (glide.go).
//
// A change within speech is heard a little and a delay that is some
// milliseconds off is not, so speech, and the short pauses within it, are cut
// and repeated only when they have to be: when frames come too late already, or
// the delay is much too long.
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
	noPause        = Rate      // and for which no pause has come to change it
	restAfter      = Rate / 25 // samples between two changes within speech

	excessMost    = 15e6   // ns: the delay is too long by that much, or by a Pull and
	excessLeast   = 1e5    // this where the target is steady; else by what it may move
	excessFast    = 12.5e6 // ns too long, beyond what drift makes of it
	excessNotable = 15e6   // ns too long, worth a joint within a phrase
	excessMuch    = 80e6
	spareLeast    = 1e6  // ns that the target has beyond what was needed, and
	spareShare    = 10   // a tenth of a Pull: clocks drift while it is glided
	urgentShare   = 0.03 // of frames that come late
	soonShare     = 0.01 // the same: enough to be made good within seconds
)

// slack is how a frame that begins at the joint stands to its turn.
type slack struct {
	ns    int64 // between its availability at best, and the Pull that needs it
	phase int   // samples from the start of that Pull to its first sample
	unit  int   // samples in which ns can be changed
}

// slackOf measures the slack of a frame that ends at media time end, if it
// goes onto the tape now. length is its length. overlap is by how much earlier
// it should have gone there.
func (r *Receiver) slackOf(end int64, length, overlap int) slack {
	at := r.filled + r.tape.pending() - overlap
	due := r.block + nanoseconds(int64(at))
	wait := due - (r.window.base + nanoseconds(end))
	r.delay = wait
	if uneven := r.uneven(length); uneven > 0 {
		return slack{ns: wait - uneven, unit: 1}
	}
	phase := at % r.blockSize
	if phase < 0 {
		phase += r.blockSize
	}
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
	floor := min(r.window.floor(r.minTarget)+r.spare(), r.minTarget)
	r.target = max(min(max(floor, r.window.need+r.spare()), longest), 0)
}

// spare is what the target has beyond what was needed, in ns.
func (r *Receiver) spare() int64 {
	return spareLeast + nanoseconds(int64(min(r.blockSize, chunk)))/spareShare
}

// wantsGrowth is how many samples have to be added so that frames are in time
// again, or 0; urgent tells that more than a few come late as it is.
func (r *Receiver) wantsGrowth(s slack) (samples int, urgent bool) {
	lack := r.target - s.ns
	if lack <= 0 || s.ns >= r.window.need+r.spare()/2 {
		return 0, false
	}
	units := max(1, (samplesIn(min(lack, tooLate))+s.unit-1)/s.unit)
	return units*s.unit - s.phase, r.window.shifted(s.ns) || r.window.beyond(s.ns) > urgentShare
}

// wantsCut is how many samples are too many, or 0, and by how much time the
// delay is too long.
func (r *Receiver) wantsCut(s slack) (samples int, excess int64) {
	spare := s.ns - r.target
	excess = spare + nanoseconds(int64(s.phase))
	enough := nanoseconds(int64(s.unit))
	if r.glide <= 0 { // not under way
		// The target moves with what is needed, unless it is more than that.
		moves := r.window.need - 2*max(r.target-(r.window.need+r.spare()), 0)
		enough = max(enough+excessLeast, min(enough+moves, excessMost))
	}
	switch {
	case spare >= enough:
		return samplesIn(min(spare, 1e9))/s.unit*s.unit + s.phase, excess
	case spare >= 0:
		return s.phase, excess // costs no slack
	}
	return 0, 0
}

// stretch brings the delay nearer to the target by one change at the joint,
// after which there are fresh samples of real sound, or by a glide; s was
// measured there.
func (r *Receiver) stretch(joint, fresh int, s slack) {
	r.cooldown = max(0, r.cooldown-fresh)
	grow, urgent := r.wantsGrowth(s)
	cut, excess := r.wantsCut(s)
	switch {
	case grow > 0:
		r.excess, r.hurry = 0, false
		speed := glideSlow
		if r.window.beyond(s.ns-r.spare()/2) > urgentShare || !r.window.clean && r.window.beyond(s.ns) > soonShare {
			speed = glideSoon
		}
		if !r.grow(joint, fresh, grow, urgent) {
			r.glideBy(-grow, speed)
		}
	case cut > 0:
		if r.glide < 0 {
			r.glideBy(0, glideSlow)
		}
		speed := glideSlow
		r.excess += fresh
		r.hurry = r.hurry || excess >= excessFast || r.window.justRenewed()
		if r.hurry && r.excess >= noPause {
			speed = glideFast
		}
		if r.excess >= patience && !r.shrink(joint, fresh, cut, excess) {
			r.glideBy(cut, speed)
		}
	default:
		r.excess, r.hurry = 0, false
		r.glideBy(0, glideSlow)
	}
}

// glideBy begins to skip so many samples, or to add them (negative), instead of
// what was left of a glide.
func (r *Receiver) glideBy(samples, speed int) {
	r.glide = samples*glidePhases - r.tape.phase
	r.glideSpeed = speed
}

// grow lengthens the sound at the joint, if it can be done there.
func (r *Receiver) grow(joint, fresh, wanted int, urgent bool) bool {
	width := min(joinLength, fresh)
	needed := pause
	if urgent {
		needed = joinLength
	}
	if quiet := r.voice.quietRun - fresh; quiet >= needed {
		n := max(min(wanted, quiet, tapeHistory), width)
		r.tape.repeat(joint, n, width)
		r.stretched(n)
		return true
	}
	if !urgent || r.cooldown > 0 {
		return false
	}
	period, likeness := r.period(joint, width, -1, longestPeriod)
	if likeness <= r.leastLikeness(wanted > 2*Rate/50) {
		return false
	}
	r.tape.repeat(joint, period, min(width, period))
	r.stretched(period)
	r.cooldown = restAfter
	return true
}

// shrink shortens the sound after the joint, if it can be done there.
func (r *Receiver) shrink(joint, fresh, wanted int, excess int64) bool {
	width := min(joinLength, fresh/3)
	needed := pause
	if excess >= excessNotable {
		needed = 0
	}
	if r.voice.quietRun >= fresh+needed {
		n := min(wanted, fresh-width)
		if n <= 0 {
			return false
		}
		r.tape.cut(joint, n, width)
		r.stretched(n)
		return true
	}
	if excess < excessNotable || r.cooldown > 0 {
		return false
	}
	longest := min(wanted, fresh-width, longestPeriod)
	period, likeness := r.period(joint, width, 1, longest)
	if likeness <= r.leastLikeness(excess > excessMuch) {
		return false
	}
	r.tape.cut(joint, period, width)
	r.stretched(period)
	r.cooldown = restAfter
	return true
}

// stretched notes a change, which takes the place of a glide under way.
func (r *Receiver) stretched(samples int) {
	r.stretchedNs += nanoseconds(int64(samples))
	r.glideBy(0, glideSlow)
}

// leastLikeness is how alike two pieces of speech must be to be joined.
func (r *Receiver) leastLikeness(pressing bool) float64 {
	if pressing {
		return 0.4
	}
	return 0.7
}

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
