package node

import (
	"math"
	"time"
)

// Rate control of voice datagrams, which have no congestion control under them.
// Pure policies: they get samples and the time, read no clock, and answer how
// many bytes a second may go.
//
//	every 500 ms of talk: RTT, loss, what was sent      (path checks, check.go)
//	  1. a queue stands: the least RTT of the sample is 50 ms above the path's
//	     own, and more than RTTs differ by chance, in the sample and from one to
//	     the next (up and down): a lossy path may give one answer in a sample
//	       -> 85 % of what arrives
//	  2. it stands for 5 s, or 2 s where we had sent as much without one: it is
//	     others' too
//	       -> no less than a TCP would get at what it loses (RFC 5348 section 1),
//	     up to rateFloor for one link
//	  3. no queue, but over 10 % lost: what is sent, less half of the loss, and
//	     no less than rateFloor: loss alone is mostly radio, and repair answers it
//	  4. else more: 8 % a second, and 2 % where the last queue began
//	  5. breaker: ten times what TCP would get, for 10 s -> no datagrams for a minute
//
// Steps 1, 3 and 4 are those of draft-ietf-rmcat-gcc-02 sections 5.5 and 6, with a
// standing queue (the least of many) in place of a gradient; that two bad signs
// are told apart is NADA's way (RFC 8698 section 4.2), and that who is beside
// a TCP must not be driven out by its queue is the reason of GCC's moving
// threshold (section 5.4). The answer binds nobody below rateFloor: it is the
// room that gives up repair, and then the thin flow, to need less
// (room/allot.go). What is over the answer and the floor is dropped.
const (
	// rateFloor carries a voice of 32 kbit/s in 20 ms frames with repair depth
	// 3, reports, and a quarter to spare: 192 kbit/s with all headers (DESIGN
	// section 6). Bytes per second.
	rateFloor = 32_000
	// rateLeast is the least that is ever answered: a thin voice of 24 kbit/s.
	rateLeast = 3_000
	// rateMost is what the peer's token bucket takes. Bytes per second.
	rateMost = bucketBytes
	// rateBurst is how much may go at once, of a permitted second.
	rateBurst = 250 * time.Millisecond

	rateQueue = 50 * time.Millisecond // a standing queue
	// rateTurns is how many of its mean turns a round trip may be above the least
	// by chance alone: with even jitter both ways none is over 8.5.
	rateTurns   = 10
	rateBackOff = 0.85
	rateLossy   = 0.1
	rateGrowth  = 0.08  // a second
	rateStep    = 8_000 // bytes per second, each second, from rateFloor on
	rateStepLow = 2_000 // the same below it, where a step of repair is 5,000
	rateNear    = 0.02  // a second, from kneeFrom to kneeTo of what arrived when the last queue stood
	kneeFrom    = 0.9
	kneeTo      = 1.1
	// A queue that began while we sent no more than provenFor of what had gone
	// without one is probably not ours; either kind is not where it outlasts
	// our sending less: to drain 300 ms takes 3 s where a tenth is given up.
	provenFor  = 1.1
	rateForget = 0.98 // of what is proven, per sample
	rateRival  = 2 * time.Second
	rateOurs   = 5 * time.Second

	rateSmooth   = 8      // samples that losses are smoothed over
	rateSegment  = 1460.0 // bytes of a TCP segment
	rateLeastTCP = 0.001  // loss; a TCP with none would take all
	// rateBaseLife is how long the least round trip is remembered at least, and
	// half of the most (RFC 6817 section 3.4.2 has ten minutes): a download that
	// keeps the queue full for longer would become what the path is like.
	rateBaseLife = 5 * time.Minute

	// breakerFactor and the equation are those of RFC 8083 section 4.3.
	// breakerAfter is longer than the three reporting intervals asked for there.
	breakerFactor = 10
	breakerAfter  = 10 * time.Second
	breakerRest   = time.Minute
)

// rateSample is what one interval of a path has shown.
type rateSample struct {
	elapsed time.Duration
	rtt     time.Duration // the least
	spread  time.Duration // by how much the mean RTT is above it
	turns   time.Duration // how far RTTs go up and down again, on average
	loss    float64       // 0 to 1, on the way there
	packets uint64        // that the room wanted to send
	bytes   uint64        // of these that were let go
}

// budget is how much may go over a path, or over all together. The zero value
// permits rateMost.
type budget struct {
	permitted float64   // bytes per second; 0: not yet known, rateMost
	knee      float64   // what arrived when our own queue stood; 0: none did
	queued    time.Time // since when a queue stands; zero: none does
	ours      bool      // it began when more was sent than had gone without one
	proven    float64   // the most that went without a queue lately, bytes per second
	chance    float64   // loss while there is no queue, smoothed
	excess    float64   // loss beyond that, smoothed
	fair      float64   // the most to claim beside others; 0: rateFloor
}

// rate is how many bytes a second are permitted.
func (b *budget) rate() float64 {
	if b.permitted == 0 {
		return rateMost
	}
	return b.permitted
}

