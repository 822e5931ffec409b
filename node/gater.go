package node

import (
	"net/netip"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"teahouse/internal/mesh"
)

// gate asks the configured [Gater] wherever libp2p is about to exchange
// packets with someone, and refuses what no policy may allow: other
// transports, relays nobody chose, names to look up, keys that are not
// Ed25519.
type gate struct{ policy Gater }

var _ connmgr.ConnectionGater = gate{}

// allow judges one remote address. id may be empty.
func (g gate) allow(id peer.ID, a ma.Multiaddr, d Direction) bool {
	ip, ok := ipOf(a)
	if !ok || kindOf(a) == 0 {
		return false
	}
	if id != "" && !validPeer(id) {
		return false
	}
	return g.policy == nil || g.policy.Allow(mesh.PeerID(id), ip, d) == nil
}

// allowIP judges where voice datagrams are about to go.
func (g gate) allowIP(id peer.ID, ip netip.Addr) bool {
	return g.policy == nil || g.policy.Allow(mesh.PeerID(id), ip, Outbound) == nil
}

func validPeer(id peer.ID) bool {
	_, err := mesh.ParsePeerID([]byte(id))
	return err == nil
}

// InterceptPeerDial judges before any address is tried.
func (g gate) InterceptPeerDial(id peer.ID) bool { return validPeer(id) }

// InterceptAddrDial judges before the first packet goes out.
func (g gate) InterceptAddrDial(id peer.ID, a ma.Multiaddr) bool { return g.allow(id, a, Outbound) }

// InterceptAccept judges a connection that comes in, before its handshake for
// TCP. For QUIC the same question is asked at the first packet, see host.go.
func (g gate) InterceptAccept(c network.ConnMultiaddrs) bool {
	return g.allow("", c.RemoteMultiaddr(), Inbound)
}

// InterceptSecured judges when the peer is known.
func (g gate) InterceptSecured(d network.Direction, id peer.ID, c network.ConnMultiaddrs) bool {
	direction := Outbound
	if d == network.DirInbound {
		direction = Inbound
	}
	return g.allow(id, c.RemoteMultiaddr(), direction)
}

// InterceptUpgraded allows: all has been asked by then.
func (g gate) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }
