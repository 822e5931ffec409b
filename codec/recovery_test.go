package codec

import (
	"fmt"
	"testing"
	"time"
)

// Five seconds after a bad stretch the delay that stands in addition to the
// path (one frame, Opus' look-ahead of 6.5 ms, and the wait) is back to what it
// was before, within a tenth, wherever frames and Pulls stand to each other.
func TestRecovery(t *testing.T) {
	voice := speech(t)[:20*Rate]
	const from, to, lookAhead = 5 * time.Second, 9 * time.Second, 6500 * time.Microsecond
	for _, length := range []int{480, 960} {
		for _, bad := range []time.Duration{20 * ms, 40 * ms, 80 * ms, 150 * ms} {
			for _, loss := range []float64{0, 0.1} {
				t.Run(fmt.Sprintf("%dms/%v/%.0f", length/48, bad, 100*loss), func(t *testing.T) {
					for seed := range uint64(4) {
						rng := newRand(seed)
						r := NewReceiver(ReceiverConfig{})
						s := simulation{encoder: EncoderConfig{FrameSamples: length}, voice: voice, receiver: r}
						s.phase = time.Duration(rng.Float64() * 1e7)
						s.path = func(_ int, sent time.Duration) []time.Duration {
							switch {
							case sent < from || sent >= to:
								return []time.Duration{20 * ms}
							case rng.Float64() < loss:
								return nil
							}
							return []time.Duration{20*ms + time.Duration(rng.Float64()*float64(bad))}
						}
						var before, during, after time.Duration
						s.each = func(at time.Duration, _ []float32, _ Pulled) {
							d := time.Duration(length)*time.Second/Rate + lookAhead + r.Stats().Delay
							switch {
							case at < from:
								before = d
							case at < to:
								during = max(during, d)
							case at > to+5*time.Second && at < 20*time.Second:
								after = max(after, d)
							}
						}
						_, stats := s.run(t)
						if during < before+bad/3 {
							t.Errorf("seed %d: only %v in the bad stretch", seed, during)
						}
						if after > before+before/10 {
							t.Errorf("seed %d: %v before, up to %v, after 5 s still %v; stretched %v", seed, before, during, after, stats.StretchedDuration)
						}
					}
				})
			}
		}
	}
}
