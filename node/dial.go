package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"

	"teahouse/internal/mesh"
)

// libp2p dials a peer until it has one connection, by whichever transport
// wins, and never again while that one lives. Voice may want the other
// transport: datagrams need QUIC where TCP was quicker, and a choice of tcp
// needs TCP where QUIC is there. So we dial with the transport itself, and
// bring the connection into the swarm through a listener of our own, where it
// is one like any other: gated, identified, counted, closed with the rest.

// injector is that listener, and the transport that libp2p wants around it.
type injector struct {
	conns chan transport.CapableConn
	once  sync.Once
	done  chan struct{}
}

var errNotForDialing = errors.New("this transport takes only connections that are made already")

func newInjector(sw *swarm.Swarm) (*injector, error) {
	i := &injector{conns: make(chan transport.CapableConn), done: make(chan struct{})}
	if err := sw.AddTransport(i); err != nil {
		return nil, err
	}
	a, err := ma.NewMultiaddr("/memory/1")
	if err != nil {
		return nil, err
	}
	return i, sw.Listen(a)
}

// Protocols is the pseudo-protocol of the listener's address.
func (i *injector) Protocols() []int { return []int{ma.P_MEMORY} }

// Proxy is false.
func (i *injector) Proxy() bool { return false }

// CanDial is false for every address.
func (i *injector) CanDial(ma.Multiaddr) bool { return false }

// Dial refuses.
func (i *injector) Dial(context.Context, ma.Multiaddr, peer.ID) (transport.CapableConn, error) {
	return nil, errNotForDialing
}

// Listen gives the one listener.
func (i *injector) Listen(ma.Multiaddr) (transport.Listener, error) { return i, nil }

// Accept waits for the next connection.
func (i *injector) Accept() (transport.CapableConn, error) {
	select {
	case c := <-i.conns:
		return c, nil
	case <-i.done:
		return nil, transport.ErrListenerClosed
	}
}

// Close ends Accept. The swarm calls it for the listener and the transport.
func (i *injector) Close() error {
	i.once.Do(func() { close(i.done) })
	return nil
}

// Addr is a placeholder.
func (i *injector) Addr() net.Addr { return streamAddr{} }

// Multiaddr is the listener's address.
func (i *injector) Multiaddr() ma.Multiaddr {
	a, _ := ma.NewMultiaddr("/memory/1")
	return a
}

// inject brings c into the swarm.
func (i *injector) inject(ctx context.Context, c transport.CapableConn) error {
	select {
	case i.conns <- c:
		return nil
	case <-i.done:
		return errors.Join(swarm.ErrSwarmClosed, c.Close())
	case <-ctx.Done():
		return errors.Join(ctx.Err(), c.Close())
	}
}

const (
	// dialAtOnce is how many addresses of a peer are tried together: at first,
	// each dialPause after, and of those that become known meanwhile, which is
	// looked at each dialLook.
	dialAtOnce = 4
	dialPause  = 500 * time.Millisecond
	dialLook   = 100 * time.Millisecond
	// dialMost is how many addresses one dial tries.
	dialMost = 12
)

// raisePeer lets more connections be with one peer than libp2p's 8, 4 of them
// by TCP: who moves twice leaves dead ones behind, of which each side learns
// after seconds, and each dial that tries an old address counts too. The peer
// was not dialled any more then.
func raisePeer(limits *rcmgr.ScalingLimitConfig) {
	b := &limits.PeerBaseLimit
	b.ConnsInbound, b.ConnsOutbound, b.Conns, b.FD = 16, 24, 24, 16
}

// dialing are the dials of dialBy that run: one per peer and kind, for whoever
// wants it.
type dialing struct {
	mu    sync.Mutex
	calls map[dialKey]*dialCall
}

type dialKey struct {
	peer peer.ID
	kind carrierSet
}

type dialCall struct {
	done chan struct{}
	err  error // set before done is closed
}

// dialBy connects to p by kind (onQUIC or onTCP) even where another connection
// exists, and waits until the swarm has the connection.
func (n *Node) dialBy(ctx context.Context, p peer.ID, kind carrierSet) error {
	return n.dialWithin(ctx, p, kind, handshakeTimeout)
}

