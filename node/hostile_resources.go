package node

import (
	"net/netip"
	"time"

	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
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
func raiseTransient(limits *rcmgr.ScalingLimitConfig) {
	b := &limits.TransientBaseLimit
	b.ConnsInbound, b.Conns, b.FD = 256, 320, 320
}
