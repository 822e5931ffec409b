package sim

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/marcopolo/simnet"
	ma "github.com/multiformats/go-multiaddr"

	"teahouse/internal/mesh"
	"teahouse/node"
)

// dhtPlan is a network whose members find each other by the DHT alone: real
// nodes over simulated QUIC, of whom some die and some are born all the time.
type dhtPlan struct {
	seed    uint64
	honest  int
	hostile int
	rooms   int
	// members is how many honest nodes each room has, and searches how many
	// rooms each newcomer looks for.
	members, searches int
	churn             float64 // of the honest nodes, each minute
	minutes           int
	// orphaned: the bootstrap dies once everybody is there, and newcomers start
	// from three nodes that were there before.
	orphaned bool
}

// dhtSearch is what came of one search by a newcomer.
type dhtSearch struct {
	honest time.Duration // until the first provider who is there; 0: never
	before int           // providers who are none, told of before
	found  int           // providers who are there, in all
	junk   int           // told of in all
	took   time.Duration // until the search had ended
}

// dhtWorld is a plan being played.
type dhtWorld struct {
	plan    dhtPlan
	network node.Network
	net     *simnet.Simnet
	rng     *rand.Rand // of the playing goroutine
	wg      sync.WaitGroup
	ring    ringOf
	ips     int
	root    *dhtNode
	alive   []*dhtNode

	mu       sync.Mutex
	searches []dhtSearch
	members  map[int]map[mesh.PeerID]bool // by room, who is there and provides
}

type dhtNode struct {
	*node.Node
	room int // that it is a member of
	addr string
	dead atomic.Bool
	stop context.CancelFunc // of providing
}

// dhtLatency is one way between any two: 10 to 60 ms, by their addresses.
func dhtLatency(p *simnet.Packet) time.Duration {
	a, b := p.From.(*net.UDPAddr).IP.To4(), p.To.(*net.UDPAddr).IP.To4()
	n := (uint32(a[1])*7919 + uint32(a[2])*104729) ^ (uint32(b[1])*7919 + uint32(b[2])*104729)
	return 10*time.Millisecond + time.Duration(n%50)*time.Millisecond
}

func newDHTWorld(plan dhtPlan) *dhtWorld {
	w := &dhtWorld{
		plan: plan, rng: rand.New(rand.NewPCG(plan.seed, 1)), network: node.NetworkFromSeed(seed32("dht", plan.seed, 0, 0)),
		net:     &simnet.Simnet{Logger: slog.New(slog.DiscardHandler), LatencyFunc: dhtLatency},
		members: make(map[int]map[mesh.PeerID]bool),
	}
	w.ring.world = w
	w.net.Start()
	return w
}

// nextIP is an address of a /24 that nobody else has.
func (w *dhtWorld) nextIP() net.IP {
	w.ips++
	return net.IPv4(44, byte(w.ips>>8), byte(w.ips), 1)
}

func (w *dhtWorld) endpoint(laddr *net.UDPAddr) net.PacketConn {
	line := simnet.LinkSettings{BitsPerSecond: defaultBandwidth}
	return w.net.NewEndpoint(laddr, simnet.NodeBiDiLinkSettings{Downlink: line, Uplink: line})
}

// key is that of a room.
func (w *dhtWorld) key(room int) [32]byte { return seed32("dht room", w.plan.seed, room, 0) }

// start adds an honest node.
func (w *dhtWorld) start(peers ...string) (*dhtNode, error) {
	n := &dhtNode{room: -1, stop: func() {}}
	ip := w.nextIP()
	var err error
	n.Node, err = node.New(context.Background(), node.Config{
		HostKey: deriveKey("dht host", w.plan.seed, w.ips, 0), Network: w.network, Peers: peers, Bootstrap: len(peers) == 0,
		Listen: []string{fmt.Sprintf("/ip4/%s/udp/7654/quic-v1", ip)},
		ListenUDP: func(_ string, laddr *net.UDPAddr) (net.PacketConn, error) {
			return &mortal{w.endpoint(laddr), &n.dead}, nil
		},
	})
	if err != nil {
		return nil, fmt.Errorf("start a node: %w", err)
	}
	n.addr = fmt.Sprintf("%s/p2p/%s", n.Self().Addrs[0], peer.ID(n.Self().ID))
	return n, nil
}

// mortal is a socket whose owner may be killed: nothing goes in or out then.
type mortal struct {
	net.PacketConn
	dead *atomic.Bool
}

func (m *mortal) WriteTo(b []byte, to net.Addr) (int, error) {
	if m.dead.Load() {
		return len(b), nil
	}
	return m.PacketConn.WriteTo(b, to)
}

