package node

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"teahouse/internal/mesh"
)

// Nodes and their addresses as a descriptor names them.

// NamedNode is a node whose peer id and addresses a descriptor names.
type NamedNode struct {
	Peer  mesh.PeerID
	Addrs []Endpoint
}

// Endpoint is one address of a [NamedNode], as it lies in a document.
type Endpoint struct {
	Kind  EndpointKind
	Value string // bytes; their meaning depends on Kind
}

// EndpointKind says what an [Endpoint] is. Kinds that are not listed here are
// of later versions, kept and not used.
type EndpointKind uint8

// The kinds: Value is address ‖ port u16.
const (
	TCP4 EndpointKind = 1 + iota
	QUIC4
	TCP6
	QUIC6
)

// AddrPort is where the endpoint is; ok is false for kinds of later versions.
func (e Endpoint) AddrPort() (at netip.AddrPort, quic, ok bool) {
	n := 4
	switch e.Kind {
	case TCP4, QUIC4:
	case TCP6, QUIC6:
		n = 16
	default:
		return netip.AddrPort{}, false, false
	}
	if len(e.Value) != n+2 {
		return netip.AddrPort{}, false, false
	}
	ip, _ := netip.AddrFromSlice([]byte(e.Value[:n]))
	port := uint16(e.Value[n])<<8 | uint16(e.Value[n+1])
	return netip.AddrPortFrom(ip, port), e.Kind == QUIC4 || e.Kind == QUIC6, true
}

// Addr is the endpoint as a multiaddr; ok is false for kinds of later versions.
func (e Endpoint) Addr() (a mesh.Addr, ok bool) {
	at, quic, ok := e.AddrPort()
	if !ok {
		return "", false
	}
	family := "ip6"
	if at.Addr().Is4() {
		family = "ip4"
	}
	text := "/" + family + "/" + at.Addr().String()
	if quic {
		return mesh.Addr(text + "/udp/" + strconv.Itoa(int(at.Port())) + "/quic-v1"), true
	}
	return mesh.Addr(text + "/tcp/" + strconv.Itoa(int(at.Port()))), true
}

// EndpointAt makes an endpoint.
func EndpointAt(at netip.AddrPort, quic bool) Endpoint {
	kind, ip := TCP6, at.Addr().Unmap()
	if ip.Is4() {
		kind = TCP4
	}
	if quic {
		kind++
	}
	return Endpoint{kind, string(append(ip.AsSlice(), byte(at.Port()>>8), byte(at.Port())))}
}

// ParseEndpoint reads a multiaddr, whose /p2p/ may be missing: p is empty then.
func ParseEndpoint(text string) (p mesh.PeerID, e Endpoint, err error) {
	a, err := parseAddr(text)
	if err != nil {
		return "", Endpoint{}, err
	}
	bare, id := peer.SplitAddr(a)
	if id != "" {
		if p, err = mesh.ParsePeerID([]byte(id)); err != nil {
			return "", Endpoint{}, fmt.Errorf("address %q: %w", text, err)
		}
	}
	ip, _ := ipOf(bare) // parseAddr has seen that it is one
	code := ma.P_TCP
	if kindOf(bare) == onQUIC {
		code = ma.P_UDP
	}
	port, err := bare.ValueForProtocol(code)
	if err != nil {
		return "", Endpoint{}, fmt.Errorf("address %q: %w", text, err)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return "", Endpoint{}, fmt.Errorf("address %q: %w", text, err)
	}
	e = EndpointAt(netip.AddrPortFrom(ip, uint16(number)), code == ma.P_UDP)
	if err := e.check(); err != nil {
		return "", Endpoint{}, fmt.Errorf("address %q: %w", text, err)
	}
	return p, e, nil
}

func (e Endpoint) check() error {
	if len(e.Value) == 0 || len(e.Value) > maxAddrLen || e.Kind == 0 {
		return fmt.Errorf("%w: an address of kind %d with %d bytes", ErrMalformed, e.Kind, len(e.Value))
	}
	if e.Kind > QUIC6 {
		return nil
	}
	at, _, ok := e.AddrPort()
	ip := at.Addr()
	switch {
	case !ok:
		return fmt.Errorf("%w: an address of kind %d with %d bytes", ErrMalformed, e.Kind, len(e.Value))
	case ip.Is4In6(), ip.IsUnspecified(), ip.IsMulticast(), ip.IsLinkLocalUnicast(), at.Port() == 0:
		return fmt.Errorf("%w: nobody is reached at %v", ErrMalformed, at)
	}
	return nil
}

// Multiaddrs are the addresses of the node with /p2p/, those that this version
// knows.
func (n NamedNode) Multiaddrs() []string {
	var out []string
	for _, e := range n.Addrs {
		if a, ok := e.Addr(); ok {
			out = append(out, string(a)+"/p2p/"+peer.ID(n.Peer).String())
		}
	}
	return out
}

func (n NamedNode) check() error {
	if _, err := mesh.ParsePeerID([]byte(n.Peer)); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if len(n.Addrs) == 0 || len(n.Addrs) > maxNodeAddrs {
		return fmt.Errorf("%w: a node with %d addresses, at most %d fit", ErrMalformed, len(n.Addrs), maxNodeAddrs)
	}
	for i, e := range n.Addrs {
		if err := e.check(); err != nil {
			return err
		}
		if slices.Contains(n.Addrs[:i], e) {
			return fmt.Errorf("%w: an address stands twice", ErrMalformed)
		}
	}
	return nil
}