// observe takes a sample that ended at now, of which so many bytes a second
// were sent; queued tells that a queue stands.
func (b *budget) observe(now time.Time, s rateSample, sent float64, queued bool) {
	excess := 0.0
	switch {
	case !queued:
		b.queued = time.Time{}
		b.chance += (s.loss - b.chance) / rateSmooth
		b.proven = max(sent, b.proven*rateForget)
	case b.queued.IsZero():
		b.queued, b.ours = now, sent > provenFor*b.proven
		fallthrough
	default:
		excess = max(0, s.loss-b.chance)
	}
	b.excess += (excess - b.excess) / rateSmooth
	next, seconds := b.rate(), s.elapsed.Seconds()
	faster := next + (next*rateGrowth+rateStepLow)*seconds
	switch arrives := sent * (1 - excess); {
	case queued && now.Sub(b.queued) >= b.rivalAfter():
		next = max(min(next, rateBackOff*arrives), min(max(faster, b.proven), tcpRate(b.excess, s.rtt), max(b.fair, rateFloor)))
		b.knee = 0
	case queued:
		b.knee = arrives
		next = min(next, rateBackOff*arrives)
	case s.loss > rateLossy:
		next = max(min(next, sent*(1-s.loss/2)), min(faster, rateFloor))
	case next > kneeFrom*b.knee && next < kneeTo*b.knee:
		next += next * rateNear * seconds
	case next < rateFloor:
		next = faster
	default:
		next += (next*rateGrowth + rateStep) * seconds
	}
	b.permitted = min(max(next, rateLeast), rateMost)
}

// rivalAfter is how long a queue must stand to be somebody else's.
func (b *budget) rivalAfter() time.Duration {
	if b.ours {
		return rateOurs
	}
	return rateRival
}

// tcpRate is what a TCP would get at most, in bytes per second, by the simple
// equation of RFC 8083 section 4.3: 1 / (R sqrt(2p/3)) segments a second.
func tcpRate(loss float64, rtt time.Duration) float64 {
	return rateSegment / (rtt.Seconds() * math.Sqrt(2*max(loss, rateLeastTCP)/3))
}

// told is how the room is told of a budget: 0 for no limit.
func (b *budget) told() uint64 {
	if b.rate() >= rateMost {
		return 0
	}
	return uint64(b.rate())
}

// rateControl is the policy of one link. The zero value permits rateMost.
type rateControl struct {
	budget

	spent   float64 // of the burst, in bytes
	spentAt time.Time

	base, before time.Duration // the least RTT of this rateBaseLife and the one before
	baseSince    time.Time

	smoothedLoss float64
	smoothedRTT  time.Duration
	overSince    time.Time // when the breaker's condition began to hold
	brokenUntil  time.Time

	common float64 // what all links of the node may send; 0: no limit known
}

// take asks to send a packet of n bytes at now.
func (c *rateControl) take(now time.Time, n int) bool {
	rate := c.rate()
	if c.common > 0 {
		rate = min(rate, c.common)
	}
	rate = max(rate, rateFloor)
	if d := now.Sub(c.spentAt); d > 0 {
		c.spent = max(0, c.spent-rate*d.Seconds())
		c.spentAt = now
	}
	if c.spent+float64(n) > rate*rateBurst.Seconds() {
		return false
	}
	c.spent += float64(n)
	return true
}

// queue tells whether a queue stands on the path by a sample that ended at now.
func (c *rateControl) queue(now time.Time, s rateSample) bool {
	return s.rtt-c.baseOf(now, s.rtt) > max(rateQueue, s.spread, rateTurns*s.turns)
}

// observe takes a sample that ended at now; queued tells that a queue stands
// that is this path's own.
func (c *rateControl) observe(now time.Time, s rateSample, queued bool) {
	c.budget.observe(now, s, min(float64(s.bytes)/s.elapsed.Seconds(), max(c.rate(), rateFloor)), queued)
	c.judge(now, s)
}

// forgetBase takes the path as it is now for the path without a queue.
func (c *rateControl) forgetBase() { c.base, c.before, c.baseSince = 0, 0, time.Time{} }

// baseOf is the RTT of the path without a queue: the least of the last
// rateBaseLife to twice that.
func (c *rateControl) baseOf(now time.Time, rtt time.Duration) time.Duration {
	if now.Sub(c.baseSince) > rateBaseLife {
		c.before, c.base, c.baseSince = c.base, rtt, now
	}
	c.base = min(c.base, rtt)
	if c.before == 0 {
		return c.base
	}
	return min(c.base, c.before)
}

// judge opens the breaker when more goes, for long, than ten times what TCP
// would get at this loss and round trip: packets a second > 10 / (R sqrt(2p/3)).
func (c *rateControl) judge(now time.Time, s rateSample) {
	if c.smoothedRTT == 0 {
		c.smoothedRTT = s.rtt
	}
	c.smoothedRTT += (s.rtt - c.smoothedRTT) / 4
	c.smoothedLoss += (s.loss - c.smoothedLoss) / 4
	tcp := 1 / (c.smoothedRTT.Seconds() * math.Sqrt(2*c.smoothedLoss/3)) // +Inf without loss
	switch {
	case float64(s.packets)/s.elapsed.Seconds() <= breakerFactor*tcp:
		c.overSince = time.Time{}
	case c.overSince.IsZero():
		c.overSince = now
	case now.Sub(c.overSince) >= breakerAfter:
		*c = rateControl{budget: budget{permitted: rateFloor}, brokenUntil: now.Add(breakerRest)}
	}
}

// broken tells whether the breaker is open at now.
func (c *rateControl) broken(now time.Time) bool { return now.Before(c.brokenUntil) }
