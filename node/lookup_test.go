package node

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"teahouse/internal/mesh"
	"teahouse/internal/mesh/meshtest"
)

// madePeer is a peer with an address of its own, the same for one n.
func madePeer(t testing.TB, n int) peer.AddrInfo {
	t.Helper()
	seed := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n)))
	id := peer.ID(mesh.PeerIDOf(ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey)))
	return peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{addrAt(t, fmt.Sprintf("44.%d.%d.1", n>>8, n&255))}}
}

func addrAt(t testing.TB, ip string) ma.Multiaddr {
	t.Helper()
	a, err := ma.NewMultiaddr("/ip4/" + ip + "/udp/7654/quic-v1")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// crowdOf are peers from first on, the closest to key first.
func crowdOf(t testing.TB, key []byte, first, count int) (out []peer.AddrInfo) {
	t.Helper()
	l := newLookup("", key)
	for i := range count {
		out = append(out, madePeer(t, first+i))
	}
	slices.SortFunc(out, func(a, b peer.AddrInfo) int {
		return slices.Compare(distance(l.target, a.ID), distance(l.target, b.ID))
	})
	return out
}

// TestLookupTrust: who names peers that are not there is believed less and less,
// and is no obstacle to others.
func TestLookupTrust(t *testing.T) {
	key := []byte("tea")
	near, far := crowdOf(t, key, 1000, 40), crowdOf(t, key, 0, 12)
	slices.Reverse(far)
	liar, honest := far[0], far[1]
	l := newLookup("", key)
	l.hear("", far[:2])
	for range 2 {
		p := l.next()
		if p == nil {
			t.Fatal("nobody is asked")
		}
		p.state = answered
	}
	l.hear(liar.ID, near)
	if len(l.order) != 2+lookupNamed {
		t.Fatalf("an answer named %d peers", len(l.order)-2)
	}
	l.hear(honest.ID, far[2:])
	lies, truths := 0, 0
	for p := l.next(); p != nil; p = l.next() {
		if slices.Contains(p.by, liar.ID) {
			p.state = failed
			lies++
			continue
		}
		if truths++; truths == 1 && lies > lookupTrust+1 {
			t.Errorf("%d of a liar's peers were asked before any other", lies)
		}
		p.state = answered
	}
	if truths != 10 || lies >= lookupTrust+lookupDistrust+1 || lies < lookupTrust {
		t.Errorf("asked %d that are there and %d that are not", truths, lies)
	}
	// What another names as well is believed on his word.
	l.hear(honest.ID, near[lookupNamed-2:lookupNamed])
	if p := l.next(); p == nil || !slices.Contains(p.by, honest.ID) {
		t.Error("a peer is not asked because a liar knows it too")
	}
}

// TestLookupBounds: one prefix is not everybody, what is late keeps no place,
// and there is an end.
func TestLookupBounds(t *testing.T) {
	key := []byte("tea")
	first := madePeer(t, 0)
	l := newLookup("", key)
	l.hear("", []peer.AddrInfo{first})
	l.next().state = answered
	same := crowdOf(t, key, 1, lookupNamed)
	for i := range same {
		same[i].Addrs = []ma.Multiaddr{addrAt(t, fmt.Sprint("45.1.1.", i+1))}
	}
	l.hear(first.ID, same)
	asks := 0
	for p := l.next(); p != nil; p = l.next() {
		p.state = answered
		asks++
	}
	if asks != lookupPerPrefix {
		t.Errorf("%d of one prefix were asked, want %d", asks, lookupPerPrefix)
	}

	l = newLookup("", key)
	for i := range 20 {
		from := madePeer(t, 5000+i)
		l.hear("", []peer.AddrInfo{from})
		l.hear(from.ID, crowdOf(t, key, 100*i, lookupNamed))
	}
	running := []*candidate{}
	take := func() (n int) {
		for p := l.next(); p != nil; p = l.next() {
			running = append(running, p)
			n++
		}
		return n
	}
	if n := take(); n != lookupWidth {
		t.Errorf("%d are asked at once, want %d", n, lookupWidth)
	}
	for _, p := range running {
		p.late = true
	}
	if n := take(); n != lookupWidth {
		t.Errorf("%d more are asked when all are late, want %d", n, lookupWidth)
	}
	for range 3 {
		for _, p := range running {
			p.late = true
		}
		take()
	}
	if len(running) != lookupMost {
		t.Errorf("%d are asked at once at most, want %d", len(running), lookupMost)
	}
	for len(running) > 0 { // nobody answers
		running[0].state = failed
		running = running[1:]
		take()
	}
	asks = 0
	for _, p := range l.order {
		if p.state == failed {
			asks++
		}
	}
	if asks > lookupBudget {
		t.Errorf("%d were asked", asks)
	}
}

// TestWalk: whoever does not answer costs nobody else's time, and a walk ends.
func TestWalk(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		key := []byte("tea")
		all := crowdOf(t, key, 0, 60)
		var wg sync.WaitGroup
		begun := time.Now()
		var times []time.Duration
		l := newLookup("", key)
		l.walk(t.Context(), surroundings{
			run: func(f func()) bool { wg.Go(f); return true },
			ask: func(ctx context.Context, p peer.AddrInfo) (told, error) {
				if i := slices.IndexFunc(all, func(o peer.AddrInfo) bool { return o.ID == p.ID }); i%3 == 0 {
					<-ctx.Done()
					return told{}, ctx.Err()
				}
				time.Sleep(40 * time.Millisecond)
				return told{closer: all[:lookupNamed]}, nil
			},
			heard: func(*candidate, told) { times = append(times, time.Since(begun)) },
			seed:  func() (<-chan struct{}, bool) { l.hear("", all[30:50]); return nil, false },
		})
		wg.Wait()
		if len(times) < lookupReplicas || times[0] > 50*time.Millisecond || times[9] > 2*lookupHedge {
			t.Errorf("answers came after %v", times)
		}
		if took := time.Since(begun); took > 2*lookupPatience+time.Second {
			t.Errorf("it took %v", took)
		}
		if n := len(l.nearest(lookupReplicas)); n != lookupReplicas {
			t.Errorf("%d answered", n)
		}

		// Nobody is there at first: it stays for whoever is to come, but not for ever.
		news := make(chan struct{})
		seeds := 0
		begun = time.Now()
		time.AfterFunc(time.Second, func() { close(news) })
		l = newLookup("", key)
		asks := 0
		l.walk(t.Context(), surroundings{
			run:   func(f func()) bool { wg.Go(f); return true },
			ask:   func(context.Context, peer.AddrInfo) (told, error) { asks++; return told{}, errors.New("no") },
			heard: func(*candidate, told) { t.Error("an answer") },
			limit: begun.Add(lookupAwait),
			seed: func() (<-chan struct{}, bool) {
				if seeds++; seeds == 1 {
					return news, true
				}
				l.hear("", all[:1])
				return nil, true
			},
		})
		wg.Wait()
		if took := time.Since(begun); took != lookupAwait || seeds != 2 || asks != 1 {
			t.Errorf("after %v, %d looks, %d asked", took, seeds, asks)
		}
	})
}

