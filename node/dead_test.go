package node

import (
	"context"
	"crypto/ed25519"
	"sync"
	"testing"
	"time"

	"teahouse/internal/mesh"
	"teahouse/internal/mesh/meshtest"
)

// TestManyDead: whoever has dialled many in vain still reaches who is there.
// libp2p would take UDP for blocked then, and not dial by it.
func TestManyDead(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		net := newInternet(t, 20*time.Millisecond)
		a, b := startNode(t, net.config(t)), startNode(t, net.config(t))
		const atOnce = 30
		for range 4 {
			var dials sync.WaitGroup
			for range atOnce {
				dead := mesh.Peer{ID: mesh.PeerIDOf(newKey(t).Public().(ed25519.PublicKey)), Addrs: []mesh.Addr{"/ip4/44.0.1.1/udp/7654/quic-v1"}}
				dials.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), 2*handshakeTimeout)
					defer cancel()
					if _, err := a.Open(ctx, dead, testDoor); err == nil {
						t.Error("a session with a dead peer")
					}
				})
			}
			dials.Wait()
		}
		openPair(t, a, b)
	})
}

// TestDeadIsNotUp: while nothing arrives, no path is announced, whichever of
// the connections that there are, all of them dead, is tried; and one is soon
// after.
func TestDeadIsNotUp(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		net := newInternet(t, 20*time.Millisecond)
		a, b := startNode(t, net.config(t)), startNode(t, net.config(t))
		from, to := silent(t, a, b)
		from.Start(func([]byte) {}, nil)
		to.Start(func([]byte) {}, nil)
		// As where both dial at once.
		c, err := b.dialAddr(t.Context(), a.host.ID(), a.host.Addrs()[0])
		if err == nil {
			err = b.injector.inject(t.Context(), c)
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		if n := len(a.host.Network().ConnsToPeer(b.host.ID())); n != 2 {
			t.Fatalf("%d connections", n)
		}
		type change struct {
			at time.Duration
			up bool
		}
		var mu sync.Mutex
		said := make([][]change, 2)
		begun := time.Now()
		for i, s := range []mesh.Session{from, to} {
			s.OnPath(func(p mesh.Path, ok bool) {
				mu.Lock()
				defer mu.Unlock()
				said[i] = append(said[i], change{time.Since(begun), ok})
				t.Log(time.Since(begun), i, p, ok)
			})
		}
		time.Sleep(time.Second)
		net.cut(true)
		const found, healed = 6 * time.Second, 10 * time.Second // after begun
		time.Sleep(healed - time.Second)
		net.cut(false)
		time.Sleep(5 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		for i, all := range said {
			up := true
			for _, c := range all {
				if c.at > found && c.at <= healed && c.up {
					t.Errorf("%d: announced as up after %v, while nothing arrived", i, c.at)
				}
				if c.at > found && up && c.at <= healed {
					t.Errorf("%d: announced as down only after %v", i, c.at)
				}
				up = c.up
			}
			if !up || len(all) < 3 {
				t.Errorf("%d: in the end %v, after %d changes", i, up, len(all))
			}
		}
	})
}

// TestWary: which paths are believed before they have answered.
func TestWary(t *testing.T) {
	for name, c := range map[string]struct {
		before  func(k *checker, now time.Time)
		strange bool
		good    bool
	}{
		"the session came by it":   {func(*checker, time.Time) {}, false, true},
		"strange":                  {func(*checker, time.Time) {}, true, false},
		"the peer moved in a talk": {func(k *checker, now time.Time) { k.answered(k.ask(now), now) }, true, true},
		"after one that was late":  {func(k *checker, now time.Time) { k.answered(k.ask(now.Add(-2*time.Second)), now.Add(-2*time.Second)) }, false, false},
		"after one that was dead":  {func(k *checker, now time.Time) { k.ask(now.Add(-2 * time.Second)); k.judge(now) }, false, false},
		"after a strange one":      {func(k *checker, now time.Time) { k.turn(now, true) }, false, false},
		"woken up":                 {func(k *checker, now time.Time) { k.turn(now, true); k.forget() }, false, true},
	} {
		var k checker
		now := epoch.Add(time.Hour)
		c.before(&k, now)
		k.turn(now, c.strange)
		if good, proven := k.judge(now); good != c.good || proven {
			t.Errorf("%s: good %v, proven %v", name, good, proven)
		}
		k.answered(k.ask(now), now.Add(20*time.Millisecond))
		if good, proven := k.judge(now.Add(20 * time.Millisecond)); !good || !proven {
			t.Errorf("%s: answered, good %v, proven %v", name, good, proven)
		}
	}
}
