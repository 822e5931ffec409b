package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	connmanager "github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/quic-go/quic-go"
	"go.uber.org/fx"
)

// connsPerIP is how many connections one address may have: a household, a
// campus behind one NAT.
const connsPerIP = 64

// newHost makes the libp2p host: QUIC-v1 and TCP with Noise and yamux, the
// relays of the network and no others, no name look-ups, no default bootstraps, no global metrics.
func newHost(cfg *Config, key crypto.PrivKey, socks *sockets, g gate, at *places, held *seats) (host.Host, error) {
	listen := make([]ma.Multiaddr, 0, len(cfg.Listen))
	for _, s := range cfg.Listen {
		a, err := parseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("listen: %w", err)
		}
		if err := portFree(a); err != nil {
			return nil, fmt.Errorf("listen: %w", err)
		}
		listen = append(listen, a)
	}
	low, high, grace := 96, 160, 30*time.Second
	if cfg.Bootstrap {
		low, high, grace = bootConnsLow, bootConnsHigh, bootConnsGrace
	}
	conns, err := connmanager.NewConnManager(low, high, connmanager.WithGracePeriod(grace))
	if err != nil {
		return nil, fmt.Errorf("connection manager: %w", err)
	}
	resources, err := newResources(cfg.Bootstrap)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("resource manager: %w", err), conns.Close())
	}
	var h host.Host // libp2p asks before it is made, and afterwards from many goroutines
	var made atomic.Bool
	announce := func(addrs []ma.Multiaddr) []ma.Multiaddr {
		if !made.Load() {
			return usable(addrs)
		}
		return usable(slices.Concat(held.addrs(), at.announce(addrs, h.Network().ListenAddresses())))
	}
	opts := []libp2p.Option{
		libp2p.Identity(key),
		libp2p.UserAgent(UserAgent),
		libp2p.ListenAddrs(listen...),
		libp2p.NoTransports,
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Transport(libp2pquic.NewTransport),
		libp2p.Security(noise.ID, noise.New),
		libp2p.Muxer(yamux.ID, yamux.DefaultTransport),
		libp2p.QUICReuse(newQUICReuse(cfg, socks, g)),
		libp2p.AddrsFactory(announce),
		libp2p.ConnectionGater(g),
		libp2p.ConnectionManager(conns),
		libp2p.ResourceManager(resources),
		libp2p.MultiaddrResolver(noNames{}),
		libp2p.DisableMetrics(),
		// After 100 dials of which fewer than 5 came through, libp2p would take
		// UDP for blocked, and refuse 99 of 100 for as long as that is so. But
		// after a split, or the deaths of many, most dials are in vain, and the
		// one that is not may be the one way to somebody who is back.
		libp2p.UDPBlackHoleSuccessCounter(nil),
		libp2p.IPv6BlackHoleSuccessCounter(nil),
	}
	if cfg.relayed() {
		opts = append(opts, libp2p.EnableRelay())
	} else {
		opts = append(opts, libp2p.DisableRelay())
	}
	if cfg.ListenUDP != nil {
		// Address discovery waits on a clock that virtual time never moves.
		opts = append(opts, libp2p.DisableIdentifyAddressDiscovery())
	}
	h, err = libp2p.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("start the network: %w", err)
	}
	made.Store(true)
	if missing := notListening(h, listen); missing != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: the port is taken, or the address is not this machine's", missing), h.Close())
	}
	return h, nil
}

// portFree looks whether another program listens on a TCP address: libp2p
// shares its ports (SO_REUSEPORT) and would share that one, so that each of
// the two gets half of the connections.
func portFree(a ma.Multiaddr) error {
	if kindOf(a) != onTCP {
		return nil
	}
	network, addr, err := manet.DialArgs(a)
	if err != nil {
		return err
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		return err
	}
	return l.Close()
}

// notListening finds an address that was asked for and not got: libp2p is
// content when one of them works.
func notListening(h host.Host, asked []ma.Multiaddr) ma.Multiaddr {
	got := h.Network().ListenAddresses()
	for _, a := range asked {
		found := false
		for _, g := range got {
			found = found || sameListener(a, g)
		}
		if !found {
			return a
		}
	}
	return nil
}

