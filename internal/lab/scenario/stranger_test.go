//go:build lab

package scenario

import (
	"context"
	"crypto/ed25519"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	dht "github.com/libp2p/go-libp2p-kad-dht"
	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/crypto"
	p2phost "github.com/libp2p/go-libp2p/core/host"
	p2pnetwork "github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/proto"

	"teahouse/internal/lab"
	"teahouse/node"
)

// stranger is a node of the network, as anybody may run one who knows its
// name, that keeps everything it gets to see: each gossip message of each
// topic that somebody near it is in, and each record and query of the DHT. It
// is built on libp2p directly, for teahouse's own node refuses to be that
// curious.
type stranger struct {
	host p2phost.Host
	dht  *dht.IpfsDHT
	ps   *pubsub.PubSub
	life context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	seen   [][]byte // as it came, in protobuf
	topics map[string]bool
}

// newStranger goes onto the stage's network.
func newStranger(t *testing.T, s *stage) *stranger {
	t.Helper()
	nw, err := node.AdHocNetwork(s.network)
	must(t, err)
	_, key, err := ed25519.GenerateKey(nil)
	must(t, err)
	priv, err := crypto.UnmarshalEd25519PrivateKey(key)
	must(t, err)
	ctx, cancel := context.WithCancel(context.Background()) // until close
	x := &stranger{life: ctx, stop: cancel, topics: make(map[string]bool)}
	x.host, err = libp2p.New(libp2p.Identity(priv), libp2p.DisableMetrics(),
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"))
	must(t, err)
	t.Cleanup(x.close)
	x.dht, err = dht.New(x.host, dht.ProtocolPrefix(protocol.ID("/teahouse/"+nw.ID)), dht.DisableValues(),
		dht.Mode(dht.ModeServer), dht.OnRequestHook(x.query))
	must(t, err)
	gossip := protocol.ID("/teahouse/" + nw.ID + "/meshsub/1.2.0")
	x.ps, err = pubsub.NewGossipSub(ctx, x.host,
		pubsub.WithGossipSubProtocols([]protocol.ID{gossip}, func(pubsub.GossipSubFeature, protocol.ID) bool { return true }),
		pubsub.WithRawTracer(x))
	must(t, err)
	addr, err := multiaddr.NewMultiaddr(s.peer)
	must(t, err)
	info, err := peer.AddrInfoFromP2pAddr(addr)
	must(t, err)
	must(t, x.host.Connect(soon(t), *info))
	return x
}

// meet connects to a member of the room, whose address anybody can learn who
// asks the DHT for keys it has seen.
func (x *stranger) meet(t *testing.T, a *actor) {
	t.Helper()
	addrs := a.event(t, "listening", nil).Texts("addrs")
	addr, err := multiaddr.NewMultiaddr(addrs[0])
	must(t, err)
	info, err := peer.AddrInfoFromP2pAddr(addr)
	must(t, err)
	must(t, x.host.Connect(soon(t), *info))
}

func (x *stranger) note(b []byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.seen = append(x.seen, b)
}

// overheard is all that was noted, to be searched like a capture.
func (x *stranger) overheard() []lab.Packet {
	x.mu.Lock()
	defer x.mu.Unlock()
	packets := make([]lab.Packet, len(x.seen))
	for i, b := range x.seen {
		packets[i] = lab.Packet{Raw: b, Proto: "gossip or DHT"}
	}
	return packets
}

// counts is how many topics and things said in them were noted.
func (x *stranger) counts() (topics, all int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.topics), len(x.seen)
}

func (x *stranger) close() {
	x.stop()
	x.wg.Wait()
	_ = x.dht.Close() // a test's observer: nothing to do about it
	_ = x.host.Close()
}

// listen joins a topic that a neighbour is in.
func (x *stranger) listen(name string) {
	x.mu.Lock()
	known := x.topics[name]
	x.topics[name] = true
	x.mu.Unlock()
	if known {
		return
	}
	x.wg.Go(func() {
		topic, err := x.ps.Join(name)
		if err != nil {
			return // closing
		}
		sub, err := topic.Subscribe()
		if err != nil {
			return
		}
		for {
			if _, err := sub.Next(x.life); err != nil { // RecvRPC has noted it
				return
			}
		}
	})
}

// query notes what the DHT is asked or told.
func (x *stranger) query(_ context.Context, _ p2pnetwork.Stream, req *pb.Message) {
	b, err := proto.Marshal(req)
	if err == nil {
		x.note(b)
	}
}

// RecvRPC notes all that gossip brings, and joins what neighbours are in.
func (x *stranger) RecvRPC(rpc *pubsub.RPC) {
	if b, err := proto.Marshal(&rpc.RPC); err == nil {
		x.note(b)
	}
	for _, s := range rpc.GetSubscriptions() {
		if s.GetSubscribe() {
			x.listen(s.GetTopicid())
		}
	}
}

// The rest of pubsub.RawTracer is of no interest.
func (x *stranger) OnNewOutboundStream(peer.ID, protocol.ID)             {}
func (x *stranger) OnClosedOutboundStream(peer.ID)                       {}
func (x *stranger) Join(string)                                          {}
func (x *stranger) Leave(string)                                         {}
func (x *stranger) Graft(peer.ID, string)                                {}
func (x *stranger) Prune(peer.ID, string)                                {}
func (x *stranger) ValidateMessage(*pubsub.Message)                      {}
func (x *stranger) DeliverMessage(*pubsub.Message)                       {}
func (x *stranger) RejectMessage(*pubsub.Message, string)                {}
func (x *stranger) DuplicateMessage(*pubsub.Message)                     {}
func (x *stranger) ThrottlePeer(peer.ID)                                 {}
func (x *stranger) SendRPC(*pubsub.RPC, peer.ID)                         {}
func (x *stranger) SendRPCCompleted(*pubsub.RPC, peer.ID, time.Duration) {}
func (x *stranger) DropRPC(*pubsub.RPC, peer.ID)                         {}
func (x *stranger) UndeliverableMessage(*pubsub.Message)                 {}
