package room

import (
	"math"
	"time"

	"teahouse/internal/mesh"
)

// What each link gets of what it wants: a link may not send more than its path
// bears, all links together not more than the way out that they share bears
// (node/ratecontrol.go finds out how much that is). Where it is too little,
// steps of depth go first, the one that saves least frames before others; a
// link for which not even base is left wants the thin flow. So a loss that our
// own copies cause ends them, and a thin link costs the others nothing.

// wish is what a link wants and may have. Guarded by the plane's mu.
type wish struct {
	depth int
	left  [maxDepth + 1]float64 // part of frames lost with each depth
	most  float64               // bytes a second on this link; +Inf: no limit known
	// For how long it stays with thin at least, and until when.
	hold  time.Duration
	until time.Time
	short time.Time // since when its own path cannot carry base; zero: it can
}

const (
	// allotEvery is how often the way out is divided anew at most.
	allotEvery = 20 * time.Millisecond
	// thinAfter is for how long there must be too little for base where over
	// thinLoss is lost, and thinLater where less is: a download that begins
	// makes a queue, too, and node finds out within 5 s that it is not ours.
	thinAfter = 4 * time.Second
	thinLater = 10 * time.Second
	thinLoss  = 0.03
	// thinBack is how much more than base must fit for a link to leave thin,
	// and thinHold how long it stays at least: twice as long each time that it
	// comes back within thinAgain, up to thinHoldMost.
	thinBack     = 1.25
	thinHold     = 10 * time.Second
	thinHoldMost = 160 * time.Second
	// thinPart is what thin needs of what base needs, where it was never spoken.
	thinPart = 0.6
	// thinDepth is the highest depth of thin: its frames are 40 to 60 ms, and
	// each bears a copy of the one before (codec.Thin).
	thinDepth = 1
)

// newWish is what the link wants by the latest report, over a path like this.
func newWish(r *Repair, depth int, path mesh.Path, stats *mesh.LinkStats) (w wish) {
	w.depth, w.most = depth, math.Inf(1)
	if path.Carrier == mesh.Stream {
		w.depth = 0 // a stream loses nothing but what it has no room for
	}
	if stats.Permitted > 0 {
		w.most = float64(stats.Permitted)
	}
	for d := range w.left {
		w.left[d] = r.Left(d)
	}
	return w
}

// allot takes a link's new wish and gives depths. shared is how many bytes a
// second may go on all links together, 0 for no limit.
func (p *plane) allot(now time.Time, l *link, w wish, shared uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.hold, w.until, w.short = l.wish.hold, l.wish.until, l.wish.short
	w.short = since(w.short, now, w.most < p.cost(FlowBase, 0))
	l.wish = w
	if shared == 0 {
		depth, thin := p.own(now, l)
		l.give(now, depth, thin)
		return
	}
	if now.Sub(p.allotted) < allotEvery && now.After(p.allotted) {
		return
	}
	p.allotted = now
	p.divide(now, float64(shared))
}

// own is what a link may have by its own path.
func (p *plane) own(now time.Time, l *link) (depth int, thin bool) {
	base := p.cost(FlowBase, 0)
	if l.wantThin.Load() {
		thin = now.Before(l.wish.until) || l.wish.most < thinBack*base
	} else {
		thin = lasts(l.wish.short, now, l.wish.left[0])
	}
	flow, depth := FlowBase, l.wish.depth
	if thin {
		flow, depth = FlowThin, min(depth, thinDepth)
	}
	for depth > 0 && p.cost(flow, depth) > l.wish.most {
		depth--
	}
	return depth, thin
}

// share is one link's part while the way out is divided.
type share struct {
	depth int
	thin  bool
	back  bool // thin, but by its own path it need not be
}

// divide gives each link what its own path bears, less what all together have
// no room for.
func (p *plane) divide(now time.Time, shared float64) {
	p.shares = p.shares[:0]
	total := 0.0
	for _, l := range p.links {
		s := share{}
		s.depth, s.thin = p.own(now, l)
		if l.wantThin.Load() && !s.thin { // it may come back, where there is room
			s.depth, s.thin, s.back = min(s.depth, thinDepth), true, true
		}
		total += p.cost(s.flow(), s.depth)
		p.shares = append(p.shares, s)
	}
	for total > shared {
		least, at := math.Inf(1), -1
		for i, s := range p.shares {
			if s.depth == 0 {
				continue
			}
			if saves := p.links[i].wish.left[s.depth-1] - p.links[i].wish.left[s.depth]; saves < least {
				least, at = saves, i
			}
		}
		if at < 0 {
			break
		}
		s := &p.shares[at]
		total += p.cost(s.flow(), s.depth-1) - p.cost(s.flow(), s.depth)
		s.depth--
	}
	p.short = since(p.short, now, total > shared)
	for total > shared { // the one that loses most would have the least of base
		worst, at := -1.0, -1
		for i, s := range p.shares {
			if lost := p.links[i].wish.left[0]; !s.thin && lost > worst {
				worst, at = lost, i
			}
		}
		if at < 0 || !lasts(p.short, now, worst) {
			break
		}
		p.shares[at].thin = true
		total += p.cost(FlowThin, 0) - p.cost(FlowBase, 0)
	}
	for i := range p.shares {
		s := &p.shares[i]
		more := p.cost(FlowBase, 0) - p.cost(FlowThin, s.depth)
		if s.back && total+more <= shared {
			s.depth, s.thin = 0, false
			total += more
		}
	}
	for i, l := range p.links {
		l.give(now, p.shares[i].depth, p.shares[i].thin)
	}
}

// since is when something began that lasts at now; zero while it does not hold.
func since(began, now time.Time, holds bool) time.Time {
	switch {
	case !holds:
		return time.Time{}
	case began.IsZero():
		return now
	}
	return began
}

// lasts tells that a shortage lasts for long enough where so much is lost.
func lasts(short, now time.Time, loss float64) bool {
	enough := thinLater
	if loss > thinLoss {
		enough = thinAfter
	}
	return !short.IsZero() && now.Sub(short) >= enough
}

func (s share) flow() int {
	if s.thin {
		return FlowThin
	}
	return FlowBase
}

// give puts into effect what a link gets. The plane's mu is held.
func (l *link) give(now time.Time, depth int, thin bool) {
	l.depth.Store(int32(depth))
	if l.wantThin.Swap(thin) || !thin {
		return
	}
	w := &l.wish
	if w.hold == 0 || now.Sub(w.until) > w.hold {
		w.hold = thinHold
	} else {
		w.hold = min(2*w.hold, thinHoldMost)
	}
	w.until = now.Add(w.hold)
}

// cost is how many bytes a second a flow takes on a link, 0 while unknown.
func (p *plane) cost(flow, depth int) float64 {
	s := &p.sent[flow]
	if s.perSecond == 0 && flow == FlowThin {
		return thinPart * p.cost(FlowBase, depth)
	}
	size := voiceHeadLen + groupHeadLen + (depth+1)*(2+s.length)
	size += paddingStep - 1 - (size-1)%paddingStep
	return s.perSecond * float64(min(size, mesh.MaxPacket))
}

// pace notes how long frames of a flow are and how often they come. mediaTime
// is in samples at 48 kHz.
func (s *sentFrames) pace(mediaTime uint32, length int) {
	const rate = 48_000
	const shortest, longest = rate / 400, rate * 60 / 1000 // RFC 6716 section 2.1.4
	if d := mediaTime - s.media; d >= shortest && d <= longest {
		s.perSecond = rate / float64(d)
	}
	s.media, s.length = mediaTime, length
}
