package node

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"teahouse/internal/mesh"
)

// UserAgent is how a node introduces itself to other peers.
const UserAgent = "teahouse/1"

// Config is what a node needs. HostKey and Network are required.
type Config struct {
	// HostKey is the libp2p identity.
	HostKey ed25519.PrivateKey
	Network Network

	// Listen are multiaddrs; empty means [DefaultListen] at ports that the
	// system chooses. Names (/dns) are refused.
	Listen []string
	// Descriptor is the Network's; nil where it has only a name. The node starts
	// from its bootstraps beside Peers, and takes newer ones from other nodes.
	Descriptor *Descriptor
	// OnDescriptor stores a newer descriptor that came from another node, before
	// it is used; nil keeps none. It is called from one goroutine at a time.
	OnDescriptor func(*Descriptor) error
	// Peers are multiaddrs with /p2p/ of nodes to start from. They may be
	// unreachable: they are tried again with back-off for as long as the
	// node runs.
	Peers []string
	// MDNS looks for nodes of the network on the LANs that Listen can be
	// reached from, and says that this one is there.
	MDNS bool
	// Memory keeps peers of this network from one start to the next; nil keeps
	// none.
	Memory Memory
	// Bootstrap makes this a node for others to start from: larger limits,
	// and a router for the hallway.
	Bootstrap bool
	// Relays are multiaddrs with /p2p/ of relays that have a ticket of the
	// network. No other is ever used.
	Relays []string
	// Relay makes this node one for members of the network. A Bootstrap with a
	// ticket in the Descriptor is one anyway.
	Relay bool
	// Transport says what may carry voice; empty is Auto. A relay carries it
	// with Auto alone.
	Transport Transport
	// Gater decides whom this node exchanges packets with; nil allows all.
	Gater Gater
	// OnRefused, if not nil, is told when the Gater refuses all ways to a peer
	// with whom a session stood or was wanted, at most every half minute for
	// each. It is called from any goroutine and must not block.
	OnRefused func(peer mesh.PeerID, why error)
	// Log gets what the node has to say; nil discards.
	Log *slog.Logger

	// ListenUDP opens the UDP sockets of QUIC and voice; nil is
	// [net.ListenUDP]. Simulations put their own network here. If set, dials
	// leave from the first address listened on.
	ListenUDP func(network string, laddr *net.UDPAddr) (net.PacketConn, error)
}

// Memory is a place for what a node remembers of the peers of one network. Its
// methods are called from one goroutine at a time.
type Memory interface {
	// Load answers what was stored last, nil for nothing. What was damaged is
	// no error: it is nothing.
	Load() ([]byte, error)
	// Store replaces it, whole or not at all. At most [MaxMemory] bytes.
	Store([]byte) error
}

// DefaultListen are QUIC-v1 and TCP at one port, on all IPv4 addresses and, on
// a machine that has IPv6, on all of its addresses too.
func DefaultListen(port int) []string {
	addrs := []string{fmt.Sprintf("/ip4/0.0.0.0/udp/%d/quic-v1", port), fmt.Sprintf("/ip4/0.0.0.0/tcp/%d", port)}
	if HasIPv6() {
		addrs = append(addrs, fmt.Sprintf("/ip6/::/udp/%d/quic-v1", port), fmt.Sprintf("/ip6/::/tcp/%d", port))
	}
	return addrs
}

// HasIPv6 tells whether this machine opens IPv6 sockets: some have it
// switched off, in the kernel or for their containers.
func HasIPv6() bool {
	c, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6unspecified})
	if err != nil {
		return false
	}
	return c.Close() == nil
}

// Transport is what may carry voice: a choice that fails closed.
type Transport string

// The transports. Signalling is free to use any connection whatever is
// chosen here.
const (
	Auto         Transport = "auto"
	DatagramOnly Transport = "datagram" // voice datagrams beside QUIC
	QUICOnly     Transport = "quic"     // a stream inside QUIC
	TCPOnly      Transport = "tcp"      // a stream inside TCP
)

// ParseTransport reads the value of --transport.
func ParseTransport(s string) (Transport, error) {
	t := Transport(s)
	if _, err := t.carriers(); err != nil {
		return "", err
	}
	return t, nil
}

// carriers is what t allows.
func (t Transport) carriers() (carrierSet, error) {
	switch t {
	case Auto, "":
		return allCarriers, nil
	case DatagramOnly:
		return onDatagram, nil
	case QUICOnly:
		return onQUIC, nil
	case TCPOnly:
		return onTCP, nil
	}
	return 0, fmt.Errorf("transport %q is none of auto, datagram, quic, tcp", string(t))
}

// Gater decides whom this node exchanges packets with. It is asked before the
// first packet goes out, when a connection comes in, at every change of a
// voice path, and about each packet of QUIC's: it must be fast (under 1 µs
// where it is asked again) and may be called from any goroutine.
type Gater interface {
	// Allow answers nil, or why not. peer is empty while it is not known yet.
	Allow(peer mesh.PeerID, remote netip.Addr, direction Direction) error
	// AllowLink judges a LAN, all of whose machines get what mDNS says.
	AllowLink(link netip.Prefix) error
}

// Direction tells who began.
type Direction int

// The directions.
const (
	Outbound Direction = iota
	Inbound
)

// Limits of a node. Each bounds what strangers can make it hold.
const (
	maxDoors             = 16
	maxSessions          = 1024
	maxSessionsPerPeer   = 40 // 16 doors, two sessions each while they meet, and some to spare
	maxHandshakes        = 64
	maxHandshakesPerPeer = 20
	maxTopics            = 64
	maxProviders         = 512 // peers that one search reports
)

// Times.
const (
	handshakeTimeout = 10 * time.Second // docs/protocol.md section 3
	retireFor        = 5 * time.Second  // docs/protocol.md section 3 and DESIGN section 5
	lingerFor        = 15 * time.Second // keys of a broken session, DESIGN section 5
	sessionLife      = 12 * time.Hour   // docs/protocol.md section 3
	keepAliveEvery   = 3 * time.Second
	silentAfter      = 10 * time.Second // nothing heard of a session, by stream or packet
	deadAfter        = 15 * time.Second // nothing heard on its stream
	flushFor         = time.Second      // what a closing session may still write
	addrTTL          = 10 * time.Minute // addresses that a room gave
)

// relayed tells whether this node may use relays: now, or when the network's
// descriptor comes to name some.
func (c *Config) relayed() bool { return len(c.Relays) > 0 || c.Descriptor != nil }

func (c *Config) check() error {
	switch {
	case len(c.HostKey) != ed25519.PrivateKeySize:
		return errors.New("node: no host key")
	case c.Network.ID == "":
		return errors.New("node: no network")
	case c.Descriptor != nil && c.Descriptor.Network() != c.Network:
		return errors.New("node: the descriptor is another network's")
	}
	if _, err := c.Transport.carriers(); err != nil {
		return err
	}
	if len(c.Listen) == 0 {
		c.Listen = DefaultListen(0)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}
