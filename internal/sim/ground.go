package sim

import (
	"crypto/ed25519"
	"sync"
	"time"

	"teahouse/internal/mesh"
)

// ground is a network that the nodes of persons stand on. It follows the
// world's wires.
type ground interface {
	// node starts somebody's node with this host key.
	node(who int, key ed25519.PrivateKey) (mesh.Network, error)
	// kill makes somebody's node vanish without a goodbye. The caller closes
	// it afterwards, which nobody notices.
	kill(who int, n mesh.Network)
	// gone is told when a node has been closed.
	gone(n mesh.Network)
	// rewired is told after wires or groups have changed.
	rewired()
	// drops throws for one voice packet, where the ground itself cannot.
	drops(from, to int) bool
	close()
}

// memoryGround is mesh.Memory.
type memoryGround struct {
	wires  *wires
	memory *mesh.Memory

	mu  sync.Mutex
	who map[mesh.PeerID]int // of each life
}

func newMemoryGround(seed uint64, w *wires) *memoryGround {
	return &memoryGround{wires: w, memory: mesh.NewMemory(mesh.MemoryConfig{Seed: seed}), who: make(map[mesh.PeerID]int)}
}

func (g *memoryGround) node(who int, key ed25519.PrivateKey) (mesh.Network, error) {
	id := mesh.PeerIDOf(key.Public().(ed25519.PublicKey))
	g.mu.Lock()
	g.who[id] = who
	g.mu.Unlock()
	g.rewired() // before it runs: its first packets go over its own wires
	return g.memory.Node(key), nil
}

func (g *memoryGround) kill(_ int, n mesh.Network) { g.memory.Kill(n.Self().ID) }

func (g *memoryGround) gone(n mesh.Network) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.who, n.Self().ID)
}

func (g *memoryGround) rewired() {
	g.mu.Lock()
	defer g.mu.Unlock()
	groups := make(map[int][]mesh.PeerID)
	for id, who := range g.who {
		group := g.wires.group(who)
		groups[group] = append(groups[group], id)
		for other, whose := range g.who {
			if other != id {
				g.memory.SetWire(id, other, g.wires.between(who, whose).forMemory())
			}
		}
	}
	if !g.wires.isSplit() {
		g.memory.Heal()
		return
	}
	// Even where all who live are in one part: what those said who died in
	// another stays there.
	var parts [][]mesh.PeerID
	for _, part := range groups {
		parts = append(parts, part)
	}
	g.memory.Partition(parts...)
}

// forMemory is the wire as mesh.Memory has it: losses in bursts it leaves to
// drops, and streams know nothing of them.
func (d *dice) forMemory() mesh.Wire {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := mesh.Wire{Latency: d.wire.Delay, Jitter: d.wire.Jitter}
	if d.wire.Loss.Burst == 0 {
		w.Loss = d.wire.Loss.Rate
	}
	return w
}

func (g *memoryGround) drops(from, to int) bool {
	d := g.wires.between(from, to)
	d.mu.Lock()
	bursts := d.wire.Loss.Burst > 0
	d.mu.Unlock()
	return bursts && d.lost(time.Now())
}

func (g *memoryGround) close() { g.memory.Close() }
