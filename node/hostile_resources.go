package node

import (
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	relayproto "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/libp2p/go-libp2p/x/rate"
)

// connRates bounds how often one address may connect. libp2p's own rate lets 16
// through and then one in 5 s: fewer than a household needs whose machines all
// start again after a power cut, each with a connection by QUIC and one by TCP.
// perIP is how many connections an address may have at all.
func connRates(perIP int) *rate.Limiter {
	one := rate.Limit{RPS: 1, Burst: perIP}
	return &rate.Limiter{
		NetworkPrefixLimits: []rate.PrefixLimit{
			{Prefix: netip.MustParsePrefix("127.0.0.0/8")}, // no limit
			{Prefix: netip.MustParsePrefix("::1/128")},
		},
		SubnetRateLimiter: rate.SubnetLimiter{
			IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: one}},
			IPv6SubnetLimits: []rate.SubnetLimit{
				{PrefixLength: 64, Limit: one},
				{PrefixLength: 48, Limit: rate.Limit{RPS: 4, Burst: 4 * perIP}},
			},
			GracePeriod: time.Minute,
		},
	}
}

// raiseTransient lets more connections be in their handshake at once. libp2p
// gives one 15 s and allows 32, whoever they are: one address that connects and
// stalls could shut everybody out. The limit per address is below this one.
// Streams that have not said what they are count here too, and libp2p's 128 are
// what one address may hold (maxNegotiatingPrefix).
func raiseTransient(limits *rcmgr.ScalingLimitConfig) {
	b := &limits.TransientBaseLimit
	b.ConnsInbound, b.Conns, b.FD = 256, 320, 320
	b.StreamsInbound, b.StreamsOutbound, b.Streams = 8*maxNegotiatingPrefix, 8*maxNegotiatingPrefix, 16*maxNegotiatingPrefix
}

// A bootstrap's limits, on whatever machine. libp2p takes its own from the
// memory that there is: with 512 MiB a node may have 64 connections in all from
// others, fewer than its connection manager keeps and than a village needs,
// and with 24 GiB 3.3 GiB of buffers.
const (
	// bootConnsLow and bootConnsHigh are between which the connection manager
	// lets the least useful go, after bootConnsGrace; bootConns is when nobody
	// more comes in. One costs 100 KiB (docs/measurements.md).
	bootConnsLow   = 600
	bootConnsHigh  = 900
	bootConnsGrace = 15 * time.Second
	bootConns      = 1100
	// bootStreams are streams of others, of all protocols.
	bootStreams = 8192
	// bootBuffers is what receive windows may hold together, bytes: a stream of
	// yamux has 256 KiB. bootPeerBuffers are those of one peer.
	bootBuffers     = 192 << 20
	bootPeerBuffers = 16 << 20
	// bootFiles are descriptors of sockets.
	bootFiles = 4096
	// peopleConns is when nobody more comes in where people sit, on a small
	// machine: their connection manager keeps 160.
	peopleConns = 256
)

// resourceLimits are those of a node.
func resourceLimits(large bool) rcmgr.ConcreteLimitConfig {
	limits := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&limits)
	raiseTransient(&limits)
	raisePeer(&limits)
	sys := &limits.SystemBaseLimit
	if !large {
		sys.ConnsInbound, sys.Conns = peopleConns, 2*peopleConns
		return limits.AutoScale()
	}
	sys.ConnsInbound, sys.ConnsOutbound, sys.Conns = bootConns, bootConns/2, bootConns*3/2
	sys.StreamsInbound, sys.StreamsOutbound, sys.Streams = bootStreams, bootStreams, 2*bootStreams
	limits.TransientBaseLimit.StreamsInbound, limits.TransientBaseLimit.Streams = bootStreams/2, bootStreams
	sys.Memory, limits.PeerBaseLimit.Memory = bootBuffers, bootPeerBuffers
	// All peers together may have as many streams of one protocol as there may be
	// connections: libp2p's 64 of identify are held by five who stall, and then
	// nobody who comes learns what this node speaks.
	each := &limits.ProtocolBaseLimit
	each.StreamsInbound, each.StreamsOutbound, each.Streams = 2*bootConns, 2*bootConns, 4*bootConns
	few := rcmgr.BaseLimit{StreamsInbound: 2 * bootConns, StreamsOutbound: 2 * bootConns, Streams: 4 * bootConns, Memory: 32 << 20}
	ofPeer := rcmgr.BaseLimit{StreamsInbound: 4, StreamsOutbound: 8, Streams: 12, Memory: 1 << 20}
	none := rcmgr.BaseLimitIncrease{}
	for _, service := range []string{identify.ServiceName, ping.ServiceName} {
		limits.AddServiceLimit(service, few, none)
		limits.AddServicePeerLimit(service, ofPeer, none)
	}
	for _, id := range []protocol.ID{identify.ID, identify.IDPush, ping.ID} {
		limits.AddProtocolLimit(id, few, none)
		limits.AddProtocolPeerLimit(id, ofPeer, none)
	}
	limits.AddServiceLimit(relayv2.ServiceName, rcmgr.BaseLimit{StreamsInbound: 2048, StreamsOutbound: 2048, Streams: 4096, Memory: 64 << 20}, none)
	for _, id := range []protocol.ID{relayproto.ProtoIDv2Hop, relayproto.ProtoIDv2Stop} {
		limits.AddProtocolLimit(id, rcmgr.BaseLimit{StreamsInbound: 2048, StreamsOutbound: 2048, Streams: 4096, Memory: 64 << 20}, none)
	}
	return limits.Scale(0, bootFiles)
}
