package node

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"teahouse/internal/mesh"
	"teahouse/internal/mesh/meshtest"
	"teahouse/internal/seal"
)

// commune is a network with a descriptor in virtual time. Its root key is
// seeded(1).
type commune struct {
	*internet
	first *Descriptor

	mu   sync.Mutex
	kept map[mesh.PeerID][]uint64 // revisions that nodes have stored, in order
}

func newCommune(t *testing.T) *commune {
	c := &commune{internet: newInternet(t, 20*time.Millisecond), kept: map[mesh.PeerID][]uint64{}}
	c.first = &Descriptor{Revision: 1, Issued: time.Now().Truncate(time.Second), Name: "village", Secret: [32]byte{9}}
	c.first.Expires = c.first.Issued.Add(24 * time.Hour)
	c.sign(t, c.first)
	return c
}

func (c *commune) sign(t *testing.T, d *Descriptor) *Descriptor {
	t.Helper()
	if err := d.Sign(seeded(1)); err != nil {
		t.Fatal(err)
	}
	return d
}

// revise is the next revision of the commune.
func (c *commune) revise(t *testing.T, change func(*Descriptor)) *Descriptor {
	t.Helper()
	d := c.first.Revise(time.Now())
	change(d)
	return c.sign(t, d)
}

// config is that of the next node, which holds d.
func (c *commune) config(t *testing.T, d *Descriptor, peers ...string) Config {
	cfg := c.internet.config(t, peers...)
	cfg.Network, cfg.Descriptor = d.Network(), d
	id := mesh.PeerIDOf(cfg.HostKey.Public().(ed25519.PublicKey))
	cfg.OnDescriptor = func(d *Descriptor) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.kept[id] = append(c.kept[id], d.Revision)
		return nil
	}
	return cfg
}

func (c *commune) node(t *testing.T, d *Descriptor, peers ...string) *Node {
	t.Helper()
	return startNode(t, c.config(t, d, peers...))
}

func (c *commune) stored(n *Node) []uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.kept[n.id])
}

// named is how a descriptor names a node.
func named(t *testing.T, n *Node) NamedNode {
	t.Helper()
	out := NamedNode{Peer: n.id}
	for _, a := range n.Self().Addrs {
		out.Addrs = append(out.Addrs, endpoint(t, string(a)))
	}
	return out
}

func (n *Node) connected(o *Node) bool {
	return n.host.Network().Connectedness(o.host.ID()) == network.Connected
}

// A newer revision gets to everybody over the connections that there are, also
// to who comes later, and also from one who comes with it. Each stores it once.
func TestRevisionsSpread(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		c := newCommune(t)
		boot := c.node(t, c.first)
		all := []*Node{boot}
		for range 4 {
			all = append(all, c.node(t, c.first, fullAddrs(boot)...))
		}
		time.Sleep(5 * time.Second)
		second := c.revise(t, func(d *Descriptor) { d.Policy = "# second\n" })
		if err := all[1].Offer(second); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		late := c.node(t, c.first, fullAddrs(boot)...)
		all = append(all, late)
		time.Sleep(5 * time.Second)
		check := func(revision uint64, offered ...*Node) {
			t.Helper()
			for i, n := range all {
				if got := n.Descriptor().Revision; got != revision {
					t.Errorf("node %d holds revision %d, want %d", i, got, revision)
				}
				count, want := 0, 1
				for _, r := range c.stored(n) {
					if r == revision {
						count++
					}
				}
				if slices.Contains(offered, n) {
					want = 0 // its owner has stored it
				}
				if count != want {
					t.Errorf("node %d has stored revision %d %d times, want %d", i, revision, count, want)
				}
			}
		}
		check(2, all[1])
		// One who was away, and has a newer link.
		c.first = second
		third := c.revise(t, func(d *Descriptor) { d.Policy = "# third\n" })
		newcomer := c.node(t, third, fullAddrs(boot)...)
		time.Sleep(5 * time.Second)
		all = append(all, newcomer)
		check(3, newcomer)
		for i, n := range all {
			if p := n.Stats().Penalties; p != 0 {
				t.Errorf("node %d has held %d faults against honest ones", i, p)
			}
		}
	})
}

