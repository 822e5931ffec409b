package node

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	msmux "github.com/multiformats/go-multistream"
)

// While voice goes beside a QUIC connection, QUIC itself would be silent and
// would not notice that a NAT has given us another port. So a ping of
// libp2p's runs over it each second, on a stream that is kept; and over the
// TCP connection beside it, to know whether that lives. libp2p takes half a
// minute to find that a connection is dead.

const (
	// suspectAfter is how long a ping may wait before another connection is
	// preferred and a new one dialled, and forsakeAfter before the connection
	// is closed once there is a new one or a new session wants one.
	suspectAfter = 3 * time.Second
	// hurriedAfter takes the place of suspectAfter when the network under us
	// has changed.
	hurriedAfter = time.Second
	forsakeAfter = 5 * time.Second

	// lateAfterPing is how long an answer may take before the connection seems
	// to stand still.
	lateAfterPing = 500 * time.Millisecond

	pingEvery   = time.Second
	pingTimeout = 5 * time.Second
	// pingStreamLife stays below the 30 s after which libp2p's responder ends
	// a ping stream.
	pingStreamLife = 20 * time.Second
)

// pings are the pings of one node, one at a time per connection.
type pings struct {
	run func(func()) bool

	mu    sync.Mutex
	conns map[network.Conn]*pinging
}

type pinging struct {
	last   time.Time
	ended  time.Time      // when the last ping ended, either way
	unsure time.Time      // when the first ping began that got no answer; zero: none
	hurry  time.Time      // since when an answer is awaited sooner; zero: it is not
	leads  netip.AddrPort // where QUIC sends; invalid: not looked at
	moved  time.Time      // when that became another
	busy   bool
	stream network.Stream // used by whoever set busy
	opened time.Time
}

// touch sends a ping over c if the last is a second old.
func (p *pings) touch(c network.Conn, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for o, g := range p.conns {
		if o.IsClosed() && !g.busy {
			delete(p.conns, o)
		}
	}
	g := p.of(c)
	if g.busy || now.Sub(g.last) < pingEvery-checkFast/2 {
		return
	}
	g.last, g.busy = now, true
	if !p.run(func() {
		err := g.once(c)
		if err != nil && g.stream != nil {
			_ = g.stream.Reset()
			g.stream = nil
		}
		p.mu.Lock()
		g.busy, g.ended = false, time.Now()
		if err == nil {
			g.unsure, g.hurry = time.Time{}, time.Time{}
		}
		p.mu.Unlock()
	}) {
		g.busy = false
	} else if g.unsure.IsZero() {
		g.unsure = now
	}
}

// silence is for how long pings over c have gone without an answer, as far as
// they have been tried.
func (p *pings) silence(c network.Conn, now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.conns[c]
	if g == nil {
		return 0
	}
	d := g.silence(now)
	if d < suspectAfter && d > 0 && !g.hurry.IsZero() && min(d, now.Sub(g.hurry)) >= hurriedAfter {
		return suspectAfter
	}
	return d
}

// news is when the address that a QUIC connection leads to was learnt: at its
// beginning, or when the peer moved and QUIC validated where to, as far as that
// has been looked at: by this.
func (p *pings) news(c network.Conn, to netip.AddrPort, now time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.of(c)
	if g.leads.IsValid() && g.leads != to {
		g.moved = now
	}
	g.leads = to
	if g.moved.IsZero() {
		return c.Stat().Opened
	}
	return g.moved
}

// of is what is known of c. mu must be held.
func (p *pings) of(c network.Conn) *pinging {
	g := p.conns[c]
	if g == nil {
		if p.conns == nil {
			p.conns = make(map[network.Conn]*pinging)
		}
		g = &pinging{}
		p.conns[c] = g
	}
	return g
}

func (g *pinging) silence(now time.Time) time.Duration {
	switch {
	case g.unsure.IsZero():
		return 0
	case g.busy:
		return now.Sub(g.unsure)
	default:
		return g.ended.Sub(g.unsure)
	}
}

// hurry asks over the connections to a peer, or all if it is empty, anew, and
// suspects sooner those that do not answer: the network under us, or under the
// peer, has changed.
func (p *pings) hurry(now time.Time, of peer.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c, g := range p.conns {
		if of == "" || c.RemotePeer() == of {
			g.hurry, g.last = now, time.Time{}
		}
	}
}

// late tells that the ping that runs over c should have been answered.
func (p *pings) late(c network.Conn, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.conns[c]
	return g != nil && g.busy && now.Sub(g.last) >= lateAfterPing
}

// vouch notes that c leads to the peer, by another sign than a ping.
func (p *pings) vouch(c network.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g := p.conns[c]; g != nil {
		g.unsure, g.hurry = time.Time{}, time.Time{}
	}
}

// distrust notes that nothing has come over c for a while, by another sign
// than a ping.
func (p *pings) distrust(c network.Conn, since, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.conns[c]
	if g == nil {
		return
	}
	if g.unsure.IsZero() || since.Before(g.unsure) {
		g.unsure = since
	}
	if !g.busy {
		g.ended = now
	}
}

func (g *pinging) once(c network.Conn) error {
	now := time.Now()
	if g.stream != nil && now.Sub(g.opened) > pingStreamLife {
		_ = g.stream.Close()
		g.stream = nil
	}
	if g.stream == nil {
		ctx, cancel := context.WithTimeout(context.Background(), pingTimeout)
		defer cancel()
		st, err := c.NewStream(overRelay(ctx))
		if err != nil {
			return fmt.Errorf("ping stream: %w", err)
		}
		g.stream, g.opened = st, now
		_ = st.SetDeadline(now.Add(pingTimeout))
		if err := st.SetProtocol(ping.ID); err != nil {
			return err
		}
		if err := msmux.SelectProtoOrFail(ping.ID, st); err != nil {
			return fmt.Errorf("ping stream: %w", err)
		}
	}
	_ = g.stream.SetDeadline(now.Add(pingTimeout))
	var b [ping.PingSize]byte
	rand.Read(b[:])
	if _, err := g.stream.Write(b[:]); err != nil {
		return err
	}
	_, err := io.ReadFull(g.stream, b[:])
	return err
}
