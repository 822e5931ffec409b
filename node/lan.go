package node

import (
	"cmp"
	"net"
	"net/netip"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// maxLANs bounds how many interfaces mDNS works on.
const maxLANs = 16

// lan is one interface of this machine that has neighbours.
type lan struct {
	index    int
	name     string
	prefixes []netip.Prefix // own addresses with the length of their subnet
}

// lans are the interfaces that are up and know multicast, but loopback and
// those with one far end.
func lans() ([]lan, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var out []lan
	for _, ifi := range all {
		if ifi.Flags&(net.FlagUp|net.FlagMulticast|net.FlagLoopback|net.FlagPointToPoint) != net.FlagUp|net.FlagMulticast {
			continue
		}
		addrs, err := ifi.Addrs()
		if err != nil {
			continue // it has just gone
		}
		l := lan{index: ifi.Index, name: ifi.Name}
		for _, a := range addrs {
			if p, ok := prefixOf(a); ok && neighbourly(p.Addr()) {
				l.prefixes = append(l.prefixes, p)
			}
		}
		if len(l.prefixes) > 0 && len(out) < maxLANs {
			slices.SortFunc(l.prefixes, func(a, b netip.Prefix) int {
				return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
			})
			out = append(out, l)
		}
	}
	return out, nil
}

func prefixOf(a net.Addr) (netip.Prefix, bool) {
	n, ok := a.(*net.IPNet)
	if !ok {
		return netip.Prefix{}, false
	}
	ip, ok := netip.AddrFromSlice(n.IP)
	bits, _ := n.Mask.Size()
	return netip.PrefixFrom(ip.Unmap(), bits), ok
}

// neighbourly tells whether mDNS may say or believe an address. IPv6
// link-local ones mean nothing in a multiaddr without their zone; IPv4 ones
// (RFC 3927) are what two machines have that share a cable and nothing else.
func neighbourly(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() &&
		(a.Is4() || !a.Is4In6() && !a.IsLinkLocalUnicast())
}

// linkLocal is what every IPv6 link has beside its other subnets: its machines
// hear the group from there, too.
var linkLocal = netip.MustParsePrefix("fe80::/64")

// keep leaves the families of addresses all of whose machines on the link
// allowed, which may be nil, allows: multicast reaches them all.
func (l *lan) keep(allowed func(netip.Prefix) error) {
	if allowed == nil {
		return
	}
	refused := map[bool]bool{false: allowed(linkLocal) != nil} // by whether it is IPv4
	for _, p := range l.prefixes {
		if ipv4 := p.Addr().Is4(); allowed(p) != nil {
			refused[ipv4] = true
		}
	}
	l.prefixes = slices.DeleteFunc(slices.Clone(l.prefixes), func(p netip.Prefix) bool { return refused[p.Addr().Is4()] })
}

// has tells whether the interface has addresses of a's family.
func (l *lan) has(ipv4 bool) bool {
	return slices.ContainsFunc(l.prefixes, func(p netip.Prefix) bool { return p.Addr().Is4() == ipv4 })
}

// onLink tells whether a lies on one of the interface's subnets.
func (l *lan) onLink(a netip.Addr) bool {
	return slices.ContainsFunc(l.prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// neighbour tells whether a packet may have come from the interface's link
// (RFC 6762 section 11).
func (l *lan) neighbour(source netip.Addr) bool {
	return l.onLink(source) || source.Is6() && source.IsLinkLocalUnicast()
}

// announced is where a node that listens on these addresses is reached from
// the interface's link: what mDNS says there.
func (l *lan) announced(listen []ma.Multiaddr) []ma.Multiaddr {
	var out []ma.Multiaddr
	for _, a := range listen {
		at, ok := ipOf(a)
		if !ok || kindOf(a) == 0 {
			continue
		}
		for _, p := range l.prefixes {
			ip := p.Addr()
			if ip.Is4() != at.Is4() || !at.IsUnspecified() && at != ip {
				continue
			}
			if b, ok := withIP(a, ip); ok && !slices.ContainsFunc(out, b.Equal) {
				out = append(out, b)
			}
		}
	}
	out = inOrder(out)
	return out[:min(len(out), maxMDNSAddrs)]
}

// withIP is a with another IP address.
func withIP(a ma.Multiaddr, ip netip.Addr) (ma.Multiaddr, bool) {
	base, err := manet.FromIP(ip.AsSlice())
	if err != nil {
		return nil, false
	}
	_, rest := ma.SplitFirst(a)
	return base.Encapsulate(rest), true
}

// believed is what we take of an answer from the interface's link: addresses
// of one peer that lie on that link.
func (l *lan) believed(addrs []string) (peer.AddrInfo, bool) {
	var out peer.AddrInfo
	for _, s := range addrs {
		info, err := parsePeer(s)
		if err != nil || out.ID != "" && info.ID != out.ID {
			continue
		}
		ip, ok := ipOf(info.Addrs[0])
		if !ok || !neighbourly(ip) || !l.onLink(ip) || len(out.Addrs) >= maxMDNSAddrs {
			continue
		}
		out.ID = info.ID
		out.Addrs = append(out.Addrs, info.Addrs[0])
	}
	return out, len(out.Addrs) > 0
}
