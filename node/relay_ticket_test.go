package node

import (
	"net/netip"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"teahouse/internal/mesh"
	"teahouse/internal/mesh/meshtest"
)

// A bootstrap with a ticket in the network's descriptor is a relay, those who
// hold the descriptor talk through it, and when a newer revision revokes it no
// packet goes there any more.
func TestTicketsMakeRelays(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		c := newCommune(t)
		boot := c.config(t, c.first)
		boot.Bootstrap = true
		relay := startNode(t, boot)
		// The relay's address, and those of a second bootstrap that is none.
		other := c.config(t, c.first)
		other.Bootstrap = true
		second := startNode(t, other)
		ticket := RelayTicket{NamedNode: named(t, relay), Expires: time.Now().Truncate(time.Second).Add(time.Hour)}
		d := c.revise(t, func(d *Descriptor) {
			d.Bootstraps = []NamedNode{named(t, second)}
			d.Relays = []RelayTicket{ticket}
		})
		for _, n := range []*Node{relay, second} {
			if err := n.Offer(d); err != nil {
				t.Fatal(err)
			}
		}
		both := make([]*Node, 2)
		for i := range both {
			both[i] = startNode(t, walled(c.config(t, d), always, netip.MustParseAddr("44.0.0.1"), netip.MustParseAddr("44.0.0.2")))
		}
		time.Sleep(10 * time.Second)
		for _, n := range both {
			if len(circuits(n)) != 1 {
				t.Fatalf("reachable at %v", n.Self().Addrs)
			}
		}
		p := openPair(t, both[0], both[1])
		eventually(t, "a path", func() bool {
			path, ok := p.a.Path()
			return ok && path.Carrier == mesh.Relayed && path.Via == relay.id
		})

		next := d.Revise(time.Now())
		next.Relays, next.Revoked = nil, []mesh.PeerID{relay.id}
		if err := second.Offer(c.sign(t, next)); err != nil {
			t.Fatal(err)
		}
		select {
		case <-p.a.Done():
		case <-time.After(time.Minute):
			t.Error("the session goes on through a relay that was revoked")
		}
		eventually(t, "all addresses through it to be gone", func() bool {
			return len(circuits(both[0])) == 0 && len(circuits(both[1])) == 0
		})
		for _, n := range both {
			if conns := n.host.Network().ConnsToPeer(peer.ID(relay.id)); len(conns) != 0 {
				t.Errorf("still connected with the relay: %v", conns)
			}
		}
		if _, err := both[0].Open(within(t, 10*time.Second), both[1].Self(), testDoor); err == nil {
			t.Error("a session was opened through nobody")
		}
	})
}
