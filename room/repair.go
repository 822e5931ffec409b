package room

import "time"

// maxDepth is the most older frames that are sent again in one packet.
const maxDepth = 3

// repairDepth chooses how many older frames each packet of one link carries
// again, from what the far side reports. Independent losses of probability p
// leave p^(depth+1); the limits below keep that under 1 % up to p = 31 %
// (DESIGN section 6). The zero value repairs nothing. For one goroutine at a
// time.
type repairDepth struct {
	depth          int
	frames, losses float64 // of about the last 3 s
	high           time.Time
	last           struct {
		ok             bool
		received, lost uint32
	}
}

// depthLimits[d] is the highest loss that depth d still repairs to 1 %:
// 0.01^(1/(d+1)).
var depthLimits = [maxDepth]float64{0.01, 0.10, 0.215}

const (
	depthMemory = 0.85            // weight of the past, per report of 500 ms
	depthLinger = 5 * time.Second // how long a lower loss must last
	depthLeast  = 8               // frames before a ratio means something
)

// report takes the far side's counts, cumulative modulo 2^32: frames received
// in any copy, frames lost for good, and frames lost before repair.
func (d *repairDepth) report(now time.Time, received, lost, unaided uint32) int {
	total := received + lost
	newFrames, newLosses := int32(total-d.last.received), int32(unaided-d.last.lost)
	known := d.last.ok
	d.last.ok, d.last.received, d.last.lost = true, total, unaided
	if !known || newFrames <= 0 || newLosses < 0 {
		return d.depth // nothing was said, or the far side begins anew
	}
	d.frames = d.frames*depthMemory + float64(newFrames)
	d.losses = d.losses*depthMemory + float64(newLosses)
	if d.frames < depthLeast {
		return d.depth
	}
	loss := d.losses / d.frames
	if needed := depthFor(loss); needed > d.depth {
		d.depth, d.high = needed, now
	} else if depthFor(loss*1.3) >= d.depth {
		d.high = now
	} else if now.Sub(d.high) >= depthLinger {
		d.depth--
		d.high = now
	}
	return d.depth
}

func depthFor(loss float64) int {
	for depth, limit := range depthLimits {
		if loss <= limit {
			return depth
		}
	}
	return maxDepth
}