// sameListener tells whether got is what listening on asked gives: the same,
// but for a port 0.
func sameListener(asked, got ma.Multiaddr) bool {
	if len(asked) != len(got) {
		return false
	}
	for i := range asked {
		if asked[i].Protocol().Code != got[i].Protocol().Code {
			return false
		}
		anyPort := asked[i].Value() == "0" && i == 1
		if asked[i].Value() != got[i].Value() && !anyPort {
			return false
		}
	}
	return true
}

func newResources(large bool) (network.ResourceManager, error) {
	perIP := connsPerIP
	if large {
		perIP *= 4
	}
	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(resourceLimits(large)),
		rcmgr.WithConnRateLimiters(connRates(perIP)),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: perIP}},
			// One IPv6 subnet is what one IPv4 address is: somebody's whole LAN.
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 64, ConnCount: perIP}, {PrefixLength: 48, ConnCount: 4 * perIP}},
		))
}

// quicReuseFunc is a constructor in the form that libp2p.QUICReuse takes.
type quicReuseFunc = func(quic.StatelessResetKey, quic.TokenGeneratorKey, network.ResourceManager, fx.Lifecycle) (*quicreuse.ConnManager, error)

// newQUICReuse makes QUIC use our sockets. It repeats what libp2p's default
// constructor does for the resource manager, and asks the gater at the first
// packet of a connection, before the handshake.
func newQUICReuse(cfg *Config, socks *sockets, g gate) quicReuseFunc {
	simulated := cfg.ListenUDP != nil
	return func(reset quic.StatelessResetKey, token quic.TokenGeneratorKey, rm network.ResourceManager, life fx.Lifecycle) (*quicreuse.ConnManager, error) {
		opts := []quicreuse.Option{
			quicreuse.OverrideListenUDP(socks.listenUDP),
			quicreuse.ConnContext(func(ctx context.Context, client *quic.ClientInfo) (context.Context, error) {
				addr, err := quicreuse.ToQuicMultiaddr(client.RemoteAddr, quic.Version1)
				if err != nil || !g.allow("", addr, Inbound) {
					return ctx, errors.New("refused by policy")
				}
				scope, err := rm.OpenConnection(network.DirInbound, false, addr)
				if err != nil {
					return ctx, err
				}
				ctx = network.WithConnManagementScope(ctx, scope)
				context.AfterFunc(ctx, scope.Done)
				return ctx, nil
			}),
			quicreuse.VerifySourceAddress(rm.VerifySourceAddress),
		}
		if simulated {
			opts = append(opts, quicreuse.OverrideSourceIPSelector(func() (quicreuse.SourceIPSelector, error) {
				return ownAddress{socks}, nil
			}))
		}
		cm, err := quicreuse.NewConnManager(reset, token, opts...)
		if err != nil {
			return nil, err
		}
		life.Append(fx.StopHook(cm.Close))
		return cm, nil
	}
}

// ownAddress makes simulated nodes dial from the address they listen on; the
// routes of this machine say nothing about a simulated network.
type ownAddress struct{ socks *sockets }

// PreferredSourceIPForDestination is what quicreuse asks.
func (o ownAddress) PreferredSourceIPForDestination(*net.UDPAddr) (net.IP, error) {
	a, ok := o.socks.firstIP()
	if !ok {
		a = netip.IPv4Unspecified()
	}
	return a.AsSlice(), nil
}

// noNames answers every name look-up with a refusal: addresses with names
// reach a node from strangers, and looking one up would tell a name server.
type noNames struct{}

// ResolveDNSAddr refuses.
func (noNames) ResolveDNSAddr(context.Context, peer.ID, ma.Multiaddr, int, int) ([]ma.Multiaddr, error) {
	return nil, errDNS
}

// ResolveDNSComponent refuses.
func (noNames) ResolveDNSComponent(context.Context, ma.Multiaddr, int) ([]ma.Multiaddr, error) {
	return nil, errDNS
}