// born is an honest node that stays: it joins a room, and the hostile nodes
// make its acquaintance.
func (w *dhtWorld) born(n *dhtNode) {
	w.alive = append(w.alive, n)
	a, err := ma.NewMultiaddr(n.addr)
	if err != nil {
		panic(err) // it is our own
	}
	info, err := peer.AddrInfoFromP2pAddr(a)
	if err != nil {
		panic(err)
	}
	w.ring.meet(*info)
	room := w.neediest()
	if room < 0 {
		return
	}
	n.room = room
	w.mu.Lock()
	w.members[room][n.Self().ID] = true
	w.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	n.stop = cancel
	w.wg.Go(func() {
		for ctx.Err() == nil { // as a room does
			attempt, end := context.WithCancel(ctx)
			if n.Provide(attempt, w.key(room)) == nil {
				context.AfterFunc(ctx, end)
				return
			}
			end()
			time.Sleep(time.Second)
		}
	})
}

// neediest is the room that lacks a member; -1: none does.
func (w *dhtWorld) neediest() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	for room := range w.plan.rooms {
		if w.members[room] == nil {
			w.members[room] = make(map[mesh.PeerID]bool)
		}
		if len(w.members[room]) < w.plan.members {
			return room
		}
	}
	return -1
}

// kill ends a node with no goodbye.
func (w *dhtWorld) kill(i int) {
	n := w.alive[i]
	w.alive[i] = w.alive[len(w.alive)-1]
	w.alive = w.alive[:len(w.alive)-1]
	w.end(n)
}

func (w *dhtWorld) end(n *dhtNode) {
	n.dead.Store(true)
	if n.room >= 0 {
		w.mu.Lock()
		delete(w.members[n.room], n.Self().ID)
		w.mu.Unlock()
	}
	n.stop()
	w.wg.Go(func() { _ = n.Close() }) // there is nobody left to tell
}

// starters are addresses that a newcomer begins with.
func (w *dhtWorld) starters() []string {
	if !w.plan.orphaned || w.root != nil {
		return []string{w.root.addr}
	}
	var out []string
	for range 3 {
		out = append(out, w.alive[w.rng.IntN(len(w.alive))].addr)
	}
	return out
}

// searchTime is how long a room searches for.
const searchTime = 20 * time.Second

// search looks for a room, as a newcomer.
func (w *dhtWorld) search(n *dhtNode, room int) {
	var s dhtSearch
	seen := make(map[mesh.PeerID]bool)
	begun := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), searchTime)
	defer cancel()
	err := n.Find(ctx, w.key(room), func(p mesh.Peer) {
		w.mu.Lock()
		there := w.members[room][p.ID]
		w.mu.Unlock()
		switch {
		case seen[p.ID]:
		case there:
			if s.found++; s.honest == 0 {
				s.honest, s.before = max(time.Since(begun), 1), s.junk
			}
		default:
			s.junk++
		}
		seen[p.ID] = true
	})
	_ = err // that its time has run out, at most
	s.took = time.Since(begun)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.searches = append(w.searches, s)
}

// play starts everybody, and then has people die and come for the plan's time.
func (w *dhtWorld) play() error {
	var err error
	if w.root, err = w.start(); err != nil {
		return err
	}
	for i := range w.plan.hostile {
		_, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			return err
		}
		priv, err := crypto.UnmarshalEd25519PrivateKey(key)
		if err != nil {
			return err
		}
		if err := w.ring.add(malice(i)%malices, priv); err != nil {
			return err
		}
	}
	w.born(w.root)
	for range w.plan.honest {
		n, err := w.start(w.starters()...)
		if err != nil {
			return err
		}
		w.born(n)
		time.Sleep(200 * time.Millisecond)
	}
	time.Sleep(30 * time.Second)
	if w.plan.orphaned {
		w.kill(0)
		w.root = nil
		time.Sleep(30 * time.Second)
	}
	first := 1 // the bootstrap is not killed by chance
	if w.plan.orphaned {
		first = 0
	}
	each := time.Duration(float64(time.Minute) / (w.plan.churn * float64(w.plan.honest)))
	for end := time.Now().Add(time.Duration(w.plan.minutes) * time.Minute); time.Now().Before(end); {
		w.kill(first + w.rng.IntN(len(w.alive)-first))
		n, err := w.start(w.starters()...)
		if err != nil {
			return err
		}
		var searches sync.WaitGroup
		for range w.plan.searches {
			room := w.rng.IntN(w.plan.rooms)
			searches.Go(func() { w.search(n, room) })
		}
		w.wg.Go(searches.Wait)
		w.born(n)
		time.Sleep(each)
	}
	return nil
}

// close ends everybody, and waits.
func (w *dhtWorld) close() {
	for len(w.alive) > 0 {
		w.kill(0)
	}
	w.ring.close()
	w.wg.Wait()
	w.net.Close()
	time.Sleep(slowAnswer + announceRetry) // hostile handlers, and what gossipsub leaves
}
