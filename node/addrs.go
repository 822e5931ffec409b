package node

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"teahouse/internal/mesh"
)

var errDNS = errors.New("names are not looked up, because a name server would learn whom you talk to; give the IP address")

// parseAddr reads a multiaddr that this node may dial or listen on: an IP
// address with TCP or QUIC-v1, nothing that needs a name looked up.
func parseAddr(s string) (ma.Multiaddr, error) {
	if len(s) > 256 {
		return nil, errors.New("address is too long")
	}
	a, err := ma.NewMultiaddr(s)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", s, err)
	}
	for _, p := range a.Protocols() {
		switch p.Code {
		case ma.P_DNS, ma.P_DNS4, ma.P_DNS6, ma.P_DNSADDR:
			return nil, fmt.Errorf("address %q: %w", s, errDNS)
		}
	}
	if bare, _ := peer.SplitAddr(a); bare == nil || kindOf(bare) == 0 {
		return nil, fmt.Errorf("address %q is neither /ip4 nor /ip6 with /tcp/PORT or /udp/PORT/quic-v1", s)
	}
	return a, nil
}

// parseWhere reads an address that somebody says a peer has: as [parseAddr],
// or through a relay.
func parseWhere(s string) (ma.Multiaddr, error) {
	if len(s) <= 256 {
		if a, err := ma.NewMultiaddr(s); err == nil && isCircuit(a) {
			return a, nil
		}
	}
	return parseAddr(s)
}

// parsePeer reads a multiaddr that ends in /p2p/.
func parsePeer(s string) (peer.AddrInfo, error) {
	a, err := parseAddr(s)
	if err != nil {
		return peer.AddrInfo{}, err
	}
	bare, id := peer.SplitAddr(a)
	if id == "" {
		return peer.AddrInfo{}, fmt.Errorf("address %q does not say whose it is: /p2p/… is missing at its end", s)
	}
	if _, err := mesh.ParsePeerID([]byte(id)); err != nil {
		return peer.AddrInfo{}, fmt.Errorf("address %q: %w", s, err)
	}
	return peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{bare}}, nil
}

// kindOf tells which connection a reaches: onQUIC, onTCP, or 0 for neither.
func kindOf(a ma.Multiaddr) carrierSet {
	codes := make([]int, 0, 4)
	for _, p := range a.Protocols() {
		codes = append(codes, p.Code)
	}
	if len(codes) < 2 || codes[0] != ma.P_IP4 && codes[0] != ma.P_IP6 {
		return 0
	}
	switch {
	case slices.Equal(codes[1:], []int{ma.P_TCP}):
		return onTCP
	case slices.Equal(codes[1:], []int{ma.P_UDP, ma.P_QUIC_V1}):
		return onQUIC
	}
	return 0
}

// ipOf is the IP address that a leads to.
func ipOf(a ma.Multiaddr) (netip.Addr, bool) {
	ip, err := manet.ToIP(a)
	if err != nil {
		return netip.Addr{}, false
	}
	addr, ok := netip.AddrFromSlice(ip)
	return addr.Unmap(), ok
}

// usable picks from addrs what another node may be told: IP addresses with
// our transports, specified, and no loopback where there is anything else, in
// the order of [inOrder], after those through relays.
func usable(addrs []ma.Multiaddr) []ma.Multiaddr {
	var out, through []ma.Multiaddr
	elsewhere := false
	for _, a := range addrs {
		if isCircuit(a) {
			through = append(through, a)
			continue
		}
		ip, ok := ipOf(a)
		if kindOf(a) == 0 || !ok || ip.IsUnspecified() || ip.IsLinkLocalUnicast() || ip.IsMulticast() {
			continue
		}
		elsewhere = elsewhere || !ip.IsLoopback()
		out = append(out, a)
	}
	out = slices.DeleteFunc(out, func(a ma.Multiaddr) bool { return elsewhere && manet.IsIPLoopback(a) })
	// Who is reached through relays alone would be found by nobody if they came
	// after a dozen addresses of his own network.
	return append(through[:min(len(through), mostThrough)], inOrder(out)...)
}

// mostThrough is how many addresses through relays are told of one node.
const mostThrough = relaySeatsHeld

// inOrder sorts addrs so that those which come first are of many kinds: public
// before private, QUIC before TCP, IPv4 before IPv6, and a second one of a kind
// after the first of every kind, because readers stop after a few and an
// interface may have a dozen IPv6 addresses.
func inOrder(addrs []ma.Multiaddr) []ma.Multiaddr {
	type ranked struct {
		addr      ma.Multiaddr
		nth, kind int
	}
	before := make(map[int]int)
	all := make([]ranked, 0, len(addrs))
	for _, a := range addrs {
		kind := 0
		if !manet.IsPublicAddr(a) {
			kind += 4
		}
		if kindOf(a) != onQUIC {
			kind += 2
		}
		if ip, ok := ipOf(a); ok && !ip.Is4() {
			kind++
		}
		all = append(all, ranked{a, before[kind], kind})
		before[kind]++
	}
	slices.SortStableFunc(all, func(a, b ranked) int { return cmp.Or(a.nth-b.nth, a.kind-b.kind) })
	out := make([]ma.Multiaddr, 0, len(all))
	for _, r := range all {
		out = append(out, r.addr)
	}
	return out
}

// meshAddrs writes addrs as the contract has them, at most [mesh.MaxAddrs].
func meshAddrs(addrs []ma.Multiaddr) []mesh.Addr {
	out := make([]mesh.Addr, 0, min(len(addrs), mesh.MaxAddrs))
	for _, a := range addrs {
		if len(out) == mesh.MaxAddrs {
			break
		}
		if bare, _ := peer.SplitAddr(a); bare != nil && (kindOf(bare) != 0 || isCircuit(bare)) {
			out = append(out, mesh.Addr(bare.String()))
		}
	}
	return out
}
