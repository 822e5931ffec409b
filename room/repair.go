package room

import "time"

// maxDepth is the most older frames that are sent again in one packet.
const maxDepth = 3

// Repair chooses how many older frames each packet of one link carries again,
// from what the far side reports. What stays lost with depth d is estimated as
//
//	p·q^d     p: part of the frames whose first copy is lost
//	          q: chance that after a lost frame the next one is lost too
//
// For losses that do not depend on each other q is p. Where they come in bursts
// of m frames on average q is 1 - 1/m, as in the model of Gilbert (RFC 3611
// section 4.7.2). The depth is the least that leaves at most half a percent,
// the other half of the one that DESIGN section 6 allows being for copies that
// come too late; where bursts are so long that a copy takes away less than a
// twelfth of what is lost, none.
//
// It is wanted, not decided: [plane.allot] gives less where the path or the
// uplink has no room. The zero value wants nothing. For one goroutine at a time.
type Repair struct {
	depth          int
	frames, losses float64 // of about the last 3 s
	burst          float64 // mean, frames
	high           time.Time
	known, skip    bool
	last           Tally
	queued         time.Time // since when the path has had a queue; zero: it has none
}

// Tally is what a report tells of how a voice arrives: frames, cumulative
// modulo 2^32.
type Tally struct {
	Received uint32 // in any copy
	Lost     uint32 // no copy came
	Unaided  uint32 // the copy that was sent first did not come: lost before repair
	// MeanBurst is how many such come in a row on average, in 1/16 frames.
	MeanBurst uint16
}

const (
	depthMemory = 0.85            // weight of the past, per report of 500 ms
	depthLinger = 5 * time.Second // how long a lower loss must last
	depthLeast  = 8               // frames before a ratio means something
	// depthLosses is how many losses mean something, the past ones weighted:
	// one in some seconds is not worth two thirds more on the wire.
	depthLosses = 1.5
	// depthFirst is how many frames the first report of a link may speak of to
	// be believed: 10 s of 20 ms. More are the past of another link.
	depthFirst = 512
	// lossLeft is how much of the frames may stay lost.
	lossLeft = 0.005
	// burstyFrom is by how much q must be over p to count: below it may be chance.
	burstyFrom = 0.2
	// hopelessFrom is the q from which on copies do not help: bursts of 12.5.
	hopelessFrom = 0.92
	// depthQueued is for how long a queue on the path explains what is lost.
	// What is lost in a longer one is lost to others' traffic, and counts.
	depthQueued = 3 * time.Second
)

// Report takes the tally of the far side's next report and gives the depth that
// is wanted. queued tells that a queue stands on the path: what is lost then is
// lost to too much having been sent, and sending it again would feed the queue
// ; it does not count for depthQueued.
func (r *Repair) Report(now time.Time, t Tally, queued bool) int {
	frames := int32(t.Received + t.Lost - r.last.Received - r.last.Lost)
	losses := int32(t.Unaided - r.last.Unaided)
	first, skip := !r.known, r.skip
	r.known, r.skip, r.last = true, false, t
	if skip || frames <= 0 || losses < 0 || first && frames > depthFirst {
		return r.depth // nothing was said, or the far side begins anew
	}
	if !queued {
		r.queued = time.Time{}
	} else if r.queued.IsZero() {
		r.queued = now
	}
	if queued && now.Sub(r.queued) < depthQueued {
		return r.depth
	}
	r.frames = r.frames*depthMemory + float64(frames)
	r.losses = r.losses*depthMemory + float64(losses)
	r.burst = float64(t.MeanBurst) / 16
	if r.frames < depthLeast {
		return r.depth
	}
	if needed := r.needed(r.loss()); needed > r.depth {
		r.depth, r.high = needed, now
	} else if r.needed(r.loss()*1.3) >= r.depth {
		r.high = now
	} else if now.Sub(r.high) >= depthLinger {
		r.depth--
		r.high = now
	}
	return r.depth
}

// Skip makes the next report a point to count from, and nothing else: it counts
// something else than the one before.
func (r *Repair) Skip() { r.skip = true }

// Left is what part of the frames stays lost with a depth, by the estimate.
func (r *Repair) Left(depth int) float64 {
	p := r.loss()
	left, again := p, r.again(p)
	for range depth {
		left *= again
	}
	return left
}

// loss is p, 0 where the losses are too few to tell.
func (r *Repair) loss() float64 {
	if r.losses < depthLosses {
		return 0
	}
	return min(r.losses/r.frames, 1)
}

// again is q.
func (r *Repair) again(loss float64) float64 {
	if r.burst > 1 {
		if q := 1 - 1/r.burst; q > loss+burstyFrom {
			return q
		}
	}
	return loss
}

func (r *Repair) needed(loss float64) int {
	left, again := loss, r.again(loss)
	if again > hopelessFrom {
		return 0
	}
	depth := 0
	for depth < maxDepth && left > lossLeft {
		left *= again
		depth++
	}
	return depth
}
