package node

import "time"

// rateMeter makes samples out of single answers.
type rateMeter struct {
	packets, bytes uint64 // since the last sample, as in rateSample

	since time.Time
	first tally // when the sample began
	rtt   time.Duration
	sum   time.Duration // of all RTTs
	count int           // of them

	// turns outlives samples.
	turns rttTurns
}

// rttTurns is how much round trips go up and down again from one answer to the
// next, on average: what chance does on the path. A queue that fills or drains
// goes one way, so it hardly counts. The zero value has seen nothing.
type rttTurns struct {
	last, step, mean time.Duration
	seen             int
}

func (r *rttTurns) add(rtt time.Duration) {
	step, turn := rtt-r.last, time.Duration(0)
	if (step > 0) != (r.step > 0) {
		turn = min(step.Abs(), r.step.Abs())
	}
	if r.seen++; r.seen > 2 {
		r.mean += (turn - r.mean) / time.Duration(min(r.seen-2, 16))
	}
	if r.seen > 1 {
		r.step = step
	}
	r.last = rtt
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
			*m = rateMeter{since: now, first: got, turns: m.turns}
		}
		return rateSample{}, false // the first, or overtaken by a later one
	}
	if m.rtt == 0 || rtt < m.rtt {
		m.rtt = rtt
	}
	m.sum += rtt
	m.count++
	m.turns.add(rtt)
	elapsed := now.Sub(m.since)
	if elapsed < sampleTime || due < samplePackets && elapsed < sampleMost {
		return rateSample{}, false
	}
	s = rateSample{elapsed: elapsed, rtt: m.rtt, spread: m.sum/time.Duration(m.count) - m.rtt, turns: m.turns.mean, packets: m.packets, bytes: m.bytes}
	if due > 0 {
		s.loss = min(max(1-float64(got.received-m.first.received)/float64(due), 0), 1)
	}
	*m = rateMeter{since: now, first: got, turns: m.turns}
	return s, true
}
