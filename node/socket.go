package node

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
)

// Voice shares libp2p's UDP sockets: same port, same NAT mapping. quic-go
// reads such a socket through our ReadBatch (or ReadFrom, where the socket is
// not the kernel's), which hands datagrams whose first byte is below 0x40 to
// the node inline and lets QUIC see the rest:
//
//	kernel -> own buffer -> voice: handler, on this goroutine
//	                     -> QUIC: copied into quic-go's buffer
//
// Without a ReadBatch method quic-go would read the descriptor behind the
// wrapper's back.

// voiceHandler takes one datagram that is not QUIC's. It must not block and
// not keep b.
type voiceHandler func(b []byte, from netip.AddrPort, arrival time.Time)

// packetSender sends datagrams beside QUIC.
type packetSender interface {
	// sendTo never blocks.
	sendTo(b []byte, to netip.AddrPort) error
}

// sockets are the UDP sockets of one node.
type sockets struct {
	listen func(network string, laddr *net.UDPAddr) (net.PacketConn, error)
	handle voiceHandler
	// known tells whether somebody is connected by QUIC from an address; nil:
	// nobody is.
	known func(netip.AddrPort, time.Time) bool
	// allowed is asked about each packet that is read, and each of QUIC's that
	// is written; nil: all are.
	allowed func(netip.Addr, Direction) bool
	// sieve has the kernel drop what would be dropped here; nil: it does not.
	sieve *sieve

	mu   sync.Mutex
	open []*socketEntry
}

type socketEntry struct {
	local  netip.AddrPort
	sender packetSender
}

// listenUDP is what quicreuse opens its sockets with.
func (s *sockets) listenUDP(network string, laddr *net.UDPAddr) (net.PacketConn, error) {
	c, err := s.listen(network, laddr)
	if err != nil {
		return nil, err
	}
	local, ok := addrPortOf(c.LocalAddr())
	if !ok {
		_ = c.Close()
		return nil, errors.New("socket without a UDP address")
	}
	entry := &socketEntry{local: local}
	forget := func() { s.forget(entry) }
	var wrapped net.PacketConn
	if udp, ok := c.(*net.UDPConn); ok {
		k, err := newKernelSocket(udp, s.handle, forget)
		if err != nil {
			_ = c.Close()
			return nil, err
		}
		k.family = familyOf(network)
		k.step.known, k.allowed = s.known, s.allowed
		if s.sieve != nil {
			k.step.refused = s.sieve.refuse
			s.sieve.add(k)
			k.forget = func() { s.sieve.remove(k); forget() }
		}
		wrapped, entry.sender = k, k
	} else {
		p := &plainSocket{PacketConn: c, handle: s.handle, forget: forget, allowed: s.allowed}
		wrapped, entry.sender = p, p
	}
	s.mu.Lock()
	s.open = append(s.open, entry)
	s.mu.Unlock()
	return wrapped, nil
}

func (s *sockets) forget(e *socketEntry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = slices.DeleteFunc(s.open, func(o *socketEntry) bool { return o == e })
}

// senderFor is the socket that a QUIC connection with this local address uses.
func (s *sockets) senderFor(local netip.AddrPort) (packetSender, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.open {
		a := e.local.Addr()
		if e.local.Port() == local.Port() && a.Is4() == local.Addr().Is4() &&
			(a == local.Addr() || a.IsUnspecified() || local.Addr().IsUnspecified()) {
			return e.sender, true
		}
	}
	return nil, false
}

// firstIP is the address of the oldest socket.
func (s *sockets) firstIP() (netip.Addr, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open) == 0 {
		return netip.Addr{}, false
	}
	return s.open[0].local.Addr(), true
}

// kernelSocket is a UDP socket of the kernel.
type kernelSocket struct {
	*net.UDPConn
	handle voiceHandler
	forget func()
	send   rawSender
	conn   syscall.RawConn
	family family
	// allowed may be nil.
	allowed func(netip.Addr, Direction) bool

	// Used by quic-go's reading goroutine alone.
	buf  [2048]byte
	oob  [256]byte
	step doorstep
}

func newKernelSocket(c *net.UDPConn, handle voiceHandler, forget func()) (*kernelSocket, error) {
	send, err := newRawSender(c)
	if err != nil {
		return nil, err
	}
	conn, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &kernelSocket{UDPConn: c, handle: handle, forget: forget, send: send, conn: conn}, nil
}

// family is what addresses a socket has.
type family int

const (
	anyFamily family = iota
	ipv4Family
	ipv6Family
)

func familyOf(network string) family {
	switch network {
	case "udp4":
		return ipv4Family
	case "udp6":
		return ipv6Family
	}
	return anyFamily
}