// TestSaying: what many say comes before what one says, and no answer says too
// much.
func TestSaying(t *testing.T) {
	var order []peer.ID
	times := map[peer.ID]int{}
	s := saying{self: madePeer(t, 999).ID, peers: make(map[peer.ID]*provider), found: func(p mesh.Peer) {
		order = append(order, peer.ID(p.ID))
		times[peer.ID(p.ID)]++
	}}
	var junk []peer.AddrInfo
	for i := range toldMost {
		junk = append(junk, madePeer(t, 100+i))
	}
	s.take(append(junk, madePeer(t, 999)))
	if len(order) != toldAtOnce {
		t.Errorf("%d of one answer at once, want %d", len(order), toldAtOnce)
	}
	honest := madePeer(t, 1)
	s.take([]peer.AddrInfo{honest, honest})
	if order[len(order)-1] != honest.ID || times[honest.ID] != 1 {
		t.Error("who is named once is not told of once")
	}
	s.take(junk)
	if len(order) != toldMost+1 {
		t.Errorf("%d told of after two said the same", len(order))
	}
	// Somebody lies about where it is: what others say of that comes too, and first.
	elsewhere := honest
	for i := range 10 {
		elsewhere.Addrs = []ma.Multiaddr{addrAt(t, fmt.Sprint("46.0.0.", i+1))}
		s.take([]peer.AddrInfo{elsewhere})
	}
	if times[honest.ID] != toldAgain || !s.peers[honest.ID].addrs[0].Equal(elsewhere.Addrs[0]) {
		t.Errorf("told of %d times, first at %v", times[honest.ID], s.peers[honest.ID].addrs[0])
	}
	for i := range 2 * maxProviders {
		s.take([]peer.AddrInfo{madePeer(t, 10_000+i)})
	}
	s.rest()
	if len(times) != maxProviders {
		t.Errorf("%d told of in all, want %d", len(times), maxProviders)
	}
	if times[madePeer(t, 999).ID] != 0 {
		t.Error("told of ourselves")
	}
}
