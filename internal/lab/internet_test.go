//go:build lab

package lab

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"
)

// internet makes a plan come true for a test; without root the test is skipped,
// never in CI.
func internet(t *testing.T, text string) *Internet {
	t.Helper()
	plan, err := ParsePlan("test", text)
	if err != nil {
		t.Fatal(err)
	}
	x, err := NewInternet(t.Context(), plan, InternetOptions{})
	if errors.Is(err, ErrNotRoot) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

// udp opens a socket of a host.
func udp(t *testing.T, h *Host, at netip.AddrPort) *net.UDPConn {
	t.Helper()
	var conn *net.UDPConn
	err := h.Do(func() (err error) {
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

var anyPort = netip.AddrPortFrom(netip.IPv4Unspecified(), 0)

func at(h *Host, port uint16) netip.AddrPort { return netip.AddrPortFrom(h.Addr(), port) }

func portOf(conn *net.UDPConn) uint16 { return conn.LocalAddr().(*net.UDPAddr).AddrPort().Port() }

// sees sends a datagram and tells where the other end sees it come from; none
// if it does not come. It is waited for long where it must come, since nothing
// is lost here but time, and for a moment where it must not.
func sees(t *testing.T, from *net.UDPConn, to netip.AddrPort, receiver *net.UDPConn, must bool) (source netip.AddrPort) {
	t.Helper()
	limit := 300 * time.Millisecond
	if must {
		limit = 20 * time.Second
	}
	token := time.Now().String()
	if _, err := from.WriteToUDPAddrPort([]byte(token), to); err != nil {
		t.Fatalf("send from %v to %v: %v", from.LocalAddr(), to, err)
	}
	b := make([]byte, 256)
	_ = receiver.SetReadDeadline(time.Now().Add(limit))
	for {
		n, source, err := receiver.ReadFromUDPAddrPort(b)
		if err != nil {
			return netip.AddrPort{}
		}
		if string(b[:n]) == token {
			return netip.AddrPortFrom(source.Addr().Unmap(), source.Port())
		}
	}
}

// A home reaches the internet over IPv6 where it has public addresses, and is
// reached by what answers it alone; with a ULA its hosts have each other.
func TestInternetIPv6(t *testing.T) {
	x := internet(t, `
public p ipv6 public delay 5ms
home elm nat symmetric ipv6 public delay 5ms
host anna in elm
home may nat udp-blocked ipv6 ula
host gus in may
host hal in may
home yew nat udp-blocked ipv6 public
host eve in yew
`)
	any6 := netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
	at6 := func(h *Host, c *net.UDPConn) netip.AddrPort { return netip.AddrPortFrom(h.Addr6(), portOf(c)) }
	p, anna := udp(t, x.Named("p"), any6), udp(t, x.Named("anna"), any6)
	if got := sees(t, p, at6(x.Named("anna"), anna), anna, false); got.IsValid() {
		t.Errorf("a stranger came in by IPv6: %v", got)
	}
	if got, want := sees(t, anna, at6(x.Named("p"), p), p, true), at6(x.Named("anna"), anna); got != want {
		t.Errorf("out by IPv6: seen as %v, not %v", got, want)
	}
	if got := sees(t, p, at6(x.Named("anna"), anna), anna, true); !got.IsValid() {
		t.Error("the answer does not come in by IPv6")
	}
	gus, hal := udp(t, x.Named("gus"), any6), udp(t, x.Named("hal"), any6)
	if got := sees(t, gus, at6(x.Named("hal"), hal), hal, true); !got.IsValid() {
		t.Error("two of one home do not reach each other by ULA")
	}
	if _, err := gus.WriteToUDPAddrPort([]byte("x"), at6(x.Named("p"), p)); err == nil {
		t.Error("a ULA leads to the internet")
	}
	eve := udp(t, x.Named("eve"), any6)
	if got := sees(t, eve, at6(x.Named("p"), p), p, false); got.IsValid() {
		t.Errorf("UDP over IPv6 leaves a home where it is blocked: %v", got)
	}
}

// A home whose provider gives it another address goes on from there, with
// hairpin rules that name it.
func TestInternetRenumber(t *testing.T) {
	x := internet(t, "public p\nhome elm nat full-cone hairpin\nhost anna in elm\nhost axel in elm\n")
	p, anna, axel := udp(t, x.Named("p"), anyPort), udp(t, x.Named("anna"), anyPort), udp(t, x.Named("axel"), anyPort)
	before := sees(t, anna, at(x.Named("p"), portOf(p)), p, true)
	if err := x.Named("elm").Renumber(t.Context()); err != nil {
		t.Fatal(err)
	}
	// From another port: what is left of the old address, the kernel forgets in
	// its own time.
	anna = udp(t, x.Named("anna"), anyPort)
	after := sees(t, anna, at(x.Named("p"), portOf(p)), p, true)
	if after.Addr() == before.Addr() || after.Addr() != x.Named("elm").Addr() {
		t.Errorf("seen from %v before and from %v after the home moved to %v", before, after, x.Named("elm").Addr())
	}
	if got := sees(t, axel, after, anna, true); got.Addr() != after.Addr() {
		t.Errorf("hairpin after the move: seen as %v", got)
	}
	if err := x.Named("anna").Renumber(t.Context()); err == nil {
		t.Error("a host behind a router gave itself an address")
	}
}

// Each kind of loss is where the plan says, and nowhere else.
func TestInternetLoss(t *testing.T) {
	x := internet(t, "public p loss 20%\npublic q\npublic r\n")
	const sent = 2000
	for _, c := range []struct {
		from, to string
		least    int
		most     int
	}{
		{"p", "q", sent*8/10 - 90, sent*8/10 + 90}, // five standard deviations
		{"q", "p", sent*8/10 - 90, sent*8/10 + 90},
		{"q", "r", sent, sent},
	} {
		came := pass(t, x.Named(c.from), x.Named(c.to), sent, time.Millisecond).came
		if came < c.least || came > c.most {
			t.Errorf("%s to %s: %d of %d came, want %d to %d", c.from, c.to, came, sent, c.least, c.most)
		}
	}
}
