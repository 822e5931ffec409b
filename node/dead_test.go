package node

import (
	"context"
	"crypto/ed25519"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"teahouse/internal/mesh"
)

// TestManyDead: whoever has dialled many in vain still reaches who is there.
// libp2p would take UDP for blocked then, and not dial by it.
func TestManyDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
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
