// Package hostile is a neighbour who means harm: a libp2p host of its own that
// speaks the network's protocols badly, each kind of attack by a peer id of its
// own. Tests hold a node, or a whole program, against it.
//
// It is written by docs/protocol.md and the specifications of libp2p, not by
// package node, which refuses to be that rude.
package hostile

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"teahouse/internal/mesh"
	"teahouse/node"
)

// Target is who is attacked, and what the attacker knows.
type Target struct {
	Peer    mesh.Peer    // with an address of QUIC and one of TCP
	Network node.Network // its name is no secret here
	// Door is the key of a room of the target, for attackers who know its
	// topic.
	Door mesh.Door
	// Overheard are datagrams that were captured on their way to the target.
	Overheard [][]byte
	// Rate is how many datagrams go out in a second at most; 0: what goes.
	Rate  int
	Crowd Crowd // of the attack by many
}

// Report is what came of one attack.
type Report struct {
	Attack string
	Peer   mesh.PeerID // whom the target saw
	Begun  time.Time   // the attack's first move; zero if there was none
	Sent   int         // datagrams, streams or messages, as the attack has it
	// Dropped is how long after the attack's first move the last connection to
	// the target was gone (for an attack by a session: the session); 0 if it
	// never was, or if the attack has none.
	Dropped time.Duration
	// Returned is how many times the peer came back afterwards and was still
	// connected after half a second, or got a session again.
	Returned int
	// Of the attack by many: how many there were in all, streams that were opened
	// and refused, topics subscribed to, records sent.
	Identities, Streams, Refused, Subscriptions, Records int
	// Answers are datagrams that came back to the socket of a flood, as far as
	// its queue held them.
	Answers int
}

func (r Report) String() string {
	return fmt.Sprintf("%s: sent %d, dropped after %v, came back %d times", r.Attack, r.Sent, r.Dropped.Round(time.Millisecond), r.Returned)
}

// attacks by name. Each goes on until ctx ends.
var attacks = map[string]func(ctx context.Context, a *attacker) error{
	// By UDP, with no connection.
	"unknown":   unknownIndex,
	"malformed": malformed,
	"quic":      quicJunk,
	"resent":    resent,
	"forged":    forged,
	"junk":      junk,
	// By connections.
	"connects": connects,
	"half":     halfOpen,
	// By streams.
	"streams":  idleStreams,
	"pings":    pings,
	"attempts": attempts,
	"stalls":   stalls,
	"lengths":  lengths,
	"records":  records,
	"crowd":    crowd,
	// By gossip.
	"subscriptions": subscriptions,
	"broadcasts":    broadcasts,
	"ihave":         ihave,
	// By a session.
	"packets": packets,
}

// comeBackFor is for how long one who was dropped tries to come back.
const comeBackFor = 1500 * time.Millisecond

// Names are the attacks there are.
func Names() []string { return slices.Sorted(maps.Keys(attacks)) }

// attacker is one peer at work.
type attacker struct {
	target Target
	info   peer.AddrInfo
	udp    netip.AddrPort
	tcp    netip.AddrPort
	bind   string // the IP it comes from
	key    crypto.PrivKey
	raw    ed25519.PrivateKey
	host   host.Host // nil until connected

	sent  atomic.Int64
	begun atomic.Int64 // Unix nanoseconds

	answers atomic.Int64
	crowded crowdReport

	mu     sync.Mutex
	topics map[string]bool // that the target said it is in
	gone   time.Time

	returned int // of the goroutine that attacks
}

// Run attacks until ctx ends, from the address bind, with a fresh peer id.
func Run(ctx context.Context, name, bind string, target Target) (Report, error) {
	do := attacks[name]
	if do == nil {
		return Report{}, fmt.Errorf("no attack %q; there are %s", name, strings.Join(Names(), ", "))
	}
	a, err := newAttacker(bind, target)
	if err != nil {
		return Report{}, fmt.Errorf("attack %q: %w", name, err)
	}
	defer a.close()
	err = do(ctx, a)
	a.mu.Lock()
	defer a.mu.Unlock()
	r := Report{
		Attack: name, Peer: mesh.PeerIDOf(a.raw.Public().(ed25519.PublicKey)),
		Sent: int(a.sent.Load()), Returned: a.returned, Answers: int(a.answers.Load()),
		Identities: int(a.crowded.identities.Load()), Streams: int(a.crowded.streams.Load()), Refused: int(a.crowded.refused.Load()),
		Subscriptions: int(a.crowded.subscriptions.Load()), Records: int(a.crowded.records.Load()),
	}
	if ns := a.begun.Load(); ns > 0 {
		r.Begun = time.Unix(0, ns)
	}
	if !a.gone.IsZero() {
		r.Dropped = a.gone.Sub(r.Begun)
	}
	if err != nil && ctx.Err() == nil && a.gone.IsZero() {
		return r, fmt.Errorf("attack %q: %w", name, err)
	}
	if a.host != nil && !a.gone.IsZero() {
		a.mu.Unlock()
		r.Returned = a.comeBack(ctx)
		a.mu.Lock()
	}
	return r, nil
}

