//go:build unix

package node

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// rawSender sends without ever waiting: net.UDPConn would wait while the
// socket's buffer is full, and behind quic-go's own writes that do. It goes
// through Control, which takes no write lock, and allocates nothing.
type rawSender struct{ *rawSend }

type rawSend struct {
	conn syscall.RawConn

	mu    sync.Mutex // guards what call reads and writes
	call  func(fd uintptr)
	b     []byte
	to    unix.Sockaddr
	to4   unix.SockaddrInet4
	to6   unix.SockaddrInet6
	err   error
	flags int
}

func newRawSender(c *net.UDPConn) (rawSender, error) {
	conn, err := c.SyscallConn()
	if err != nil {
		return rawSender{}, err
	}
	s := &rawSend{conn: conn, flags: unix.MSG_DONTWAIT}
	s.call = func(fd uintptr) { s.err = unix.Sendto(int(fd), s.b, s.flags, s.to) }
	return rawSender{s}, nil
}

func (s *rawSend) sendTo(b []byte, to netip.AddrPort) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if to.Addr().Is4() {
		s.to4.Addr, s.to4.Port = to.Addr().As4(), int(to.Port())
		s.to = &s.to4
	} else {
		s.to6.Addr, s.to6.Port = to.Addr().As16(), int(to.Port())
		s.to6.ZoneId = 0
		if zone := to.Addr().Zone(); zone != "" {
			if ifi, err := net.InterfaceByName(zone); err == nil {
				s.to6.ZoneId = uint32(ifi.Index)
			}
		}
		s.to = &s.to6
	}
	s.b = b
	err := s.conn.Control(s.call)
	s.b = nil
	if err != nil {
		return err
	}
	return s.err
}

// isAway tells that a packet could not be sent because the network is not
// there, as it may be again in a moment.
func isAway(err error) bool {
	var no syscall.Errno
	if !errors.As(err, &no) {
		return false
	}
	switch no {
	case unix.EPERM, unix.EACCES, unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ENETDOWN, unix.EHOSTDOWN,
		unix.ENODEV, unix.ENXIO, unix.EADDRNOTAVAIL, unix.EINVAL, unix.ENOBUFS, unix.ECONNREFUSED:
		return true
	}
	return false
}
