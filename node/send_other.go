//go:build !unix

package node

import (
	"net"
	"net/netip"
)

// rawSender is the portable form, which may wait while the socket's buffer is
// full.
type rawSender struct{ conn *net.UDPConn }

func newRawSender(c *net.UDPConn) (rawSender, error) { return rawSender{c}, nil }

func (s rawSender) sendTo(b []byte, to netip.AddrPort) error {
	_, err := s.conn.WriteToUDPAddrPort(b, to)
	return err
}

// isAway knows no errors here: quic-go gives a connection up for any, and it
// is dialled again.
func isAway(error) bool { return false }
