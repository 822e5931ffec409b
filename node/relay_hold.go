package node

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	ma "github.com/multiformats/go-multiaddr"

	"teahouse/internal/mesh"
)

// Being reachable through relays. A node stays connected with all relays, has
// proven its membership to each, so that it may reach others through any of
// them, and holds a seat at two, where others reach it. That its own address is
// a public one does not tell that the world can reach it: most of those of IPv6
// are behind a firewall. Direct addresses are tried first all the same.

const (
	relaySeatsHeld = 2
	relayTag       = "relay"
	seatEvery      = 2 * time.Second // how often it is looked at,
	seatSoon       = 50 * time.Millisecond
	seatHaste      = 10 * time.Second // and at first, until there is a seat
	seatTimeout    = 10 * time.Second
	seatRetryMin   = 2 * time.Second
	seatRetryMax   = time.Minute
	// seatSpare is how long before its end a seat is taken anew.
	seatSpare = 20 * time.Minute
)

// seats are the places at relays that this node holds.
type seats struct {
	mu   sync.Mutex
	held []seat
}

type seat struct {
	relay peer.AddrInfo
	conn  network.Conn // that the seat hangs on
	again time.Time    // when to take it anew
}

// addrs are the addresses at which this node can be reached through relays: one
// for each, because who dials it is connected with that relay by whatever works,
// and a beacon has room for few.
func (s *seats) addrs() (out []ma.Multiaddr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.held {
		if a := (circuit{at: inOrder(h.relay.Addrs)[0], relay: h.relay.ID}).addr(); a != nil {
			out = append(out, a)
		}
	}
	return out
}

// lose drops the seats that have ended, or whose relay has no ticket any more.
func (s *seats) lose(relays *relayList) (lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.held)
	s.held = slices.DeleteFunc(s.held, func(h seat) bool { return h.conn.IsClosed() || !relays.has(h.relay.ID) })
	return len(s.held) != before
}

// due tells whether a relay is to be asked for a seat: because one is held that
// ends soon, or because there are too few.
func (s *seats) due(id peer.ID, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.held {
		if h.relay.ID == id {
			return !now.Before(h.again)
		}
	}
	return len(s.held) < relaySeatsHeld
}

func (s *seats) take(h seat) (news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.held)
	s.held = slices.DeleteFunc(s.held, func(o seat) bool { return o.relay.ID == h.relay.ID })
	news = len(s.held) == before
	s.held = append(s.held, h)
	return news
}

// useRelays makes the relays of a descriptor ours, and those to start from; one
// that is this node itself becomes a relay, or is one no more.
func (n *Node) useRelays(d *Descriptor) (infos []peer.AddrInfo) {
	var named []ticketed
	var own time.Time
	for _, r := range d.Relays {
		id, until := peer.ID(r.Peer), r.Expires
		if d.Expires.Before(until) {
			until = d.Expires // nothing that it says outlives it
		}
		if id == n.host.ID() {
			own = until
			continue
		}
		found, err := bootstrapPeers(r.Multiaddrs(), n.host.ID())
		if err != nil || len(found) == 0 {
			continue // addresses of a later version
		}
		named = append(named, ticketed{found[0], until})
		infos = append(infos, found[0])
	}
	n.relays.set(named)
	if err := n.relayAsTicketed(own); err != nil {
		n.log.Warn("this node has a relay's ticket, and is none", "err", err)
	}
	return infos
}

// relayContact is what a node has with one relay.
type relayContact struct {
	info  peer.AddrInfo
	conn  network.Conn // that membership was proven on
	after time.Time    // when to try again for a seat
	delay time.Duration

	bothAfter time.Time // when to dial by the transport that is missing
	bothDelay time.Duration
}

