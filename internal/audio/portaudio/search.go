package portaudio

import "time"

const (
	// retryEvery is how often a device that is down is tried, as it is listed.
	retryEvery = 500 * time.Millisecond
	// A stream that has lived for steady worked; after shorter lives the tries
	// come less and less often, up to retryMost apart.
	steady    = 10 * time.Second
	retryMost = 16 * time.Second
	// A stream that stands still from the beginning, as at a sink that is
	// suspended, goes on the moment its device does: each in a row is given
	// twice as long as the one before, from startLimit up to graceMost.
	graceMost = 48 * time.Second
	// PortAudio sees new devices only after a rescan, which interrupts the
	// others: where there are others, the pauses between rescans double from
	// rescanFirst to rescanMost. With none, there is nothing to interrupt.
	rescanFirst = time.Second
	rescanMost  = 32 * time.Second
)

// attempts is when a device may be opened next.
type attempts struct {
	deaths int // of streams that did not live for steady, in a row
	still  int // streams that never called, in a row
	next   time.Time
}

// died notes the end of a stream that lived so long.
func (a *attempts) died(now time.Time, lived time.Duration) {
	a.still = 0
	if lived >= steady {
		*a = attempts{next: now}
		return
	}
	a.next = now.Add(min(retryEvery<<min(a.deaths, 10), retryMost))
	a.deaths++
}

// stood notes the end of a stream that never called.
func (a *attempts) stood(now time.Time) {
	a.next = now.Add(retryEvery)
	a.still++
}

// grace is how long the next stream may take to its first callback.
func (a *attempts) grace() time.Duration { return min(startLimit<<min(a.still, 10), graceMost) }

// failed notes an attempt that did not open it.
func (a *attempts) failed(now time.Time) { a.next = now.Add(retryEvery) }

func (a *attempts) due(now time.Time) bool { return !now.Before(a.next) }

// search is when devices are listed anew.
type search struct {
	pause time.Duration
	last  time.Time // a rescan, or a change
}

// changed: a device was lost, or is there again; others may follow.
func (s *search) changed(now time.Time) { s.pause, s.last = rescanFirst, now }

// due tells whether to list devices anew while one is down. unlisted: it is not
// among those listed, so that nothing else can bring it back; others: some
// devices work, and would be interrupted.
func (s *search) due(now time.Time, unlisted, others bool) bool {
	wait := rescanMost
	switch {
	case !others:
		wait = rescanFirst
	case unlisted:
		wait = s.pause
	}
	if now.Sub(s.last) < wait {
		return false
	}
	s.pause, s.last = min(2*s.pause, rescanMost), now
	return true
}
