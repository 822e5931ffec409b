package node

import (
	"net/netip"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/quic-go/quic-go"
)

// quicConn is the QUIC connection below a direct quic-v1 connection of libp2p.
// This is the one file that knows network.Conn.As, which is experimental.
type quicConn struct{ conn *quic.Conn }

// quicOf gives the QUIC connection of c; ok is false for other transports and
// for relayed connections.
func quicOf(c network.Conn) (quicConn, bool) {
	var q *quic.Conn
	if c.Stat().Limited || !c.As(&q) || q == nil {
		return quicConn{}, false
	}
	return quicConn{q}, true
}

// remote is where QUIC sends now: it follows the peer through address changes
// that QUIC has validated.
func (q quicConn) remote() netip.AddrPort {
	ap, _ := addrPortOf(q.conn.RemoteAddr())
	return ap
}

// local names the socket of the connection.
func (q quicConn) local() netip.AddrPort {
	ap, _ := addrPortOf(q.conn.LocalAddr())
	return ap
}
