package hostile

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	mrand "math/rand/v2"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/multiformats/go-multiaddr"
)

// burst is how many datagrams go out between two looks at the clock.
const burst = 64

// flood sends what next gives from a socket of its own, as fast as it may.
func (a *attacker) flood(ctx context.Context, next func() []byte) error {
	c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.ParseIP(a.bind)}, net.UDPAddrFromAddrPort(a.udp))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	a.pour(ctx, newVolley(c, nil), next)
	_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	for b := make([]byte, 2048); ; {
		_, err := c.Read(b)
		var timeout net.Error
		switch {
		case err == nil:
			a.answers.Add(1)
		case errors.As(err, &timeout) && timeout.Timeout():
			return nil
		}
	}
}

// pour sends what next gives.
func (a *attacker) pour(ctx context.Context, v *volley, next func() []byte) {
	a.begin()
	begun := time.Now()
	for ctx.Err() == nil {
		if a.target.Rate > 0 && float64(a.sent.Load()) > float64(a.target.Rate)*time.Since(begun).Seconds() {
			pause(ctx, time.Millisecond)
			continue
		}
		for range burst {
			a.sent.Add(int64(v.add(next())))
		}
		a.sent.Add(int64(v.flush()))
	}
}

// unknownIndex sends well-formed datagrams for sessions that do not exist.
func unknownIndex(ctx context.Context, a *attacker) error {
	b := make([]byte, 200)
	return a.flood(ctx, func() []byte {
		b[0] = 0x21
		binary.NativeEndian.PutUint64(b[1:], mrand.Uint64())
		return b
	})
}

// malformed sends datagrams of any length below QUIC's first byte.
func malformed(ctx context.Context, a *attacker) error {
	b := make([]byte, 1400)
	_, _ = rand.Read(b)
	return a.flood(ctx, func() []byte {
		b[0] = byte(mrand.Uint32() % 0x40)
		return b[:1+mrand.IntN(len(b)-1)]
	})
}

// quicJunk sends what looks like first packets of QUIC connections, each of
// another.
func quicJunk(ctx context.Context, a *attacker) error {
	b := make([]byte, 1200)
	_, _ = rand.Read(b)
	return a.flood(ctx, func() []byte {
		binary.NativeEndian.PutUint64(b[6:], mrand.Uint64())
		copy(b, []byte{0xc3, 0, 0, 0, 1, 8}) // Initial, version 1, 8 bytes of id
		if mrand.Uint32()%4 == 0 {
			b[0] = 0x40 | byte(mrand.Uint32()%0x40) // of a connection that is not there
		}
		return b
	})
}

// junk connects by QUIC, and then sends from where it is connected what looks
// like packets of other QUIC connections, of none that is there.
func junk(ctx context.Context, a *attacker) error {
	var socket atomic.Pointer[net.UDPConn]
	listen := func(network string, laddr *net.UDPAddr) (net.PacketConn, error) {
		c, err := net.ListenUDP(network, laddr)
		if err == nil {
			socket.Store(c)
		}
		return c, err
	}
	a.info.Addrs = slices.DeleteFunc(a.info.Addrs, func(m multiaddr.Multiaddr) bool {
		_, err := m.ValueForProtocol(multiaddr.P_UDP)
		return err != nil
	})
	h, err := libp2p.New(libp2p.Identity(a.key), libp2p.DisableMetrics(), libp2p.DisableRelay(),
		libp2p.QUICReuse(quicreuse.NewConnManager, quicreuse.OverrideListenUDP(listen)),
		libp2p.ListenAddrStrings("/ip4/"+a.bind+"/udp/0/quic-v1"))
	if err != nil {
		return err
	}
	defer func() { _ = h.Close() }()
	if err := h.Connect(ctx, a.info); err != nil {
		return err
	}
	b := make([]byte, 200)
	a.pour(ctx, newVolley(socket.Load(), net.UDPAddrFromAddrPort(a.udp)), func() []byte {
		b[0] = 0x40 | byte(mrand.Uint32()%0x40)
		binary.NativeEndian.PutUint64(b[1:], mrand.Uint64())
		return b
	})
	return nil
}

var errNothing = errors.New("nothing was overheard")

// resent sends captured datagrams again, from here.
func resent(ctx context.Context, a *attacker) error {
	if len(a.target.Overheard) == 0 {
		return errNothing
	}
	i := 0
	return a.flood(ctx, func() []byte {
		i++
		return a.target.Overheard[i%len(a.target.Overheard)]
	})
}

// forged sends captured datagrams with other contents and counters: the index
// is right, the seal is not.
func forged(ctx context.Context, a *attacker) error {
	if len(a.target.Overheard) == 0 {
		return errNothing
	}
	b := bytes.Clone(a.target.Overheard[0])
	return a.flood(ctx, func() []byte {
		binary.NativeEndian.PutUint64(b[9:], mrand.Uint64()) // the low bytes of the counter, and what follows
		return b
	})
}

// halfOpen connects by TCP and says nothing.
func halfOpen(ctx context.Context, a *attacker) error {
	const most = 512
	var open []net.Conn
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	d := net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(a.bind)}}
	a.begin()
	for ctx.Err() == nil {
		if len(open) >= most {
			pause(ctx, 10*time.Millisecond)
			continue
		}
		c, err := d.DialContext(ctx, "tcp4", a.tcp.String())
		if err != nil {
			pause(ctx, time.Millisecond)
			continue
		}
		open = append(open, c)
		a.sent.Add(1)
	}
	return nil
}
