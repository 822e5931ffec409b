package node

import (
	"net/netip"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// The filter is a classic BPF program (SO_ATTACH_FILTER, socket(7)), which any
// program may give its own sockets. The kernel runs it on each datagram before
// that is queued, from the UDP header on:
//
//	0          2         4        6          8      9
//	+----------+---------+--------+----------+------+----------------+---
//	| src port | to port | length | checksum | type | receiver index | ...
//	+----------+---------+--------+----------+------+----------------+---
//
// and, at negative offsets, from the IP header on (SKF_NET_OFF). A load beyond
// the datagram's end drops it.
//
// It is put together of blocks: a block returns a verdict, or falls through its
// end.
type block []bpf.Instruction

const (
	udpPort   = 0
	udpHeader = 8
	ipHeader  = 0xfff0_0000 // SKF_NET_OFF, -0x100000

	scratchPort = 4 // scratch words 0 to 3 are the source address
	maxProgram  = 20 << 10 / 8
	leafSize    = 16 // values that are compared one after the other
)

var (
	drop = bpf.RetConstant{Val: 0}
	keep = bpf.RetConstant{Val: 0xffff_ffff} // all of it
)

// filter makes the kernel drop what the rules do not admit.
func (k *kernelSocket) filter(r *rules) {
	for ; r != nil; r = r.simpler() {
		raw, err := bpf.Assemble(r.program(k.family))
		if err == nil && len(raw) <= maxProgram && k.attach(raw) == nil {
			return
		}
	}
	// One that is out of date would drop the voice of who came since.
	_ = k.control(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0) })
}

func (k *kernelSocket) attach(raw []bpf.RawInstruction) error {
	code := make([]unix.SockFilter, len(raw))
	for i, c := range raw {
		code[i] = unix.SockFilter{Code: c.Op, Jt: c.Jt, Jf: c.Jf, K: c.K}
	}
	program := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	return k.control(func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program)
	})
}

// drops is how many of the datagrams for this socket the kernel has dropped,
// modulo 2^32 (SO_MEMINFO, SK_MEMINFO_DROPS).
func (k *kernelSocket) drops() uint32 {
	var info [9]uint32
	size := uint32(unsafe.Sizeof(info))
	_ = k.control(func(fd int) error {
		// x/sys has no call for it that takes words.
		_, _, no := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
		if no != 0 {
			return no
		}
		return nil
	})
	return info[8]
}

func (k *kernelSocket) control(f func(fd int) error) error {
	var err error
	if outer := k.conn.Control(func(fd uintptr) { err = f(int(fd)) }); outer != nil {
		return outer
	}
	return err
}

// program is [rules.admits] for the kernel, on a socket of one family of
// addresses; for one of both, the rules about sources are left out.
func (r *rules) program(f family) []bpf.Instruction {
	voice := block{
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: typePacket, SkipTrue: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: typeCheck, SkipTrue: 1},
		drop,
		bpf.LoadExtension{Num: bpf.ExtLen},
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: udpHeader + minDatagramLen, SkipTrue: 1},
		drop,
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: udpHeader + datagramLen, SkipFalse: 1},
		drop,
	}
	if !r.any {
		voice = append(voice, bpf.LoadAbsolute{Off: udpHeader + 1, Size: 4})
		voice = append(voice, oneOf(r.indexes)...)
	}
	voice = append(append(voice, r.source(voicePacket, f)...), keep)
	first := append(r.source(firstPacket, f), keep)
	rest := append(r.source(strangerPacket, f), keep)

	code := block{
		bpf.LoadAbsolute{Off: udpHeader, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: firstPackets, SkipFalse: 1},
		bpf.Jump{Skip: uint32(2 + len(voice) + len(rest))},
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: quicFrom, SkipFalse: 1},
		bpf.Jump{Skip: uint32(len(voice))},
	}
	for _, b := range []block{voice, rest, first} {
		code = append(code, b...)
	}
	return code
}

// oneOf drops unless the accumulator is one of values, which are sorted.
func oneOf(values []uint32) (b block) {
	if len(values) <= leafSize {
		for i, v := range values {
			b = append(b, bpf.JumpIf{Cond: bpf.JumpEqual, Val: v, SkipTrue: uint8(len(values) - i)})
		}
		return append(b, drop)
	}
	half := len(values) / 2
	low, high := oneOf(values[:half]), oneOf(values[half:])
	b = append(b,
		bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: values[half], SkipFalse: 1},
		bpf.Jump{Skip: uint32(len(low) + 1)})
	b = append(append(b, low...), bpf.Jump{Skip: uint32(len(high))})
	return append(b, high...)
}

// source drops packets of a class whose source is barred.
func (r *rules) source(c packetClass, f family) (b block) {
	strangers := r.closed[c] || len(r.barred[c]) > 0
	members := c == strangerPacket && len(r.barred[memberPacket]) > 0
	if f == anyFamily || !strangers && !members {
		return nil
	}
	if f == ipv4Family {
		b = append(b, bpf.LoadAbsolute{Off: ipHeader + 12, Size: 4}, bpf.StoreScratch{N: 0})
	} else {
		for i := range uint32(4) {
			b = append(b, bpf.LoadAbsolute{Off: ipHeader + 8 + 4*i, Size: 4}, bpf.StoreScratch{N: int(i)})
		}
	}
	b = append(b, bpf.LoadAbsolute{Off: udpPort, Size: 2}, bpf.StoreScratch{N: scratchPort})
	if members {
		for _, a := range r.barred[memberPacket] {
			b = append(b, from(a, f, drop)...)
		}
	}
	if !strangers {
		return b
	}
	var last block
	if r.closed[c] {
		last = block{drop}
	} else {
		for _, a := range r.barred[c] {
			last = append(last, from(a, f, drop)...)
		}
	}
	if c != firstPacket {
		for _, a := range r.known {
			last = append(from(a, f, bpf.Jump{Skip: uint32(len(last))}), last...)
		}
	}
	return append(b, last...)
}

// from does then if the source is a; one without a port is an IPv4 address or
// an IPv6 /64.
func from(a netip.AddrPort, f family, then bpf.Instruction) (b block) {
	if a.Addr().Is4() != (f == ipv4Family) {
		return nil
	}
	parts := words(a.Addr())
	if a.Port() == 0 {
		parts = parts[:max(1, len(parts)/2)]
	}
	compare := func(scratch int, v uint32) {
		b = append(b, bpf.LoadScratch{Dst: bpf.RegA, N: scratch}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: v})
	}
	for i, v := range parts {
		compare(i, v)
	}
	if a.Port() != 0 {
		compare(scratchPort, uint32(a.Port()))
	}
	b = append(b, then)
	for i, c := range b {
		if j, ok := c.(bpf.JumpIf); ok {
			j.SkipFalse = uint8(len(b) - 1 - i)
			b[i] = j
		}
	}
	return b
}
