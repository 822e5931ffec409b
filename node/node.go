// Package node is one peer on a network: its identity, the libp2p host, how it
// finds others (DHT, gossip), and the sessions and links between it and them.
// [Node] satisfies [mesh.Network]; nothing of libp2p leaves this package.
//
// The bytes on the wire stand in wire.go (sessions), datagram.go (voice beside
// QUIC), voicestream.go (voice in streams), check.go (path checks), and in
// docs/protocol.md.
package node

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	lcrypto "github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/security/noise"

	"teahouse/internal/mesh"
)

// Node is one running peer. Its methods may be called from any goroutine.
type Node struct {
	// Constant after New.
	log      *slog.Logger
	key      ed25519.PrivateKey
	id       mesh.PeerID
	carriers carrierSet
	// sessionLife is the constant of that name, shorter in tests.
	sessionLife  time.Duration
	host         host.Host
	swarm        *swarm.Swarm
	dht          *dht.IpfsDHT
	gossip       *pubsub.PubSub
	noise        *noise.Transport
	gate         gate
	refusedPeers refusedPeers
	relays       *relayList // with a ticket
	seats        seats      // at relays
	puncher      puncher
	proven       proven // members, where this node is a relay
	relaying     relaying
	network      Network
	seatless     bool        // needs none: everybody reaches it
	addrsChanged atomic.Bool // since libp2p has looked at them
	sockets      *sockets
	injector     *injector
	topics       *topicFilter
	standing     standing
	guard        *guard
	sieve        sieve
	throttle     throttle
	pings        pings
	dialing      dialing
	whereabouts  whereabouts
	dhtProtocol  protocol.ID
	places       places
	meeting      *meeting
	remembered   *remembered // nil without a Memory
	// booted fires when what was provided has to be again: a peer to start
	// from is back, a neighbour was met, our addresses or the clock jumped.
	booted  signal
	hallway mesh.Topic // bootstrap nodes only

	starters  starters
	revisions *revisions // nil without a descriptor

	ctx       context.Context // ends with Close
	cancel    context.CancelFunc
	wg        sync.WaitGroup
	closeOnce sync.Once
	closeErr  error

	table  table
	stats  nodeCounters
	shared sharedRate // of all links

	life    sync.Mutex // guards closing against goTracked
	closing bool
}

var _ mesh.Network = (*Node)(nil)

