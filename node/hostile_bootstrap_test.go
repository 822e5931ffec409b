package node

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	relayproto "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/marcopolo/simnet"
	"github.com/multiformats/go-multistream"
	"github.com/quic-go/quic-go"
	"go.uber.org/fx"

	"teahouse/internal/mesh/meshtest"
)

// TestBootstrapLimits: a bootstrap takes in a village on a small machine too,
// and a few addresses can neither fill it nor take all its places for streams.
func TestBootstrapLimits(t *testing.T) {
	rm, err := newResources(true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rm.Close() }()
	open := func(i int) (network.ConnManagementScope, error) {
		return rm.OpenConnection(network.DirInbound, false, addrAt(t, fmt.Sprintf("44.%d.%d.1", i>>8, i&255)))
	}
	conns := 0
	for i := range 3 * bootConns {
		c, err := open(i)
		if err != nil {
			break
		}
		conns++
		if err := c.SetPeer(madePeer(t, i).ID); err != nil { // else it is in its handshake
			t.Fatal(err)
		}
	}
	if conns != bootConns || conns <= bootConnsHigh {
		t.Errorf("%d connections, want %d, and more than the %d at which the manager lets some go", conns, bootConns, bootConnsHigh)
	}
	nameless := func(from, count int) (n int) {
		for i := range count {
			for range maxNegotiating {
				if _, err := rm.OpenStream(madePeer(t, from+i).ID, network.DirInbound); err != nil {
					return n
				}
				n++
			}
		}
		return n
	}
	// Eight addresses with all that one may hold.
	held := 8 * maxNegotiatingPrefix
	if n := nameless(0, held/maxNegotiating); n != held {
		t.Errorf("%d streams that have no name yet", n)
	}
	if _, err := rm.OpenStream(madePeer(t, 900).ID, network.DirInbound); err != nil {
		t.Errorf("beside them somebody else has none: %v", err)
	}
	one, err := newResources(true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = one.Close() }()
	conns = 0
	for range 3 * bootConns {
		if _, err := one.OpenConnection(network.DirInbound, false, addrAt(t, "44.0.0.1")); err != nil {
			break
		}
		conns++
	}
	if conns != 4*connsPerIP {
		t.Errorf("%d connections of one address, want %d", conns, 4*connsPerIP)
	}
	limits := resourceLimits(true).ToPartialLimitConfig()
	if got := limits.System.Memory; got != bootBuffers {
		t.Errorf("%d bytes of buffers, whatever the machine has; want %d", got, bootBuffers)
	}
	people := resourceLimits(false).ToPartialLimitConfig()
	if people.System.ConnsInbound < peopleConns {
		t.Errorf("people have %d connections", people.System.ConnsInbound)
	}
}

// TestDoorstepKeepsRoom: a few addresses that bring as much as each may leave
// room for one who has brought nothing.
func TestDoorstepKeepsRoom(t *testing.T) {
	at := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{44, 0, 1, byte(i)}), 9)
	}
	d := doorstep{}
	passed := map[int]int{}
	for ms := range 3000 {
		now := epoch.Add(time.Duration(ms) * time.Millisecond)
		for who := range 8 {
			if d.pass(0xc3, at(who), now) {
				passed[who]++
			}
		}
		if ms%500 == 499 { // somebody comes, with all that two connections need
			guest := 100 + ms/500
			for i := range freshPackets {
				if !d.pass(0xc3, at(guest), now) {
					t.Fatalf("packet %d of guest %d is refused", i, guest)
				}
			}
		}
	}
	sum := 0
	for _, n := range passed {
		sum += n
	}
	most := int(firstAllowance.all.burst + 3*firstAllowance.all.rate + firstAllowance.fresh.burst + 3*firstAllowance.fresh.rate)
	if sum > most || sum < int(2*firstAllowance.all.rate) {
		t.Errorf("%d packets of the crowd passed, want at most %d", sum, most)
	}
}

