package node

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"slices"
	"strconv"

	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Whoever begins a TCP connection is answered by the kernel, before the program
// hears of it and can ask the policy. So the kernel is told the rules: a filter
// on each listening socket (SO_ATTACH_FILTER, socket(7)) drops what comes from
// where the policy forbids packets. It may drop more: addresses whose country
// would have to be looked up, and IPv4 in the clothes of IPv6. Those people can
// be dialled, and come by QUIC.
//
// libp2p keeps its sockets to itself, so they are found among the descriptors
// of the process: by a duplicate of each, which stays the same socket while it
// is looked at.

// listenOnly makes the listening TCP sockets deaf for what p refuses.
func listenOnly(p *Policy, listening []ma.Multiaddr) error {
	waiting := map[netip.AddrPort]bool{}
	for _, a := range listening {
		ip, ok := ipOf(a)
		port, err := a.ValueForProtocol(ma.P_TCP)
		if !ok || err != nil || kindOf(a) != onTCP {
			continue
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return err
		}
		waiting[netip.AddrPortFrom(ip, uint16(n))] = true
	}
	if len(waiting) == 0 {
		return nil
	}
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("find the listening sockets: %w", err)
	}
	for _, entry := range all {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			continue // closed since, as the one that the directory was read by
		}
		at, ok := listensTCP(own)
		if ok && waiting[at] {
			err = p.attach(own, at.Addr().Is4())
			delete(waiting, at)
		}
		_ = unix.Close(own)
		if err != nil {
			return fmt.Errorf("keep a listening socket to the policy: %w", err)
		}
	}
	if len(waiting) > 0 {
		return errors.New("a listening socket was not found")
	}
	return nil
}

// listensTCP tells where a descriptor listens, if it is a TCP socket that does.
func listensTCP(fd int) (netip.AddrPort, bool) {
	if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || on == 0 {
		return netip.AddrPort{}, false
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil || kind != unix.IPPROTO_TCP && kind != unix.IPPROTO_MPTCP {
		return netip.AddrPort{}, false
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, false
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)), true
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port)), true
	}
	return netip.AddrPort{}, false
}

// errMultipath: a connection of Multipath TCP (RFC 8684) takes in paths to
// other addresses by itself, which nobody could judge, and its sockets know no
// filter. Go listens for it unless told otherwise.
var errMultipath = errors.New("a port is of Multipath TCP, which takes in paths that nobody could judge: run with GODEBUG=multipathtcp=0")

// attach puts the filter for one family of addresses on a socket; one that is
// too long for the kernel is replaced by one that drops all.
func (p *Policy) attach(fd int, ipv4 bool) error {
	if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil || kind != unix.IPPROTO_TCP {
		return errors.Join(errMultipath, err)
	}
	if long := p.filter(ipv4); len(long) <= maxProgram && setFilter(fd, long) == nil {
		return nil
	}
	return setFilter(fd, block{drop})
}

func setFilter(fd int, b block) error {
	raw, err := bpf.Assemble(b)
	if err != nil {
		return err
	}
	code := make([]unix.SockFilter, len(raw))
	for i, c := range raw {
		code[i] = unix.SockFilter{Code: c.Op, Jt: c.Jt, Jf: c.Jf, K: c.K}
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]})
}

// filter is what [Policy.judge] allows, for the kernel: not all of it, and
// nothing else.
func (p *Policy) filter(ipv4 bool) (b block) {
	if !ipv4 {
		for _, d := range disguises[1:] {
			b = append(b, dropIn(d.prefix)...)
		}
	}
	for i := range p.layers {
		r := &p.layers[i]
		for _, d := range r.Deny.Ranges {
			if d.Addr().Is4() == ipv4 {
				b = append(b, dropIn(d)...)
			}
		}
		ranges, all := r.certain()
		if all {
			continue
		}
		// Whoever is in one of them goes on behind the drop.
		var pass block
		for _, r := range slices.Backward(ranges) {
			if r.Addr().Is4() == ipv4 {
				pass = append(inRange(r, bpf.Jump{Skip: uint32(len(pass) + 1)}), pass...)
			}
		}
		b = append(append(b, pass...), drop)
	}
	return append(b, keep)
}

// certain are the ranges that a layer allows without a look at countries; all:
// it allows everybody.
func (r *Rules) certain() (ranges []netip.Prefix, all bool) {
	ruled := len(r.Allow.Ranges)+len(r.Allow.Countries) > 0
	switch {
	case len(r.Deny.Countries) == 0:
		ranges = append(ranges, r.Allow.Ranges...)
		if len(r.Allow.Countries) > 0 {
			ranges = append(ranges, r.NoCountry...)
		}
	case !ruled || len(r.Allow.Countries) > 0:
		ranges = r.NoCountry
	}
	return ranges, len(r.Deny.Countries) == 0 && !ruled
}

func dropIn(p netip.Prefix) block { return inRange(p, drop) }

// inRange does then if the packet's source is in p, and else falls through.
func inRange(p netip.Prefix, then bpf.Instruction) (b block) {
	at, bytes := uint32(ipHeader+8), p.Addr().AsSlice()
	if p.Addr().Is4() {
		at = ipHeader + 12
	}
	// Backwards: each step knows how long the rest is.
	b = block{then}
	for word := (p.Bits() - 1) / 32; word >= 0 && p.Bits() > 0; word-- {
		mask := uint32(math.MaxUint32)
		if rest := p.Bits() - 32*word; rest < 32 {
			mask <<= 32 - rest
		}
		step := block{bpf.LoadAbsolute{Off: at + 4*uint32(word), Size: 4}}
		if mask != math.MaxUint32 {
			step = append(step, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask})
		}
		want := binary.BigEndian.Uint32(bytes[4*word:]) & mask
		step = append(step, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: want, SkipTrue: uint8(len(b))})
		b = append(step, b...)
	}
	return b
}
