package node

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"
)

// natBox passes datagrams on between whoever sends to it and one other, and
// can change the address that the other sees.
type natBox struct {
	front  *net.UDPConn
	target *net.UDPAddr
	inside atomic.Pointer[netip.AddrPort]
	back   atomic.Pointer[net.UDPConn]
	wg     sync.WaitGroup
}

func newNATBox(t *testing.T, target netip.AddrPort) *natBox {
	t.Helper()
	front, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	b := &natBox{front: front, target: net.UDPAddrFromAddrPort(target)}
	b.rebind(t)
	b.wg.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := front.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			b.inside.Store(&from)
			_, _ = b.back.Load().Write(buf[:n])
		}
	})
	t.Cleanup(func() {
		_ = front.Close()
		_ = b.back.Load().Close()
		b.wg.Wait()
	})
	return b
}

// rebind gives the inside another address, and tells which.
func (b *natBox) rebind(t *testing.T) netip.AddrPort {
	t.Helper()
	c, err := net.DialUDP("udp4", nil, b.target)
	if err != nil {
		t.Fatal(err)
	}
	old := b.back.Swap(c)
	b.wg.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			if to := b.inside.Load(); to != nil {
				_, _ = b.front.WriteToUDPAddrPort(buf[:n], *to)
			}
		}
	})
	if old != nil {
		_ = old.Close()
	}
	at, _ := addrPortOf(c.LocalAddr())
	return at
}

// TestAddressesFollow: a peer whose NAT gives him another address is known by
// that one as soon as QUIC has validated it, and by no other.
func TestAddressesFollow(t *testing.T) {
	a, b := startNode(t, loopback(t)), startNode(t, loopback(t))
	var target netip.AddrPort
	for _, m := range b.host.Addrs() {
		if kindOf(m) == onQUIC {
			target = netip.MustParseAddrPort(remoteOf(m))
		}
	}
	nat := newNATBox(t, target)
	front, _ := addrPortOf(nat.front.LocalAddr())
	by, err := ma.NewMultiaddr(fmt.Sprintf("/ip4/127.0.0.1/udp/%d/quic-v1", front.Port()))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.host.Connect(within(t, patience), peer.AddrInfo{ID: b.host.ID(), Addrs: []ma.Multiaddr{by}}); err != nil {
		t.Fatal(err)
	}
	first, _ := addrPortOf(nat.back.Load().LocalAddr())
	eventually(t, "the address is known", func() bool { return b.guard.addresses.has(first) })
	old := first
	first = nat.rebind(t)
	if b.guard.addresses.find(first, time.Now()) {
		t.Fatal("an address is believed before anything was heard from it")
	}
	// Whatever is said by QUIC makes it notice.
	ctx, stop := context.WithCancel(within(t, patience))
	defer stop()
	answers := ping.Ping(ctx, a.host, b.host.ID())
	eventually(t, "the new address is known, the old one is not", func() bool {
		select {
		case <-answers:
		default:
		}
		return b.guard.addresses.has(first) && !b.guard.addresses.has(old)
	})
	if n := len(b.guard.addresses.all()); n != 1 {
		t.Errorf("%d addresses are known, of one peer", n)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the address is forgotten", func() bool { return !b.guard.addresses.has(first) })
}
