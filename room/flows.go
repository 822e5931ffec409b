package room

import "time"

// A voice has at most two encodings at a time, as two flows, and each link
// takes one of them: base, or thin where the link cannot carry base and what
// repairs it. So one bad link costs the others nothing. The room knows what
// links want; who encodes decides when they get it, because only he knows where
// a frame of the one ends with a frame of the other.

// The flows.
const (
	FlowBase = 0
	FlowThin = 1
)

// Flows is what the links of a room want of who speaks into it.
type Flows struct {
	Base, Thin int // links that want each
	// Change tells that some link takes another flow than it wants.
	Change bool
	// Short: every link that wants base is short and clean, so that frames of
	// 10 ms are worth their packets.
	Short bool
	Depth int // the highest repair depth among those that want base
	Loss  int // percent: the worst that those that want thin report
}

// Flows tells what the links want. It never waits and allocates nothing.
func (r *Room) Flows() Flows { return r.plane.flows() }

// SwitchFlows gives each link the flow that it wants, from the next frame on.
// It is called where the frames of both flows that were spoken so far end at
// one media time, and else a listener hears some of it twice or not at all.
func (r *Room) SwitchFlows() { r.plane.switchFlows() }

func (p *plane) flows() (f Flows) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f.Short = true
	for _, l := range p.links {
		want := l.wants()
		f.Change = f.Change || want != l.flow
		if want == FlowThin {
			f.Thin++
			f.Loss = max(f.Loss, int(l.loss.Load()))
			continue
		}
		f.Base++
		f.Depth = max(f.Depth, int(l.depth.Load()))
		// One that fades has an heir, or nobody at its end.
		f.Short = f.Short && (l.short.Load() || l.fading.Load())
	}
	f.Short = f.Short && f.Base > 0
	return f
}

func (p *plane) switchFlows() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.links {
		l.flow = l.wants()
	}
}

func (l *link) wants() uint8 {
	if l.wantThin.Load() {
		return FlowThin
	}
	return FlowBase
}

// A path is short and clean when all reports of shortAfter said that the round
// trip is under shortTrip, that no frame was lost before repair, and that the
// jitter is under shortJitter.
const (
	shortTrip   = 20 * time.Millisecond
	shortJitter = 5 * time.Millisecond
	shortAfter  = 5 * time.Second
)

// quality judges a path by what the far side reports. The zero value knows
// nothing. For one goroutine at a time.
type quality struct {
	begun          bool
	flow           uint8
	frames, losses uint32 // as last told, cumulative modulo 2^32
	recent, lost   float64
	clean          time.Time // since when; zero: it is not
}

// report takes the far side's report that came at now, of a path of the round
// trip rtt, 0 for unknown. It tells whether the path is short and clean, and
// how much of the last seconds was lost before repair, in percent.
func (q *quality) report(now time.Time, in *report, rtt time.Duration) (short bool, loss int) {
	frames := in.Received + in.Lost
	newFrames, newLosses := int32(frames-q.frames), int32(in.LostBeforeRepair-q.losses)
	if !q.begun || in.Flow != q.flow || newFrames < 0 || newLosses < 0 {
		newFrames, newLosses = 0, 0 // counts of something else
	}
	q.begun, q.flow, q.frames, q.losses = true, in.Flow, frames, in.LostBeforeRepair
	if newFrames > 0 {
		q.recent = q.recent*depthMemory + float64(newFrames)
		q.lost = q.lost*depthMemory + float64(newLosses)
	}
	if q.recent > 0 {
		loss = int(min(100*q.lost/q.recent+0.5, 100))
	}
	if rtt <= 0 || rtt >= shortTrip || newLosses > 0 || time.Duration(in.Jitter)*time.Microsecond >= shortJitter {
		q.clean = time.Time{}
		return false, loss
	}
	if q.clean.IsZero() {
		q.clean = now
	}
	return now.Sub(q.clean) >= shortAfter, loss
}
