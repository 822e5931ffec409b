package node

import (
	"net/netip"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p-kbucket/peerdiversity"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// maxPerPrefix is how many peers of one /24 (IPv6: /48) the routing table
// takes, so that who owns a network does not own the table. Private and
// loopback addresses are exempt: on a LAN everybody shares a prefix.
const maxPerPrefix = 16

// diversity is the filter. libp2p's own groups IPv4 by /16 and takes three,
// too few for a campus.
type diversity struct {
	host host.Host

	mu     sync.Mutex
	groups map[netip.Prefix]int
	// inTable remembers what each peer was counted under: the filter's own
	// group keys are its own idea.
	inTable map[peer.ID][]netip.Prefix
}

var _ peerdiversity.PeerIPGroupFilter = (*diversity)(nil)

func newDiversity(h host.Host) *diversity {
	return &diversity{host: h, groups: make(map[netip.Prefix]int), inTable: make(map[peer.ID][]netip.Prefix)}
}

// Allow tells whether p may enter the routing table.
func (d *diversity) Allow(p peerdiversity.PeerGroupInfo) bool {
	prefixes := prefixesOf(d.PeerAddresses(p.Id))
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range prefixes {
		if d.groups[g] >= maxPerPrefix {
			return false
		}
	}
	return true
}

// Increment counts p, once per peer however many groups it is told of.
func (d *diversity) Increment(p peerdiversity.PeerGroupInfo) {
	prefixes := prefixesOf(d.PeerAddresses(p.Id))
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, counted := d.inTable[p.Id]; counted {
		return
	}
	d.inTable[p.Id] = prefixes
	for _, g := range prefixes {
		d.groups[g]++
	}
}

// Decrement forgets p.
func (d *diversity) Decrement(p peerdiversity.PeerGroupInfo) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range d.inTable[p.Id] {
		if d.groups[g]--; d.groups[g] <= 0 {
			delete(d.groups, g)
		}
	}
	delete(d.inTable, p.Id)
}

// PeerAddresses are where p is connected from.
func (d *diversity) PeerAddresses(p peer.ID) []ma.Multiaddr {
	var out []ma.Multiaddr
	for _, c := range d.host.Network().ConnsToPeer(p) {
		out = append(out, c.RemoteMultiaddr())
	}
	return out
}

// prefixesOf are the prefixes that public addresses among addrs lie in.
func prefixesOf(addrs []ma.Multiaddr) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range addrs {
		ip, ok := ipOf(a)
		if !ok || ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() {
			continue
		}
		bits := 24
		if ip.Is6() {
			bits = 48
		}
		if p, err := ip.Prefix(bits); err == nil && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}
