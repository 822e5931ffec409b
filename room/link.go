package room

import (
	"sync"
	"sync/atomic"
	"time"

	"teahouse/internal/mesh"
)

const (
	// reportEvery is how often each link reports, talking or not.
	reportEvery = 500 * time.Millisecond
	// A link is believed to be heard while a report came within reportSilence
	// that answers one of ours sent within answerSilence: what we send arrives.
	// Three reports in a row may be lost.
	reportSilence = 4 * reportEvery
	answerSilence = 6 * reportEvery
	// reportExtra is how many more reports may go between two that are due,
	// because there is news.
	reportExtra = 8
)

// link is one session's voice.
type link struct {
	// Constant.
	plane *plane
	net   mesh.Session

	voice atomic.Pointer[voice] // of the member at the far end; nil: packets are dropped
	depth atomic.Int32          // that we send with
	// What the link wants of the voice (flows.go): the thin flow, where it
	// cannot carry base; and whether its path is short and clean, and the loss
	// in percent.
	wantThin, short atomic.Bool
	loss            atomic.Int32
	// Guarded by the plane's mu: the flow that it takes, and what it may have.
	flow uint8
	wish wish
	// fading: the session's stream has ended.
	fading atomic.Bool

	mu       sync.Mutex
	sequence uint32 // of our last report
	extra    int    // sent since the last that was due
	sent     report
	came     time.Time // when the last report came; zero: none yet
	theirs   report    // that one
	answered time.Time // when we had sent what it answers
	hears    bool
	since    uint32 // the first report of ours that an answer must acknowledge for hears
	rtt      time.Duration
	repair   Repair
	quality  quality
	buf      [reportLen]byte
}

// packet takes what the link's socket brought.
func (l *link) packet(data []byte, arrival time.Time) {
	v := l.voice.Load()
	if v == nil || len(data) == 0 {
		return // nobody has proven to be there
	}
	switch data[0] {
	case packetVoice:
		v.take(data, arrival)
	case packetReport:
		l.takeReport(v, data, arrival)
	default:
		// Bundles too: no link has been granted forwarding.
		l.plane.count.packetsRefused.Add(1)
	}
}

// takeReport takes the far side's report and answers at once where the answer
// is news to it.
func (l *link) takeReport(v *voice, data []byte, arrival time.Time) {
	var in report
	if in.decode(data) != nil {
		l.plane.count.packetsRefused.Add(1)
		return
	}
	stats := l.net.Stats()
	path, _ := l.net.Path()
	l.mu.Lock()
	if !l.came.IsZero() && int32(in.Sequence-l.theirs.Sequence) <= 0 {
		l.mu.Unlock()
		return // overtaken by a later one, or a second copy
	}
	if in.Flow != l.theirs.Flow {
		l.repair.Skip() // these are counts of something else
	}
	l.theirs, l.came = in, arrival
	if in.Echo != 0 {
		ago := time.Duration(l.plane.clock(arrival)-in.Echo) * time.Microsecond
		if l.answered = arrival.Add(-ago); ago > time.Minute { // it made that up
			l.answered = time.Time{}
		}
		// RFC 3550 section 6.4.1: round trip = arrival - sent - held.
		if rtt := time.Duration(l.plane.clock(arrival)-in.Echo-in.Held) * time.Microsecond; rtt < time.Minute {
			if l.rtt == 0 {
				l.rtt = rtt
			}
			l.rtt += (rtt - l.rtt) / 4
		}
	}
	l.hears = in.Flags&reportHears != 0 && int32(in.Acknowledged-l.since) >= 0
	depth := l.repair.Report(arrival, in.tally(), stats.Queued)
	want := newWish(&l.repair, depth, path, &stats)
	short, loss := l.quality.report(arrival, &in, l.rtt)
	news := l.sent.Acknowledged == 0 || l.plane.holds(in.Epoch) != (l.sent.Flags&reportHears != 0)
	l.mu.Unlock()
	l.plane.allot(arrival, l, want, stats.Shared)
	l.short.Store(short && l.depth.Load() == 0)
	l.loss.Store(int32(loss))
	if news {
		l.sendReport(v, arrival, false)
	}
}

// sendReport sends a report, because it is due or because there is news.
func (l *link) sendReport(v *voice, now time.Time, due bool) {
	if !l.mayReport(due) {
		return
	}
	out := report{Depth: uint8(l.depth.Load()), Epoch: l.plane.sendTag(now)}
	v.describe(&out)

	l.mu.Lock()
	defer l.mu.Unlock()
	l.sequence++
	out.Sequence, out.SentAt = l.sequence, l.plane.clock(now)
	if !l.came.IsZero() {
		out.Acknowledged, out.Echo = l.theirs.Sequence, l.theirs.SentAt
		out.Held = uint32(max(0, now.Sub(l.came).Microseconds()))
		if l.plane.holds(l.theirs.Epoch) {
			out.Flags |= reportHears
		}
	}
	l.sent = out
	// What cannot be sent is counted by the link.
	_ = l.net.SendPacket(out.append(l.buf[:0]))
}

// mayReport counts a report and tells whether it may go.
func (l *link) mayReport(due bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if due {
		l.extra = 0
		return true
	}
	l.extra++
	return l.extra <= reportExtra
}

// unheard: what we send from now on is in an epoch that the far side may not
// hold, so it has to say again that it hears us.
func (l *link) unheard() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hears, l.since = false, l.sequence+1
}

// describe fills in how the voice arrives.
func (v *voice) describe(out *report) {
	v.mu.Lock()
	defer v.mu.Unlock()
	b := &v.receptions[v.flow]
	out.Flow = v.flow
	t := b.Tally()
	out.Highest, out.Received, out.Lost, out.LostBeforeRepair = b.highest, t.Received, t.Lost, t.Unaided
	out.Late, out.Jitter = uint32(b.late), uint32(b.jitter)
	out.LongestBurst, out.MeanBurst = b.takeLongest(), t.MeanBurst
}

// clock is what reports tell of a time: microseconds modulo 2^32, not 0.
func (p *plane) clock(at time.Time) uint32 { return max(1, uint32(at.Sub(p.start).Microseconds())) }

// hearsNow tells whether the far side hears us.
func (l *link) hearsNow(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hearsLocked(now)
}

// hearsLocked is called with mu held.
func (l *link) hearsLocked(now time.Time) bool {
	return l.hears && now.Sub(l.came) < reportSilence && now.Sub(l.answered) < answerSilence
}

// roundTrip is as reports measured it, 0 while unknown.
func (l *link) roundTrip() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rtt
}

// info fills in what the link knows of itself.
func (l *link) info(now time.Time) LinkInfo {
	i := LinkInfo{Peer: l.net.Peer(), Stats: l.net.Stats(), Depth: int(l.depth.Load())}
	i.Path, i.Up = l.net.Path()
	if v := l.voice.Load(); v != nil {
		i.Member = v.member
		v.mu.Lock()
		for f := range v.receptions {
			b := &v.receptions[f]
			i.Received, i.Lost = i.Received+b.received, i.Lost+b.lost
			i.Repaired, i.Late = i.Repaired+b.repaired, i.Late+b.late
		}
		v.mu.Unlock()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	i.RTT, i.Hears = l.rtt, l.hearsLocked(now)
	i.PeerReceived, i.PeerLost = uint64(l.theirs.Received), uint64(l.theirs.Lost)
	return i
}
