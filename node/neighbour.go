package node

import (
	"context"
	"time"
)

// How often a node without neighbours looks whether it has one: the routing
// table says so to nobody. At first it is joining, where each moment counts.
const (
	neighbourSoon   = 5 * time.Millisecond
	neighbourSooner = 400 // times
	neighbourLater  = 200 * time.Millisecond
)

// awaitNeighbour waits until the DHT knows somebody to ask. A search without
// anybody ends at once with nothing, and whoever started it would come again
// only after a pause, when the first neighbour has long been there.
func (n *Node) awaitNeighbour(ctx context.Context) error {
	for looks := 0; n.dht.RoutingTable().Size() == 0; looks++ {
		wait := neighbourSoon
		if looks >= neighbourSooner {
			wait = neighbourLater
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
	return nil
}
