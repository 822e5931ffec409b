package node

import (
	"net"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/net/ipv4"
)

// TestPlaces: what is announced is what the machine has now, whatever libp2p
// remembers, and what only others see of us stays.
func TestPlaces(t *testing.T) {
	multi := func(all ...string) (out []ma.Multiaddr) {
		for _, s := range all {
			out = append(out, ma.StringCast(s))
		}
		return out
	}
	ip := netip.MustParseAddr
	p := places{
		now:  []netip.Addr{ip("127.0.0.1"), ip("10.0.0.9"), ip("fd00::9"), ip("fe80::9")},
		gone: map[netip.Addr]bool{ip("10.0.0.1"): true},
	}
	old := multi("/ip4/10.0.0.1/tcp/7654", "/ip4/10.0.0.1/udp/7654/quic-v1", "/ip4/198.51.100.1/udp/999/quic-v1")
	for _, c := range []struct {
		name            string
		listening, want []ma.Multiaddr
	}{
		{
			"on all addresses", multi("/ip4/0.0.0.0/tcp/7654", "/ip6/::/udp/7654/quic-v1"),
			multi("/ip4/10.0.0.9/tcp/7654", "/ip6/fd00::9/udp/7654/quic-v1", "/ip4/198.51.100.1/udp/999/quic-v1"),
		},
		{"on one that is gone", multi("/ip4/10.0.0.1/tcp/7654"), multi("/ip4/198.51.100.1/udp/999/quic-v1")},
		{
			"on one that is here", multi("/ip4/10.0.0.9/tcp/7654"),
			multi("/ip4/10.0.0.9/tcp/7654", "/ip4/198.51.100.1/udp/999/quic-v1"),
		},
	} {
		got := p.announce(slices.Clone(old), c.listening)
		slices.SortFunc(got, ma.Multiaddr.Compare)
		slices.SortFunc(c.want, ma.Multiaddr.Compare)
		if !slices.EqualFunc(got, c.want, ma.Multiaddr.Equal) {
			t.Errorf("listening %s: announces %v, want %v", c.name, got, c.want)
		}
	}
	var here places
	for range 2 {
		if here.look() || len(here.now) == 0 {
			t.Errorf("a machine that does not move: %v", here.now)
		}
	}
	here.seen += "!"
	if !here.look() {
		t.Error("a change was not seen")
	}
	here.now = append(here.now, ip("192.0.2.7"))
	here.look()
	if !here.gone[ip("192.0.2.7")] || slices.Contains(here.now, ip("192.0.2.7")) {
		t.Error("an address that went is not known to be gone")
	}
}

// connOf is a connection that can be told from others, and nothing else.
type connOf struct {
	network.Conn
	_ int // pointers to nothing may be equal
}

func (*connOf) IsClosed() bool { return false }

// TestHurry: when the network has changed, a connection that does not answer is
// suspected after hurriedAfter, one that answers is not.
func TestHurry(t *testing.T) {
	deaf, well, vouched, idle := &connOf{}, &connOf{}, &connOf{}, &connOf{}
	p := pings{conns: map[network.Conn]*pinging{
		deaf: {busy: true, unsure: epoch}, well: {}, vouched: {busy: true, unsure: epoch}, idle: {},
	}}
	if p.silence(deaf, epoch.Add(2*time.Second)) >= suspectAfter {
		t.Error("suspected too soon when nothing has changed")
	}
	p.hurry(epoch, "")
	p.vouch(vouched)
	p.conns[well].unsure, p.conns[well].hurry = time.Time{}, time.Time{} // as an answer does
	if p.silence(deaf, epoch.Add(hurriedAfter-time.Millisecond)) >= suspectAfter {
		t.Error("suspected at once")
	}
	now := epoch.Add(hurriedAfter)
	if p.silence(deaf, now) < suspectAfter {
		t.Error("not suspected")
	}
	if p.silence(well, now) >= suspectAfter || p.silence(vouched, now) >= suspectAfter {
		t.Error("one that lives is suspected")
	}
	late := epoch.Add(time.Minute) // nobody had a use for it until then
	p.conns[idle].busy, p.conns[idle].unsure = true, late
	if p.silence(idle, late.Add(100*time.Millisecond)) >= suspectAfter {
		t.Error("suspected as soon as it is asked")
	}
	if p.silence(idle, late.Add(hurriedAfter)) < suspectAfter {
		t.Error("asked late and not suspected")
	}
	if p.silence(deaf, now) >= forsakeAfter {
		t.Error("given up as soon as suspected")
	}
}

// TestAwayIsLoss: what cannot be sent because an address or a route is gone is
// lost to a connection that stands, and an error to one that begins; what can
// be sent from another address is.
func TestAwayIsLoss(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("errors of sockets differ")
	}
	socket := func() *kernelSocket {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		k, err := newKernelSocket(c, nil, func() {})
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	k, far := socket(), socket()
	// From a socket of loopback there is no way to anywhere else.
	nowhere := &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 9}
	established, begins := []byte{0x41, 1, 2}, []byte{0xc1, 1, 2}
	if _, _, err := k.UDPConn.WriteMsgUDP(established, nil, nowhere); err == nil {
		t.Skip("this system sends it")
	}
	if n, _, err := k.WriteMsgUDP(established, nil, nowhere); err != nil || n != len(established) {
		t.Errorf("a connection that stands is told %v", err)
	}
	if _, _, err := k.WriteMsgUDP(begins, nil, nowhere); err == nil {
		t.Error("a handshake waits for nothing")
	}
	// A source that this machine does not have.
	source := (&ipv4.ControlMessage{Src: net.IPv4(192, 0, 2, 2)}).Marshal()
	for _, b := range [][]byte{established, begins} {
		if _, _, err := k.WriteMsgUDP(b, source, far.LocalAddr().(*net.UDPAddr)); err != nil {
			t.Errorf("from an address that is gone: %v", err)
		}
		got := make([]byte, 10)
		_ = far.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, err := far.Read(got); err != nil || string(got[:n]) != string(b) {
			t.Errorf("got %x, %v", got[:n], err)
		}
	}
	if _, _, err := k.WriteMsgUDP(make([]byte, 70_000), nil, far.LocalAddr().(*net.UDPAddr)); err == nil {
		t.Error("what is too large is no loss: the search for the path's size wants to know")
	}
}
