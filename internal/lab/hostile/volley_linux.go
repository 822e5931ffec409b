package hostile

import (
	"encoding/binary"
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

// volley sends datagrams many at a time: the kernel cuts one write into
// segments of one length (UDP_SEGMENT, Linux 4.18), which costs the sender a
// fraction of so many writes.
type volley struct {
	conn *net.UDPConn
	to   *net.UDPAddr // nil: the one conn is connected to
	buf  []byte
	size int // of each
	n    int
	oob  []byte
}

// A write carries at most 64 segments and 64 KiB.
const (
	volleySegments = 64
	volleyBytes    = 60 << 10
)

func newVolley(c *net.UDPConn, to *net.UDPAddr) *volley {
	v := &volley{conn: c, to: to, oob: make([]byte, unix.CmsgSpace(2))}
	h := (*unix.Cmsghdr)(unsafe.Pointer(&v.oob[0]))
	h.Level, h.Type = unix.SOL_UDP, unix.UDP_SEGMENT
	h.SetLen(unix.CmsgLen(2))
	return v
}

// add sends what has another length or leaves no room, and keeps b.
func (v *volley) add(b []byte) (sent int) {
	if v.n > 0 && (len(b) != v.size || v.n == volleySegments || len(v.buf)+len(b) > volleyBytes) {
		sent = v.flush()
	}
	v.buf, v.size, v.n = append(v.buf, b...), len(b), v.n+1
	return sent
}

// flush sends what was kept, and tells how many went.
func (v *volley) flush() (sent int) {
	var err error
	switch v.n {
	case 0:
		return 0
	case 1:
		_, _, err = v.conn.WriteMsgUDP(v.buf, nil, v.to)
	default:
		binary.NativeEndian.PutUint16(v.oob[unix.CmsgLen(0):], uint16(v.size))
		_, _, err = v.conn.WriteMsgUDP(v.buf, v.oob, v.to)
	}
	if err == nil { // a full queue, or ICMP: go on
		sent = v.n
	}
	v.buf, v.n = v.buf[:0], 0
	return sent
}
