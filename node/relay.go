package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"teahouse/internal/mesh"
)

// Relays. A relay passes on what two members send each other inside Noise and
// hears nothing of it; but it sees who talks with whom and when, so only relays
// that the network names by a ticket are ever used, never a stranger's. Each
// path through one is judged by the policy at the relay's own address, because
// that is where our packets go.
//
//	relay.go          which relays there are, and addresses through them
//	relay_hold.go     being reachable through them
//	relay_serve.go    being one
//	relay_leave.go    getting rid of them
//	punch.go          punching holes, so that one can be

// onRelay is the carrier of last choice: a stream through a relay.
const onRelay carrierSet = refusesRelay

var (
	errStrangeRelay = errors.New("a relay without a ticket of this network")
	errNested       = errors.New("an address through more than one relay")
)

// relayList are the relays with a ticket: those of the configuration, and those
// that the network's descriptor names now. It may be used by any goroutine.
type relayList struct {
	always []ticketed // constant

	mu    sync.Mutex
	named []ticketed
}

// ticketed is a relay and the end of its ticket; zero: it has none.
type ticketed struct {
	peer.AddrInfo
	until time.Time
}

func newRelayList(addrs []string, self peer.ID) (*relayList, error) {
	infos, err := bootstrapPeers(addrs, self)
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	if len(infos) > MaxRelays {
		return nil, fmt.Errorf("more than %d relays", MaxRelays)
	}
	r := &relayList{}
	for _, info := range infos {
		r.always = append(r.always, ticketed{AddrInfo: info})
	}
	return r, nil
}

// set replaces those that the descriptor names.
func (r *relayList) set(named []ticketed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.named = named
}

// all are those whose ticket holds.
func (r *relayList) all() (out []peer.AddrInfo) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range slices.Concat(r.always, r.named) {
		if t.until.IsZero() || now.Before(t.until) {
			out = append(out, t.AddrInfo)
		}
	}
	return out
}

func (r *relayList) has(id peer.ID) bool {
	return slices.ContainsFunc(r.all(), func(i peer.AddrInfo) bool { return i.ID == id })
}

// circuit is an address through a relay: ADDRESS/p2p/RELAY/p2p-circuit.
type circuit struct {
	at    ma.Multiaddr // of the relay
	relay peer.ID
}

// circuitOf reads one; ok is false for a that leads through no relay. err is
// for one that leads somewhere a node has no business.
func circuitOf(a ma.Multiaddr) (c circuit, ok bool, err error) {
	before, after := ma.SplitFunc(a, func(p ma.Component) bool { return p.Protocol().Code == ma.P_CIRCUIT })
	if len(after) == 0 {
		return circuit{}, false, nil
	}
	for i, p := range after {
		if i > 0 && p.Protocol().Code != ma.P_P2P || i > 1 {
			return circuit{}, true, errNested
		}
	}
	c.at, c.relay = peer.SplitAddr(before)
	if len(c.at) == 0 || kindOf(c.at) == 0 {
		return circuit{}, true, errCarrier
	}
	if !validPeer(c.relay) {
		return circuit{}, true, errKey
	}
	return c, true, nil
}

// isCircuit tells whether a is an address through one relay, as it should be.
func isCircuit(a ma.Multiaddr) bool {
	_, ok, err := circuitOf(a)
	return ok && err == nil
}

// addr is the address through the relay, without whom it leads to.
func (c circuit) addr() ma.Multiaddr {
	id, err := ma.NewComponent("p2p", c.relay.String())
	if err != nil {
		return nil // no peer id gives that
	}
	via, err := ma.NewComponent("p2p-circuit", "")
	if err != nil {
		return nil
	}
	return ma.Join(c.at, id.Multiaddr(), via.Multiaddr())
}

// relayJudge is a [Gater] that judges relays too. One that does not is asked
// about the relay as about any other peer.
type relayJudge interface {
	AllowRelay(relay mesh.PeerID, at netip.Addr, ticketed bool) error
}

// judgeRelay judges a path through a relay to id, which may be empty.
func (g gate) judgeRelay(c circuit, id peer.ID, d Direction) error {
	if id != "" && !validPeer(id) {
		return errKey
	}
	if g.relays == nil || !g.relays.has(c.relay) {
		return errStrangeRelay
	}
	if g.revoked.has(c.relay) || g.revoked.has(id) {
		return errRevoked
	}
	ip, ok := ipOf(c.at)
	if !ok {
		return errCarrier
	}
	if id != "" && g.policy != nil {
		if p, ok := g.policy.(interface{ AllowPeer(mesh.PeerID) error }); ok {
			if err := p.AllowPeer(mesh.PeerID(id)); err != nil {
				return err
			}
		}
	}
	if j, ok := g.policy.(relayJudge); ok {
		return j.AllowRelay(mesh.PeerID(c.relay), ip, true)
	}
	return g.judgeIP(c.relay, ip, d)
}

// connKind is how a connection reaches its peer: onQUIC, onTCP, onRelay, or 0.
func connKind(c network.Conn) carrierSet {
	a := c.RemoteMultiaddr()
	if kind := kindOf(a); kind != 0 {
		return kind
	}
	if isCircuit(a) {
		return onRelay
	}
	return 0
}

// relayedConn is the newest connection with p through a relay that answers, or
// else the newest; nil if there is none.
func (n *Node) relayedConn(p peer.ID, now time.Time) (best network.Conn) {
	for _, c := range n.host.Network().ConnsToPeer(p) {
		if c.IsClosed() || connKind(c) != onRelay || n.gate.judgeConn(c) != nil {
			continue
		}
		if best == nil {
			best = c
			continue
		}
		dead, bestDead := n.pings.silence(c, now) >= suspectAfter, n.pings.silence(best, now) >= suspectAfter
		if bestDead && !dead || bestDead == dead && c.Stat().Opened.After(best.Stat().Opened) {
			best = c
		}
	}
	return best
}

// overRelay lets what is opened with ctx go through a relay.
func overRelay(ctx context.Context) context.Context {
	return network.WithAllowLimitedConn(ctx, "teahouse")
}

// pathOf describes the path of a stream over c.
func pathOf(c network.Conn) mesh.Path {
	if via, ok, err := circuitOf(c.RemoteMultiaddr()); ok && err == nil {
		return mesh.Path{
			Carrier: mesh.Relayed, Transport: transportName(kindOf(via.at)),
			Remote: remoteOf(via.at), Via: mesh.PeerID(via.relay),
		}
	}
	kind := kindOf(c.RemoteMultiaddr())
	return mesh.Path{Carrier: mesh.Stream, Transport: transportName(kind), Remote: remoteOf(c.RemoteMultiaddr())}
}
