package codec

import "math"

// How long must a frame wait, so that nearly all have come by their turn?
//
// The relative delay of a frame is its arrival less its media time at its
// end. Of the frames of the last four seconds in which any came, the least
// relative delay is the base: the path at its best. The rule (design: playout)
// asks for the smallest D with P(first copy later than D) at most P(no copy
// within 400 ms) + 1 %, or 0.5 % where the path is clean. Over a window of N
// frames that is an order statistic. If k frames of N were later than D, the
// next one will be with a probability of (k+1) / (N+1), so k is one less than
// one might think; and what is lost in spite of repair has to fit into the same
// 1 %, so half of it is left for what is late: k+1 = N / 200. A clean path
// lets one frame pass whatever N is, so that a single hiccup of a scheduler in
// four seconds does not move it. Keeping the window exactly is cheaper than a
// histogram that fades, and forgets a bad stretch after four seconds, entirely;
// after one, if that last second is plainly of another kind.
//
// What a window of four seconds does not show may still come: the hiccup of a
// scheduler every ten seconds, say. Against that stands a floor below the target,
// MinTarget, until calmAfter has gone by, and from then on no more than the worst
// hiccup of half a minute needs. So a quiet machine on a quiet LAN gives up what
// it has no use for, and a busy one keeps it.

const (
	windowFrames = 512         // 4 s of 10 ms frames, and some
	windowSpan   = 4e9         // ns
	windowFew    = 200         // fewer frames than this are taken as so many
	newKindAfter = 1e9         // ns of frames that may show that the path has changed
	newKindSure  = 12.0        // by odds of e^12 to 1
	newKindFew   = 10          // late frames before, at least
	newKindBy    = 2e6         // ns: the least that they were later than any since
	newKindTail  = 2e9         // ns after it for which more may be forgotten,
	newKindRest  = 10e9        // and then not before this
	tooLate      = 400e6       // ns: as good as lost
	lateRunMost  = 25          // frames in a row that are, and
	lateRunLeast = 200e6       // ns for which they are, make it another path
	spurtGap     = 500e6       // ns without any frame: a pause, not jitter
	driftPPM     = 300         // that two sound cards may be apart
	never        = 1<<63 - 1   // relative delay of a frame that never came
	windowLatest = 1 + 512/200 // the most that the rule may look at
	cleanMost    = 40e6        // ns: the second latest of a clean path
	calmAfter    = 4e9         // ns of frames before the floor is lowered
	calmMemory   = 30e9        // ns for which a hiccup keeps it up
	shiftMost    = 2e6         // ns between frames that are late by the same
	shiftFrames  = 3           // in a row, and the path has become longer
)

// delayWindow is a sliding window of relative delays. The zero value is empty.
type delayWindow struct {
	rel        [windowFrames]int64 // ns, or never
	at         [windowFrames]int64 // ns
	head, size int                 // head: where the next goes

	base     int64 // ns: the least of rel
	need     int64 // ns: what the rule asks for beyond base
	measured bool  // base is set
	clean    bool  // hardly any loss, little jitter
	last     int64 // arrival of the newest
	renewed  int64 // when a bad stretch was last seen to have ended; 0: never
	since    int64 // when the window began; pauses count for nothing
	hiccup   int64 // ns: the latest of calmMemory, beyond the base of its time
	hiccupAt int64 // when that was

	jitter  int64 // ns, RFC 3550 appendix A.8
	lastRel int64
	alike   int   // frames in a row, one after the other, that took as long
	lateRun int   // frames in a row that were later than tooLate
	lateAt  int64 // ns: arrival of the first of them
}

// add notes a frame that became available at arrival, rel ns after its end in
// media time; inOrder tells whether it is a first copy, later than all before.
func (w *delayWindow) add(rel, arrival int64, inOrder bool) {
	if w.measured {
		w.bridge(rel, arrival)
	}
	if inOrder {
		change := abs(rel - w.lastRel)
		if w.measured {
			w.jitter += (change - w.jitter) / 16
		}
		if w.alike++; change > shiftMost {
			w.alike = 1
		}
		w.lastRel = rel
	}
	if w.measured && rel-w.base > tooLate {
		if w.lateRun++; w.lateRun == 1 {
			w.lateAt = arrival
		}
	} else {
		w.lateRun = 0
	}
	if !w.measured {
		w.since = arrival
	}
	w.push(rel, arrival)
	w.last, w.measured = arrival, true
	latest := w.measure()
	if late := rel - w.base; late >= w.hiccup && late <= tooLate {
		w.hiccup, w.hiccupAt = late, arrival
	} else if arrival-w.hiccupAt > calmMemory {
		w.hiccup, w.hiccupAt = latest, arrival // others may have come since: about
	}
}

// floor is what hiccups of the last half minute need, or most where so much is
// not known yet.
func (w *delayWindow) floor(most int64) int64 {
	if !w.measured || w.last-w.since < calmAfter {
		return most
	}
	return w.hiccup
}

// longer tells whether the path has become longer for good: what comes has been
// too late for a while. A burst that was held up is so too, but comes at once.
func (w *delayWindow) longer(arrival int64) bool {
	return w.lateRun > lateRunMost && arrival-w.lateAt > lateRunLeast
}

// lost notes a frame that never came.
func (w *delayWindow) lost() {
	if w.measured {
		w.push(never, w.last)
	}
}

// rebase forgets all: the path has become another.
func (w *delayWindow) rebase() { *w = delayWindow{jitter: w.jitter} }

