package lab

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Plan is a routed internet as a text says it: who is on it with an address of
// their own, which homes there are and what their routers let through, and
// what befalls packets on the way. [NewInternet] makes it.
//
// The text has one statement a line; "#" begins a comment.
//
//	seed N                            what repeats itself by: jitter and bursts (default 1)
//	public NAME [LINK...]             a host with public addresses
//	home NAME nat KIND [lan CIDR] [hairpin] [LINK...]
//	                                  a router with a LAN behind it
//	host NAME in HOME                 a host of that LAN
//
// KIND is one of [NATKinds]. lan is a private /24 (default 192.168.1.0/24, as
// homes are: two of them are no mistake). hairpin lets the hosts of a full-cone
// home reach each other by its public address. LINK is what is said of the way
// between the site and the internet, each direction by itself:
//
//	delay D                           what every packet takes, 0 to 2s
//	jitter D [in-order]               each takes up to this much more, 0 to 1s; they overtake each other, or do not
//	burst D every D                   all is lost for D, about once in the other D, at times that the seed decides
//	loss P%                           each is lost by chance, 0% to 100% in tenths (by nftables: no seed)
//	ipv6 public|ula                   public: addresses of the internet beside IPv4, behind a home's firewall;
//	                                  ula: a home that has IPv6 inside alone
//
// Names are up to 15 lower-case letters, digits and hyphens, and begin with a
// letter; "core" is taken. A home comes before its hosts.
type Plan struct {
	Seed  uint64
	Sites []Site // in the order of the text
}

// Site is what has one line to the internet: a public host, or a home.
type Site struct {
	Name    string
	NAT     NATKind // none: a public host
	LAN     netip.Prefix
	Hairpin bool
	IPv6    IPv6Kind
	Link    Shape
	Loss    int      // each way, in tenths of a percent
	Hosts   []string // of a home
}

// NATKind is what a home router does, in the terms of RFC 4787.
type NATKind string

// The kinds. All of them map and filter TCP as they do UDP.
const (
	// FullCone maps and filters independently of the endpoint: who has sent a
	// packet to anybody gets those of everybody.
	FullCone NATKind = "full-cone"
	// AddressRestricted lets in who was sent to, from any port.
	AddressRestricted NATKind = "address-restricted"
	// PortRestricted lets in who was sent to, from the port that was sent to.
	PortRestricted NATKind = "port-restricted"
	// Symmetric takes a port at random for each endpoint.
	Symmetric NATKind = "symmetric"
	// UDPBlocked is PortRestricted for TCP, and lets no UDP through.
	UDPBlocked NATKind = "udp-blocked"
)

// NATKinds are all of them, the most open one first.
func NATKinds() []NATKind {
	return []NATKind{FullCone, AddressRestricted, PortRestricted, Symmetric, UDPBlocked}
}

// IPv6Kind is what IPv6 a site has.
type IPv6Kind string

// The kinds; none is "".
const (
	PublicIPv6 IPv6Kind = "public" // that libp2p takes for public: 2a00:7ea:N::/48
	ULA        IPv6Kind = "ula"    // RFC 4193, inside a home: fd77:7ea:N::/48
)

// Bounds of a plan.
const (
	maxPlan      = 64 << 10 // bytes of the text
	maxPlanHosts = 200      // namespaces, without the core
	maxDelay     = 2 * time.Second
	maxJitter    = time.Second
	maxBurst     = 10 * time.Second
	maxEvery     = 10 * time.Minute
)

// usualLAN is that of a home that names none.
var usualLAN = netip.MustParsePrefix("192.168.1.0/24")

// String is the plan as text that parses to the same plan.
func (p *Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d\n", p.Seed)
	for _, s := range p.Sites {
		b.WriteString(s.String() + "\n")
		for _, h := range s.Hosts {
			fmt.Fprintf(&b, "host %s in %s\n", h, s.Name)
		}
	}
	return b.String()
}

// String is the statement of the site.
func (s Site) String() string {
	words := []string{"public", s.Name}
	if s.NAT != "" {
		words = []string{"home", s.Name, "nat", string(s.NAT)}
		if s.LAN != usualLAN {
			words = append(words, "lan", s.LAN.String())
		}
		if s.Hairpin {
			words = append(words, "hairpin")
		}
	}
	return strings.Join(append(words, s.link()...), " ")
}

// link is what the text says of the site's line.
func (s Site) link() (words []string) {
	if s.Link.Delay > 0 {
		words = append(words, "delay", s.Link.Delay.String())
	}
	if s.Link.Jitter > 0 {
		words = append(words, "jitter", s.Link.Jitter.String())
		if s.Link.InOrder {
			words = append(words, "in-order")
		}
	}
	if s.Link.Burst > 0 {
		words = append(words, "burst", s.Link.Burst.String(), "every", s.Link.Every.String())
	}
	if s.Loss > 0 {
		words = append(words, "loss", strconv.FormatFloat(float64(s.Loss)/10, 'f', -1, 64)+"%")
	}
	if s.IPv6 != "" {
		words = append(words, "ipv6", string(s.IPv6))
	}
	return words
}
