//go:build lab

package lab

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// behaviour is what a router shows to sockets, as RFC 4787 sections 4 to 6 name
// it and RFC 5780 section 4 finds it out.
type behaviour struct {
	mapping   string // "endpoint", "address", "address and port" independent or dependent, or "none" if nothing leaves
	filtering string
	hairpin   bool
}

const (
	independent = "endpoint-independent"
	byAddress   = "address-dependent"
	byPort      = "address and port-dependent"
	none        = "none"
)

// mappingOf names what three endpoints saw: two ports of one host, and another
// host.
func mappingOf(one, other, far netip.AddrPort) string {
	switch {
	case !one.IsValid() || !other.IsValid() || !far.IsValid():
		return none
	case one == other && one == far:
		return independent
	case one == other:
		return byAddress
	}
	return byPort
}

// filteringOf names what came in from another port of the host that was sent
// to, and from a host that was not.
func filteringOf(other, far bool) string {
	switch {
	case far && other:
		return independent
	case other:
		return byAddress
	case far:
		return "nonsense"
	}
	return byPort
}

// classifyUDP finds out what is between a host and two public ones; neighbour
// is another host of its home. What is wanted decides how long each packet is
// waited for, and nothing else.
func classifyUDP(t *testing.T, host, neighbour, p, q *Host, want behaviour) (b behaviour) {
	t.Helper()
	leaves := want.mapping != none
	one, other, far := udp(t, p, anyPort), udp(t, p, anyPort), udp(t, q, anyPort)
	client := udp(t, host, anyPort)
	b.mapping = mappingOf(
		sees(t, client, at(p, portOf(one)), one, leaves),
		sees(t, client, at(p, portOf(other)), other, leaves),
		sees(t, client, at(q, portOf(far)), far, leaves))
	// A port that has sent to one endpoint alone.
	client = udp(t, host, anyPort)
	outer := sees(t, client, at(p, portOf(one)), one, leaves)
	if !outer.IsValid() {
		b.filtering = none
		return b
	}
	if !sees(t, one, outer, client, true).IsValid() {
		t.Errorf("the answer does not come in")
	}
	b.filtering = filteringOf(
		sees(t, other, outer, client, want.filtering != byPort).IsValid(),
		sees(t, far, outer, client, want.filtering == independent).IsValid())
	if !sees(t, one, outer, client, true).IsValid() {
		t.Errorf("the answer does not come in after those of others")
	}
	b.hairpin = sees(t, udp(t, neighbour, anyPort), outer, client, want.hairpin).IsValid()
	return b
}

// shared lets several sockets have one port, as hole punching by TCP needs.
func shared(_, _ string, c syscall.RawConn) (err error) {
	controlErr := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		if err == nil {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		}
	})
	if controlErr != nil {
		return controlErr
	}
	return err
}

// tcpListener accepts at some port of a host.
type tcpListener struct {
	*net.TCPListener
	host *Host
}

func listenTCP(t *testing.T, h *Host) tcpListener {
	t.Helper()
	var l net.Listener
	err := h.Do(func() (err error) {
		l, err = (&net.ListenConfig{Control: shared}).Listen(context.Background(), "tcp4", at(h, 0).String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return tcpListener{l.(*net.TCPListener), h}
}

func (l tcpListener) port() uint16 { return l.Addr().(*net.TCPAddr).AddrPort().Port() }
func (l tcpListener) at() netip.AddrPort {
	return at(l.host, l.port())
}

// connects dials from a port of a host, and tells where the listener sees it
// come from; none if it does not get there.
func connects(t *testing.T, h *Host, port uint16, to netip.AddrPort, l tcpListener, must bool) (source netip.AddrPort) {
	t.Helper()
	limit := 300 * time.Millisecond
	if must {
		limit = 20 * time.Second
	}
	var conn net.Conn
	err := h.Do(func() (err error) {
		d := net.Dialer{Timeout: limit, Control: shared, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(h.Addr(), port))}
		conn, err = d.Dial("tcp4", to.String())
		return err
	})
	if err != nil {
		return netip.AddrPort{}
	}
	t.Cleanup(func() { conn.Close() })
	_ = l.SetDeadline(time.Now().Add(20 * time.Second))
	in, err := l.AcceptTCP()
	if err != nil {
		t.Errorf("connected to %v, which does not accept: %v", to, err)
		return netip.AddrPort{}
	}
	t.Cleanup(func() { in.Close() })
	return in.RemoteAddr().(*net.TCPAddr).AddrPort()
}

// classifyTCP is classifyUDP for TCP (RFC 5382 has the same terms).
func classifyTCP(t *testing.T, host, neighbour, p, q *Host, want behaviour) (b behaviour) {
	t.Helper()
	one, other, far := listenTCP(t, p), listenTCP(t, p), listenTCP(t, q)
	client := listenTCP(t, host)
	b.mapping = mappingOf(
		connects(t, host, client.port(), one.at(), one, true),
		connects(t, host, client.port(), other.at(), other, true),
		connects(t, host, client.port(), far.at(), far, true))
	client = listenTCP(t, host)
	outer := connects(t, host, client.port(), one.at(), one, true)
	if !outer.IsValid() {
		b.filtering = none
		return b
	}
	b.filtering = filteringOf(
		connects(t, p, 0, outer, client, want.filtering != byPort).IsValid(),
		connects(t, q, 0, outer, client, want.filtering == independent).IsValid())
	b.hairpin = connects(t, neighbour, 0, outer, client, want.hairpin).IsValid()
	return b
}

// Each kind of router is what it is called.
func TestNATKinds(t *testing.T) {
	want := map[string]struct{ udp, tcp behaviour }{
		"nat full-cone":          {behaviour{independent, independent, false}, behaviour{independent, independent, false}},
		"nat full-cone hairpin":  {behaviour{independent, independent, true}, behaviour{independent, independent, true}},
		"nat address-restricted": {behaviour{independent, byAddress, false}, behaviour{independent, byAddress, false}},
		"nat port-restricted":    {behaviour{independent, byPort, false}, behaviour{independent, byPort, false}},
		"nat symmetric":          {behaviour{byPort, byPort, false}, behaviour{byPort, byPort, false}},
		"nat udp-blocked":        {behaviour{none, none, false}, behaviour{independent, byPort, false}},
	}
	for kind, want := range want {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			x := internet(t, "public p delay 2ms\npublic q\nhome elm "+kind+" delay 3ms\nhost anna in elm\nhost axel in elm\n")
			anna, axel, p, q := x.Named("anna"), x.Named("axel"), x.Named("p"), x.Named("q")
			if got := classifyUDP(t, anna, axel, p, q, want.udp); got != want.udp {
				t.Errorf("UDP: %+v, want %+v", got, want.udp)
			}
			if got := classifyTCP(t, anna, axel, p, q, want.tcp); got != want.tcp {
				t.Errorf("TCP: %+v, want %+v", got, want.tcp)
			}
		})
	}
}

