package node

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// What the machine does under a node: it changes its addresses, an interface
// goes and comes back, it sleeps, it is stopped for a while. Then connections
// that looked well may be dead, and what was put into the DHT says where we
// were. A look each second costs three calls of the system; a subscription to
// its events is another one on each system.

const (
	watchEvery = time.Second
	// clockJump is by how much the clock may differ from the time that passed
	// before we take it that the machine slept or the clock was set.
	clockJump = 30 * time.Second
	// refireAfter is how often what was provided is provided again at most: an
	// interface may come and go each second.
	refireAfter = 10 * time.Second
	// moveFor is for how long after that connections are asked that nothing
	// else asks.
	moveFor = 10 * time.Second
	// stalledFor is how late a look may be before we take it that the process,
	// or the machine, stood still.
	stalledFor = 3 * time.Second
)

// jumped tells whether the clock went from last to now by another step than
// the monotonic clock, which stands still in sleep.
func jumped(last, now time.Time) bool {
	return jumpedBy(now.Round(0).Sub(last.Round(0)), now.Sub(last)) // Round drops the monotonic reading
}

// jumpedBy is jumped for what passed by the two clocks.
func jumpedBy(wall, monotonic time.Duration) bool {
	off := wall - monotonic
	return off > clockJump || off < -clockJump
}

// startWatch begins to look.
func (n *Node) startWatch() error {
	sub, err := n.host.EventBus().Subscribe(
		[]any{new(event.EvtLocalAddressesUpdated), new(event.EvtPeerIdentificationCompleted)}, eventbus.BufSize(256),
	)
	if err != nil {
		return fmt.Errorf("watch addresses: %w", err)
	}
	look, err := n.host.EventBus().Emitter(new(event.EvtAutoRelayAddrsUpdated))
	if err != nil {
		return errors.Join(fmt.Errorf("watch addresses: %w", err), sub.Close())
	}
	stop := func() { _, _ = sub.Close(), look.Close() } // they only fail when closed twice
	watch := func() {
		defer stop()
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		last := time.Now()
		var fired, rushed time.Time
		stale := false // what was put somewhere names where we were
		for {
			select {
			case e := <-sub.Out():
				switch e := e.(type) {
				case event.EvtLocalAddressesUpdated:
					n.log.Debug("addresses have changed")
					stale = true
				case event.EvtPeerIdentificationCompleted:
					n.hearWhere(e.Peer, usable(e.ListenAddrs), true)
					n.seeOurselves(e)
				}
			case <-tick.C:
				now := time.Now()
				n.cutRefused()
				moved := n.places.look()
				stalled := now.Sub(last)-watchEvery > stalledFor
				if moved || stalled || jumped(last, now) {
					n.log.Debug("the network or the time is another", "addresses", moved, "stalled", stalled)
					n.moved(now)
					// libp2p looks at our addresses anew when those at relays
					// change, of which we have none; else each five seconds.
					// It tells all whom we are connected with.
					_ = look.Emit(event.EvtAutoRelayAddrsUpdated{})
					stale, rushed = true, now
				}
				if now.Sub(rushed) < moveFor {
					n.tendOthers(now)
				}
				if n.addrsChanged.Swap(false) {
					_ = look.Emit(event.EvtAutoRelayAddrsUpdated{})
					stale = true
				}
				if stale && now.Sub(fired) >= refireAfter {
					n.booted.fire()
					stale, fired = false, now
				}
				last = now
			case <-n.ctx.Done():
				return
			}
		}
	}
	if !n.goTracked(watch) {
		stop()
	}
	return nil
}

// moved doubts all connections: one that does not answer soon is replaced.
func (n *Node) moved(now time.Time) {
	for _, c := range n.host.Network().Conns() {
		if ip, ok := ipOf(c.LocalMultiaddr()); ok && kindOf(c.RemoteMultiaddr()) == onTCP && n.places.left(ip) {
			n.goTracked(func() { _ = c.Close() }) // TCP does not move with us
			continue
		}
		n.pings.touch(c, now)
	}
	n.pings.hurry(now, "")
	n.table.rush("")
}

// tendOthers asks over the connections with those with whom we have no
// session, so that QUIC moves with us, and closes what does not answer: who is
// needed is connected anew.
func (n *Node) tendOthers(now time.Time) {
	for _, c := range n.host.Network().Conns() {
		if n.table.knows(c.RemotePeer()) {
			continue // path.go tends it
		}
		n.pings.touch(c, now)
		if n.pings.silence(c, now) >= suspectAfter {
			n.goTracked(func() { _ = c.Close() })
		}
	}
}

// places are the addresses of this machine's interfaces.
type places struct {
	none bool // of a simulated network nothing is to be seen here

	mu   sync.Mutex
	seen string
	now  []netip.Addr
	gone map[netip.Addr]bool // that there were since the start
}

// maxGone bounds what is remembered of addresses: one with privacy extensions
// has a new one each day.
const maxGone = 256

// look asks the system, and tells whether something is other than it was.
func (p *places) look() (changed bool) {
	if p.none {
		return false
	}
	all, err := net.Interfaces()
	if err != nil {
		return false
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	var lines []string
	for _, i := range all {
		lines = append(lines, fmt.Sprint(i.Index, i.Name, i.Flags&(net.FlagUp|net.FlagRunning)))
	}
	var now []netip.Addr
	for _, a := range addrs {
		lines = append(lines, a.String())
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			now = append(now, prefix.Addr().Unmap())
		}
	}
	slices.Sort(lines) // the system promises no order
	seen := strings.Join(lines, " ")
	p.mu.Lock()
	defer p.mu.Unlock()
	changed = p.seen != "" && p.seen != seen
	for _, a := range p.now {
		if len(p.gone) < maxGone && !slices.Contains(now, a) {
			if p.gone == nil {
				p.gone = make(map[netip.Addr]bool)
			}
			p.gone[a] = true
		}
	}
	for _, a := range now {
		delete(p.gone, a)
	}
	p.seen, p.now = seen, now
	return changed
}

// left tells whether this machine had an address and has it no more.
func (p *places) left(ip netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gone[ip]
}

// announce makes addrs, which libp2p looks up once a minute, those of now:
// without addresses that are gone, with those that have come. listening is what
// the node listens on.
func (p *places) announce(addrs, listening []ma.Multiaddr) []ma.Multiaddr {
	p.mu.Lock()
	defer p.mu.Unlock()
	var here []ma.Multiaddr
	for _, ip := range p.now {
		if a, err := manet.FromIP(ip.AsSlice()); err == nil && !ip.IsLinkLocalUnicast() {
			here = append(here, a)
		}
	}
	if len(here) > 0 {
		if resolved, err := manet.ResolveUnspecifiedAddresses(listening, here); err == nil {
			addrs = slices.Concat(addrs, resolved)
		}
	}
	return usable(slices.DeleteFunc(ma.Unique(slices.Clone(addrs)), func(a ma.Multiaddr) bool {
		ip, ok := ipOf(a)
		return ok && p.gone[ip]
	}))
}
