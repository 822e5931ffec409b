package voice

import (
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
	if !p.begun {
		return MemberStats{}, false
	}
	return MemberStats{
		Member: p.member,
		Sent:   p.sent + uint64(p.highest-p.first) + 1,
		Stats:  p.receiver.Stats(),
	}, true
}

// MouthToEar estimates the delay from a sample's capture at m's microphone to
// its playing here, over a path of the round trip rtt: capture latency, one
// frame, half the round trip, playout, limiter, speaker latency. The sender's
// devices are not known here and are taken to be like ours; tests measure by
// sound.
func (v *Voice) MouthToEar(m MemberStats, rtt time.Duration) time.Duration {
	return v.latency.microphone() + v.latency.frame() + rtt/2 + m.Delay + audio.LimiterDelay + v.latency.speaker()
}