// bridge makes the window as if a pause had not been: its frames stay as
// young as they were, and move by what the clocks may have drifted apart.
func (w *delayWindow) bridge(rel, arrival int64) {
	gap := arrival - w.last
	if gap < spurtGap {
		return
	}
	w.since += gap
	w.hiccupAt += gap
	drift := gap / 1e6 * driftPPM
	shift := min(max(rel-w.base, -drift), drift)
	for i := range w.size {
		j := w.index(i)
		w.at[j] += gap - 20e6
		if w.rel[j] != never {
			w.rel[j] += shift
		}
	}
	w.base += shift
	w.lastRel += shift
}

// index is where the i-th oldest stands.
func (w *delayWindow) index(i int) int {
	return (w.head - w.size + i + windowFrames) % windowFrames
}

func (w *delayWindow) push(rel, arrival int64) {
	for w.size > 0 && (w.size == windowFrames || w.at[w.index(0)] < arrival-windowSpan) {
		w.size--
	}
	w.rel[w.head], w.at[w.head] = rel, arrival
	w.head = (w.head + 1) % windowFrames
	w.size++
}

// measure works out base and need, and tells how late the latest frame of the
// window was, but for those that are as good as lost.
func (w *delayWindow) measure() int64 {
	w.renew()
	base := int64(never)
	for i := range w.size {
		base = min(base, w.rel[w.index(i)])
	}
	if base == never {
		return 0 // only losses: the path is what it was
	}
	w.base = base

	var latest [windowLatest]int64 // above base, largest first
	lost := 0
	for i := range w.size {
		rel := w.rel[w.index(i)]
		if rel == never || rel-base > tooLate {
			lost++
			continue
		}
		late := rel - base
		for k := range latest {
			if late > latest[k] {
				latest[k], late = late, latest[k]
			}
		}
	}
	pass := (max(w.size, windowFew)+1)/200 - 1
	if w.clean = lost*100 <= w.size && latest[1] < cleanMost; w.clean {
		pass = max(pass, 1)
	}
	w.need = latest[pass]
	return latest[0]
}

// renew forgets all but the last second if the frames of that were all in time
// by a measure that so many of those before were not that it cannot be chance:
// a bad stretch has ended. What is bad from time to time is not forgotten so.
func (w *delayWindow) renew() {
	few := newKindFew
	if w.justRenewed() {
		if w.last-w.renewed > newKindTail {
			return
		}
		few = 1 // what is left of it
	}
	since := w.last - newKindAfter
	recent, latest := 0, int64(math.MinInt64)
	for recent < w.size {
		j := w.index(w.size - 1 - recent)
		if w.at[j] < since {
			break
		}
		if w.rel[j] != never {
			latest = max(latest, w.rel[j])
		}
		recent++
	}
	older := w.size - recent
	later := 0
	for i := range older {
		if rel := w.rel[w.index(i)]; rel != never && rel > latest+newKindBy {
			later++
		}
	}
	if later >= few && float64(recent)*float64(later) >= newKindSure*float64(older) {
		w.size = recent
		if !w.justRenewed() {
			w.renewed = w.last
		}
		w.hiccup = 0 // what made it has ended, too
	}
}

// justRenewed tells whether a bad stretch has ended some seconds ago.
func (w *delayWindow) justRenewed() bool {
	return w.renewed > 0 && w.last-w.renewed < newKindRest
}

// shifted tells whether the frames that came last were all more than ns after
// the best, by the same: they will go on so.
func (w *delayWindow) shifted(ns int64) bool {
	return w.alike >= shiftFrames && w.lastRel-w.base > ns
}

// beyond is the share of frames that came more than ns after the best, of those
// that came.
func (w *delayWindow) beyond(ns int64) float64 {
	n, late := 0, 0
	for i := range w.size {
		if rel := w.rel[w.index(i)]; rel != never {
			n++
			if rel-w.base > ns {
				late++
			}
		}
	}
	return float64(late) / float64(max(n, windowFew))
}

// pullClock tells when, at the latest, the samples of a Pull are due.
//
// A sound device asks for samples in bursts and its thread is woken late, but
// in the long run it takes them at its own rate. Pull time less samples pulled
// is least when the device was most eager, and that least over two seconds,
// plus the samples pulled, is the time before which no Pull comes.
type pullClock struct {
	least  [8]int64 // ns, one for each quarter of a second
	bucket int
	since  int64 // ns: when the bucket began
	last   int64 // ns: the last Pull
	pulled int64 // samples
	begun  bool

	catchesUp bool // constant
}

// note counts a Pull of n samples at time at, and answers its nominal time.
func (c *pullClock) note(at int64, n int) int64 {
	if c.begun {
		at = max(at, c.last)
	}
	early := at - nanoseconds(c.pulled)
	switch {
	case !c.begun || at-c.last > 1e9 && !c.catchesUp: // begins, or was stopped for long
		for i := range c.least {
			c.least[i] = early
		}
		c.since, c.begun = at, true
	case at-c.since > 250e6:
		c.bucket = (c.bucket + 1) % len(c.least)
		c.least[c.bucket], c.since = early, at
	default:
		c.least[c.bucket] = min(c.least[c.bucket], early)
	}
	c.last = at
	least := int64(math.MaxInt64)
	for _, l := range c.least {
		least = min(least, l)
	}
	nominal := least + nanoseconds(c.pulled)
	c.pulled += int64(n)
	return nominal
}

func abs(x int64) int64 {
	if x < 0 {
		return -x
	}
	return x
}
