package node

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// The groups of multicast DNS, RFC 6762 section 3.
var (
	mdnsGroup4 = netip.AddrFrom4([4]byte{224, 0, 0, 251})
	mdnsGroup6 = netip.MustParseAddr("ff02::fb")
)

// mdnsSockets are the kernel's: one socket for each family, shared with other
// programs that speak mDNS here. A family that this machine does not have is
// left out, and tried again at each look at the interfaces.
type mdnsSockets struct {
	log    *slog.Logger
	in     chan mdnsPacket
	done   chan struct{}
	wg     sync.WaitGroup
	four   *mdnsSocket
	six    *mdnsSocket
	closed bool
}

// mdnsSocket is the socket of one family and the interfaces it is joined on.
type mdnsSocket struct {
	conn   net.PacketConn
	v4     *ipv4.PacketConn // one of the two
	v6     *ipv6.PacketConn
	joined map[int]bool
}

// newMDNSSockets makes the wire; its methods are for one goroutine.
func newMDNSSockets(log *slog.Logger) *mdnsSockets {
	return &mdnsSockets{log: log, in: make(chan mdnsPacket, 64), done: make(chan struct{})}
}

func (s *mdnsSockets) packets() <-chan mdnsPacket { return s.in }

func (s *mdnsSockets) lans() ([]lan, error) {
	all, err := lans()
	if err != nil {
		return nil, err
	}
	s.four = s.ready(s.four, true, all)
	s.six = s.ready(s.six, false, all)
	return all, nil
}

// ready opens the socket of a family if there is use for it, and joins the
// group on interfaces that are new.
func (s *mdnsSockets) ready(k *mdnsSocket, four bool, all []lan) *mdnsSocket {
	if k == nil {
		if !slices.ContainsFunc(all, func(l lan) bool { return l.has(four) }) {
			return nil
		}
		var err error
		if k, err = openMDNS(four); err != nil {
			s.log.Debug("mDNS socket not opened", "ipv4", four, "err", err)
			return nil
		}
		s.wg.Go(func() { s.read(k) })
	}
	present := make(map[int]bool)
	for i := range all {
		l := &all[i]
		if !l.has(four) {
			continue
		}
		present[l.index] = true
		if k.joined[l.index] {
			continue
		}
		if err := k.join(l); err != nil {
			s.log.Debug("mDNS group not joined", "interface", l.name, "err", err)
			continue
		}
		k.joined[l.index] = true
	}
	for index := range k.joined {
		if !present[index] {
			delete(k.joined, index) // the kernel has left it with the interface
		}
	}
	return k
}

// openMDNS opens a socket at the port of mDNS. Go binds an address of a group
// with SO_REUSEADDR and as a wildcard, so that several programs can share it.
func openMDNS(four bool) (*mdnsSocket, error) {
	network, group := "udp6", mdnsGroup6
	if four {
		network, group = "udp4", mdnsGroup4
	}
	conn, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(netip.AddrPortFrom(group, mdnsPort)))
	if err != nil {
		return nil, err
	}
	k := &mdnsSocket{conn: conn, joined: make(map[int]bool)}
	if four {
		k.v4 = ipv4.NewPacketConn(conn)
		err = errors.Join(k.v4.SetControlMessage(ipv4.FlagInterface|ipv4.FlagDst, true), k.v4.SetMulticastTTL(255))
	} else {
		k.v6 = ipv6.NewPacketConn(conn)
		err = errors.Join(k.v6.SetControlMessage(ipv6.FlagInterface|ipv6.FlagDst, true), k.v6.SetMulticastHopLimit(255))
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return k, nil
}

func (k *mdnsSocket) join(l *lan) error {
	ifi := &net.Interface{Index: l.index, Name: l.name}
	var err error
	if k.v4 != nil {
		err = k.v4.JoinGroup(ifi, net.UDPAddrFromAddrPort(netip.AddrPortFrom(mdnsGroup4, 0)))
	} else {
		err = k.v6.JoinGroup(ifi, net.UDPAddrFromAddrPort(netip.AddrPortFrom(mdnsGroup6, 0)))
	}
	if alreadyJoined(err) {
		return nil
	}
	return err
}

// readOne reads a packet, and tells where it came in and what it was sent to.
func (k *mdnsSocket) readOne(b []byte) (n, index int, dst net.IP, from net.Addr, err error) {
	if k.v4 != nil {
		n, cm, from, err := k.v4.ReadFrom(b)
		if cm == nil {
			return n, 0, nil, from, err
		}
		return n, cm.IfIndex, cm.Dst, from, err
	}
	n, cm, from, err := k.v6.ReadFrom(b)
	if cm == nil {
		return n, 0, nil, from, err
	}
	return n, cm.IfIndex, cm.Dst, from, err
}

// read takes packets that were sent to the group, until the socket is closed.
func (s *mdnsSockets) read(k *mdnsSocket) {
	buf := make([]byte, maxMDNSMessage+1)
	for {
		n, index, dst, addr, err := k.readOne(buf)
		if err != nil {
			pause := time.NewTimer(100 * time.Millisecond)
			select {
			case <-s.done:
				pause.Stop()
				return
			case <-pause.C:
				continue
			}
		}
		// Sent to us alone it may have come from anywhere.
		to, ok := netip.AddrFromSlice(dst)
		from, known := addrPortOf(addr)
		if !ok || !known || n > maxMDNSMessage || to.Unmap() != mdnsGroup4 && to != mdnsGroup6 {
			continue
		}
		select {
		case s.in <- mdnsPacket{index: index, source: from.Addr().WithZone(""), data: slices.Clone(buf[:n])}:
		default: // a flood; who is there will say so again
		}
	}
}

func (s *mdnsSockets) send(l *lan, four bool, b []byte) error {
	ifi := &net.Interface{Index: l.index, Name: l.name}
	if four {
		if s.four == nil {
			return net.ErrClosed
		}
		if err := s.four.v4.SetMulticastInterface(ifi); err != nil {
			return err
		}
		_, err := s.four.v4.WriteTo(b, nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(mdnsGroup4, mdnsPort)))
		return err
	}
	if s.six == nil {
		return net.ErrClosed
	}
	if err := s.six.v6.SetMulticastInterface(ifi); err != nil {
		return err
	}
	_, err := s.six.v6.WriteTo(b, nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(mdnsGroup6.WithZone(l.name), mdnsPort)))
	return err
}

func (s *mdnsSockets) close() {
	if s.closed {
		return
	}
	s.closed = true
	close(s.done)
	for _, k := range []*mdnsSocket{s.four, s.six} {
		if k != nil {
			_ = k.conn.Close() // nothing is waiting in it
		}
	}
	s.wg.Wait()
}
