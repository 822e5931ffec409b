package node

import (
	"errors"
	"fmt"
	"net/netip"
)

// Where packets to an address end. An IPv6 address may be an IPv4 address in
// other clothes: the system, a translator of the provider or a tunnel sends
// what goes to it to that IPv4 host. A rule about IPv4 must see through that,
// or whoever is refused would announce himself in the other spelling.
//
//	::ffff:a.b.c.d          the same address (RFC 4291 section 2.5.5.2)
//	::a.b.c.d               the same, deprecated (RFC 4291 section 2.5.5.1)
//	::ffff:0:a.b.c.d        IPv4-translated (RFC 2765 section 2.1)
//	64:ff9b::a.b.c.d        NAT64 (RFC 6052 section 2.1)
//	64:ff9b:1::/48          NAT64 of a provider, a.b.c.d in one of five places (RFC 8215, RFC 6052 section 2.2)
//	2002:aabb:ccdd::/48     6to4 (RFC 3056 section 2)
//	2001:0:…/32             Teredo: a server, and a client behind it (RFC 4380 section 4)
//
// A provider's NAT64 under a prefix of its own cannot be told from other IPv6
// addresses; docs/threat-model.md says so.

// disguises are the prefixes above but the first, which [plain] undoes.
var disguises = []struct {
	prefix netip.Prefix
	inner  func(b [16]byte) []netip.Addr
}{
	{netip.MustParsePrefix("::/96"), lastFour},
	{netip.MustParsePrefix("::ffff:0:0:0/96"), lastFour},
	{netip.MustParsePrefix("64:ff9b::/96"), lastFour},
	{netip.MustParsePrefix("64:ff9b:1::/48"), anyOf6052},
	{netip.MustParsePrefix("2002::/16"), func(b [16]byte) []netip.Addr { return []netip.Addr{four(b[2:])} }},
	{netip.MustParsePrefix("2001::/32"), func(b [16]byte) []netip.Addr {
		return []netip.Addr{four(b[4:]), netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]})}
	}},
}

func four(b []byte) netip.Addr { return netip.AddrFrom4([4]byte(b[:4])) }

func lastFour(b [16]byte) []netip.Addr { return []netip.Addr{four(b[12:])} }

// anyOf6052 are the addresses that prefixes of 48, 56, 64 and 96 bits (40 and
// 32 are shorter than the prefix itself) put into b.
func anyOf6052(b [16]byte) []netip.Addr {
	return []netip.Addr{
		netip.AddrFrom4([4]byte{b[6], b[7], b[9], b[10]}),
		netip.AddrFrom4([4]byte{b[7], b[9], b[10], b[11]}),
		netip.AddrFrom4([4]byte{b[9], b[10], b[11], b[12]}),
		four(b[12:]),
	}
}

// plain is a without zone, and in its IPv4 form where it is one.
func plain(a netip.Addr) netip.Addr { return a.Unmap().WithZone("") }

// destinations are the addresses at which packets to a may end: a itself, or
// those behind it. a must be plain.
func destinations(a netip.Addr) []netip.Addr {
	if a.Is4() || a == netip.IPv6Loopback() {
		return []netip.Addr{a}
	}
	for _, d := range disguises {
		if d.prefix.Contains(a) {
			return d.inner(a.As16())
		}
	}
	return []netip.Addr{a}
}

// noHost tells that a is no address of one machine: packets to the unspecified
// address go to this one, whatever rules say about loopback.
func noHost(a netip.Addr) bool {
	return !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// ParseRange reads an address or a CIDR range for a rule. What can be read in
// two ways is refused, because a rule that means something else than its
// author thinks is worse than none.
func ParseRange(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		if a.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q has a zone, which rules do not know: leave %%%s out", s, a.Zone())
		}
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is neither an IP address nor a range such as 192.0.2.0/24", s)
	}
	if p.Masked() != p {
		return netip.Prefix{}, fmt.Errorf("%q has bits set beyond its length: did you mean %s or %s?", s, p.Masked(), p.Addr())
	}
	if a := p.Addr(); a.Is4In6() {
		if p.Bits() < 96 {
			return netip.Prefix{}, fmt.Errorf("%q holds more than IPv4: write the IPv4 range", s)
		}
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	return p, nil
}

var errDisguised = errors.New("stands for IPv4 addresses behind a translator or a tunnel: allow those, as IPv4")

// allowable refuses ranges that no destination is ever in.
func allowable(p netip.Prefix) error {
	for _, d := range disguises {
		if d.prefix.Contains(p.Addr()) && p.Bits() >= d.prefix.Bits() && p.Addr() != netip.IPv6Loopback() {
			return fmt.Errorf("%s %w", p, errDisguised)
		}
	}
	return nil
}

// countries are the codes of ISO 3166-1 alpha-2, and XK, which databases use for
// Kosovo: a rule about UK, which is GB, would never be met.
const countries = " AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ " +
	"CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR " +
	"GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP " +
	"KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ " +
	"NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW " +
	"SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ " +
	"UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW "
