// Package mesh is what a room needs of the network below it: the contract
// [Network], its value types, an in-memory network that is a working double,
// and (in meshtest) one conformance suite that both the double and node.Node
// must pass.
//
// It imports the standard library alone, so a room can be tested, fuzzed and
// simulated without libp2p.
package mesh

import (
	"context"
	"errors"
	"time"
)

// Limits that every implementation holds and every caller may rely on.
const (
	// MaxPacket is the most bytes that [Session.SendPacket] takes: a UDP
	// payload of 1,200 bytes (the least that QUIC asks of a path, RFC 9000
	// section 14) less the 29 bytes of the hop header and tag.
	MaxPacket = 1200 - 29
	// MaxMessage is the most bytes of one control message of a session.
	MaxMessage = 32 << 10
	// MaxUnread is how many bytes of a session's messages may be on their way
	// or in the peer's hands before all but urgent ones wait in our queue.
	MaxUnread = 16 << 10
	// MaxBroadcast is the most bytes of one message of a topic.
	MaxBroadcast = 24 << 10
	// MaxAddrs is how many addresses of one peer are kept.
	MaxAddrs = 16
)

// Errors that callers branch on.
var (
	// ErrClosed: the network, session or topic has been closed.
	ErrClosed = errors.New("closed")
	// ErrRefused: the peer answered, and knows no such door.
	ErrRefused = errors.New("refused by the peer")
	// ErrBusy: a bounded queue is full.
	ErrBusy = errors.New("queue full")
	// ErrTooLarge: a packet, message or broadcast is over its limit.
	ErrTooLarge = errors.New("too large")
)

// Addr is how a peer may be reached: a multiaddr as text without the /p2p/
// part. The double uses addresses of its own.
type Addr string

// Peer is a peer and where it may be found.
type Peer struct {
	ID    PeerID
	Addrs []Addr
}

// Door is the 32-byte session key K of a room. Who knows it can open a
// session through it; who does not learns nothing from trying.
type Door [32]byte

// Network is one node's view of the mesh. All methods may be called from any
// goroutine at once. Callbacks must return soon and must not call Close.
type Network interface {
	// Self is this node: its peer id and the addresses it announces now.
	Self() Peer
	// SignAsHost signs message with the host key as Ed25519ctx (RFC 8032
	// section 5.1) under context; [PeerID.Verify] checks it.
	SignAsHost(context string, message []byte) ([]byte, error)

	// Open connects to peer where needed and opens a session through door,
	// or says why not: ErrRefused, a context error, a dial error. Two
	// sessions of one pair and door may meet: see [Session.Retire].
	Open(ctx context.Context, peer Peer, door Door) (Session, error)
	// Listen takes sessions that others open through door. accept is called
	// on a goroutine of its own per session, after the handshake. At most
	// 16 doors stand open at once (ErrBusy).
	Listen(door Door, accept func(Session)) (stop func(), err error)

	// Join subscribes to a topic. Both callbacks get the peer that signed
	// the message, and data that they must not keep. What validate does not
	// accept is neither delivered nor passed on. Own messages are not
	// delivered.
	Join(topic string, validate Validator, deliver func(from PeerID, data []byte)) (Topic, error)

	// Provide announces under key in the DHT that this node can be found
	// there, until ctx ends; it returns when the record has been put once,
	// or could not be.
	Provide(ctx context.Context, key [32]byte) error
	// Find looks peers up that provide key and calls found for each as it
	// comes, never for this node itself; it returns when the search has
	// ended, at the latest with ctx.
	Find(ctx context.Context, key [32]byte, found func(Peer)) error

	// Penalise lowers the standing of a peer that broke the protocol.
	Penalise(peer PeerID, reason string)
	// Close ends everything this node does and waits for it.
	Close() error
}

// Validator judges a broadcast of a topic before it is passed on.
type Validator func(from PeerID, data []byte) Verdict

// Verdict is what becomes of a broadcast.
type Verdict int

// The verdicts. Reject is for what no honest peer could have passed on; for
// everything that an honest peer may hold valid, or not be able to judge,
// there is Ignore.
const (
	Accept Verdict = iota // delivered and passed on
	Ignore                // dropped
	Reject                // dropped, and whoever brought it loses standing
)

