package node

import (
	"net/netip"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"

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

// A relay whose ticket ends while it runs is one no more: what goes through it
// ends, nobody gets a seat, and a newer descriptor with a longer ticket makes it
// one again.
func TestTicketEndsWhileRelaying(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		c := newCommune(t)
		boot := c.config(t, c.first)
		boot.Bootstrap = true
		relay := startNode(t, boot)
		ticketed := func(old *Descriptor, d time.Duration) *Descriptor {
			next := old.Revise(time.Now())
			ends := time.Now().Truncate(time.Second).Add(d)
			next.Relays = []RelayTicket{{NamedNode: named(t, relay), Expires: ends}}
			return c.sign(t, next)
		}
		relays := func() bool {
			relay.relaying.Lock()
			defer relay.relaying.Unlock()
			return relay.relaying.service != nil
		}
		circuitStreams := func() (count int) {
			for _, conn := range relay.host.Network().Conns() {
				for _, st := range conn.GetStreams() {
					if p := st.Protocol(); p == proto.ProtoIDv2Hop || p == proto.ProtoIDv2Stop {
						count++
					}
				}
			}
			return count
		}
		d := ticketed(c.first, 5*time.Minute)
		end := d.Relays[0].Expires
		if err := relay.Offer(d); err != nil {
			t.Fatal(err)
		}
		// What members hold says that the ticket goes on: the relay's own
		// watch is what is tried, not theirs.
		longer := *d
		longer.Relays = []RelayTicket{{NamedNode: d.Relays[0].NamedNode, Expires: end.Add(time.Hour)}}
		c.sign(t, &longer)
		both := make([]*Node, 2)
		for i := range both {
			both[i] = startNode(t, walled(c.config(t, &longer), always, netip.MustParseAddr("44.0.0.1")))
		}
		time.Sleep(10 * time.Second)
		p := openPair(t, both[0], both[1])
		eventually(t, "a path", func() bool {
			path, ok := p.a.Path()
			return ok && path.Carrier == mesh.Relayed && path.Via == relay.id
		})
		time.Sleep(time.Until(end) - time.Second)
		if !relays() || circuitStreams() == 0 || p.a.Err() != nil {
			t.Fatalf("before the ticket's end: relays %v, %d circuits, %v", relays(), circuitStreams(), p.a.Err())
		}
		time.Sleep(time.Second + ticketTick + 100*time.Millisecond)
		if relays() || circuitStreams() != 0 {
			t.Errorf("after the ticket's end: relays %v, %d circuits", relays(), circuitStreams())
		}
		select {
		case <-p.a.Done():
		case <-time.After(time.Minute):
			t.Error("the session goes on through a relay whose ticket has ended")
		}
		if _, err := both[0].Open(within(t, 10*time.Second), both[1].Self(), testDoor); err == nil {
			t.Error("a session was opened through a relay whose ticket has ended")
		}

		if err := relay.Offer(ticketed(d, time.Hour)); err != nil {
			t.Fatal(err)
		}
		if !relays() {
			t.Error("a new ticket makes no relay")
		}
	})
}
