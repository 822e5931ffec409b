package node

import (
	"errors"
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
type gate struct {
	policy  Gater
	revoked *revokedPeers // by the network's descriptor
	relays  *relayList    // nil: none
}

var _ connmgr.ConnectionGater = gate{}

// Why the gate refuses, whatever the policy.
var (
	errCarrier = errors.New("neither TCP nor QUIC to an IP address")
	errKey     = errors.New("no Ed25519 key")
	errRevoked = errors.New("the network has revoked this node")
)

// judge judges one remote address. id may be empty.
func (g gate) judge(id peer.ID, a ma.Multiaddr, d Direction) error {
	if c, through, err := circuitOf(a); err != nil {
		return err
	} else if through {
		return g.judgeRelay(c, id, d)
	}
	ip, ok := ipOf(a)
	if !ok || kindOf(a) == 0 {
		return errCarrier
	}
	if id != "" && !validPeer(id) {
		return errKey
	}
	return g.judgeIP(id, ip, d)
}

// judgeIP judges where datagrams go, or come from.
func (g gate) judgeIP(id peer.ID, ip netip.Addr, d Direction) error {
	if g.revoked.has(id) {
		return errRevoked
	}
	if g.policy == nil {
		return nil
	}
	return g.policy.Allow(mesh.PeerID(id), ip, d)
}

// judgeConn judges a connection that stands, by where its packets go now: QUIC
// follows a peer that moves.
func (g gate) judgeConn(c network.Conn) error {
	if err := g.judge(c.RemotePeer(), c.RemoteMultiaddr(), Outbound); err != nil {
		return err
	}
	if q, ok := quicOf(c); ok {
		return g.judgeIP(c.RemotePeer(), q.remote().Addr(), Outbound)
	}
	return nil
}

func (g gate) allow(id peer.ID, a ma.Multiaddr, d Direction) bool { return g.judge(id, a, d) == nil }

// packets is the question that each socket asks about each packet of QUIC's
// that it reads or writes, nil where there is none to ask. QUIC validates the
// new address of a peer that moves by packets to it, and answers whoever
// knocks, before anybody else is asked.
func (g gate) packets() func(netip.Addr, Direction) bool {
	if g.policy == nil {
		return nil
	}
	return func(ip netip.Addr, d Direction) bool { return g.policy.Allow("", ip, d) == nil }
}

func validPeer(id peer.ID) bool {
	_, err := mesh.ParsePeerID([]byte(id))
	return err == nil
}

// InterceptPeerDial judges before any address is tried.
func (g gate) InterceptPeerDial(id peer.ID) bool { return validPeer(id) && !g.revoked.has(id) }

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