// dialWithin is dialBy with a limit for the dial that it begins, if none runs.
func (n *Node) dialWithin(ctx context.Context, p peer.ID, kind carrierSet, limit time.Duration) error {
	key := dialKey{p, kind}
	n.dialing.mu.Lock()
	call := n.dialing.calls[key]
	if call == nil {
		call = &dialCall{done: make(chan struct{})}
		if n.dialing.calls == nil {
			n.dialing.calls = make(map[dialKey]*dialCall)
		}
		// The dial belongs to the node: who asked first may go away.
		if !n.goTracked(func() {
			ctx, cancel := context.WithTimeout(n.ctx, limit)
			defer cancel()
			call.err = n.dialOnce(ctx, p, kind)
			n.dialing.mu.Lock()
			delete(n.dialing.calls, key)
			n.dialing.mu.Unlock()
			close(call.done)
		}) {
			n.dialing.mu.Unlock()
			return mesh.ErrClosed
		}
		n.dialing.calls[key] = call
	}
	n.dialing.mu.Unlock()
	select {
	case <-call.done:
		return call.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hasConn tells whether p is connected by kind, and answers.
func (n *Node) hasConn(p peer.ID, kind carrierSet) bool {
	c, viaTCP := n.bestConns(p)
	if kind == onTCP {
		c = viaTCP
	}
	return c != nil && n.pings.silence(c, time.Now()) < suspectAfter
}

// dialOnce dials p at its addresses, and at those too that become known
// meanwhile: where p has moved, its old ones take as long as the dial may to
// show that nobody is there.
func (n *Node) dialOnce(ctx context.Context, p peer.ID, kind carrierSet) error {
	if n.hasConn(p, kind) {
		return nil
	}
	dialCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan dialResult, dialMost)
	running, begun := 0, 0
	begin := func(addrs []ma.Multiaddr) (rest []ma.Multiaddr) {
		now := min(len(addrs), dialAtOnce, dialMost-begun)
		for _, a := range addrs[:now] {
			running++
			begun++
			go func() {
				c, err := n.dialAddr(dialCtx, p, a)
				results <- dialResult{c, err}
			}()
		}
		return addrs[now:]
	}
	known := make(map[string]bool)
	rest := begin(n.dialable(p, kind, known))
	if running == 0 {
		n.tellRefused(p)
		return fmt.Errorf("no address of the peer for %s", transportName(kind))
	}
	look := time.NewTicker(dialLook)
	defer look.Stop()
	next := time.NewTicker(dialPause)
	defer next.Stop()
	// Every dial is waited for: the first connection stays, others are closed.
	var errs []error
	connected := false
	for running > 0 {
		select {
		case r := <-results:
			running--
			switch {
			case r.err != nil:
				errs = append(errs, r.err)
			case connected:
				_ = r.conn.Close()
			default:
				if err := n.injector.inject(ctx, r.conn); err != nil {
					errs = append(errs, err)
					continue
				}
				connected = true
				cancel()
			}
			if running == 0 && !connected {
				rest = begin(rest)
			}
		case <-look.C:
			if !connected {
				rest = append(begin(n.dialable(p, kind, known)), rest...)
			}
		case <-next.C:
			if !connected {
				rest = begin(rest)
			}
		}
	}
	if !connected {
		n.tellRefused(p)
		return errors.Join(errs...)
	}
	return n.awaitConn(ctx, p, kind)
}

// dialable are the addresses of p by kind that are not in known, the ones told
// last first, as far as that is remembered. It enters them.
func (n *Node) dialable(p peer.ID, kind carrierSet, known map[string]bool) (addrs []ma.Multiaddr) {
	for _, a := range slices.Concat(n.whereabouts.of(p), n.host.Peerstore().Addrs(p)) {
		if bare, _ := peer.SplitAddr(a); bare != nil && kindOf(bare) == kind && !known[string(bare.Bytes())] && n.gate.InterceptAddrDial(p, bare) {
			known[string(bare.Bytes())] = true
			addrs = append(addrs, bare)
		}
	}
	return addrs
}

// awaitConn waits until the swarm has taken an injected connection in.
func (n *Node) awaitConn(ctx context.Context, p peer.ID, kind carrierSet) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(time.Second)
	defer limit.Stop()
	for !n.hasConn(p, kind) {
		select {
		case <-tick.C:
		case <-limit.C:
			return errors.New("the connection was not taken in")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

type dialResult struct {
	conn transport.CapableConn
	err  error
}

func (n *Node) dialAddr(ctx context.Context, p peer.ID, a ma.Multiaddr) (transport.CapableConn, error) {
	t := n.swarm.TransportForDialing(a)
	if t == nil {
		return nil, swarm.ErrNoTransport
	}
	return t.Dial(ctx, a, p)
}
