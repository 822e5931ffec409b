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

	// steps outlives samples.
	steps rttSteps
}

// rttSteps is by how much round trips differ from one answer to the next, on
// average: what chance does on the path, and a queue, which fills and drains in
// many steps, hardly does (as RFC 3550 A.8, with the plain mean of the first).
// The zero value has seen nothing.
type rttSteps struct {
	last, mean time.Duration
	seen       int
}

func (s *rttSteps) add(rtt time.Duration) {
	if s.seen > 0 {
		s.mean += ((rtt - s.last).Abs() - s.mean) / time.Duration(min(s.seen, 16))
	}
	s.seen++
	s.last = rtt
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
			*m = rateMeter{since: now, first: got, steps: m.steps}
		}
		return rateSample{}, false // the first, or overtaken by a later one
	}
	if m.rtt == 0 || rtt < m.rtt {
		m.rtt = rtt
	}
	m.sum += rtt
	m.count++
	m.steps.add(rtt)
	elapsed := now.Sub(m.since)
	if elapsed < sampleTime || due < samplePackets && elapsed < sampleMost {
		return rateSample{}, false
	}
	s = rateSample{elapsed: elapsed, rtt: m.rtt, spread: m.sum/time.Duration(m.count) - m.rtt, step: m.steps.mean, packets: m.packets, bytes: m.bytes}
	if due > 0 {
		s.loss = min(max(1-float64(got.received-m.first.received)/float64(due), 0), 1)
	}
	*m = rateMeter{since: now, first: got, steps: m.steps}
	return s, true
}