// keepRelays tends what this node has with the relays, one after another, until
// the node closes.
func (n *Node) keepRelays() {
	contacts := make(map[peer.ID]*relayContact)
	tick := time.NewTimer(seatSoon)
	defer tick.Stop()
	for begun := time.Now(); ; {
		if n.seats.lose(n.relays) {
			n.announceAnew()
		}
		for _, info := range n.relays.all() {
			c := contacts[info.ID]
			if c == nil {
				c = &relayContact{info: info}
				contacts[info.ID] = c
			}
			n.tendRelay(c)
		}
		wait := seatEvery
		if !n.seatless && time.Since(begun) < seatHaste && len(n.seats.addrs()) == 0 {
			wait = seatSoon // who joins a room meanwhile tells nobody how to reach him
		}
		tick.Reset(wait)
		select {
		case <-tick.C:
		case <-n.ctx.Done():
			return
		}
	}
}

// tendRelay proves membership to a connected relay, and takes a seat there where
// one is wanted. keepBootstrapping connects.
func (n *Node) tendRelay(c *relayContact) {
	now := time.Now()
	conn := n.directConn(c.info.ID)
	if conn == nil || now.Before(c.after) {
		return
	}
	if n.gate.judgeRelay(circuit{at: c.info.Addrs[0], relay: c.info.ID}, "", Outbound) != nil {
		return
	}
	err := func() error {
		if c.conn != conn {
			n.host.ConnManager().Protect(c.info.ID, relayTag)
			if err := n.prove(n.ctx, c.info.ID); err != nil {
				return err
			}
			c.conn = conn
		}
		if !n.seatless {
			n.dialRelayBoth(c)
		}
		if n.seatless || !n.seats.due(c.info.ID, now) {
			return nil
		}
		ctx, cancel := context.WithTimeout(n.ctx, seatTimeout)
		defer cancel()
		got, err := client.Reserve(ctx, n.host, peer.AddrInfo{ID: c.info.ID})
		if err != nil {
			if _, refused := errors.AsType[client.ReservationError](err); refused {
				c.conn = nil // a relay that has started anew knows no proof
			}
			return err
		}
		again := max(time.Until(got.Expiration)-seatSpare, time.Until(got.Expiration)/2)
		if n.seats.take(seat{relay: c.info, conn: conn, again: now.Add(again)}) {
			n.log.Debug("reachable through a relay", "relay", mesh.PeerID(c.info.ID), "again in", again)
			n.announceAnew()
		}
		return nil
	}()
	if err != nil && n.ctx.Err() == nil {
		c.delay = min(max(2*c.delay, seatRetryMin), seatRetryMax)
		c.after = now.Add(c.delay)
		n.log.Debug("relay", "relay", mesh.PeerID(c.info.ID), "again in", c.delay, "err", err)
		return
	}
	c.delay = 0
}

// dialRelayBoth connects with a relay by QUIC and by TCP: who sees us by both
// tells us how our router shows both, and where UDP is blocked on one side a
// hole is punched for TCP.
func (n *Node) dialRelayBoth(c *relayContact) {
	viaQUIC, viaTCP := n.bestConns(c.info.ID)
	kind := onTCP
	switch {
	case viaTCP == nil:
	case viaQUIC == nil:
		kind = onQUIC
	default:
		return
	}
	if now := time.Now(); now.Before(c.bothAfter) {
		return
	} else {
		c.bothDelay = min(max(2*c.bothDelay, seatRetryMin), upgradeMax)
		c.bothAfter = now.Add(c.bothDelay)
	}
	n.goTracked(func() {
		if err := n.dialBy(n.ctx, c.info.ID, kind); err != nil {
			n.log.Debug("relay not reached by both transports", "relay", mesh.PeerID(c.info.ID), "transport", transportName(kind), "err", err)
		}
	})
}

// directConn is a connection with p that leads through no relay, or nil.
func (n *Node) directConn(p peer.ID) network.Conn {
	viaQUIC, viaTCP := n.bestConns(p)
	if viaQUIC != nil {
		return viaQUIC
	}
	return viaTCP
}

// announceAnew tells others at which addresses we are now.
func (n *Node) announceAnew() {
	n.addrsChanged.Store(true)
	n.booted.fire()
	n.table.rush("")
}
