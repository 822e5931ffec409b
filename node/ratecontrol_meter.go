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
	m.sum += rtt
	m.count++
	elapsed := now.Sub(m.since)
	if elapsed < sampleTime || due < samplePackets && elapsed < sampleMost {
		return rateSample{}, false
	}
	s = rateSample{elapsed: elapsed, rtt: m.rtt, spread: m.sum/time.Duration(m.count) - m.rtt, packets: m.packets, bytes: m.bytes}
	if due > 0 {
		s.loss = min(max(1-float64(got.received-m.first.received)/float64(due), 0), 1)
	}
	*m = rateMeter{since: now, first: got}
	return s, true
}
