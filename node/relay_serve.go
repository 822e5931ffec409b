package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"

	"teahouse/internal/mesh"
)

// Being a relay: libp2p's circuit relay with limits that a talk fits in, for
// members of the network alone. Who wants something of a relay proves
// membership to it first (docs/protocol.md section 8):
//
//	relay  -> member   challenge, 32 bytes at random
//	member -> relay    [Network.MembershipProof], 32 bytes
//	relay  -> member   1 byte: 1, or 0 for a proof that is none
const memberProtocol protocol.ID = "/teahouse/member/1"

const (
	// relayFor and relayBytes bound one relayed connection, relayBytes each
	// way: a talk of two hours at 192 kbit/s is 173 MB. libp2p's own limits cut
	// a call after 23.6 s.
	relayFor   = 2 * time.Hour
	relayBytes = 256 << 20
	// relaySeats is how many members are reachable through one relay, and
	// relayCalls through how many connections each.
	relaySeats = 512
	relayCalls = 64
	// relayPerIP are seats for one address: a household, a campus behind one NAT.
	relayPerIP  = 64
	relayPerASN = 512

	// memberFor is how long a proof counts, and mostMembers how many are kept.
	memberFor   = 12 * time.Hour
	mostMembers = 4096

	proofTimeout = 5 * time.Second
	// ticketTick is how late the end of a ticket may be noticed.
	ticketTick = time.Second
)

var errNoMember = errors.New("the relay takes us for no member of the network")

// proven are the peers that have shown that they belong to the network. It
// satisfies relay.ACLFilter.
type proven struct {
	mu    sync.Mutex
	until map[peer.ID]time.Time
}

var _ relay.ACLFilter = (*proven)(nil)

func (p *proven) add(id peer.ID, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.until == nil {
		p.until = make(map[peer.ID]time.Time)
	}
	if _, known := p.until[id]; !known && len(p.until) >= mostMembers {
		p.makeRoom(now)
	}
	p.until[id] = now.Add(memberFor)
}

// makeRoom drops those whose time has run out, or else any: who is dropped
// proves it again. mu must be held.
func (p *proven) makeRoom(now time.Time) {
	maps.DeleteFunc(p.until, func(_ peer.ID, until time.Time) bool { return !now.Before(until) })
	for id := range p.until {
		if len(p.until) < mostMembers {
			return
		}
		delete(p.until, id)
	}
}

func (p *proven) has(id peer.ID, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return now.Before(p.until[id])
}

// AllowReserve tells whether a peer may be reached through us.
func (p *proven) AllowReserve(id peer.ID, _ ma.Multiaddr) bool { return p.has(id, time.Now()) }

// AllowConnect tells whether a peer may reach another through us.
func (p *proven) AllowConnect(from peer.ID, _ ma.Multiaddr, _ peer.ID) bool {
	return p.has(from, time.Now())
}

// relayAsTicketed makes this node a relay where it is a bootstrap with a ticket
// that ends at until, and ends that where it has none any more. until is zero
// for no ticket.
func (n *Node) relayAsTicketed(until time.Time) error {
	n.relaying.Lock()
	defer n.relaying.Unlock()
	n.relaying.until = until
	return n.relayWhileTicketed(time.Now())
}

// relayWhileTicketed does what the ticket says now. The lock must be held.
func (n *Node) relayWhileTicketed(now time.Time) error {
	switch wanted := n.relaying.always || n.seatless && now.Before(n.relaying.until); {
	case wanted && n.relaying.service == nil:
		return n.serveRelay()
	case !wanted && n.relaying.service != nil:
		n.log.Info("this node relays no more: its ticket has ended, or was taken back")
		return n.endRelay()
	}
	return nil
}

