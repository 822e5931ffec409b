package node

import (
	"sync"
	"time"

	"teahouse/internal/mesh"
)

// sharedRate is the budget of all voice links of a node together: they leave by
// one uplink, which is what is thin most often. Each link's own control sees a
// queue in that uplink as one on its path, and answers for itself alone. So what
// the links see is put together:
//
//   - where more than half of the links see a queue, and carry more than half of
//     the voice, it stands in what they have in common, and all together get less;
//   - where they are fewer, or carry less, each has a queue of its own (a thin line at the
//     listener's), which is that link's affair and costs the others nothing.
//
// RFC 8382 finds shared bottlenecks by statistics of many delays; for links that
// have one by construction counting is enough, and being wrong costs repair, not
// voice. Budgets are coupled as in RFC 8699, with the room as the one who
// divides. The zero value is ready; for any goroutine.
type sharedRate struct {
	mu     sync.Mutex
	budget budget
	at     time.Time // when the links were last put together
	links  map[*link]sharedSample
}

// sharedSample is what one link has shown last.
type sharedSample struct {
	rateSample
	at     time.Time
	queued bool
	// late: it came while the uplink had a queue, and takes it for its path.
	late bool
}

// sharedFor is how long a link's sample counts: one that sends voice has a new
// one every half second, or two.
const sharedFor = 2 * time.Second

// sharedEach is what each link beyond the first may claim beside others'
// traffic, in bytes per second: a voice with repair depth 1.
const sharedEach = 12_000

// observe takes a link's sample, and gives what all links may send in bytes per
// second, 0 for no limit. own tells that the queue is that link's affair, anew
// that the queue in which the link has begun is gone: what it took for its path
// was the queue.
func (s *sharedRate) observe(now time.Time, l *link, sample rateSample, queued bool) (common float64, own, anew bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.links == nil {
		s.links = make(map[*link]sharedSample)
	}
	before, known := s.links[l]
	stands := !s.budget.queued.IsZero()
	late := before.late
	if !known {
		late = stands
	}
	anew = late && !stands
	s.links[l] = sharedSample{sample, now, queued, late && !anew}
	if now.Sub(s.at) >= sampleTime {
		s.judge(now)
	}
	return float64(s.budget.told()), queued && s.budget.queued.IsZero(), anew
}

// judge puts the links together. mu is held.
func (s *sharedRate) judge(now time.Time) {
	var all rateSample
	var sent, lost, voting, queued float64
	talking, votes, see := 0, 0, 0
	for l, o := range s.links {
		if now.Sub(o.at) > sharedFor {
			delete(s.links, l)
			continue
		}
		seconds := o.elapsed.Seconds()
		if float64(o.packets) < talkRate*seconds {
			continue // reports alone
		}
		rate := float64(o.bytes) / seconds
		talking++
		sent, lost = sent+rate, lost+rate*o.loss
		if o.late {
			continue
		}
		voting, votes = voting+rate, votes+1
		if o.queued {
			queued, see = queued+rate, see+1
		}
		all.rtt = max(all.rtt, o.rtt)
	}
	if sent == 0 {
		return
	}
	all.loss, all.elapsed = lost/sent, min(now.Sub(s.at), sharedFor)
	s.at = now
	// One link that repairs much carries as much as some others: what it alone
	// sees is in nobody else's way.
	stands := queued > voting/2 && 2*see > votes
	if !stands && all.loss > rateLossy {
		// Each link answers for what its path loses.
		all.loss = 0
	}
	s.budget.fair = rateFloor + sharedEach*float64(talking-1)
	s.budget.observe(now, all, sent, stands)
}

// told is how many bytes a second may go on all links together, 0 for no limit,
// and whether a queue stands in what they have in common.
func (s *sharedRate) told(now time.Time) (most uint64, queued bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.at) > sharedMemory {
		s.budget = budget{}
	}
	return s.budget.told(), !s.budget.queued.IsZero()
}

// sharedMemory is how long an uplink is believed to be as it was while nobody
// speaks.
const sharedMemory = time.Minute

// queued tells that a queue stands on the link's path.
func (l *link) queued() bool {
	l.out.mu.Lock()
	own := !l.rate.queued.IsZero()
	l.out.mu.Unlock()
	_, stands := l.session.node.shared.told(time.Now())
	return own || stands
}

// snapshot is [mesh.Session.Stats].
func (l *link) snapshot(now time.Time) mesh.LinkStats {
	s := l.stats.snapshot()
	if w := l.way.Load(); w == nil || w.stream != nil {
		return s // a stream's congestion control is its own
	}
	l.out.mu.Lock()
	s.Permitted, s.Queued = l.rate.told(), !l.rate.queued.IsZero()
	l.out.mu.Unlock()
	var stands bool
	s.Shared, stands = l.session.node.shared.told(now)
	s.Queued = s.Queued || stands
	return s
}
