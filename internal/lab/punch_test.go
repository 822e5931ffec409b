//go:build lab

package lab

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	p2p "github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/autorelay"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
)

var punchAll = flag.Bool("punch.all", false, "TestHolePunching: tell what comes of each pair of kinds, and demand nothing")

// labChildPunch makes the test binary a bare libp2p host, as its arguments in
// punchArgs say.
const (
	labChildPunch = "punch"
	punchArgs     = "TEAHOUSE_LAB_PUNCH"
)

// puncher says what a bare host does.
type puncher struct {
	Listen []string
	Server bool     // relays, and tells others how it sees them
	Relays []string // whom a person reserves a place with
	Dial   string   // through a relay
}

// childPunches is that host: it prints events, and stays until it is killed.
func childPunches() {
	if err := punches(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func punches() error {
	var p puncher
	if err := json.Unmarshal([]byte(os.Getenv(punchArgs)), &p); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	say := func(event string, fields map[string]any) {
		fields["event"] = event
		_ = json.NewEncoder(os.Stdout).Encode(fields) // who does not read it has gone
	}
	opts := []libp2p.Option{
		libp2p.ListenAddrStrings(p.Listen...), libp2p.DisableMetrics(),
		libp2p.UDPBlackHoleSuccessCounter(nil), libp2p.IPv6BlackHoleSuccessCounter(nil),
	}
	if p.Server {
		// Without forced reachability a lone relay gives no reservation.
		h, err := libp2p.New(append(opts, libp2p.ForceReachabilityPublic(), libp2p.EnableRelayService())...)
		if err != nil {
			return err
		}
		defer h.Close()
		var addrs []string
		for _, a := range h.Addrs() {
			if !strings.Contains(a.String(), "/127.0.0.1/") {
				addrs = append(addrs, a.String()+"/p2p/"+h.ID().String())
			}
		}
		say("listening", map[string]any{"addrs": addrs})
		<-ctx.Done()
		return nil
	}
	relays := make([]peer.AddrInfo, 0, len(p.Relays))
	for _, text := range p.Relays {
		info, err := peer.AddrInfoFromString(text)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(relays, func(r peer.AddrInfo) bool { return r.ID == info.ID })
		if i < 0 {
			relays = append(relays, *info)
		} else {
			relays[i].Addrs = append(relays[i].Addrs, info.Addrs...)
		}
	}
	h, err := libp2p.New(append(opts, libp2p.ForceReachabilityPrivate(), libp2p.EnableHolePunching(),
		libp2p.EnableAutoRelayWithStaticRelays(relays, autorelay.WithMinCandidates(1), autorelay.WithNumRelays(2), autorelay.WithBootDelay(0)))...)
	if err != nil {
		return err
	}
	defer h.Close()
	h.Network().Notify(&p2p.NotifyBundle{ConnectedF: func(_ p2p.Network, c p2p.Conn) {
		say("connected", map[string]any{"peer": c.RemotePeer().String(), "limited": c.Stat().Limited, "remote": c.RemoteMultiaddr().String()})
	}})
	for _, r := range relays {
		if err := h.Connect(ctx, r); err != nil {
			return err
		}
	}
	// A relayed connection that comes before the service for hole punching looks
	// for them is never followed by a direct one. It begins to look at the first
	// of its looks (after 250 ms, 750 ms, and so on) at which an observed address
	// is known.
	for at := ""; at == ""; time.Sleep(10 * time.Millisecond) {
		ready := slices.Contains(h.Mux().Protocols(), holepunch.Protocol)
		for _, a := range h.Addrs() {
			if ready && strings.HasSuffix(a.String(), "/p2p-circuit") {
				at = a.String() + "/p2p/" + h.ID().String()
				say("reserved", map[string]any{"at": at, "peer": h.ID().String()})
				break
			}
		}
		if ctx.Err() != nil {
			return fmt.Errorf("no reservation: %w", ctx.Err())
		}
	}
	if p.Dial != "" {
		info, err := peer.AddrInfoFromString(p.Dial)
		if err != nil {
			return err
		}
		if err := h.Connect(ctx, *info); err != nil {
			return err
		}
		say("relayed", map[string]any{})
	}
	<-ctx.Done()
	return nil
}

// punchedBy lets bare libp2p hosts in two homes meet at relays that both can
// reach, and tells the address by which they then have each other, "" if they
// stay relayed for that long. The first relay is known by TCP alone: an
// observed address is known for the transport that an observer was reached by.
func punchedBy(t *testing.T, first, second NATKind, transports []string, patience time.Duration) string {
	t.Helper()
	x := internet(t, fmt.Sprintf("public one delay 5ms\npublic two delay 5ms\nhome elm nat %s delay 10ms\nhost anna in elm\nhome oak nat %s delay 10ms\nhost ben in oak\n", first, second))
	both := []string{"/ip4/0.0.0.0/udp/0/quic-v1", "/ip4/0.0.0.0/tcp/0"}
	starts := func(name string, p puncher) *Process {
		args, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		return start(t, Spec{Host: x.Named(name), Path: os.Args[0], Env: []string{labChild + "=" + labChildPunch, punchArgs + "=" + string(args)}})
	}
	waits := func(p *Process, name string) Event {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		e, err := p.WaitEvent(ctx, func(e Event) bool { return e.Name == name })
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	var relays []string
	for _, name := range []string{"one", "two"} {
		for _, a := range waits(starts(name, puncher{Listen: both, Server: true}), "listening").Texts("addrs") {
			if name == "two" || strings.Contains(a, "/tcp/") {
				relays = append(relays, a)
			}
		}
	}
	var listen []string
	for _, a := range both {
		if slices.ContainsFunc(transports, func(t string) bool { return strings.Contains(a, "/"+t) }) {
			listen = append(listen, a)
		}
	}
	anna := waits(starts("anna", puncher{Listen: listen, Relays: relays}), "reserved")
	ben := starts("ben", puncher{Listen: listen, Relays: relays, Dial: anna.Text("at")})
	relayed := waits(ben, "relayed")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	direct, err := ben.WaitEvent(ctx, func(e Event) bool {
		return e.Name == "connected" && e.Text("peer") == anna.Text("peer") && !e.True("limited")
	})
	if err != nil {
		if ben.Ended() {
			t.Fatal(err)
		}
		return ""
	}
	t.Logf("%s and %s: direct by %s, %v after they were relayed", first, second, direct.Text("remote"), direct.Seen.Sub(relayed.Seen).Round(time.Millisecond))
	return direct.Text("remote")
}

// Holes can be punched in these routers as in real ones, by bare libp2p: what
// does not come through here does not for its own reasons.
func TestHolePunching(t *testing.T) {
	if *punchAll {
		for i, first := range NATKinds() {
			for _, second := range NATKinds()[i:] {
				if punchedBy(t, first, second, []string{"udp", "tcp"}, 30*time.Second) == "" {
					t.Logf("%s and %s: relayed only", first, second)
				}
			}
		}
		return
	}
	for _, c := range []struct {
		first, second NATKind
		transports    []string
		want          string
	}{
		// Of two transports whichever comes first is the only one.
		{PortRestricted, PortRestricted, []string{"udp"}, "/quic-v1"},
		{PortRestricted, PortRestricted, []string{"tcp"}, "/tcp/"},
		{AddressRestricted, Symmetric, []string{"udp"}, "/quic-v1"},
		{PortRestricted, UDPBlocked, []string{"udp", "tcp"}, "/tcp/"},
	} {
		t.Run(fmt.Sprintf("%s %s %v", c.first, c.second, c.transports), func(t *testing.T) {
			if got := punchedBy(t, c.first, c.second, c.transports, time.Minute); !strings.Contains(got, c.want) || got == "" {
				t.Errorf("direct by %q, want %s", got, c.want)
			}
		})
	}
}
