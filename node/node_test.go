package node

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"teahouse/internal/mesh"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// testLog prints when TEAHOUSE_TEST_LOG is set.
func testLog() *slog.Logger {
	if os.Getenv("TEAHOUSE_TEST_LOG") == "" {
		return nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// patience is how long something that must happen may take. It measures
// nothing: a machine that has other things to do passes too.
const patience = 30 * time.Second

var testNetwork = NetworkFromSeed([32]byte{1, 2, 3})

func newKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// loopback is a config of a node on loopback.
func loopback(t testing.TB, peers ...string) Config {
	return Config{
		HostKey: newKey(t), Network: testNetwork,
		Listen: []string{"/ip4/127.0.0.1/udp/0/quic-v1", "/ip4/127.0.0.1/tcp/0"},
		Peers:  peers, Log: testLog(),
	}
}

func startNode(t testing.TB, cfg Config) *Node {
	t.Helper()
	n, err := New(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return n
}

// fullAddrs are a node's addresses with /p2p/.
func fullAddrs(n *Node) []string {
	var out []string
	for _, a := range n.Self().Addrs {
		out = append(out, fmt.Sprintf("%s/p2p/%s", a, n.host.ID()))
	}
	return out
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits for what another goroutine brings about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// pair is a session seen from both ends.
type pair struct {
	a, b   mesh.Session
	ma, mb chan string // messages that came
	pa, pb chan string // packets that came
}

var testDoor = mesh.Door{0xd0}

// openPair opens a session from a to b, started at both ends.
func openPair(t testing.TB, a, b *Node) *pair {
	t.Helper()
	p := &pair{}
	p.a, p.b = silent(t, a, b)
	start := func(s mesh.Session) (chan string, chan string) {
		m, k := make(chan string, 1000), make(chan string, 10000)
		s.Start(func(b []byte) { m <- string(b) }, func(b []byte, _ time.Time) {
			select {
			case k <- string(b):
			default:
			}
		})
		return m, k
	}
	p.ma, p.pa = start(p.a)
	p.mb, p.pb = start(p.b)
	return p
}

func receive(t testing.TB, ch <-chan string) string {
	t.Helper()
	select {
	case s := <-ch:
		return s
	case <-time.After(patience):
		t.Fatalf("nothing came in %v", patience)
		return ""
	}
}

func TestFindSessionAndPackets(t *testing.T) {
	boot := startNode(t, func() Config { c := loopback(t); c.Bootstrap = true; return c }())
	a := startNode(t, loopback(t, fullAddrs(boot)...))
	b := startNode(t, loopback(t, fullAddrs(boot)...))
	ctx := within(t, patience)

	key := [32]byte{7}
	eventually(t, "b provides", func() bool { return b.Provide(ctx, key) == nil })
	var found mesh.Peer
	eventually(t, "a finds b", func() bool {
		_ = a.Find(ctx, key, func(p mesh.Peer) { found = p })
		return found.ID == b.Self().ID
	})
	if len(found.Addrs) == 0 {
		t.Error("found without addresses")
	}
	p := openPair(t, a, b)
	if p.a.Binding() != p.b.Binding() || p.a.Binding() == [32]byte{} {
		t.Error("bindings differ")
	}
	if err := p.a.Send(mesh.Urgent, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, p.mb); got != "hello" {
		t.Errorf("message %q", got)
	}
	eventually(t, "a path", func() bool {
		path, ok := p.a.Path()
		return ok && path.Carrier == mesh.Datagram && path.RTT > 0
	})
	var h heard
	h.say(t, p.a, p.pb, "voice")
	if len(h.copies) != 1 {
		t.Errorf("these packets came: %v", h.copies)
	}
}

func TestWrongDoor(t *testing.T) {
	a, b := startNode(t, loopback(t)), startNode(t, loopback(t))
	stop, err := b.Listen(testDoor, func(s mesh.Session) { t.Error("a session came in") })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if _, err := a.Open(within(t, patience), b.Self(), mesh.Door{1}); !errors.Is(err, mesh.ErrRefused) {
		t.Errorf("got %v", err)
	}
}

func TestTransports(t *testing.T) {
	for _, c := range []struct {
		transport Transport
		carrier   mesh.Carrier
		below     string
	}{
		{Auto, mesh.Datagram, "quic"},
		{DatagramOnly, mesh.Datagram, "quic"},
		{QUICOnly, mesh.Stream, "quic"},
		{TCPOnly, mesh.Stream, "tcp"},
	} {
		t.Run(string(c.transport), func(t *testing.T) {
			ca, cb := loopback(t), loopback(t)
			ca.Transport, cb.Transport = c.transport, c.transport
			a, b := startNode(t, ca), startNode(t, cb)
			p := openPair(t, a, b)
			for _, s := range []mesh.Session{p.a, p.b} {
				eventually(t, "a path", func() bool {
					path, ok := s.Path()
					return ok && path.RTT > 0
				})
				path, _ := s.Path()
				if path.Carrier != c.carrier || path.Transport != c.below || path.Remote == "" {
					t.Errorf("path %+v", path)
				}
			}
			big := bytes.Repeat([]byte{9}, mesh.MaxPacket)
			var ha, hb heard
			for _, packet := range []string{"one", "two", string(big)} {
				hb.say(t, p.a, p.pb, packet)
				ha.say(t, p.b, p.pa, packet)
			}
			if len(ha.copies) != 3 || len(hb.copies) != 3 {
				t.Errorf("%d and %d different packets came of 3", len(ha.copies), len(hb.copies))
			}
			if err := p.a.SendPacket(append(big, 1)); !errors.Is(err, mesh.ErrTooLarge) {
				t.Errorf("too large: %v", err)
			}
			_ = p.a.Close()
			<-p.b.Done()
			if !errors.Is(p.b.Err(), mesh.ErrClosed) {
				t.Errorf("far end: %v", p.b.Err())
			}
		})
	}
}
