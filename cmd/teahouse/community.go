package main

import (
	"fmt"
	"time"

	"teahouse/internal/home"
	"teahouse/internal/mesh"
	"teahouse/node"
)

// A node on a network that has a descriptor.

// chooseStored takes the network of the home that name means, if there is one:
// it goes before an ad-hoc network of the name.
func (h *house) chooseStored(name string) (found bool, err error) {
	files, err := home.NetworksOf(h.dirs).List()
	if err != nil {
		return false, err
	}
	s, err := findStored(readStored(files, h.screen), name)
	if s == nil || err != nil {
		return false, err
	}
	now := time.Now()
	if err := s.CheckTime(now); err != nil {
		return true, wrap(err, exitRefused, "network", "%v: get a newer link (`teahouse network join`), and see that the clock of this machine is right", err)
	}
	if left := s.Expires.Sub(now); left < expiresSoon {
		h.screen.println(fmt.Sprintf("The descriptor of the network %q ends on %s: its founder should sign a new one (teahouse network revise --valid 8760h).", s.Name, day(s.Expires)))
	}
	h.community, h.networkName, h.network = s, s.Name, s.Network()
	return true, nil
}

// listenAsNamed are the addresses that keep true what a descriptor says of its
// bootstrap self: the ports it names, on all addresses of this machine, because
// those that it names may be a router's. A loopback address is taken at its
// word. Empty: it does not name self.
func listenAsNamed(d *node.Descriptor, self mesh.PeerID) []string {
	var out []string
	seen := map[string]bool{}
	add := func(family, ip string, port uint16, quic bool) {
		addr := fmt.Sprintf("/%s/%s/tcp/%d", family, ip, port)
		if quic {
			addr = fmt.Sprintf("/%s/%s/udp/%d/quic-v1", family, ip, port)
		}
		if !seen[addr] {
			seen[addr] = true
			out = append(out, addr)
		}
	}
	for _, b := range d.Bootstraps {
		if b.Peer != self {
			continue
		}
		for _, e := range b.Addrs {
			at, quic, ok := e.AddrPort()
			switch {
			case !ok:
			case at.Addr().IsLoopback() && at.Addr().Is4():
				add("ip4", at.Addr().String(), at.Port(), quic)
			case at.Addr().IsLoopback():
				add("ip6", at.Addr().String(), at.Port(), quic)
			default:
				add("ip4", "0.0.0.0", at.Port(), quic)
				if node.HasIPv6() {
					add("ip6", "::", at.Port(), quic)
				}
			}
		}
	}
	return out
}
