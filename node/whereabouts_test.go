package node

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"slices"
	"strconv"
	"testing"
	"time"

	dhtpb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-msgio/pbio"
	ma "github.com/multiformats/go-multiaddr"

	"teahouse/internal/mesh"
)

// TestAskWhere: where nobody's old address is of use, others tell the new one.
func TestAskWhere(t *testing.T) {
	boot := startNode(t, loopback(t))
	start := string(boot.Self().Addrs[0]) + "/p2p/" + boot.host.ID().String()
	a, b := startNode(t, loopback(t, start)), startNode(t, loopback(t, start))
	silent(t, a, b)
	other := a.whereabouts.of(b.host.ID())
	if len(other) == 0 {
		t.Fatal("nothing is known of a peer with whom there is a session")
	}
	// As if b were elsewhere than a knows.
	a.whereabouts.forget(b.host.ID())
	a.host.Peerstore().ClearAddrs(b.host.ID())
	eventually(t, "the peer to start from to be asked", func() bool {
		return slices.Contains(a.whoMayKnow(b.host.ID()), boot.host.ID())
	})
	eventually(t, "an answer", func() bool {
		a.askWhere(b.host.ID())
		return len(a.whereabouts.of(b.host.ID())) > 0
	})
	for _, said := range a.whereabouts.of(b.host.ID()) {
		if !slices.ContainsFunc(b.host.Addrs(), said.Equal) {
			t.Errorf("told %v, and b is at %v", said, b.host.Addrs())
		}
	}
	if len(a.dialable(b.host.ID(), onQUIC, map[string]bool{})) == 0 {
		t.Error("what was told is not dialled")
	}
	stranger := peer.ID(mesh.PeerIDOf(newKey(t).Public().(ed25519.PublicKey)))
	a.hearWhere(stranger, other, true)
	if len(a.whereabouts.of(stranger)) > 0 {
		t.Error("addresses of somebody without a session are kept")
	}
}

// TestManyConnections: a peer with whom there are many connections is dialled
// all the same.
func TestManyConnections(t *testing.T) {
	a, b := startNode(t, loopback(t)), startNode(t, loopback(t))
	a.learn(b.host.ID(), b.Self().Addrs)
	quic := b.host.Addrs()[slices.IndexFunc(b.host.Addrs(), func(m ma.Multiaddr) bool { return kindOf(m) == onQUIC })]
	// More than libp2p lets be by itself: dead ones, as two moves leave behind.
	const dead = 10
	for i := range dead {
		c, err := a.dialAddr(within(t, patience), b.host.ID(), quic)
		if err == nil {
			err = a.injector.inject(within(t, patience), c)
		}
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
	eventually(t, "all connections", func() bool {
		return len(a.host.Network().ConnsToPeer(b.host.ID())) == dead && len(b.host.Network().ConnsToPeer(a.host.ID())) == dead
	})
	if err := a.dialBy(within(t, patience), b.host.ID(), onTCP); err != nil {
		t.Errorf("a peer with whom there are %d connections is not dialled: %v", dead, err)
	}
	from, _ := silent(t, a, b)
	if c := inside(from).stream.Conn(); c.IsClosed() {
		t.Error("the session began on a connection that is closed")
	}
}

// TestTold: in which order addresses are tried.
func TestTold(t *testing.T) {
	at := func(all ...string) (out []ma.Multiaddr) {
		for _, s := range all {
			out = append(out, ma.StringCast("/ip4/192.0.2."+s+"/tcp/1"))
		}
		return out
	}
	const p = peer.ID("p")
	var w whereabouts
	for i, c := range []struct {
		told   []ma.Multiaddr
		itself bool
		news   bool
		want   []ma.Multiaddr
	}{
		{at("1"), true, true, at("1")},
		{at("2"), true, true, at("2", "1")},
		{at("1"), false, false, at("2", "1")}, // somebody is behind
		{at("3", "1"), false, true, at("3", "2", "1")},
		{at("1"), true, false, at("1", "3", "2")}, // back again
	} {
		if news := w.told(p, c.told, c.itself); news != c.news {
			t.Errorf("%d: news %v", i, news)
		}
		if got := w.of(p); !slices.EqualFunc(got, c.want, ma.Multiaddr.Equal) {
			t.Errorf("%d: %v, want %v", i, got, c.want)
		}
	}
	for i := range 40 {
		w.told(p, at(strconv.Itoa(100+i)), true)
	}
	if n := len(w.of(p)); n != mesh.MaxAddrs {
		t.Errorf("%d addresses are kept", n)
	}
	if w.forget(p); len(w.of(p)) > 0 {
		t.Error("not forgotten")
	}
}

// TestMayAsk: however many are lost, few rounds are asked.
func TestMayAsk(t *testing.T) {
	var w whereabouts
	asked := 0
	for at := time.Duration(0); at < 10*time.Second; at += 5 * time.Millisecond {
		if w.mayAsk(epoch.Add(at)) {
			asked++
		}
	}
	if most := roundsAtOnce + 10*roundsPerSecond; asked > most || asked < most-2 {
		t.Errorf("%d rounds in 10 s, at most %d", asked, most)
	}
}

// FuzzWhere: whatever the answer is, at most MaxAddrs addresses come out of it,
// all of them of the one who was asked for, and such as may be dialled.
func FuzzWhere(f *testing.F) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	p := peer.ID(mesh.PeerIDOf(key.Public().(ed25519.PublicKey)))
	m := dhtpb.NewMessage(dhtpb.Message_FIND_NODE, nil, 0)
	m.CloserPeers = dhtpb.RawPeerInfosToPBPeers([]peer.AddrInfo{{ID: p, Addrs: []ma.Multiaddr{
		ma.StringCast("/ip4/192.0.2.1/tcp/1"), ma.StringCast("/dns4/example.org/tcp/1"), ma.StringCast("/ip4/192.0.2.1/udp/1/quic-v1"),
	}}})
	var good bytes.Buffer
	if err := pbio.NewDelimitedWriter(&good).WriteMsg(m); err != nil {
		f.Fatal(err)
	}
	if addrs, err := readWhere(bytes.NewReader(good.Bytes()), p); err != nil || len(addrs) != 2 {
		f.Fatalf("read %v, %v", addrs, err)
	}
	f.Add(good.Bytes())
	f.Add(binary.AppendUvarint(nil, maxWhere+1))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		addrs, err := readWhere(bytes.NewReader(b), p)
		if (err == nil) != (len(addrs) > 0) || len(addrs) > mesh.MaxAddrs {
			t.Fatalf("%d addresses, %v", len(addrs), err)
		}
		for _, a := range addrs {
			if _, ok := ipOf(a); !ok || kindOf(a) == 0 {
				t.Fatalf("%v cannot be dialled", a)
			}
		}
	})
}
