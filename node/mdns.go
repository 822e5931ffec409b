package node

import (
	"context"
	"crypto/rand"
	"log/slog"
	mrand "math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// Nodes of one LAN find each other by multicast DNS. One goroutine does all of
// it; each interface has a schedule of its own:
//
//	an interface appears or its addresses change   ask, and say it twice
//	then                                           ask after 1, 2, 4 ... 60 s
//	somebody asks                                  answer once, 20-120 ms later, at most each second
//	an answer comes                                believe what lies on that link, and meet
//	the node closes                                say goodbye
//
// Everything is multicast and stays on the link: no question is answered to
// its sender alone, who could be anywhere.

// Times of mDNS.
const (
	lanPoll       = 5 * time.Second // how often interfaces are looked at
	askMin        = time.Second
	askMax        = time.Minute
	answerSpacing = time.Second // RFC 6762 section 6
	echoWithin    = 50 * time.Millisecond
	minHeard      = 10 * time.Second
)

// mdnsWire is where the messages go: sockets of the kernel, or a double.
type mdnsWire interface {
	// lans are the interfaces as they are now; the wire listens on them until
	// the next call.
	lans() ([]lan, error)
	// packets is what comes in. The wire drops what is not taken.
	packets() <-chan mdnsPacket
	// send sends b to the group of one family on one interface.
	send(l *lan, ipv4 bool, b []byte) error
	// close ends it; no goroutine is left.
	close()
}

// mdnsPacket is one message that was sent to the group.
type mdnsPacket struct {
	index  int // of the interface it came in by
	source netip.Addr
	data   []byte
}

// mdns is the service. One goroutine owns it.
type mdns struct {
	network  Network
	self     peer.ID
	instance string // random, new with each start
	log      *slog.Logger
	wire     mdnsWire
	listen   func() []ma.Multiaddr
	found    func(id peer.ID, addrs []ma.Multiaddr, source netip.Addr, life time.Duration)
	gone     func(id peer.ID, source netip.Addr)
	allowed  func(netip.Prefix) error // may be nil

	links    map[int]*mdnsLink
	nextPoll time.Time
}

// mdnsLink is the schedule of one interface.
type mdnsLink struct {
	lan   lan
	addrs []ma.Multiaddr // what we say there

	asked    time.Time
	nextAsk  time.Time
	gap      time.Duration // between the next two questions
	unasked  int           // answers still to be given without a question
	owed     []string      // services to be answered
	answerAt time.Time
	answered time.Time
}

// run works until ctx ends, then says goodbye and closes the wire.
func (m *mdns) run(ctx context.Context) {
	defer m.wire.close()
	m.links = make(map[int]*mdnsLink)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case p := <-m.wire.packets():
			m.take(time.Now(), p)
		case <-timer.C:
		case <-ctx.Done():
			for _, l := range m.links {
				m.say(l, m.network.mdnsServices(time.Now())[0], 0)
			}
			return
		}
		timer.Reset(time.Until(m.step(time.Now())))
	}
}

// step does what is due and tells when the next thing is.
func (m *mdns) step(now time.Time) time.Time {
	if !now.Before(m.nextPoll) {
		m.nextPoll = now.Add(lanPoll)
		m.poll(now)
	}
	next := m.nextPoll
	services := m.network.mdnsServices(now)
	for _, l := range m.links {
		if !now.Before(l.nextAsk) {
			m.ask(l, services)
			l.asked = now
			l.nextAsk = now.Add(jitter(l.gap))
			l.gap = min(2*l.gap, askMax)
			if l.unasked > 0 {
				l.unasked--
				l.owe(now, services[0])
			}
		}
		if len(l.owed) > 0 && !now.Before(l.answerAt) {
			for _, service := range l.owed {
				m.say(l, service, mdnsTTL)
			}
			l.owed, l.answered = nil, now
		}
		if len(l.owed) > 0 && l.answerAt.Before(next) {
			next = l.answerAt
		}
		if l.nextAsk.Before(next) {
			next = l.nextAsk
		}
	}
	return next
}