// A bootstrap that has moved is found at its new place by who learns it from
// another member; the old one is not sought any more.
func TestRevisionMovesBootstrap(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		c := newCommune(t)
		old := c.node(t, c.first)
		c.first = c.revise(t, func(d *Descriptor) { d.Bootstraps = []NamedNode{named(t, old)} })
		a, b := c.node(t, c.first), c.node(t, c.first)
		openPair(t, a, b) // as members of a room are
		time.Sleep(5 * time.Second)
		if !a.connected(old) || !b.connected(old) {
			t.Fatal("nobody starts from the bootstrap of the descriptor")
		}
		if err := old.Close(); err != nil {
			t.Fatal(err)
		}
		next := c.node(t, c.first)
		moved := c.revise(t, func(d *Descriptor) { d.Bootstraps = []NamedNode{named(t, next)} })
		if err := a.Offer(moved); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if b.Descriptor().Revision != moved.Revision || !b.connected(next) {
			t.Errorf("b holds %v and is connected: %v", b.Descriptor(), b.connected(next))
		}
		b.starters.mu.Lock()
		defer b.starters.mu.Unlock()
		if len(b.starters.running) != 1 || b.starters.running[next.host.ID()] == nil {
			t.Errorf("b seeks %d nodes", len(b.starters.running))
		}
	})
}

// A bootstrap that comes back at another address, with the same key, is reached
// there at once, though libp2p takes the old connection for alive.
func TestRevisionMovesSameBootstrap(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		c := newCommune(t)
		cfg := c.config(t, c.first)
		old := startNode(t, cfg)
		c.first = c.revise(t, func(d *Descriptor) { d.Bootstraps = []NamedNode{named(t, old)} })
		a := c.node(t, c.first)
		time.Sleep(5 * time.Second)
		c.internet.mu.Lock()
		all := func([]byte) bool { return true } // killed, without a goodbye
		c.conns[0].drop.Store(&all)
		c.internet.mu.Unlock()
		again := c.config(t, c.first)
		again.HostKey = cfg.HostKey
		next := startNode(t, again)
		if err := a.Offer(c.revise(t, func(d *Descriptor) { d.Bootstraps = []NamedNode{named(t, next)} })); err != nil {
			t.Fatal(err)
		}
		time.Sleep(8 * time.Second)
		found := false
		for _, conn := range a.host.Network().ConnsToPeer(next.host.ID()) {
			found = found || slices.ContainsFunc(next.host.Addrs(), conn.RemoteMultiaddr().Equal)
		}
		if !found {
			t.Error("not connected with the new address")
		}
	})
}

// With who was revoked no packet is exchanged from then on, whoever begins.
func TestRevoked(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		c := newCommune(t)
		bad := c.node(t, c.first)
		good := c.node(t, c.first)
		c.first = c.revise(t, func(d *Descriptor) { d.Bootstraps = []NamedNode{named(t, bad), named(t, good)} })
		a, b := c.node(t, c.first), c.node(t, c.first)
		time.Sleep(5 * time.Second)
		if !a.connected(bad) || !b.connected(bad) || !a.connected(good) {
			t.Fatal("nobody starts from the bootstraps of the descriptor")
		}
		next := c.revise(t, func(d *Descriptor) {
			d.Bootstraps, d.Revoked = []NamedNode{named(t, good)}, []mesh.PeerID{bad.id}
		})
		if err := a.Offer(next); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		for range 60 {
			for i, n := range []*Node{a, b, good} {
				if n.connected(bad) {
					t.Fatalf("node %d is connected with who was revoked", i)
				}
			}
			_ = bad.host.Connect(within(t, time.Second), peer.AddrInfo{ID: a.host.ID(), Addrs: a.host.Addrs()}) // it tries
			if err := b.host.Connect(within(t, time.Second), peer.AddrInfo{ID: bad.host.ID(), Addrs: bad.host.Addrs()}); err == nil {
				t.Fatal("dialled")
			}
			time.Sleep(10 * time.Second)
		}
		// The root key may forgive.
		c.first = next
		if err := a.Offer(c.revise(t, func(d *Descriptor) { d.Revoked = nil })); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if err := b.host.Connect(within(t, 5*time.Second), peer.AddrInfo{ID: bad.host.ID(), Addrs: bad.host.Addrs()}); err != nil {
			t.Errorf("forgiven, and not let in: %v", err)
		}
	})
}

