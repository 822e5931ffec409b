package node

import (
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
)

// What a node has put into the DHT goes stale when its addresses change, and
// when the machine has slept: timers stand still then, and the records it put
// have run out meanwhile.

const (
	clockPoll = 10 * time.Second
	// clockJump is by how much the clock may differ from the time that passed
	// before we take it that the machine slept or the clock was set.
	clockJump = 30 * time.Second
)

// jumped tells whether the clock went from last to now by another step than
// the monotonic clock, which stands still in sleep.
func jumped(last, now time.Time) bool {
	return jumpedBy(now.Round(0).Sub(last.Round(0)), now.Sub(last)) // Round drops the monotonic reading
}

// jumpedBy is jumped for what passed by the two clocks.
func jumpedBy(wall, monotonic time.Duration) bool {
	off := wall - monotonic
	return off > clockJump || off < -clockJump
}

// startWatch begins to look for both.
func (n *Node) startWatch() error {
	sub, err := n.host.EventBus().Subscribe(new(event.EvtLocalAddressesUpdated))
	if err != nil {
		return fmt.Errorf("watch addresses: %w", err)
	}
	watch := func() {
		defer func() { _ = sub.Close() }() // it only fails when closed twice
		tick := time.NewTicker(clockPoll)
		defer tick.Stop()
		last := time.Now()
		for {
			select {
			case <-sub.Out():
				n.log.Debug("addresses have changed")
				n.booted.fire()
			case <-tick.C:
				now := time.Now()
				if jumped(last, now) {
					n.log.Debug("the clock has jumped")
					n.booted.fire()
				}
				last = now
			case <-n.ctx.Done():
				return
			}
		}
	}
	if !n.goTracked(watch) {
		_ = sub.Close()
	}
	return nil
}