// poll looks at the interfaces. One that is new or different begins anew; one
// from whose link nobody could reach us is left alone.
func (m *mdns) poll(now time.Time) {
	lans, err := m.wire.lans()
	if err != nil {
		m.log.Debug("interfaces not read", "err", err)
		return
	}
	seen := make(map[int]bool)
	for _, l := range lans {
		l.keep(m.allowed)
		addrs := l.announced(m.listen())
		if len(addrs) == 0 {
			continue
		}
		seen[l.index] = true
		old := m.links[l.index]
		if old != nil && slices.Equal(old.lan.prefixes, l.prefixes) && sameAddrs(old.addrs, addrs) {
			continue
		}
		m.links[l.index] = &mdnsLink{lan: l, addrs: addrs, nextAsk: now, gap: askMin, unasked: 2}
	}
	for index := range m.links {
		if !seen[index] {
			delete(m.links, index)
		}
	}
}

// owe notes that service is to be answered, and when.
func (l *mdnsLink) owe(now time.Time, service string) {
	if slices.Contains(l.owed, service) {
		return
	}
	if len(l.owed) == 0 {
		l.answerAt = now.Add(20*time.Millisecond + mrand.N(100*time.Millisecond))
		if soonest := l.answered.Add(answerSpacing); l.answerAt.Before(soonest) {
			l.answerAt = soonest
		}
	}
	l.owed = append(l.owed, service) // at most the services of mdnsServices
}

// take handles what came in.
func (m *mdns) take(now time.Time, p mdnsPacket) {
	l := m.links[p.index]
	if l == nil || !l.lan.neighbour(p.source) {
		return
	}
	msg, err := parseMDNS(p.data)
	if err != nil {
		return
	}
	services := m.network.mdnsServices(now)
	// Our own question comes back to us. Somebody else's at the same moment is
	// not heard with it, and will be asked again a second later.
	echo := now.Sub(l.asked) < echoWithin
	for _, s := range msg.asks {
		if slices.Contains(services, s) && !echo {
			l.owe(now, s)
		}
	}
	for _, a := range msg.answers {
		info, ok := l.lan.believed(a.addrs)
		switch {
		case !ok || info.ID == m.self || !slices.Contains(services, a.service):
		case a.ttl == 0:
			m.gone(info.ID, p.source)
		default:
			// The life is the sender's claim: it is held within bounds.
			m.found(info.ID, info.Addrs, p.source, min(max(a.ttl, minHeard), mdnsTTL))
		}
	}
}

func (m *mdns) ask(l *mdnsLink, services []string) {
	b, err := mdnsQuery(services)
	if err != nil {
		m.log.Debug("mDNS question not written", "err", err)
		return
	}
	m.send(l, b)
}

// say gives our own answer for service.
func (m *mdns) say(l *mdnsLink, service string, ttl time.Duration) {
	a := mdnsAnswer{service: service, instance: m.instance, ttl: ttl}
	for _, addr := range l.addrs {
		a.addrs = append(a.addrs, addr.String()+"/p2p/"+m.self.String())
	}
	b, err := a.marshal()
	if err != nil {
		m.log.Debug("mDNS answer not written", "err", err)
		return
	}
	m.send(l, b)
}

func (m *mdns) send(l *mdnsLink, b []byte) {
	for _, ipv4 := range []bool{true, false} {
		if !l.lan.has(ipv4) {
			continue
		}
		if err := m.wire.send(&l.lan, ipv4, b); err != nil {
			m.log.Debug("mDNS message not sent", "interface", l.lan.name, "err", err)
		}
	}
}

// startMDNS begins to look for neighbours.
func (n *Node) startMDNS(network Network, wire mdnsWire) {
	m := &mdns{
		network: network, self: n.host.ID(), instance: strings.ToLower(rand.Text()), log: n.log,
		wire: wire, listen: n.host.Network().ListenAddresses, found: n.heardOf, gone: n.goneFrom,
	}
	if n.gate.policy != nil {
		m.allowed = n.gate.policy.AllowLink
	}
	if !n.goTracked(func() { m.run(n.ctx) }) {
		wire.close()
	}
}
