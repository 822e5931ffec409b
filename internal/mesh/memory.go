package mesh

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"sync"
	"time"
)

// MemoryConfig says what the wires of a [Memory] are like. The zero value is
// a perfect network without delay.
type MemoryConfig struct {
	// Seed decides the keys of nodes made without one, and which packets are
	// lost, doubled and late: one independent sequence for each ordered pair
	// of peers, so that it does not depend on how goroutines interleave.
	Seed uint64
	// Wire is the way from any peer to any other until SetWire says otherwise.
	Wire
}

// Wire is the way from one peer to another, in one direction.
type Wire struct {
	Latency time.Duration // of everything, at least 0
	// Jitter is added to Latency per packet, uniform in [0, Jitter): packets
	// overtake each other where it is longer than their distance.
	Jitter time.Duration
	// Loss is the part of packets that vanish, 0 to 1. Streams lose nothing,
	// but a lost piece of one comes later by a retransmission.
	Loss float64
	// Double is the part of packets that arrive twice, 0 to 1.
	Double float64
}

// How long an unreachable peer goes unnoticed.
const (
	memoryPathTimeout    = 3 * time.Second  // DESIGN section 4: a silent path is dropped
	memorySessionTimeout = 15 * time.Second // DESIGN section 5: silent means gone
	memoryDialTimeout    = 5 * time.Second  // measured, LIBRARIES: a dial to a dead peer
	memoryRecordLife     = 2 * time.Hour    // protocol.md section 1: provider records
)

// Memory is a whole network in one process: a working double of what node
// does over libp2p, without cryptography on its wires. It serves tests and
// simulations, also inside testing/synctest: it reads time through package
// time alone, and each of its goroutines belongs to a node whose Close waits
// for it. All methods may be called from any goroutine, but not from a
// callback of one of its nodes.
type Memory struct {
	cfg MemoryConfig

	mu      sync.Mutex
	made    uint64 // nodes made without a key
	nodes   map[PeerID]*MemoryNode
	wires   map[[2]PeerID]*wire // from, to; made on first use, kept
	groups  map[PeerID]int      // nil: whole. A peer without a group is in group 0
	parted  time.Time           // when groups was set
	topics  map[string]map[*memoryTopic]struct{}
	records map[[32]byte]map[PeerID]*memoryRecord
}

// NewMemory makes a network without nodes.
func NewMemory(cfg MemoryConfig) *Memory {
	return &Memory{
		cfg:     cfg,
		nodes:   make(map[PeerID]*MemoryNode),
		wires:   make(map[[2]PeerID]*wire),
		topics:  make(map[string]map[*memoryTopic]struct{}),
		records: make(map[[32]byte]map[PeerID]*memoryRecord),
	}
}

// Node starts a node with this host key, or with one derived from the seed
// and the number of nodes so far where key is nil. It panics if a node with
// this key is running: no two machines have one identity.
func (m *Memory) Node(key ed25519.PrivateKey) *MemoryNode {
	m.mu.Lock()
	if key == nil {
		m.made++
		key = m.derivedKey(m.made)
	}
	id := PeerIDOf(key.Public().(ed25519.PublicKey))
	if m.nodes[id] != nil {
		m.mu.Unlock()
		panic(fmt.Sprintf("memory network: a node %s is running", id.Short()))
	}
	n := newMemoryNode(m, key, id)
	m.nodes[id] = n
	n.spawn(n.deliver)
	m.topologyChanged() // sessions with an earlier life of it are reset
	return n
}

func (m *Memory) derivedKey(number uint64) ed25519.PrivateKey {
	seed := sha256.Sum256(binary.BigEndian.AppendUint64(
		binary.BigEndian.AppendUint64([]byte("memory host key"), m.cfg.Seed), number))
	return ed25519.NewKeyFromSeed(seed[:])
}

// Close closes every node and waits for them.
func (m *Memory) Close() {
	m.mu.Lock()
	nodes := make([]*MemoryNode, 0, len(m.nodes))
	for _, n := range m.nodes {
		nodes = append(nodes, n)
	}
	m.mu.Unlock()
	for _, n := range nodes {
		_ = n.Close() // always nil
	}
}

// SetWire changes the way from one peer to another, from now on and in this
// direction only.
func (m *Memory) SetWire(from, to PeerID, w Wire) {
	m.wire(from, to).set(w)
}

// Partition cuts the network: peers reach each other only within a group.
// Those that no group names form one more. It replaces an earlier partition.
// Streams across a cut stall, and break after 15 s.
func (m *Memory) Partition(groups ...[]PeerID) {
	m.mu.Lock()
	m.groups, m.parted = make(map[PeerID]int), time.Now()
	for i, group := range groups {
		for _, id := range group {
			m.groups[id] = i + 1
		}
	}
	m.topologyChanged()
}

// Heal ends a partition.
func (m *Memory) Heal() {
	m.mu.Lock()
	m.groups = nil
	m.topologyChanged()
}

// Kill makes a node vanish without a goodbye, as kill -9 does: its peers
// notice nothing until their timeouts, its methods answer ErrClosed. It waits
// for the node's goroutines. A node with the same key may be started again.
func (m *Memory) Kill(peer PeerID) {
	if n := m.running(peer); n != nil {
		n.end(false)
	}
}

// topologyChanged marks each wire cut or whole and wakes whatever waits for
// that. It is called with mu held and unlocks it.
func (m *Memory) topologyChanged() {
	for pair, w := range m.wires {
		w.setCut(m.apart(pair[0], pair[1]), m.parted)
	}
	nodes := make([]*MemoryNode, 0, len(m.nodes))
	for _, n := range m.nodes {
		nodes = append(nodes, n)
	}
	m.mu.Unlock()
	for _, n := range nodes {
		n.wakeSessions()
	}
}

// apart tells whether a partition lies between a and b. It is called with mu
// held.
func (m *Memory) apart(a, b PeerID) bool { return m.groups[a] != m.groups[b] }

// running is the node of this id, or nil.
func (m *Memory) running(id PeerID) *MemoryNode {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.nodes[id]
}

// wire gives the way from one peer to another.
func (m *Memory) wire(from, to PeerID) *wire {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.wireLocked(from, to)
}

func (m *Memory) wireLocked(from, to PeerID) *wire {
	pair := [2]PeerID{from, to}
	w := m.wires[pair]
	if w == nil {
		w = newWire(m.cfg, from, to)
		m.wires[pair] = w
	}
	w.setCut(m.apart(from, to), m.parted)
	return w
}

// memoryAddr is the address of a peer: a made-up one that tells nothing but
// whose it is.
func memoryAddr(id PeerID) Addr {
	key, _ := id.PublicKey()
	return Addr("/memory/" + hex.EncodeToString(key[:8]))
}