// New starts a node. ctx bounds the start alone; [Node.Close] ends the node.
func New(ctx context.Context, cfg Config) (*Node, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	carriers, err := cfg.Transport.carriers()
	if err != nil {
		return nil, err
	}
	key, err := lcrypto.UnmarshalEd25519PrivateKey(cfg.HostKey)
	if err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	n := &Node{
		log: cfg.Log, key: cfg.HostKey, carriers: carriers,
		id:           mesh.PeerIDOf(cfg.HostKey.Public().(ed25519.PublicKey)),
		network:      cfg.Network,
		seatless:     cfg.Bootstrap || cfg.Relay,
		refusedPeers: refusedPeers{tell: cfg.OnRefused},
		topics:       newTopicFilter(), sessionLife: sessionLife, meeting: newMeeting(),
	}
	if n.noise, err = noise.New(noise.ID, key, nil); err != nil {
		return nil, fmt.Errorf("noise: %w", err)
	}
	if n.relays, err = newRelayList(cfg.Relays, peer.ID(n.id)); err != nil {
		return nil, err
	}
	n.gate = gate{cfg.Gater, new(revokedPeers), n.relays}
	peers, err := bootstrapPeers(slices.Concat(cfg.Peers, cfg.Relays), peer.ID(n.id))
	if err != nil {
		return nil, err
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.pings.run = n.goTracked
	n.places.none = cfg.ListenUDP != nil
	n.places.look()
	n.guard = newGuard(cfg.Network, &n.standing, n.endSessionsOf, n.log)
	n.sieve.run, n.sieve.done = n.goTracked, n.ctx.Done()
	n.sieve.indexes, n.sieve.known = n.table.indexes, n.guard.addresses.all
	n.guard.addresses.changed = n.sieve.peersChanged
	n.sockets = &sockets{listen: cfg.ListenUDP, handle: n.takeDatagram, known: n.guard.addresses.find, sieve: &n.sieve, allowed: n.gate.packets()}
	if n.sockets.listen == nil {
		n.sockets.listen = listenKernel
	}
	if n.host, err = newHost(&cfg, key, n.sockets, n.gate, &n.places, &n.seats); err != nil {
		n.cancel()
		return nil, err
	}
	if err := n.start(&cfg, peers); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// start begins all that stands on the host.
func (n *Node) start(cfg *Config, peers []peer.AddrInfo) error {
	var ok bool
	if n.swarm, ok = n.host.Network().(*swarm.Swarm); !ok {
		return fmt.Errorf("the host's network is a %T", n.host.Network())
	}
	if err := n.guard.stand(n.swarm); err != nil {
		return err
	}
	if p, ok := cfg.Gater.(*Policy); ok {
		if err := listenOnly(p, n.swarm.ListenAddresses()); err != nil {
			return fmt.Errorf("policy: %w", err)
		}
	}
	var err error
	if n.injector, err = newInjector(n.swarm); err != nil {
		return fmt.Errorf("start the network: %w", err)
	}
	if n.dht, err = newDHT(n.host, cfg.Network); err != nil {
		return err
	}
	n.dhtProtocol = dhtProtocol(cfg.Network)
	if n.gossip, err = newGossip(n.ctx, n.host, cfg.Network, n.topics, &n.standing, n.guard); err != nil {
		return err
	}
	n.swarm.Notify(&network.NotifyBundle{
		ConnectedF:    func(_ network.Network, c network.Conn) { n.table.kick(c.RemotePeer()) },
		DisconnectedF: func(_ network.Network, c network.Conn) { n.table.kick(c.RemotePeer()) },
	})
	n.host.SetStreamHandler(roomProtocol, n.handler(n.serveRoom))
	n.host.SetStreamHandler(voiceProtocol, n.handler(n.serveVoice))
	n.starters.always = peers
	n.relaying.always = cfg.Relay
	if err := n.relayAsTicketed(time.Time{}); err != nil {
		return err
	}
	if n.seatless && !n.goTracked(n.watchTicket) {
		return mesh.ErrClosed
	}
	if err := n.startRevisions(cfg); err != nil {
		return err
	}
	if err := n.startFinding(cfg); err != nil {
		return err
	}
	if cfg.relayed() {
		n.readyToPunch()
		if !n.goTracked(n.keepRelays) {
			return mesh.ErrClosed
		}
	}
	if cfg.Bootstrap {
		none := func(mesh.PeerID, []byte) {}
		all := func(mesh.PeerID, []byte) mesh.Verdict { return mesh.Accept }
		if n.hallway, err = n.Join(cfg.Network.hallwayTopic(), all, none); err != nil {
			return fmt.Errorf("hallway: %w", err)
		}
	}
	return nil
}

// startFinding begins what finds peers that nobody named.
func (n *Node) startFinding(cfg *Config) error {
	if !n.goTracked(n.keepMeeting) {
		return mesh.ErrClosed
	}
	if err := n.startWatch(); err != nil {
		return err
	}
	if cfg.MDNS {
		n.startMDNS(cfg.Network, newMDNSSockets(n.log))
	}
	if cfg.Memory != nil {
		n.startRemembering(cfg.Memory, cfg.Network)
	}
	return nil
}

func listenKernel(network string, laddr *net.UDPAddr) (net.PacketConn, error) {
	return net.ListenUDP(network, laddr)
}

// goTracked runs f on a goroutine that Close waits for; false if the node is
// closing.
func (n *Node) goTracked(f func()) bool {
	n.life.Lock()
	defer n.life.Unlock()
	if n.closing {
		return false
	}
	n.wg.Go(f)
	return true
}

// handler makes a stream handler that Close waits for.
func (n *Node) handler(serve func(network.Stream)) network.StreamHandler {
	return func(st network.Stream) {
		n.life.Lock()
		if n.closing {
			n.life.Unlock()
			_ = st.Reset()
			return
		}
		n.wg.Add(1)
		n.life.Unlock()
		defer n.wg.Done()
		serve(st)
	}
}

// Self is this node and where others may find it.
func (n *Node) Self() mesh.Peer {
	return mesh.Peer{ID: n.id, Addrs: meshAddrs(n.host.Addrs())}
}

// SignAsHost signs as the contract says.
func (n *Node) SignAsHost(context string, message []byte) ([]byte, error) {
	sig, err := n.key.Sign(nil, message, &ed25519.Options{Hash: crypto.Hash(0), Context: context})
	if err != nil {
		return nil, fmt.Errorf("sign as host: %w", err)
	}
	return sig, nil
}

// Penalise lowers the standing of a peer.
func (n *Node) Penalise(p mesh.PeerID, reason string) {
	if p == n.id {
		return
	}
	n.standing.penalise(peer.ID(p), time.Now())
	n.stats.penalties.Add(1)
	n.log.Debug("peer broke the protocol", "peer", p, "reason", reason)
}

// takeDatagram takes a datagram that is not QUIC's, on the goroutine of its
// socket.
func (n *Node) takeDatagram(b []byte, from netip.AddrPort, arrival time.Time) {
	index, ok := datagramIndex(b)
	if !ok {
		n.stats.malformed.Add(1)
		return
	}
	s := n.table.byIndex(index)
	if s == nil {
		n.stats.unknownIndex.Add(1)
		return
	}
	// Forgeries with the peer's own address must not shut the peer out: they
	// are opened, at 0.3 us each, however many there are.
	theirs := s.link.sendsTo(from)
	if !theirs && n.throttle.ignore(from, arrival) {
		n.stats.throttled.Add(1)
		n.sieve.refuse(voicePacket, from, arrival)
		return
	}
	switch fate := s.link.receive(b, arrival); {
	case theirs:
	case fate == replayed: // which costs no cryptography, but a flood is one
		n.sieve.refuse(voicePacket, from, arrival)
	case fate == forged:
		n.throttle.fail(from, arrival)
	}
}

// Close ends all that this node does, in order, and waits: no new sessions,
// sessions and topics say goodbye, then the DHT, gossip and the host go.
func (n *Node) Close() error {
	n.closeOnce.Do(func() { n.closeErr = n.close() })
	return n.closeErr
}

func (n *Node) close() error {
	n.remembered.close(n) // while those who are connected are
	n.host.RemoveStreamHandler(roomProtocol)
	n.host.RemoveStreamHandler(voiceProtocol)
	n.table.closeAll()
	n.life.Lock()
	n.closing = true
	n.life.Unlock()
	n.cancel()
	var errs []error
	n.relaying.Lock()
	errs = append(errs, n.endRelay())
	n.relaying.Unlock()
	if n.dht != nil {
		errs = append(errs, n.dht.Close())
	}
	errs = append(errs, n.puncher.close(), n.host.Close())
	n.wg.Wait()
	return errors.Join(errs...)
}

// nodeCounters count what has no session to count it.
type nodeCounters struct {
	malformed, unknownIndex, throttled atomic.Uint64
	refused, busy, penalties           atomic.Uint64
}

// Stats is a snapshot of a node.
type Stats struct {
	Peers        int // connected
	Connections  int
	Sessions     int
	Doors        int
	Topics       int
	RoutingTable int // peers in the DHT's

	Malformed    uint64 // datagrams that are neither QUIC's nor voice
	UnknownIndex uint64 // datagrams for no session of ours
	Throttled    uint64 // datagrams dropped unopened
	// Unread are datagrams that the kernel has dropped: those above once they
	// are a flood, by our filter, and any where a socket was full.
	Unread    uint64
	Refused   uint64 // sessions that knew no door
	Busy      uint64 // handshakes over the limits
	Penalties uint64
}

// Stats counts.
func (n *Node) Stats() Stats {
	sessions, doors := n.table.count()
	return Stats{
		Peers: len(n.host.Network().Peers()), Connections: len(n.host.Network().Conns()),
		Sessions: sessions, Doors: doors, Topics: len(n.gossip.GetTopics()),
		RoutingTable: n.dht.RoutingTable().Size(),
		Malformed:    n.stats.malformed.Load(), UnknownIndex: n.stats.unknownIndex.Load(),
		Throttled: n.stats.throttled.Load(), Refused: n.stats.refused.Load(),
		Unread: n.sieve.dropped(), Busy: n.stats.busy.Load(), Penalties: n.stats.penalties.Load(),
	}
}

// signal wakes whoever waits.
type signal struct {
	mu sync.Mutex
	ch chan struct{}
}

func (s *signal) wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

func (s *signal) fire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}