// ReadBatch gives quic-go one packet of QUIC's. quic-go calls it from one
// goroutine per socket.
func (k *kernelSocket) ReadBatch(ms []ipv4.Message, _ int) (int, error) {
	for {
		n, oobn, _, from, err := k.ReadMsgUDPAddrPort(k.buf[:], k.oob[:])
		if err != nil {
			return 0, err
		}
		if n == 0 || k.allowed != nil && !k.allowed(unmap(from).Addr(), Inbound) {
			continue
		}
		if k.buf[0] < quicFrom {
			k.handle(k.buf[:n], unmap(from), time.Now())
			continue
		}
		if !k.step.pass(k.buf[0], unmap(from), time.Now()) {
			continue
		}
		m := &ms[0]
		// Never swap buffers: quic-go's pool pairs them with their owners.
		m.N = copy(m.Buffers[0], k.buf[:n])
		m.NN = copy(m.OOB, k.oob[:oobn])
		m.Addr = net.UDPAddrFromAddrPort(from)
		return 1, nil
	}
}

// WriteMsgUDP sends a packet of QUIC's. That the network is away for a moment
// (an interface down, no route, a firewall that says so) is a lost packet to
// a connection that stands, as it would be one hop further on: quic-go would
// give the connection up at once. A handshake is told, so that the next
// address is tried soon.
//
// To where policy forbids packets none goes: they are lost, too.
func (k *kernelSocket) WriteMsgUDP(b, oob []byte, to *net.UDPAddr) (n, oobn int, err error) {
	if !mayGo(k.allowed, to) {
		return len(b), len(oob), nil
	}
	n, oobn, err = k.UDPConn.WriteMsgUDP(b, oob, to)
	if err == nil || !isAway(err) {
		return n, oobn, err
	}
	// It was to leave from the address, or by the interface, that the peer's
	// first packet came to: they may be gone, and others be there.
	if rest := withoutSource(oob); len(rest) < len(oob) {
		n, _, err = k.UDPConn.WriteMsgUDP(b, rest, to)
		if err == nil || !isAway(err) {
			return n, len(oob), err
		}
	}
	if len(b) > 0 && b[0]&handshakeBit == 0 {
		return len(b), len(oob), nil
	}
	return n, oobn, err
}

// WriteTo is as WriteMsgUDP.
func (k *kernelSocket) WriteTo(b []byte, to net.Addr) (int, error) {
	if !mayGo(k.allowed, to) {
		return len(b), nil
	}
	return k.UDPConn.WriteTo(b, to)
}

// mayGo asks allowed, which may be nil, whether a packet may go out.
func mayGo(allowed func(netip.Addr, Direction) bool, to net.Addr) bool {
	if allowed == nil {
		return true
	}
	at, ok := addrPortOf(to)
	return ok && allowed(at.Addr(), Outbound)
}

// handshakeBit is the bit of a QUIC packet that belongs to a handshake (RFC 9000
// section 17.2).
const handshakeBit = 0x80

func (k *kernelSocket) sendTo(b []byte, to netip.AddrPort) error { return k.send.sendTo(b, to) }

// Close closes the socket.
func (k *kernelSocket) Close() error {
	k.forget()
	return k.UDPConn.Close()
}

// plainSocket is any other packet network, such as a simulated one.
type plainSocket struct {
	net.PacketConn
	handle  voiceHandler
	forget  func()
	allowed func(netip.Addr, Direction) bool // may be nil
}

// ReadFrom gives quic-go one packet of QUIC's.
func (p *plainSocket) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, addr, err := p.PacketConn.ReadFrom(b)
		if err != nil {
			return n, addr, err
		}
		if from, ok := addrPortOf(addr); p.allowed != nil && (!ok || !p.allowed(from.Addr(), Inbound)) {
			continue
		}
		if n > 0 && b[0] < quicFrom {
			if from, ok := addrPortOf(addr); ok {
				p.handle(b[:n], from, time.Now())
			}
			continue
		}
		return n, addr, nil
	}
}

// WriteTo sends a packet of QUIC's, or loses it where policy forbids it.
func (p *plainSocket) WriteTo(b []byte, to net.Addr) (int, error) {
	if !mayGo(p.allowed, to) {
		return len(b), nil
	}
	return p.PacketConn.WriteTo(b, to)
}

// SetReadBuffer and SetWriteBuffer keep quic-go from complaining about a
// network that has none.
func (p *plainSocket) SetReadBuffer(int) error { return nil }

// SetWriteBuffer is as SetReadBuffer.
func (p *plainSocket) SetWriteBuffer(int) error { return nil }

func (p *plainSocket) sendTo(b []byte, to netip.AddrPort) error {
	ip := to.Addr().As16() // the form that QUIC's own addresses have
	_, err := p.WriteTo(b, &net.UDPAddr{IP: ip[:], Port: int(to.Port()), Zone: to.Addr().Zone()})
	return err
}

// Close closes the socket.
func (p *plainSocket) Close() error {
	p.forget()
	return p.PacketConn.Close()
}

// addrPortOf reads a UDP or TCP address, IPv4 in its 4-byte form.
func addrPortOf(a net.Addr) (netip.AddrPort, bool) {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.UDPAddr:
		ap = a.AddrPort()
	case *net.TCPAddr:
		ap = a.AddrPort()
	}
	return unmap(ap), ap.IsValid()
}

func unmap(ap netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
