package lab

import (
	"fmt"
	"net/netip"
	"strings"
)

// What a home router does, as rules for nft. The kernel's masquerade alone
// would be port-restricted, as long as no two hosts use the same port; what
// makes the others is written down by the rules themselves, for each protocol:
//
//	mapped  (host, port) -> outer port      used again for every endpoint: endpoint-independent mapping
//	taken   outer ports                     which another host cannot have
//	inner   outer port -> host, port        where what comes in goes
//	met     (endpoint's address, outer port)  who may come in to an address-restricted home
//
// They are learnt as packets leave, after the kernel has chosen the outer port,
// and forgotten natMemory after the last one.
//
// On every kind, what comes from the internet and belongs to nothing is
// dropped in input, too: a packet of a peer that dials at the same time would
// else be taken for a connection to the router itself, and the host's own
// packet, a moment later, would get another port; no hole is punched then.

// natMemory is how long a mapping lives without packets, as RFC 4787 REQ-5 asks.
const natMemory = "2m"

// natRules are the rules of a home's router for its devices wan and lan; outer
// is its address on the internet.
func natRules(s Site, outer netip.Addr) string {
	var r strings.Builder
	r.WriteString("table inet home {}\ndelete table inet home\ntable inet home {\n")
	learns := s.NAT != Symmetric
	if learns {
		for _, proto := range []string{"udp", "tcp"} {
			r.WriteString(natTables(proto))
		}
	}
	r.WriteString("chain prerouting { type nat hook prerouting priority dstnat;\n")
	for _, proto := range []string{"udp", "tcp"} {
		to := fmt.Sprintf("dnat ip to %s dport map @%s_host : %s dport map @%s_port\n", proto, proto, proto, proto)
		switch s.NAT {
		case FullCone:
			fmt.Fprintf(&r, "iifname wan meta l4proto %s %s", proto, to)
			if s.Hairpin {
				fmt.Fprintf(&r, "iifname lan ip daddr %s meta l4proto %s %s", outer, proto, to)
			}
		case AddressRestricted:
			fmt.Fprintf(&r, "iifname wan ip saddr . %s dport @%s_met %s", proto, proto, to)
		}
	}
	r.WriteString("}\nchain postrouting { type nat hook postrouting priority srcnat;\n")
	if s.NAT == Symmetric {
		r.WriteString("oifname wan meta nfproto ipv4 masquerade fully-random\n")
	} else {
		for _, proto := range []string{"udp", "tcp"} {
			r.WriteString(natMapping(proto))
			if s.Hairpin {
				// As from outside: the host sees the outer address (RFC 4787 REQ-9).
				fmt.Fprintf(&r, "oifname lan ct status dnat meta l4proto %s snat ip to %s : ip saddr . %s sport map @%s_mapped\n", proto, outer, proto, proto)
				fmt.Fprintf(&r, "oifname lan ct status dnat meta l4proto %s meta nfproto ipv4 snat ip to %s\n", proto, outer)
			}
		}
		r.WriteString("oifname wan meta nfproto ipv4 masquerade\n")
	}
	r.WriteString("}\n")
	if learns {
		// After srcnat (100), which has chosen the outer port.
		r.WriteString("chain learn { type filter hook postrouting priority 150;\n")
		for _, proto := range []string{"udp", "tcp"} {
			r.WriteString(natLearning(proto))
		}
		r.WriteString("}\n")
	}
	r.WriteString("chain forward { type filter hook forward priority 0;\n")
	if s.NAT == UDPBlocked {
		r.WriteString("iifname wan meta l4proto udp drop\noifname wan meta l4proto udp drop\n")
	}
	r.WriteString("iifname wan ct state established,related accept\n")
	if s.NAT == FullCone || s.NAT == AddressRestricted {
		r.WriteString("iifname wan ct status dnat accept\n")
	}
	r.WriteString("iifname wan drop\n}\n")
	r.WriteString(`chain input { type filter hook input priority 0;
iifname wan ct state established,related accept
iifname wan meta l4proto ipv6-icmp accept
iifname wan drop
}
}
`)
	return r.String()
}

// natTables are what the rules remember of a protocol.
func natTables(proto string) string {
	const memory = "flags dynamic,timeout; timeout " + natMemory + "; size 16384;"
	return strings.NewReplacer("PROTO", proto, "MEMORY", memory).Replace(
		`map PROTO_mapped { type ipv4_addr . inet_service : inet_service; MEMORY }
set PROTO_taken { type inet_service; MEMORY }
map PROTO_host { type inet_service : ipv4_addr; MEMORY }
map PROTO_port { type inet_service : inet_service; MEMORY }
set PROTO_met { type ipv4_addr . inet_service; MEMORY }
`)
}

// natMapping chooses the outer port of a new connection: the one that the host's
// port has, else its own, else, if another host has that, any other.
func natMapping(proto string) string {
	return strings.ReplaceAll(`oifname wan meta l4proto PROTO masquerade to : ip saddr . PROTO sport map @PROTO_mapped
oifname wan meta nfproto ipv4 PROTO sport @PROTO_taken masquerade to :49152-65535 random
`, "PROTO", proto)
}

// natLearning writes down what a packet on its way out shows. Where the
// connection was begun from outside, its origin is the endpoint.
func natLearning(proto string) string {
	return strings.ReplaceAll(`oifname wan meta nfproto ipv4 meta l4proto PROTO ct direction original update @PROTO_mapped { ct original ip saddr . ct original proto-src : ct reply proto-dst }
oifname wan meta nfproto ipv4 meta l4proto PROTO ct direction original update @PROTO_host { ct reply proto-dst : ct original ip saddr }
oifname wan meta nfproto ipv4 meta l4proto PROTO ct direction original update @PROTO_port { ct reply proto-dst : ct original proto-src }
oifname wan meta nfproto ipv4 meta l4proto PROTO ct direction reply update @PROTO_mapped { ct reply ip saddr . ct reply proto-src : ct original proto-dst }
oifname wan meta nfproto ipv4 meta l4proto PROTO ct direction reply update @PROTO_host { ct original proto-dst : ct reply ip saddr }
oifname wan meta nfproto ipv4 meta l4proto PROTO ct direction reply update @PROTO_port { ct original proto-dst : ct reply proto-src }
oifname wan meta nfproto ipv4 meta l4proto PROTO update @PROTO_taken { PROTO sport }
oifname wan meta nfproto ipv4 meta l4proto PROTO update @PROTO_met { ip daddr . PROTO sport }
`, "PROTO", proto)
}