// member is a hostile member of the commune: it speaks the protocol by hand.
type member struct {
	*Node
	r      *revisions
	victim peer.ID
}

// deliver claims to hold a revision and sends a document for it.
func (m *member) deliver(t *testing.T, claim uint64, document []byte) {
	t.Helper()
	st, err := m.host.NewStream(within(t, 5*time.Second), m.victim, m.r.protocol)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Reset()
	self := m.host.ID()
	if err := m.r.writeRevision(st, 1, claim, nil, self, m.victim); err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.r.readRevision(st, 2, m.victim, self); err != nil {
		t.Fatalf("not answered: %v", err)
	}
	if err := m.r.writeRevision(st, 3, claim, document, self, m.victim); err != nil {
		t.Fatal(err)
	}
	_ = st.CloseWrite()
	_, _ = io.Copy(io.Discard, st)
}

// What is forged, rolled back, of another network or expired is refused, and
// held against its sender unless it may be honest.
func TestRevisionsRefused(t *testing.T) {
	for name, attack := range map[string]struct {
		claim    uint64
		document func(t *testing.T, c *commune) []byte
		fault    bool
	}{
		"forged": {2, func(t *testing.T, c *commune) []byte {
			d := c.revise(t, func(*Descriptor) {}).Document()
			d[len(d)-1] ^= 1
			return d
		}, true},
		"rolled back": {9, func(_ *testing.T, c *commune) []byte { return c.first.Document() }, true},
		"less than said": {9, func(t *testing.T, c *commune) []byte {
			return c.revise(t, func(d *Descriptor) { d.Revision = 8 }).Document()
		}, true},
		"another root": {2, func(t *testing.T, c *commune) []byte {
			d := c.first.Revise(time.Now())
			if err := d.Sign(seeded(5)); err != nil {
				t.Fatal(err)
			}
			return d.Document()
		}, true},
		"another secret": {2, func(t *testing.T, c *commune) []byte {
			return c.revise(t, func(d *Descriptor) { d.Secret[0]++ }).Document()
		}, true},
		"nothing": {2, func(*testing.T, *commune) []byte { return nil }, true},
		"expired": {2, func(t *testing.T, c *commune) []byte {
			return c.revise(t, func(d *Descriptor) { d.Issued, d.Expires = time.Unix(1, 0), time.Now().Add(-time.Second) }).Document()
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			meshtest.Bubble(t, func(t *testing.T) {
				c := newCommune(t)
				victim := c.node(t, c.first)
				cfg := c.config(t, c.first, fullAddrs(victim)...)
				cfg.Descriptor = nil // it speaks for itself
				m := &member{startNode(t, cfg), keysOf(c.first), victim.host.ID()}
				time.Sleep(time.Second)
				m.deliver(t, attack.claim, attack.document(t, c))
				if got := victim.Descriptor(); got.Revision != 1 || len(c.stored(victim)) != 0 {
					t.Errorf("taken: %v, stored %v", got, c.stored(victim))
				}
				if score := victim.standing.at(m.host.ID(), time.Now()); (score < -5) != attack.fault {
					t.Errorf("its standing is %.1f", score)
				}
				// From an honest one it is taken afterwards.
				if err := victim.Offer(c.revise(t, func(*Descriptor) {})); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func keysOf(d *Descriptor) *revisions {
	key := [seal.KeySize]byte(expand(d.Secret[:], "teahouse descriptor 1", seal.KeySize))
	return &revisions{protocol: revisionProtocol(d.Network()), key: seal.NewX(&key)}
}

// Who is no member learns nothing, not even the revision; who asks without end
// is not answered.
func TestRevisionsAreForMembers(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		c := newCommune(t)
		victim := c.node(t, c.revise(t, func(*Descriptor) {}))
		cfg := c.config(t, c.first, fullAddrs(victim)...)
		cfg.Descriptor = nil
		x := startNode(t, cfg)
		time.Sleep(time.Second)
		ask := func(r *revisions, from peer.ID) (uint64, []byte, error) {
			st, err := x.host.NewStream(within(t, 5*time.Second), victim.host.ID(), revisionProtocol(cfg.Network))
			if err != nil {
				t.Fatal(err)
			}
			defer st.Reset()
			if err := r.writeRevision(st, 1, 1, nil, from, victim.host.ID()); err != nil {
				t.Fatal(err)
			}
			return r.readRevision(st, 2, victim.host.ID(), x.host.ID())
		}
		stranger := *c.first
		stranger.Secret[0]++
		wrong := keysOf(&stranger)
		if _, _, err := ask(wrong, x.host.ID()); err == nil {
			t.Error("a stranger was answered")
		}
		// Recorded from another member, or meant for another one.
		if _, _, err := ask(keysOf(c.first), peer.ID(seededPeer(3))); err == nil {
			t.Error("another's message was answered")
		}
		if s := victim.standing.at(x.host.ID(), time.Now()); s > -15 {
			t.Errorf("its standing is %.1f after both", s)
		}
		answered := 0
		for range revisionBurst + 4 {
			if revision, document, err := ask(keysOf(c.first), x.host.ID()); err == nil {
				if d, err := ParseDescriptor(document); err != nil || revision != 2 || d.Revision != 2 {
					t.Fatalf("a member was told %d: %v", revision, err)
				}
				answered++
			}
		}
		if answered != revisionBurst-2 { // the two above counted
			t.Errorf("%d questions at once were answered", answered)
		}
		time.Sleep(revisionEach + time.Second)
		if _, _, err := ask(keysOf(c.first), x.host.ID()); err != nil {
			t.Errorf("not answered later: %v", err)
		}
	})
}

// A store that fails keeps nobody from being revoked.
func TestRevisionNotStored(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		c := newCommune(t)
		cfg := c.config(t, c.first)
		cfg.OnDescriptor = func(*Descriptor) error { return errors.New("disk full") }
		n := startNode(t, cfg)
		next := c.revise(t, func(d *Descriptor) { d.Revoked = []mesh.PeerID{seededPeer(3)} })
		if err := n.takeRevision(next.Revision, next.Document()); err != nil {
			t.Fatal(err)
		}
		if n.Descriptor().Revision != 2 || !n.gate.revoked.has(peer.ID(seededPeer(3))) {
			t.Error("the descriptor had no effect")
		}
		if err := n.Offer(c.first); !errors.Is(err, ErrRolledBack) {
			t.Errorf("rolled back: %v", err)
		}
	})
}

func FuzzRevision(f *testing.F) {
	d := &Descriptor{Revision: 1, Issued: time.Unix(0, 0), Expires: time.Unix(1, 0), Name: "x"}
	if err := d.Sign(seeded(1)); err != nil {
		f.Fatal(err)
	}
	r, a, b := keysOf(d), peer.ID(seededPeer(1)), peer.ID(seededPeer(2))
	var good bytes.Buffer
	if err := r.writeRevision(&good, 3, 1, d.Document(), a, b); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes(), uint64(1), []byte("x"))
	f.Add([]byte{0, 49}, uint64(0), []byte{})
	f.Fuzz(func(t *testing.T, wire []byte, revision uint64, document []byte) {
		// What nobody sealed is nothing. What was sealed opens in every process
		// that fuzzes, though each seals with nonces of its own.
		if said, got, err := r.readRevision(bytes.NewReader(wire), 3, a, b); err == nil && (said != 1 || !bytes.Equal(got, d.Document())) {
			t.Fatal("read what nobody has sealed")
		}
		var out bytes.Buffer
		if err := r.writeRevision(&out, 2, revision, document[:min(len(document), MaxDescriptor)], a, b); err != nil {
			t.Fatal(err)
		}
		said, got, err := r.readRevision(&out, 2, a, b)
		if err != nil || said != revision || !bytes.Equal(got, document[:min(len(document), MaxDescriptor)]) {
			t.Fatalf("%d, %x, %v came back", said, got, err)
		}
	})
}
