package hostile

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/multiformats/go-multistream"

	"teahouse/internal/mesh"
	"teahouse/node"
)

const roomProtocol protocol.ID = "/teahouse/room/1"

// workers is how many goroutines of one attacker work at a time.
const workers = 4

// stream opens a stream on any connection that there is.
func (a *attacker) stream(ctx context.Context) (network.Stream, error) {
	ctx, cancel := context.WithTimeout(network.WithNoDial(ctx, "attack"), time.Second)
	defer cancel()
	return a.host.Network().NewStream(ctx, a.info.ID)
}

// speak opens a stream of a protocol without waiting for an answer.
func (a *attacker) speak(ctx context.Context, id protocol.ID) (network.Stream, io.ReadWriter, error) {
	st, err := a.stream(ctx)
	if err != nil {
		return nil, nil, err
	}
	return st, multistream.NewMSSelect(st, id), nil
}

// idleStreams opens streams and never says what they are.
func idleStreams(ctx context.Context, a *attacker) error {
	if err := a.connect(ctx); err != nil {
		return err
	}
	a.together(workers, func() {
		for a.going(ctx) {
			st, err := a.stream(ctx)
			if err != nil {
				pause(ctx, time.Millisecond)
				continue
			}
			_, _ = st.Write([]byte{0x13})
			a.sent.Add(1)
		}
	})
	return nil
}

// pings keeps the ping of libp2p busy.
func pings(ctx context.Context, a *attacker) error {
	if err := a.connect(ctx); err != nil {
		return err
	}
	a.together(workers, func() {
		for a.going(ctx) {
			st, rw, err := a.speak(ctx, ping.ID)
			if err != nil {
				pause(ctx, time.Millisecond)
				continue
			}
			go func() { _, _ = io.Copy(io.Discard, rw) }() // ends with the stream
			_ = st.SetDeadline(time.Now().Add(10 * time.Second))
			b := make([]byte, 32*32)
			for a.going(ctx) {
				if _, err := rw.Write(b); err != nil {
					break
				}
				a.sent.Add(32)
			}
			_ = st.Reset()
		}
	})
	return nil
}

// attempts opens sessions by doors that there are not.
func attempts(ctx context.Context, a *attacker) error {
	if err := a.connect(ctx); err != nil {
		return err
	}
	a.together(workers, func() {
		b := make([]byte, 48)
		for a.going(ctx) {
			st, rw, err := a.speak(ctx, roomProtocol)
			if err != nil {
				pause(ctx, time.Millisecond)
				continue
			}
			_, _ = rand.Read(b)
			_, _ = rw.Write(b)
			a.sent.Add(1)
			_ = st.SetReadDeadline(time.Now().Add(time.Second))
			_, _ = rw.Read(b[:1])
			_ = st.Reset()
		}
	})
	return nil
}

// stalls opens sessions by the right door and says nothing more, as many as it
// can hold.
func stalls(ctx context.Context, a *attacker) error {
	if err := a.connect(ctx); err != nil {
		return err
	}
	opening := make([]byte, 48)
	_, _ = rand.Read(opening[:16])
	mac := hmac.New(sha256.New, a.target.Door[:])
	for _, id := range []string{string(a.host.ID()), string(a.info.ID)} {
		_ = binary.Write(mac, binary.BigEndian, uint16(len(id)))
		_, _ = io.WriteString(mac, id)
	}
	mac.Write(opening[:16])
	mac.Sum(opening[:16])
	a.together(16, func() {
		for a.going(ctx) {
			st, rw, err := a.speak(ctx, roomProtocol)
			if err != nil {
				pause(ctx, 10*time.Millisecond)
				continue
			}
			_, _ = rw.Write(opening)
			a.sent.Add(1)
			_ = st.SetReadDeadline(time.Now().Add(10 * time.Second))
			stop := context.AfterFunc(ctx, func() { _ = st.Reset() })
			_, _ = rw.Read(make([]byte, 1))
			stop()
			_ = st.Reset()
		}
	})
	return nil
}

// lengths promises messages of 4 MiB, by gossip and the DHT, and sends a byte
// of them now and then.
func lengths(ctx context.Context, a *attacker) error {
	if err := a.connect(ctx); err != nil {
		return err
	}
	a.together(16, func() {
		for i := 0; a.going(ctx); i++ {
			id := a.lookup()
			if i%4 == 3 {
				id = a.gossip()
			}
			st, rw, err := a.speak(ctx, id)
			if err != nil {
				pause(ctx, time.Millisecond)
				continue
			}
			a.sent.Add(1)
			if _, err := rw.Write(binary.AppendUvarint(nil, 4<<20-1)); err != nil {
				_ = st.Reset()
				continue
			}
			for range 50 {
				if _, err := rw.Write([]byte{0}); err != nil || !a.going(ctx) {
					break
				}
				pause(ctx, 10*time.Millisecond)
			}
			if i%8 == 7 {
				_ = st.Reset()
			}
		}
	})
	return nil
}

// connects connects again and again, each time as somebody else.
func connects(ctx context.Context, a *attacker) error {
	a.begin()
	for ctx.Err() == nil {
		h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/"+a.bind+"/udp/0/quic-v1"), libp2p.DisableMetrics(),
			libp2p.DisableRelay(), libp2p.ResourceManager(&network.NullResourceManager{}))
		if err != nil {
			return err
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		_ = h.Connect(short, a.info) // it may well be refused
		a.sent.Add(1)
		cancel()
		_ = h.Close()
	}
	return nil
}

// packets opens a session as somebody who knows the topic does, and sends
// packets without end.
func packets(ctx context.Context, a *attacker) error {
	n, err := node.New(ctx, node.Config{
		HostKey: a.raw, Network: a.target.Network, Transport: node.DatagramOnly,
		Listen: []string{"/ip4/" + a.bind + "/udp/0/quic-v1", "/ip4/" + a.bind + "/tcp/0"},
	})
	if err != nil {
		return err
	}
	defer func() { _ = n.Close() }()
	s, err := n.Open(ctx, a.target.Peer, a.target.Door)
	if err != nil {
		return err
	}
	s.Start(func([]byte) {}, nil)
	for ctx.Err() == nil { // until the path is proven
		if p, ok := s.Path(); ok && p.Carrier == mesh.Datagram && p.RTT > 0 {
			break
		}
		pause(ctx, 5*time.Millisecond)
	}
	a.begin()
	b := make([]byte, 40)
	for ctx.Err() == nil && s.Err() == nil {
		for range 8 {
			_, _ = rand.Read(b)
			_ = s.SendPacket(b)
			a.sent.Add(1)
		}
		if a.target.Rate > 0 {
			pause(ctx, time.Millisecond)
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	a.mu.Lock()
	a.gone = time.Now()
	a.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, comeBackFor)
	defer cancel()
	for ; ctx.Err() == nil; pause(ctx, 50*time.Millisecond) {
		if s, err := n.Open(ctx, a.target.Peer, a.target.Door); err == nil {
			s.Start(func([]byte) {}, nil)
			a.returned++
		}
	}
	return nil
}