func newAttacker(bind string, target Target) (*attacker, error) {
	a := &attacker{target: target, bind: bind, topics: make(map[string]bool)}
	a.info.ID = peer.ID(target.Peer.ID)
	for _, s := range target.Peer.Addrs {
		m, err := multiaddr.NewMultiaddr(string(s))
		if err != nil {
			return nil, err
		}
		a.info.Addrs = append(a.info.Addrs, m)
		network, at, err := manet.DialArgs(m)
		if err != nil {
			return nil, err
		}
		if network == "udp4" {
			a.udp, err = netip.ParseAddrPort(at)
		} else {
			a.tcp, err = netip.ParseAddrPort(at)
		}
		if err != nil {
			return nil, err
		}
	}
	if a.info.ID == "" || !a.udp.IsValid() || !a.tcp.IsValid() {
		return nil, errors.New("the target has no peer id, or no address of one of UDP and TCP")
	}
	_, raw, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	a.raw = raw
	a.key, err = crypto.UnmarshalEd25519PrivateKey(raw)
	return a, err
}

func (a *attacker) close() {
	if a.host != nil {
		_ = a.host.Close() // it may have lost all by now
	}
}

// begin notes the first move.
func (a *attacker) begin() { a.begun.CompareAndSwap(0, time.Now().UnixNano()) }

// connect makes the attacker a neighbour of the target, and waits until the
// target's gossip has said hello.
func (a *attacker) connect(ctx context.Context) error {
	h, err := libp2p.New(libp2p.Identity(a.key), libp2p.DisableMetrics(), libp2p.DisableRelay(),
		libp2p.ResourceManager(&network.NullResourceManager{}),
		libp2p.ListenAddrStrings("/ip4/"+a.bind+"/udp/0/quic-v1", "/ip4/"+a.bind+"/tcp/0"))
	if err != nil {
		return err
	}
	a.host = h
	hello := make(chan struct{}, 1)
	h.SetStreamHandler(a.gossip(), func(st network.Stream) { a.overhear(st, hello) })
	h.Network().Notify(&network.NotifyBundle{DisconnectedF: func(n network.Network, c network.Conn) {
		if c.RemotePeer() != a.info.ID || len(n.ConnsToPeer(a.info.ID)) > 0 {
			return
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.gone.IsZero() && a.begun.Load() > 0 {
			a.gone = time.Now()
		}
	}})
	if err := h.Connect(ctx, a.info); err != nil {
		return err
	}
	select {
	case <-hello:
		return nil
	case <-time.After(5 * time.Second):
		return errors.New("the target's gossip does not talk to us")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// comeBack tries to connect again for a while, and counts how often that lasts.
func (a *attacker) comeBack(ctx context.Context) (lasting int) {
	ctx, cancel := context.WithTimeout(ctx, comeBackFor)
	defer cancel()
	for ctx.Err() == nil {
		if a.host.Connect(ctx, a.info) == nil {
			pause(ctx, 500*time.Millisecond)
			if len(a.host.Network().ConnsToPeer(a.info.ID)) > 0 {
				lasting++
			}
		}
		pause(ctx, 100*time.Millisecond)
	}
	return lasting
}

func (a *attacker) gossip() protocol.ID {
	return protocol.ID("/teahouse/" + a.target.Network.ID + "/meshsub/1.2.0")
}

func (a *attacker) lookup() protocol.ID {
	return protocol.ID("/teahouse/" + a.target.Network.ID + "/kad/1.0.0")
}

// dropped tells that the target has closed all connections.
func (a *attacker) dropped() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.gone.IsZero()
}

// going tells whether the attack should go on.
func (a *attacker) going(ctx context.Context) bool { return ctx.Err() == nil && !a.dropped() }

// together runs n copies of f, which begin with the first move, and waits.
func (a *attacker) together(n int, f func()) {
	a.begin()
	var wg sync.WaitGroup
	for range n {
		wg.Go(f)
	}
	wg.Wait()
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
