package main

import (
	"crypto/ed25519"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"

	"teahouse/internal/mesh"
)

const somePeer = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"

func TestCheckAddresses(t *testing.T) {
	for _, c := range []struct{ addr, peer, listen string }{
		// The error that each must give as a --peer and as a --listen; empty: fine.
		{"/ip4/192.0.2.7/udp/7654/quic-v1/p2p/" + somePeer, "", "has no /p2p/"},
		{"/ip4/192.0.2.7/tcp/7654/p2p/" + somePeer, "", "has no /p2p/"},
		{"/ip6/2001:db8::1/udp/7654/quic-v1/p2p/" + somePeer, "", "has no /p2p/"},
		{"/ip4/0.0.0.0/udp/0/quic-v1", "/p2p/PEER is missing", ""},
		{"/ip6/::/tcp/7654", "/p2p/PEER is missing", ""},
		{"/ip4/192.0.2.7/tcp/7654/p2p/12D3KooWbroken", "copy it again", "has no /p2p/"},
		{"/ip4/192.0.2.7/tcp/0/p2p/" + somePeer, "is no port", "has no /p2p/"},
		{"/ip4/300.0.2.7/tcp/7654/p2p/" + somePeer, "is no IPv4 address", "has no /p2p/"},
		{"/ip4/::1/tcp/7654/p2p/" + somePeer, "is no IPv4 address", "has no /p2p/"},
		{"/ip6/fe80::1%eth0/tcp/7654/p2p/" + somePeer, "is no IPv6 address", "has no /p2p/"},
		{"/ip4/192.0.2.7/tcp/70000/p2p/" + somePeer, "is no port", "has no /p2p/"},
		{"/ip4/192.0.2.7/udp/7654/p2p/" + somePeer, "no address that nodes use", "has no /p2p/"},
		{"/dns4/example.org/tcp/7654/p2p/" + somePeer, "names are not looked up", "has no /p2p/"},
		{"192.0.2.7:7654", "is missing", "no multiaddr"},
		{"", "is missing", "no multiaddr"},
		{"/" + strings.Repeat("x", 300), "is missing", "no multiaddr"},
	} {
		for _, half := range []struct {
			name string
			err  error
			want string
		}{{"peer", checkPeer(c.addr), c.peer}, {"listen", checkListen(c.addr), c.listen}} {
			if half.want == "" && half.err != nil || half.want != "" && (half.err == nil || !strings.Contains(half.err.Error(), half.want)) {
				t.Errorf("%s %.60q: %v, want %q", half.name, c.addr, half.err, half.want)
			}
		}
	}
}

// What we write must be what libp2p reads, and the other way round.
func TestPeerTextAgreesWithLibp2p(t *testing.T) {
	for seed := range 100 {
		b := make([]byte, ed25519.SeedSize)
		b[0] = byte(seed)
		id := mesh.PeerIDOf(ed25519.NewKeyFromSeed(b).Public().(ed25519.PublicKey))
		text := peerText(id)
		if want := peer.ID(id).String(); text != want {
			t.Fatalf("got %s, libp2p says %s", text, want)
		}
		if back, err := parsePeerText(text); err != nil || back != id {
			t.Fatalf("%s reads back as %x, %v", text, string(back), err)
		}
	}
}

func FuzzPeerText(f *testing.F) {
	f.Add(somePeer)
	f.Add("1")
	f.Add("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := parsePeerText(text)
		if err != nil {
			return
		}
		if back := peerText(id); back != text {
			t.Errorf("%q and %q are one peer id", text, back)
		}
	})
}
