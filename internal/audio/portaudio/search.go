package portaudio

import "time"

const (
	// retryEvery is how often a device that is down is tried, as it is listed.
	retryEvery = 500 * time.Millisecond
	// A stream that has lived for steady worked; after shorter lives the tries
	// come less and less often, up to retryMost apart.
	steady    = 10 * time.Second
	retryMost = 16 * time.Second
	// PortAudio sees new devices only after a rescan, which interrupts the
	// others: where there are others, the pauses between rescans double from
	// rescanFirst to rescanMost. With none, there is nothing to interrupt.
	rescanFirst = time.Second
	rescanMost  = 32 * time.Second
)

// attempts is when a device may be opened next.
type attempts struct {
	deaths int // of streams that did not live for steady, in a row
	next   time.Time
}

// died notes the end of a stream that lived so long.
func (a *attempts) died(now time.Time, lived time.Duration) {
	if lived >= steady {
		*a = attempts{next: now}
		return
	}
	a.next = now.Add(min(retryEvery<<min(a.deaths, 10), retryMost))
	a.deaths++
}

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
