package node

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	ma "github.com/multiformats/go-multiaddr"
)

func prefixes(text ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range text {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func multiaddrs(t testing.TB, text ...string) []ma.Multiaddr {
	t.Helper()
	var out []ma.Multiaddr
	for _, s := range text {
		a, err := ma.NewMultiaddr(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, a)
	}
	return out
}

func texts(addrs []ma.Multiaddr) []string {
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return out
}

var home = lan{index: 3, name: "eth0", prefixes: prefixes("10.1.2.3/24", "fd00:aa::3/64")}

func TestAnnounced(t *testing.T) {
	for _, c := range []struct {
		what   string
		lan    lan
		listen []string
		want   []string
	}{
		{
			"all addresses", home,
			[]string{"/ip4/0.0.0.0/udp/7/quic-v1", "/ip4/0.0.0.0/tcp/7", "/ip6/::/udp/8/quic-v1", "/ip6/::/tcp/8"},
			[]string{"/ip4/10.1.2.3/udp/7/quic-v1", "/ip6/fd00:aa::3/udp/8/quic-v1", "/ip4/10.1.2.3/tcp/7", "/ip6/fd00:aa::3/tcp/8"},
		},
		{"one of ours", home, []string{"/ip4/10.1.2.3/tcp/7"}, []string{"/ip4/10.1.2.3/tcp/7"}},
		{"loopback", home, []string{"/ip4/127.0.0.1/tcp/7", "/ip6/::1/tcp/7"}, nil},
		{"another interface's", home, []string{"/ip4/192.168.0.1/tcp/7"}, nil},
		{"a family that is not there", lan{prefixes: prefixes("10.1.2.3/24")}, []string{"/ip6/::/tcp/7"}, nil},
		{"what is no listener", home, []string{"/memory/1", "/ip4/0.0.0.0/udp/9"}, nil},
		{
			"many of them",
			lan{prefixes: prefixes("10.0.0.1/24", "10.0.0.2/24", "10.0.0.3/24", "10.0.0.4/24", "10.0.0.5/24", "fd00::1/64")},
			[]string{"/ip4/0.0.0.0/tcp/7", "/ip4/0.0.0.0/udp/7/quic-v1", "/ip6/::/tcp/7"},
			[]string{
				"/ip4/10.0.0.1/udp/7/quic-v1", "/ip4/10.0.0.1/tcp/7", "/ip6/fd00::1/tcp/7", "/ip4/10.0.0.2/udp/7/quic-v1",
				"/ip4/10.0.0.2/tcp/7", "/ip4/10.0.0.3/udp/7/quic-v1", "/ip4/10.0.0.3/tcp/7", "/ip4/10.0.0.4/udp/7/quic-v1",
			},
		},
	} {
		if got := texts(c.lan.announced(multiaddrs(t, c.listen...))); !slices.Equal(got, c.want) {
			t.Errorf("%s:\n got %v\nwant %v", c.what, got, c.want)
		}
	}
}

// What an attacker on the LAN may have us believe: that somebody is at an
// address of this LAN, and nothing else.
func TestBelieved(t *testing.T) {
	const me, other = "/p2p/" + testPeer, "/p2p/12D3KooWJQxjYQ7hSHtvHBpn7qXvbzQAJ3yrZHmCfkDJeAmaKFHM"
	for _, c := range []struct {
		what  string
		addrs []string
		want  []string
	}{
		{"IPv4 and a ULA", []string{"/ip4/10.1.2.9/udp/7/quic-v1" + me, "/ip6/fd00:aa::9/tcp/7" + me}, []string{"/ip4/10.1.2.9/udp/7/quic-v1", "/ip6/fd00:aa::9/tcp/7"}},
		{"off the link", []string{"/ip4/10.1.3.9/tcp/7" + me, "/ip4/8.8.8.8/tcp/7" + me, "/ip6/fd00:ab::9/tcp/7" + me, "/ip6/2a00::1/tcp/1" + me}, nil},
		{"loopback", []string{"/ip4/127.0.0.1/tcp/7" + me, "/ip6/::1/tcp/7" + me}, nil},
		{"link-local IPv6", []string{"/ip6/fe80::9/tcp/7" + me}, nil},
		{"IPv4 in IPv6", []string{"/ip6/::ffff:8.8.8.8/tcp/7" + me}, nil},
		{"nobody's", []string{"/ip4/10.1.2.9/tcp/7", "/ip4/10.1.2.9/tcp/7/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N"}, nil},
		{"names, relays, other transports", []string{"/dns4/printer.local/tcp/7" + me, "/ip4/10.1.2.9/tcp/7" + other + "/p2p-circuit" + me, "/ip4/10.1.2.9/udp/7" + me, "junk"}, nil},
		{"two peers in one", []string{"/ip4/10.1.2.9/tcp/7" + me, "/ip4/10.1.2.9/tcp/8" + other}, []string{"/ip4/10.1.2.9/tcp/7"}},
	} {
		info, ok := home.believed(c.addrs)
		if got := texts(info.Addrs); !slices.Equal(got, c.want) || ok != (c.want != nil) {
			t.Errorf("%s: %v, %v, want %v", c.what, got, ok, c.want)
		}
	}
}

func TestNeighbour(t *testing.T) {
	for source, want := range map[string]bool{
		"10.1.2.200": true, "fd00:aa::77": true, "fe80::1": true,
		"10.1.3.1": false, "8.8.8.8": false, "2a00::1": false, "127.0.0.1": false, "::1": false,
	} {
		if got := home.neighbour(netip.MustParseAddr(source)); got != want {
			t.Errorf("%s: %v", source, got)
		}
	}
}

func TestLANsOfThisMachine(t *testing.T) {
	all, err := lans()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range all {
		ifi, err := net.InterfaceByIndex(l.index)
		if err != nil || ifi.Flags&net.FlagLoopback != 0 || len(l.prefixes) == 0 {
			t.Errorf("%+v, %v", l, err)
		}
		for _, p := range l.prefixes {
			if !neighbourly(p.Addr()) {
				t.Errorf("%v on %s", p, l.name)
			}
		}
	}
}

func TestOrderOfAddrs(t *testing.T) {
	in := []string{
		"/ip6/2a00::1/udp/7/quic-v1", "/ip6/2a00::2/udp/7/quic-v1", "/ip6/2a00::3/udp/7/quic-v1", "/ip6/2a00::1/tcp/7",
		"/ip6/fe80::1/tcp/7", "/ip6/::1/tcp/7", "/ip4/127.0.0.1/tcp/7", "/ip4/0.0.0.0/tcp/7", "/ip6/fd00::1/udp/7/quic-v1",
		"/ip4/192.168.1.2/tcp/7", "/ip4/192.168.1.2/udp/7/quic-v1", "/ip4/169.254.1.1/tcp/7", "/ip4/44.1.1.1/tcp/7",
	}
	want := []string{
		"/ip6/2a00::1/udp/7/quic-v1", "/ip4/44.1.1.1/tcp/7", "/ip6/2a00::1/tcp/7", "/ip4/192.168.1.2/udp/7/quic-v1",
		"/ip6/fd00::1/udp/7/quic-v1", "/ip4/192.168.1.2/tcp/7", "/ip6/2a00::2/udp/7/quic-v1", "/ip6/2a00::3/udp/7/quic-v1",
	}
	if got := texts(usable(multiaddrs(t, in...))); !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	if got := texts(usable(multiaddrs(t, "/ip6/::1/tcp/7", "/ip4/127.0.0.1/udp/7/quic-v1"))); len(got) != 2 {
		t.Errorf("loopback alone: %v", got)
	}
}
