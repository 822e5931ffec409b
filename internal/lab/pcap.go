package lab

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
)

// Packet is one captured packet.
type Packet struct {
	Raw      []byte // from the link header on
	Proto    string // udp, tcp, arp, icmp, igmp, ip6, or a number
	Src, Dst netip.AddrPort
	Seq      uint32 // tcp
	SYN      bool
	Payload  []byte // of UDP and TCP
}

// Link types of pcap files that tcpdump writes here: tcpdump.org/linktypes.html.
const (
	linkEthernet  = 1
	linkRaw       = 101 // of a line with a shim, which is a TUN device
	linkCooked    = 113
	linkCookedTwo = 276
)

// ReadPcap reads a capture of Ethernet, of a TUN device, or of tcpdump's "any".
func ReadPcap(file string) ([]Packet, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	packets, err := parsePcap(b)
	if err != nil {
		return nil, fmt.Errorf("read capture %s: %w", file, err)
	}
	return packets, nil
}

// parsePcap reads the classic format: a header of 24 bytes, then records of
// 16 bytes and the packet.
func parsePcap(b []byte) (packets []Packet, err error) {
	if len(b) < 24 {
		return nil, io.ErrUnexpectedEOF
	}
	order := binary.ByteOrder(binary.LittleEndian)
	switch binary.LittleEndian.Uint32(b) {
	case 0xa1b2c3d4, 0xa1b23c4d:
	case 0xd4c3b2a1, 0x4d3cb2a1:
		order = binary.BigEndian
	default:
		return nil, errors.New("not a pcap file")
	}
	link := order.Uint32(b[20:])
	for b = b[24:]; len(b) > 0; {
		if len(b) < 16 {
			return nil, io.ErrUnexpectedEOF
		}
		n, whole := order.Uint32(b[8:]), order.Uint32(b[12:])
		if uint64(len(b)) < 16+uint64(n) {
			return nil, io.ErrUnexpectedEOF
		}
		if n != whole {
			return nil, errors.New("a packet was cut")
		}
		packets = append(packets, parsePacket(link, b[16:16+n]))
		b = b[16+n:]
	}
	return packets, nil
}

func parsePacket(link uint32, raw []byte) Packet {
	p := Packet{Raw: raw, Proto: "?"}
	var kind uint16
	var b []byte
	switch {
	case link == linkEthernet && len(raw) >= 14:
		kind, b = binary.BigEndian.Uint16(raw[12:]), raw[14:]
	case link == linkCooked && len(raw) >= 16:
		kind, b = binary.BigEndian.Uint16(raw[14:]), raw[16:]
	case link == linkCookedTwo && len(raw) >= 20:
		kind, b = binary.BigEndian.Uint16(raw), raw[20:]
	case link == linkRaw && len(raw) >= 1 && raw[0]>>4 == 4:
		kind, b = 0x0800, raw
	case link == linkRaw && len(raw) >= 1 && raw[0]>>4 == 6:
		kind, b = 0x86dd, raw
	default:
		return p
	}
	switch kind {
	case 0x0806:
		p.Proto = "arp"
	case 0x86dd:
		p.Proto = "ip6"
	case 0x0800:
		p.parseIPv4(b)
	default:
		p.Proto = fmt.Sprintf("ether %04x", kind)
	}
	return p
}

func (p *Packet) parseIPv4(b []byte) {
	if len(b) < 20 {
		return
	}
	head, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	if head < 20 || total < head || total > len(b) {
		return
	}
	src, dst := netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	p.Src, p.Dst = netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, 0)
	number, body := b[9], b[head:total]
	switch {
	case number == 17 && len(body) >= 8:
		p.Proto, p.Payload = "udp", body[8:]
	case number == 6 && len(body) >= 20 && int(body[12]>>4)*4 <= len(body):
		p.Proto, p.Payload = "tcp", body[int(body[12]>>4)*4:]
		p.Seq, p.SYN = binary.BigEndian.Uint32(body[4:]), body[13]&2 != 0
	case number == 1:
		p.Proto = "icmp"
		return
	case number == 2:
		p.Proto = "igmp"
		return
	default:
		p.Proto = fmt.Sprintf("ip %d", number)
		return
	}
	p.Src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(body))
	p.Dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(body[2:]))
}

// Streams puts the payload of each direction of each TCP connection in order,
// so that a search finds what two segments share.
func Streams(packets []Packet) [][]byte {
	type direction struct{ src, dst netip.AddrPort }
	segments := make(map[direction][]Packet)
	var order []direction
	for _, p := range packets {
		if p.Proto != "tcp" || len(p.Payload) == 0 {
			continue
		}
		d := direction{p.Src, p.Dst}
		if segments[d] == nil {
			order = append(order, d)
		}
		segments[d] = append(segments[d], p)
	}
	var streams [][]byte
	for _, d := range order {
		all := segments[d]
		first := all[0].Seq
		// Numbers are compared as differences, which wrap as they do.
		slices.SortStableFunc(all, func(a, b Packet) int {
			return cmp.Compare(int32(a.Seq-first), int32(b.Seq-first))
		})
		var stream bytes.Buffer
		next := all[0].Seq
		for _, p := range all {
			// Bytes of it that we have; none after a hole: tcpdump says if it
			// missed something.
			old := max(0, int32(next-p.Seq))
			if int(old) < len(p.Payload) {
				stream.Write(p.Payload[old:])
				next = p.Seq + uint32(len(p.Payload))
			}
		}
		streams = append(streams, stream.Bytes())
	}
	return streams
}
