package node

import (
	"math"
	"time"
)

// Rate control of one link's voice datagrams, which have no congestion control
// under them. A pure policy: it gets samples and the time, reads no clock, and
// answers how many bytes a second may go.
//
//	every 500 ms of talk: RTT, loss, what was sent      (path checks, check.go)
//	  1. a queue grows: the least RTT of the sample is 50 ms above the path's own
//	       -> 85 % of what arrives
//	  2. over 10 % are lost: what is sent, less half of the loss
//	  3. else 8 % and 8 kB/s more each second
//	  never less than rateFloor, never more than rateMost
//	  4. breaker: ten times what TCP would get, for 10 s -> no datagrams for a minute
//
// Steps 1 to 3 are those of draft-ietf-rmcat-gcc-02 sections 5.5 and 6, with a
// threshold that does not adapt: what is judged is a standing queue (the least
// of many), not a gradient. Loss alone takes nothing from ordinary talk, where
// it is mostly radio and repair is the answer to it: the floor is above that.
const (
	// rateFloor carries a voice of 32 kbit/s in 20 ms frames with repair depth
	// 3, reports, and a quarter to spare: 192 kbit/s with all headers (DESIGN
	// section 6). Bytes per second.
	rateFloor = 32_000
	// rateMost is what the peer's token bucket takes. Bytes per second.
	rateMost = bucketBytes
	// rateBurst is how much may go at once, of a permitted second.
	rateBurst = 250 * time.Millisecond

	rateQueue   = 50 * time.Millisecond // a standing queue
	rateBackOff = 0.85
	rateLossy   = 0.1
	rateGrowth  = 0.08  // a second
	rateStep    = 8_000 // bytes per second, each second
	// rateBaseLife is how long the least round trip is remembered at least, and
	// half of the most (RFC 6817 section 3.4.2 has ten minutes): a download that
	// keeps the queue full for longer would become what the path is like. Being
	// wrong is cheap: talk fits below the floor.
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
	loss    float64       // 0 to 1, on the way there
	packets uint64        // that the room wanted to send
	bytes   uint64        // of these
}

// rateControl is the policy. The zero value permits rateMost.
type rateControl struct {
	permitted float64 // bytes per second; 0: not yet known, rateMost

	spent   float64 // of the burst, in bytes
	spentAt time.Time

	base, before time.Duration // the least RTT of this rateBaseLife and the one before
	baseSince    time.Time

	smoothedLoss float64
	smoothedRTT  time.Duration
	overSince    time.Time // when the breaker's condition began to hold
	brokenUntil  time.Time
}

// rate is how many bytes a second are permitted.
func (c *rateControl) rate() float64 {
	if c.permitted == 0 {
		return rateMost
	}
	return c.permitted
}

// take asks to send a packet of n bytes at now.
func (c *rateControl) take(now time.Time, n int) bool {
	rate := c.rate()
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

// observe takes a sample that ended at now.
func (c *rateControl) observe(now time.Time, s rateSample) {
	queue := s.rtt - c.baseOf(now, s.rtt)
	seconds := s.elapsed.Seconds()
	sent := min(float64(s.bytes)/seconds, c.rate())
	next := c.rate()
	switch {
	case queue > rateQueue:
		next = min(next, rateBackOff*sent*(1-s.loss))
	case s.loss > rateLossy:
		next = min(next, sent*(1-s.loss/2))
	default:
		next += (next*rateGrowth + rateStep) * seconds
	}
	c.permitted = min(max(next, rateFloor), rateMost)
	c.judge(now, s)
}

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
		*c = rateControl{permitted: rateFloor, brokenUntil: now.Add(breakerRest)}
	}
}

// broken tells whether the breaker is open at now.
func (c *rateControl) broken(now time.Time) bool { return now.Before(c.brokenUntil) }

// rateMeter makes samples out of single answers.
type rateMeter struct {
	packets, bytes uint64 // since the last sample, as the room wanted

	since time.Time
	first tally // when the sample began
	rtt   time.Duration
}

const (
	// A sample takes sampleTime and samplePackets at least, unless it takes
	// sampleMost.
	sampleTime    = 500 * time.Millisecond
	sampleMost    = 5 * time.Second
	samplePackets = 20
)

// add takes an answer; full tells that a sample is complete.
func (m *rateMeter) add(got tally, rtt time.Duration, now time.Time) (s rateSample, full bool) {
	due := got.highest - m.first.highest
	if m.since.IsZero() || int32(due) < 0 {
		if m.since.IsZero() {
			*m = rateMeter{since: now, first: got}
		}
		return rateSample{}, false // the first, or overtaken by a later one
	}
	if m.rtt == 0 || rtt < m.rtt {
		m.rtt = rtt
	}
	elapsed := now.Sub(m.since)
	if elapsed < sampleTime || due < samplePackets && elapsed < sampleMost {
		return rateSample{}, false
	}
	s = rateSample{elapsed: elapsed, rtt: m.rtt, packets: m.packets, bytes: m.bytes}
	if due > 0 {
		s.loss = min(max(1-float64(got.received-m.first.received)/float64(due), 0), 1)
	}
	*m = rateMeter{since: now, first: got}
	return s, true
}
