package voice

import (
	"slices"
	"time"

	"teahouse/codec"
	"teahouse/internal/audio"
	"teahouse/room"
)

// MemberStats is how one member's voice comes through, cumulative since they
// were first heard here, over all instances, in frames.
type MemberStats struct {
	Member room.Member
	// Sent is how many frames the member has made since the first that was
	// heard, told from their counters.
	Sent uint64
	codec.Stats
}

// tally is what MemberStats tell of a member who is not here.
type tally struct {
	member room.Member
	sent   uint64
	stats  codec.Stats
}

// pastMost is how many of those who have left are remembered, the last ones:
// twice as many as can be here.
const pastMost = 2 * room.MaxMembers

// past remembers the figures of those who have left, so that who comes back is
// not counted from nothing. The zero value is ready; guarded by Seat.people.
type past struct{ left []tally }

func (a *past) keep(t tally) {
	a.left = append(a.left, t)
	if len(a.left) > pastMost {
		a.left = slices.Delete(a.left, 0, 1)
	}
}

// take is the tally of a member who comes back, or an empty one.
func (a *past) take(m room.Member) tally {
	i := slices.IndexFunc(a.left, func(t tally) bool { return t.member == m })
	if i < 0 {
		return tally{}
	}
	t := a.left[i]
	a.left = slices.Delete(a.left, i, i+1)
	return t
}

// keep remembers the figures of p, who is being forgotten; for people's holder.
func (s *Seat) keep(p *person) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.tally(); t.sent > 0 {
		s.past.keep(t)
	}
}

// Stats are the members of this seat of whom a frame has come.
func (s *Seat) Stats() []MemberStats {
	var out []MemberStats
	for _, p := range *s.heard.Load() {
		if st, ok := p.stats(); ok {
			out = append(out, st)
		}
	}
	return out
}

func (p *person) stats() (MemberStats, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.tally()
	return MemberStats{Member: p.member, Sent: t.sent, Stats: t.stats}, t.sent > 0
}

// tally is what has happened in all; for mu's holder. What they sent is 0 until
// a frame has come.
func (p *person) tally() tally {
	t := tally{p.member, p.before.sent + p.sent, p.before.stats.Plus(p.receiver.Stats())}
	if p.begun {
		t.sent += uint64(p.highest-p.first) + 1
	}
	return t
}

// Level is how loud m was over the last 200 ms, -dBov: as heard, before volume
// and deafness, or as claimed where others are louder. 127 is silence.
func (s *Seat) Level(m room.Member) uint8 {
	if p := (*s.heard.Load())[m]; p != nil {
		return uint8(p.level.Load())
	}
	return audio.SilentLevel
}

// MouthToEar estimates the delay from a sample's capture at m's microphone to
// its playing here, over a path of the round trip rtt: capture latency, one
// frame, half the round trip, playout, limiter, speaker latency. The sender's
// devices are not known here and are taken to be like ours; tests measure by
// sound.
func (v *Voice) MouthToEar(m MemberStats, rtt time.Duration) time.Duration {
	return v.latency.microphone() + v.latency.frame() + rtt/2 + m.Delay + audio.LimiterDelay + v.latency.speaker()
}