// watchTicket ends the relay when its ticket does. It looks at the clock on the
// wall, which a laptop's sleep and whoever sets it move too.
func (n *Node) watchTicket() {
	tick := time.NewTicker(ticketTick)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-n.ctx.Done():
			return
		}
		n.relaying.Lock()
		err := n.ctx.Err()
		if err == nil {
			err = n.relayWhileTicketed(time.Now())
		}
		n.relaying.Unlock()
		if err != nil && n.ctx.Err() == nil {
			n.log.Warn("the relay does not follow its ticket", "err", err)
		}
	}
}

// relaying is the service of a relay.
type relaying struct {
	always bool // by configuration

	sync.Mutex
	until   time.Time // the end of this node's ticket; zero: it has none
	service io.Closer // nil: there is none
}

// endRelay ends it, and what goes through it, which libp2p would let go on for
// as long as its limits do. The lock must be held.
func (n *Node) endRelay() error {
	if n.relaying.service == nil {
		return nil
	}
	n.host.RemoveStreamHandler(memberProtocol)
	err := n.relaying.service.Close()
	n.relaying.service = nil
	for _, c := range n.host.Network().Conns() {
		for _, st := range c.GetStreams() {
			if p := st.Protocol(); p == proto.ProtoIDv2Hop || p == proto.ProtoIDv2Stop {
				_ = st.Reset()
			}
		}
	}
	return err
}

// serveRelay makes this node a relay for members of its network. The lock must
// be held.
func (n *Node) serveRelay() error {
	n.host.SetStreamHandler(memberProtocol, n.handler(n.serveProof))
	r, err := relay.New(n.host, relay.WithACL(&n.proven), relay.WithResources(relay.Resources{
		Limit:          &relay.RelayLimit{Duration: relayFor, Data: relayBytes},
		ReservationTTL: time.Hour, MaxReservations: relaySeats, MaxCircuits: relayCalls, BufferSize: 4096,
		MaxReservationsPerIP: relayPerIP, MaxReservationsPerASN: relayPerASN,
	}))
	if err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	n.relaying.service = r
	return nil
}

// serveProof asks a peer to prove its membership.
func (n *Node) serveProof(st network.Stream) {
	from := originOf(st.Conn())
	if !n.mayAttempt(from, 1) {
		_ = st.ResetWithError(network.StreamRateLimited)
		return
	}
	_ = st.SetDeadline(time.Now().Add(proofTimeout))
	var challenge, proof [32]byte
	rand.Read(challenge[:])
	err := func() error {
		if _, err := st.Write(challenge[:]); err != nil {
			return err
		}
		if _, err := io.ReadFull(st, proof[:]); err != nil {
			return err
		}
		good := n.network.VerifyMembership(mesh.PeerID(from.peer), n.id, challenge, proof)
		answer := []byte{0}
		if good {
			answer[0] = 1
			n.proven.add(from.peer, time.Now())
		}
		if _, err := st.Write(answer); err != nil {
			return err
		}
		return st.Close()
	}()
	if err != nil {
		_ = st.Reset()
	}
}

// prove shows a relay that this node belongs to the network.
func (n *Node) prove(ctx context.Context, to peer.ID) error {
	ctx, cancel := context.WithTimeout(ctx, proofTimeout)
	defer cancel()
	st, err := n.host.NewStream(ctx, to, memberProtocol)
	if err != nil {
		return fmt.Errorf("prove membership: %w", err)
	}
	_ = st.SetDeadline(time.Now().Add(proofTimeout))
	var challenge [32]byte
	answer := []byte{0}
	err = func() error {
		if _, err := io.ReadFull(st, challenge[:]); err != nil {
			return err
		}
		proof := n.network.MembershipProof(n.id, mesh.PeerID(to), challenge)
		if _, err := st.Write(proof[:]); err != nil {
			return err
		}
		_, err := io.ReadFull(st, answer)
		return err
	}()
	if err != nil {
		_ = st.Reset()
		return fmt.Errorf("prove membership: %w", err)
	}
	_ = st.Close()
	if answer[0] != 1 {
		return errNoMember
	}
	return nil
}