// loris is a host in virtual time that speaks libp2p by hand.
func loris(t *testing.T, in *internet) (connect func(to *Node) network.Conn) {
	t.Helper()
	in.next++
	ip := net.IPv4(44, 0, 0, byte(in.next))
	line := simnet.LinkSettings{BitsPerSecond: 50_000_000}
	h, err := libp2p.New(
		libp2p.NoTransports, libp2p.Transport(libp2pquic.NewTransport), libp2p.ListenAddrStrings(fmt.Sprintf("/ip4/%s/udp/7654/quic-v1", ip)),
		libp2p.QUICReuse(func(life fx.Lifecycle, reset quic.StatelessResetKey, token quic.TokenGeneratorKey) (*quicreuse.ConnManager, error) {
			cm, err := quicreuse.NewConnManager(reset, token,
				quicreuse.OverrideSourceIPSelector(func() (quicreuse.SourceIPSelector, error) { return only(ip), nil }),
				quicreuse.OverrideListenUDP(func(_ string, laddr *net.UDPAddr) (net.PacketConn, error) {
					return in.net.NewEndpoint(laddr, simnet.NodeBiDiLinkSettings{Downlink: line, Uplink: line}), nil
				}))
			if err == nil {
				life.Append(fx.StopHook(cm.Close))
			}
			return cm, err
		}),
		libp2p.DisableMetrics(), libp2p.DisableRelay(), libp2p.DisableIdentifyAddressDiscovery(), libp2p.ResourceManager(&network.NullResourceManager{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return func(to *Node) network.Conn {
		t.Helper()
		if err := h.Connect(within(t, patience), peer.AddrInfo{ID: to.host.ID(), Addrs: to.host.Addrs()}); err != nil {
			t.Fatal(err)
		}
		return h.Network().ConnsToPeer(to.host.ID())[0]
	}
}

// only is the address that a host dials from.
type only net.IP

func (o only) PreferredSourceIPForDestination(*net.UDPAddr) (net.IP, error) { return net.IP(o), nil }

// TestSlowLoris: whatever a bootstrap serves, a stream on which somebody begins
// and does not go on is ended, within the time that is said for it; gossip, of
// which one stream stays by design, is ended when another comes.
func TestSlowLoris(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		in := newInternet(t, 20*time.Millisecond)
		cfg := in.config(t)
		cfg.Bootstrap, cfg.Relay = true, true
		boot := startNode(t, cfg)
		c := loris(t, in)(boot)
		served := []struct {
			name  protocol.ID
			begin []byte
			limit time.Duration
		}{
			{"", []byte{0x13}, 11 * time.Second},
			{roomProtocol, []byte{1}, handshakeTimeout + time.Second},
			{voiceProtocol, []byte{1}, handshakeTimeout + time.Second},
			{memberProtocol, []byte{1}, proofTimeout + time.Second},
			{dhtProtocol(testNetwork), []byte{0x80, 0x40, 1}, time.Minute + time.Second},
			{dhtProtocol(testNetwork), []byte{0x80}, time.Minute + time.Second},
			{identify.ID, nil, 6 * time.Second},
			{identify.IDPush, []byte{0x80, 0x20, 1}, 6 * time.Second},
			{ping.ID, []byte{1}, time.Minute + time.Second},
			{relayproto.ProtoIDv2Hop, []byte{0x40, 8}, time.Minute + time.Second},
		}
		before := len(boot.host.Network().ConnsToPeer(c.LocalPeer())[0].GetStreams())
		ended := make([]time.Duration, len(served))
		begun := time.Now()
		done := make(chan int)
		for i, s := range served {
			go func() {
				defer func() { ended[i] = time.Since(begun); done <- i }()
				st, err := c.NewStream(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				rw := st.(interface {
					Read([]byte) (int, error)
					Write([]byte) (int, error)
				})
				if s.name != "" {
					rw = multistream.NewMSSelect(st, s.name)
				}
				_, _ = rw.Write(s.begin)
				for b := make([]byte, 4096); err == nil; { // reads all, and says nothing
					_, err = rw.Read(b)
				}
				_ = st.Reset()
			}()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		for range served {
			select {
			case <-done:
			case <-ctx.Done():
				var open []protocol.ID
				for i, d := range ended {
					if d == 0 {
						open = append(open, served[i].name)
					}
				}
				t.Fatalf("still open after five minutes: %q", open)
			}
		}
		for i, s := range served {
			if ended[i] > s.limit {
				t.Errorf("%q is open for %v, longer than %v", s.name, ended[i], s.limit)
			}
		}
		time.Sleep(2 * time.Second)
		if conns := boot.host.Network().ConnsToPeer(c.LocalPeer()); len(conns) != 1 {
			t.Errorf("%d connections", len(conns))
		} else if n := len(conns[0].GetStreams()); n > before {
			var what []protocol.ID
			for _, st := range conns[0].GetStreams() {
				what = append(what, st.Protocol())
			}
			slices.Sort(what)
			t.Errorf("%d streams are left, %d before: %q", n, before, what)
		}

		// Gossip: ten begin, one is left.
		for range 10 {
			st, err := c.NewStream(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_, _ = multistream.NewMSSelect(st, gossipProtocol(testNetwork)).Write([]byte{0x80})
			time.Sleep(time.Second)
		}
		gossip := 0
		for _, st := range boot.host.Network().ConnsToPeer(c.LocalPeer())[0].GetStreams() {
			if st.Protocol() == gossipProtocol(testNetwork) && st.Stat().Direction == network.DirInbound {
				gossip++
			}
		}
		if gossip > 1 {
			t.Errorf("%d streams of gossip", gossip)
		}
	})
}
