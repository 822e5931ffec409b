package node

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
)

// Times of remembering.
const (
	rememberLook  = 5 * time.Second // how often we look who is connected
	rememberWrite = time.Minute     // the shortest time between two writes
	// rememberTry is for how long after a start remembered peers are tried:
	// by then we have met somebody, or they are all gone.
	rememberTry = time.Hour
)

// remembered is the table with what surrounds it.
type remembered struct {
	store Memory
	dht   protocol.ID // what a node of this network speaks

	mu      sync.Mutex
	table   memory
	changed bool
	written time.Time
	closed  bool
}

// startRemembering reads whom we knew, tries them, and notes whom we meet.
func (n *Node) startRemembering(store Memory, nw Network) {
	r := &remembered{store: store, dht: dhtProtocol(nw), table: make(memory)}
	now := time.Now()
	b, err := store.Load()
	if err == nil && b != nil {
		var table memory
		if table, err = parseMemory(b, now); err == nil {
			r.table = table
		}
	}
	if err != nil {
		n.log.Warn("remembered peers were not readable, going on without", "err", err)
	}
	here, err := lans()
	if err != nil {
		n.log.Debug("interfaces not read", "err", err)
	}
	for _, id := range r.table.order() {
		n.heardOf(id, reachableFrom(here, r.table[id].addrs), netip.Addr{}, rememberTry)
	}
	n.remembered = r
	n.goTracked(func() {
		tick := time.NewTicker(rememberLook)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				r.look(n, time.Now())
			case <-n.ctx.Done():
				return
			}
		}
	})
}

// reachableFrom leaves out private addresses of other LANs than those we are
// on now: another machine may have them here, and is not to be told whom we
// are looking for.
func reachableFrom(here []lan, addrs []ma.Multiaddr) []ma.Multiaddr {
	return slices.DeleteFunc(slices.Clone(addrs), func(a ma.Multiaddr) bool {
		ip, ok := ipOf(a)
		if !ok {
			return true
		}
		local := ip.IsPrivate() || ip.IsLinkLocalUnicast()
		return local && !slices.ContainsFunc(here, func(l lan) bool { return l.onLink(ip) })
	})
}

// look notes who is connected and of this network, and writes at times.
func (r *remembered) look(n *Node, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.note(n, now)
	if r.changed && (r.written.IsZero() || now.Sub(r.written) >= rememberWrite) {
		r.write(n, now)
	}
}

// note requires mu.
func (r *remembered) note(n *Node, now time.Time) {
	for _, id := range n.host.Network().Peers() {
		// What a peer speaks is known from its own lips, after the handshake.
		spoken, err := n.host.Peerstore().SupportsProtocols(id, r.dht)
		if err != nil || len(spoken) == 0 {
			continue
		}
		if r.table.note(now, id, n.provenAddrs(id)) {
			r.changed = true
		}
	}
}

// write requires mu.
func (r *remembered) write(n *Node, now time.Time) {
	r.written = now
	if err := r.store.Store(r.table.marshal()); err != nil {
		n.log.Warn("peers not remembered", "err", err)
		return
	}
	r.changed = false
}

// close writes a last time. r may be nil.
func (r *remembered) close(n *Node) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.closed = true
	r.note(n, time.Now())
	if r.changed {
		r.write(n, time.Now())
	}
}

// provenAddrs are addresses of a connected peer: first those by which we
// reached it, then what it says of itself.
func (n *Node) provenAddrs(id peer.ID) []ma.Multiaddr {
	var out []ma.Multiaddr
	add := func(a ma.Multiaddr) {
		if bare, _ := peer.SplitAddr(a); bare != nil && kindOf(bare) != 0 && !slices.ContainsFunc(out, bare.Equal) {
			out = append(out, bare)
		}
	}
	for _, c := range n.host.Network().ConnsToPeer(id) {
		if c.Stat().Direction == network.DirOutbound && !c.Stat().Limited {
			add(c.RemoteMultiaddr())
		}
	}
	slices.SortFunc(out, func(a, b ma.Multiaddr) int { return a.Compare(b) })
	said := n.host.Peerstore().Addrs(id)
	slices.SortFunc(said, func(a, b ma.Multiaddr) int { return a.Compare(b) })
	for _, a := range usable(said) {
		add(a)
	}
	return out
}
