package node

import "golang.org/x/sys/unix"

// withoutSource is the control data of a packet to be sent without what names
// the address or the interface that it is to leave from.
func withoutSource(oob []byte) []byte {
	var rest []byte
	for b := oob; len(b) > 0; {
		h, _, after, err := unix.ParseOneSocketControlMessage(b)
		if err != nil {
			return oob
		}
		source := h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO ||
			h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO
		if !source {
			rest = append(rest, b[:len(b)-len(after)]...)
		}
		b = after
	}
	return rest
}
