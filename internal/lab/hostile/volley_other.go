//go:build !linux

package hostile

import "net"

// volley sends datagrams one by one.
type volley struct {
	conn *net.UDPConn
	to   *net.UDPAddr // nil: the one conn is connected to
}

func newVolley(c *net.UDPConn, to *net.UDPAddr) *volley { return &volley{conn: c, to: to} }

func (v *volley) add(b []byte) (sent int) {
	if _, _, err := v.conn.WriteMsgUDP(b, nil, v.to); err != nil { // a full queue, or ICMP: go on
		return 0
	}
	return 1
}

func (v *volley) flush() (sent int) { return 0 }
