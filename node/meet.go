package node

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	ma "github.com/multiformats/go-multiaddr"

	"teahouse/internal/mesh"
)

// Peers that nobody named on the command line, but that may be there: heard of
// by mDNS, or remembered from the days before. They are tried with back-off
// for as long as what we know of them holds.

// Bounds of the table of acquaintances.
const (
	maxAcquaintances = 256
	// maxPerSource bounds what one machine of the LAN can put into the table.
	maxPerSource = 16
	// maxAcquaintanceAddrs bounds the addresses kept of one.
	maxAcquaintanceAddrs = 8
	meetAtOnce           = 4
	meetTimeout          = 5 * time.Second
	meetPause            = 500 * time.Millisecond // between two looks at the table
	meetMin              = 2 * time.Second
	meetMax              = 2 * time.Minute
	// enoughPeers in the routing table: the DHT finds the others from there.
	enoughPeers = 32
)

// acquaintance is one peer that may be there.
type acquaintance struct {
	addrs   []ma.Multiaddr
	source  netip.Addr // the machine that told us; zero if we remember
	expires time.Time
	next    time.Time     // not tried before
	delay   time.Duration // after the next failure; 0 before the first
	trying  bool
}

// acquaintances is the table: pure state, it reads no clock.
type acquaintances map[peer.ID]*acquaintance

// add takes in what was heard of id, or renews it; false if there is no room.
// A peer is first tried at first.
func (t acquaintances) add(now, first time.Time, id peer.ID, addrs []ma.Multiaddr, source netip.Addr, life time.Duration) bool {
	addrs = addrs[:min(len(addrs), maxAcquaintanceAddrs)]
	a := t[id]
	if a == nil {
		if !t.makeRoom(now, source) {
			return false
		}
		a = &acquaintance{next: first, source: source}
		t[id] = a
	}
	if !sameAddrs(a.addrs, addrs) {
		// Another address is another chance, but no reason to hurry.
		a.addrs, a.delay = slices.Clone(addrs), 0
	}
	if until := now.Add(life); until.After(a.expires) {
		a.expires = until
	}
	return true
}

// makeRoom drops what has run out and, in a full table, one that was tried in
// vain.
func (t acquaintances) makeRoom(now time.Time, source netip.Addr) bool {
	ofSource := 0
	var failed peer.ID
	for id, a := range t {
		switch {
		case a.trying:
		case !now.Before(a.expires):
			delete(t, id)
			continue
		case a.delay > 0 && (failed == "" || a.next.After(t[failed].next)):
			failed = id
		}
		if a.source == source && source.IsValid() {
			ofSource++
		}
	}
	if ofSource >= maxPerSource {
		return false
	}
	if len(t) >= maxAcquaintances && failed != "" {
		delete(t, failed)
	}
	return len(t) < maxAcquaintances
}

// forget drops id, unless it is being tried.
func (t acquaintances) forget(id peer.ID) {
	if a := t[id]; a != nil && !a.trying {
		delete(t, id)
	}
}

// due picks at most n peers to try now and marks them. Those that connected
// says are there wait for another time.
func (t acquaintances) due(now time.Time, n int, connected func(peer.ID) bool) []peer.AddrInfo {
	var out []peer.AddrInfo
	for id, a := range t {
		switch {
		case a.trying || now.Before(a.next):
		case !now.Before(a.expires):
			delete(t, id)
		case connected(id):
			a.delay = 0
		case len(out) < n:
			a.trying = true
			out = append(out, peer.AddrInfo{ID: id, Addrs: a.addrs})
		}
	}
	return out
}

// tried notes how a try ended.
func (t acquaintances) tried(now time.Time, id peer.ID, ok bool) {
	a := t[id]
	if a == nil {
		return
	}
	a.trying = false
	if ok {
		a.delay = 0
		a.next = now.Add(meetMin)
		return
	}
	a.delay = min(max(2*a.delay, meetMin), meetMax)
	a.next = now.Add(jitter(a.delay))
}

func sameAddrs(a, b []ma.Multiaddr) bool {
	return slices.EqualFunc(a, b, func(x, y ma.Multiaddr) bool { return x.Equal(y) })
}

// meeting is the table with what surrounds it.
type meeting struct {
	mu    sync.Mutex
	table acquaintances
	wake  chan struct{} // capacity 1
}

func newMeeting() *meeting {
	return &meeting{table: make(acquaintances), wake: make(chan struct{}, 1)}
}

// heardOf takes in a peer that may be there for life from now.
func (n *Node) heardOf(id peer.ID, addrs []ma.Multiaddr, source netip.Addr, life time.Duration) {
	if id == n.host.ID() || !validPeer(id) || len(addrs) == 0 {
		return
	}
	n.hearWhere(id, addrs, false) // a dead connection with it may still be counted as one
	now := time.Now()
	first := now
	if n.host.ID() > id {
		// Both have heard of each other: let one of the two begin.
		first = now.Add(300 * time.Millisecond)
	}
	n.meeting.mu.Lock()
	n.meeting.table.add(now, first, id, addrs, source, life)
	n.meeting.mu.Unlock()
	select {
	case n.meeting.wake <- struct{}{}:
	default:
	}
}

// goneFrom forgets a peer that the machine which told of it says is gone.
func (n *Node) goneFrom(id peer.ID, source netip.Addr) {
	n.meeting.mu.Lock()
	defer n.meeting.mu.Unlock()
	if a := n.meeting.table[id]; a != nil && a.source == source {
		n.meeting.table.forget(id)
	}
}

// keepMeeting tries acquaintances until the node closes.
func (n *Node) keepMeeting() {
	again := time.NewTimer(meetPause)
	defer again.Stop()
	slots := make(chan struct{}, meetAtOnce)
	connected := func(id peer.ID) bool { return n.host.Network().Connectedness(id) == network.Connected }
	for {
		n.meeting.mu.Lock()
		var due []peer.AddrInfo
		if n.dht.RoutingTable().Size() < enoughPeers {
			due = n.meeting.table.due(time.Now(), cap(slots)-len(slots), connected)
		}
		if len(n.meeting.table) > 0 { // else wake tells
			again.Reset(meetPause)
		}
		n.meeting.mu.Unlock()
		for _, info := range due {
			slots <- struct{}{} // there is room: this goroutine alone fills it
			if !n.goTracked(func() { n.meet(info); <-slots }) {
				return
			}
		}
		select {
		case <-n.meeting.wake:
		case <-again.C:
		case <-n.ctx.Done():
			return
		}
	}
}

// meet tries one acquaintance. A network stands on whoever is met, so a key
// that is provided is provided again.
func (n *Node) meet(info peer.AddrInfo) {
	ctx, cancel := context.WithTimeout(n.ctx, meetTimeout)
	defer cancel()
	// What the peer itself says of its addresses stays beside these.
	n.host.Peerstore().AddAddrs(info.ID, info.Addrs, peerstore.TempAddrTTL)
	n.swarm.Backoff().Clear(info.ID)
	err := n.host.Connect(ctx, info)
	n.meeting.mu.Lock()
	n.meeting.table.tried(time.Now(), info.ID, err == nil)
	n.meeting.mu.Unlock()
	if err != nil {
		n.log.Debug("acquaintance not reached", "peer", mesh.PeerID(info.ID), "err", err)
		return
	}
	n.log.Debug("connected to an acquaintance", "peer", mesh.PeerID(info.ID))
	n.awaitDHT(n.ctx, info.ID)
	n.booted.fire()
}
