package node

import "time"

// The token bucket of one link (docs/protocol.md section 4).
const (
	bucketPackets = 400     // per second
	bucketBytes   = 1 << 20 // per second
	bucketBurst   = 100 * time.Millisecond
	// bucketPatience is how long a peer may stay over it: it is gone within 2 s.
	bucketPatience = time.Second
	// bucketAmount is how many packets over it end that patience: more than may
	// have waited in a socket's buffer (7 MB, where the kernel allows it) while
	// this machine was asleep.
	bucketAmount = 20_000
	// bucketCalm is how long nothing may be dropped for the patience to
	// start anew.
	bucketCalm = 500 * time.Millisecond
)

// bucket limits what one peer can make us do. The zero value is full.
type bucket struct {
	last           time.Time
	packets, bytes float64 // spent, in units of the limits above
	overSince      time.Time
	lastDrop       time.Time
	dropped        int // since overSince
}

// take asks for one packet of n bytes that arrived at now. ok is false if it
// must be dropped; abusive tells that the peer has been over the limit for
// bucketPatience, or by bucketAmount, and the session must end.
func (b *bucket) take(now time.Time, n int) (ok, abusive bool) {
	if d := now.Sub(b.last); d > 0 {
		b.packets = max(0, b.packets-bucketPackets*d.Seconds())
		b.bytes = max(0, b.bytes-bucketBytes*d.Seconds())
		b.last = now
	}
	const burst = float64(bucketBurst) / float64(time.Second)
	if b.packets+1 <= bucketPackets*burst && b.bytes+float64(n) <= bucketBytes*burst {
		b.packets++
		b.bytes += float64(n)
		return true, false
	}
	if now.Sub(b.lastDrop) > bucketCalm {
		b.overSince, b.dropped = now, 0
	}
	b.lastDrop = now
	b.dropped++
	return false, now.Sub(b.overSince) >= bucketPatience || b.dropped >= bucketAmount
}
