package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	ma "github.com/multiformats/go-multiaddr"
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

// dialAtOnce is how many addresses of a peer are tried together.
const dialAtOnce = 4

// dialBy connects to p by kind (onQUIC or onTCP) even where another connection
// exists.
func (n *Node) dialBy(ctx context.Context, p peer.ID, kind carrierSet) error {
	var addrs []ma.Multiaddr
	for _, a := range n.host.Peerstore().Addrs(p) {
		if bare, _ := peer.SplitAddr(a); bare != nil && kindOf(bare) == kind && n.gate.InterceptAddrDial(p, bare) {
			addrs = append(addrs, bare)
		}
	}
	if len(addrs) == 0 {
		return fmt.Errorf("no address of the peer for %s", transportName(kind))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	addrs = addrs[:min(len(addrs), dialAtOnce)]
	results := make(chan dialResult, len(addrs))
	for _, a := range addrs {
		go func() {
			c, err := n.dialAddr(ctx, p, a)
			results <- dialResult{c, err}
		}()
	}
	// Every dial is waited for: the first connection stays, others are closed.
	var errs []error
	connected := false
	for range addrs {
		r := <-results
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
	}
	if connected {
		return nil
	}
	return errors.Join(errs...)
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