// Two hosts of a home that use the same port get two outer ones, each the same
// for every endpoint, and what comes in goes to the right one of them.
func TestNATSamePort(t *testing.T) {
	for _, kind := range []NATKind{FullCone, AddressRestricted, PortRestricted} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			x := internet(t, "public p\npublic q\nhome elm nat "+string(kind)+"\nhost anna in elm\nhost axel in elm\n")
			p, q := udp(t, x.Named("p"), anyPort), udp(t, x.Named("q"), anyPort)
			same := netip.AddrPortFrom(netip.IPv4Unspecified(), 4001)
			anna, axel := udp(t, x.Named("anna"), same), udp(t, x.Named("axel"), same)
			toP, toQ := at(x.Named("p"), portOf(p)), at(x.Named("q"), portOf(q))
			// To different endpoints first, where the kernel alone would give both 4001.
			annas, axels := sees(t, anna, toP, p, true), sees(t, axel, toQ, q, true)
			if annas == axels || !annas.IsValid() || !axels.IsValid() {
				t.Fatalf("two hosts have the outer addresses %v and %v", annas, axels)
			}
			if got := sees(t, anna, toQ, q, true); got != annas {
				t.Errorf("the first host is seen as %v and %v", annas, got)
			}
			if got := sees(t, axel, toP, p, true); got != axels {
				t.Errorf("the second host is seen as %v and %v", axels, got)
			}
			for _, c := range []struct {
				outer netip.AddrPort
				conn  *net.UDPConn
			}{{annas, anna}, {axels, axel}} {
				for _, from := range []*net.UDPConn{p, q} {
					if !sees(t, from, c.outer, c.conn, true).IsValid() {
						t.Errorf("what is sent to %v does not come to its host", c.outer)
					}
				}
			}
		})
	}
}

// What hole punching needs: two homes that send at the same time, each to the
// other's outer address, so that each packet meets a router that has not sent
// yet, or has just; both get through, wherever the mapping is independent.
func TestNATSimultaneous(t *testing.T) {
	x := internet(t, `
public p
home elm nat port-restricted delay 10ms
host anna in elm
home oak nat port-restricted delay 15ms
host ben in oak
`)
	p := udp(t, x.Named("p"), anyPort)
	for range 8 {
		anna, ben := udp(t, x.Named("anna"), anyPort), udp(t, x.Named("ben"), anyPort)
		annas := sees(t, anna, at(x.Named("p"), portOf(p)), p, true)
		bens := sees(t, ben, at(x.Named("p"), portOf(p)), p, true)
		// The first is dropped at ben's router, which must not remember it.
		if sees(t, anna, bens, ben, false).IsValid() {
			t.Fatal("what was not asked for came in")
		}
		if got := sees(t, ben, annas, anna, true); got != bens {
			t.Fatalf("the second packet comes from %v, not %v", got, bens)
		}
		if got := sees(t, anna, bens, ben, true); got != annas {
			t.Fatalf("the third packet comes from %v, not %v", got, annas)
		}
	}
}