// Topic is a joined gossip topic.
type Topic interface {
	// Publish sends data to whoever is subscribed. At most MaxBroadcast.
	Publish(data []byte) error
	// Close leaves the topic and waits for its callbacks.
	Close() error
}

// Priority orders what waits on one session's stream.
type Priority int

// The priorities of DESIGN section 5, most urgent first.
const (
	Urgent  Priority = iota // epochs and removals
	Roster                  // entries
	Chat                    // chat and reactions
	Bulk                    // op log, in pieces of 4 KiB
	Classes = 4
)

// Session is one authenticated, encrypted conversation with a peer who knows
// the door's key: an ordered stream of messages, and a link for voice packets
// that may be lost, doubled or reordered. All methods may be called from any
// goroutine at once.
type Session interface {
	Peer() PeerID
	// Initiator tells whether this side opened it.
	Initiator() bool
	// Binding is a hash over everything both sides said in the handshake;
	// it is equal on both sides and never repeats.
	Binding() [32]byte

	// Start begins delivery and must be called exactly once. message is
	// called from one goroutine, in order, and may block (which stops the
	// reading: flow control); packet is called inline from socket readers,
	// possibly several at once, and must not block. Neither may keep data.
	Start(message func(data []byte), packet func(data []byte, arrival time.Time))
	// Send queues one message of at most MaxMessage bytes; it copies data,
	// never blocks, and answers ErrBusy when 256 KiB wait already, 320 KiB for
	// one that is urgent. An urgent message overtakes all that was sent before
	// it but the MaxUnread bytes, and one message, that are on their way.
	Send(class Priority, data []byte) error
	// SendPacket sends one packet of at most MaxPacket bytes over the path
	// of the moment. It never blocks and does not keep data; what cannot be
	// sent at once is dropped and counted.
	SendPacket(data []byte) error
	// Path is how packets travel now; ok is false while there is no way.
	Path() (path Path, ok bool)
	// OnPath sets what is called, from a goroutine of its own and in order,
	// after each change of the path, and once at once.
	OnPath(func(path Path, ok bool))
	// Stats counts what the link did.
	Stats() LinkStats

	// Close ends the session; the peer sees its end. Packets of it are
	// refused from now on.
	Close() error
	// Retire ends the stream like Close but goes on taking packets for 5 s:
	// for the session that gives way where two of a pair met.
	Retire()
	// Done is closed when the session has ended, by either side; Err then
	// tells why: ErrClosed where either side closed or retired it, else it
	// broke. The link goes on for 15 s where it broke, for 5 s where the peer
	// ended it, until Close: packets are sent and taken.
	Done() <-chan struct{}
	Err() error
}

// Carrier is what bears voice packets.
type Carrier string

// The carriers of DESIGN section 4; the values are those of the link event.
const (
	Datagram Carrier = "datagram"
	Stream   Carrier = "stream"
	Relayed  Carrier = "relay" // a stream through a relay that the network names
)

// Path is how one node reaches another.
type Path struct {
	Carrier   Carrier
	Transport string // quic, tcp, memory
	Remote    string // IP address and port that our packets go to
	Via       PeerID // the relay, or empty
	RTT       time.Duration
}

// LinkStats counts packets of one session's link since its start, and tells
// what it may send now.
type LinkStats struct {
	SentPackets, SentBytes         uint64 // bytes as passed to SendPacket
	ReceivedPackets, ReceivedBytes uint64
	DroppedSending                 uint64 // no path, a full socket or queue
	DroppedReceiving               uint64 // over the token bucket
	Unauthentic                    uint64 // failed to open, or replayed

	// Permitted is how many bytes a second, as passed to SendPacket, the path
	// bears by the congestion control of this link, Shared how many all links
	// of the node may send together; 0: no limit is known. Talk that needs more
	// is carried all the same, up to a floor that the implementation sets; who
	// sends is asked to need less.
	Permitted, Shared uint64
	// Queued tells that a queue stands on the path: what is lost now is lost
	// to too much having been sent, by us or by others.
	Queued bool
}
