package node

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"teahouse/internal/mesh"
)

// A policy says whom this node exchanges packets with (DESIGN section 4). It is
// a pure function of rules, peers and addresses, and does not change while the
// node runs.
//
// It has layers: the file, the command line, later the network's descriptor.
// Each is asked, and what one of them refuses is refused: the command line can
// narrow what the file allows and never widen it.
//
// Within a layer, who and where are judged apart:
//
//	denied by any rule                           refused
//	a country is ruled, and this one's unknown   refused
//	peers are allowed, and this is none of them  refused
//	ranges or countries are allowed, and the
//	address lies in none of either               refused
//	else                                         allowed
//
// An address is judged by where packets to it end (policy_address.go): refused
// if any of those places is, allowed if all are. Nothing is exempt, neither
// loopback nor the LAN, unless a rule names it.

// Rules are one layer of a policy. The zero value allows all.
type Rules struct {
	// Source is where they were written, as people know it.
	Source string
	// Allow and Deny: a kind of which there is no rule in Allow allows all.
	Allow, Deny Selection
	// NoCountry are ranges that have no country, and to which rules about
	// countries do not apply: the LAN, loopback.
	NoCountry []netip.Prefix
	Relays    Relays
	// BeyondDenied refuses paths on which a third node passes packets on: what
	// lies beyond it is not known.
	BeyondDenied bool
	// HideIP: this node tells nobody where it is, see [Config.HideIP].
	HideIP bool
}

// Selection selects peers and addresses.
type Selection struct {
	Peers     []mesh.PeerID
	Ranges    []netip.Prefix
	Countries []string // ISO 3166-1 alpha-2, upper case
}

// Add reads one rule as it stands in policy.toml and after --allow and --deny,
// an address, a range, or a country, and takes it in. Peer ids are the
// caller's to read.
func (s *Selection) Add(rule string) error {
	if len(rule) == 2 && isLetter(rule[0]) && isLetter(rule[1]) {
		country := strings.ToUpper(rule)
		if !strings.Contains(countries, " "+country+" ") {
			return fmt.Errorf("%q is no country of ISO 3166 (DE, BR, ...): a rule about it would never be met", rule)
		}
		if !slices.Contains(s.Countries, country) {
			s.Countries = append(s.Countries, country)
		}
		return nil
	}
	p, err := ParseRange(rule)
	if err != nil {
		return err
	}
	if !slices.Contains(s.Ranges, p) {
		s.Ranges = append(s.Ranges, p)
	}
	return nil
}

func isLetter(b byte) bool { return b|0x20 >= 'a' && b|0x20 <= 'z' }

// CountryOf tells the country of an address, ISO 3166-1 alpha-2 in upper case;
// ok is false where it is not known. It may be called from any goroutine.
type CountryOf func(netip.Addr) (country string, ok bool)

// Relays are the relays that packets may go through.
type Relays struct {
	Mode  RelayMode
	Peers []mesh.PeerID // of RelaysListed
}

// RelayMode is a choice of relays.
type RelayMode int

// The choices. The zero value is the default.
const (
	RelaysTicketed RelayMode = iota // those with a ticket of the network
	RelaysNone
	RelaysListed
)

// allow answers nil, or the rule that refuses.
func (r Relays) allow(relay mesh.PeerID, ticketed bool) string {
	switch {
	case r.Mode == RelaysNone:
		return `relays = "none"`
	case r.Mode == RelaysListed && !slices.Contains(r.Peers, relay):
		return "relays lists others"
	case r.Mode == RelaysTicketed && !ticketed:
		return `relays = "ticketed", and this one has no ticket of the network`
	}
	return ""
}

// Refusal is why a policy refuses, in words for people.
type Refusal struct {
	Peer mesh.PeerID // empty where it does not matter
	Addr netip.Addr  // invalid where it does not matter
	Rule string      // what refuses
	// Source is the layer that it stands in; empty for what no layer may allow.
	Source string
}

// Error is the rule and its place, without peer and address.
func (r *Refusal) Error() string {
	if r.Source == "" {
		return r.Rule
	}
	return r.Rule + " (" + r.Source + ")"
}

// Policy is rules in force. It is a [Gater]; its methods may be called from
// any goroutine.
type Policy struct {
	layers  []Rules
	country CountryOf

	mu    sync.RWMutex
	known map[netip.Addr]verdict // about addresses by themselves, plain
}

// verdict is the rule that refuses and its layer; no rule: nothing does.
type verdict struct{ rule, source string }

var _ Gater = (*Policy)(nil)

// maxVerdicts bounds what a policy remembers: each verdict is asked for with
// each packet of QUIC's, and a look into a database costs some µs.
const maxVerdicts = 4096

// NewPolicy checks rules and puts them in force. country may be nil where no
// rule is about countries.
func NewPolicy(country CountryOf, layers ...Rules) (*Policy, error) {
	for i := range layers {
		r := &layers[i]
		if country == nil && len(r.Allow.Countries)+len(r.Deny.Countries) > 0 {
			return nil, fmt.Errorf("%s: %w", r.Source, ErrNoCountries)
		}
		for _, p := range r.Allow.Ranges {
			if err := allowable(p); err != nil {
				return nil, fmt.Errorf("%s: %w", r.Source, err)
			}
		}
	}
	return &Policy{layers: slices.Clone(layers), country: country, known: make(map[netip.Addr]verdict)}, nil
}

// ErrNoCountries: a rule names a country, and nothing tells where an address
// is.
var ErrNoCountries = errors.New("a rule about a country needs a database of countries")

// Country is the country of an address, empty where it is not known.
func (p *Policy) Country(a netip.Addr) string {
	if p == nil || p.country == nil {
		return ""
	}
	places := destinations(plain(a))
	first := ""
	for i, place := range places {
		c, ok := p.country(place)
		if !ok || i > 0 && c != first {
			return ""
		}
		first = c
	}
	return first
}

// HidesIP tells whether a layer asks for it.
func (p *Policy) HidesIP() bool {
	return p != nil && slices.ContainsFunc(p.layers, func(r Rules) bool { return r.HideIP })
}

// Allow is [Gater]. The error is a *[Refusal].
func (p *Policy) Allow(id mesh.PeerID, remote netip.Addr, _ Direction) error {
	if r := p.allowWho(id); r != nil {
		return r
	}
	if r := p.allowWhere(plain(remote)); r != nil {
		r.Peer = id
		return r
	}
	return nil
}

// AllowPeer judges a peer alone, wherever it is.
func (p *Policy) AllowPeer(id mesh.PeerID) error {
	if r := p.allowWho(id); r != nil {
		return r
	}
	return nil
}

// AllowRelay judges a path through a relay at an address that packets would go
// to. What lies beyond it is not known, whoever it is.
func (p *Policy) AllowRelay(relay mesh.PeerID, at netip.Addr, ticketed bool) error {
	if err := p.Allow(relay, at, Outbound); err != nil {
		return err
	}
	for i := range p.layers {
		r := &p.layers[i]
		rule := r.Relays.allow(relay, ticketed)
		if r.BeyondDenied {
			rule = `beyond = "deny", and what lies beyond a relay is not known`
		}
		if rule != "" {
			return &Refusal{Peer: relay, Addr: at, Rule: rule, Source: r.Source}
		}
	}
	return nil
}

// AllowLink judges a LAN, all of whose machines get what is sent to its group:
// every address of it must be allowed. It refuses rather too often: a range
// that several rules allow together is refused.
func (p *Policy) AllowLink(link netip.Prefix) error {
	link = link.Masked()
	for i := range p.layers {
		r := &p.layers[i]
		refuse := func(rule string) error {
			return &Refusal{Addr: link.Addr(), Rule: rule, Source: r.Source}
		}
		for _, d := range r.Deny.Ranges {
			if d.Overlaps(link) {
				return refuse(ruleText("deny", d.String()))
			}
		}
		homely := slices.ContainsFunc(r.NoCountry, holding(link))
		if len(r.Deny.Countries) > 0 && !homely {
			return refuse(unknownCountry)
		}
		ruled := len(r.Allow.Ranges)+len(r.Allow.Countries) > 0
		if ruled && !slices.ContainsFunc(r.Allow.Ranges, holding(link)) && (!homely || len(r.Allow.Countries) == 0) {
			return refuse("allow does not name all of it")
		}
	}
	return nil
}

// holding tells whether a range holds all of p.
func holding(p netip.Prefix) func(netip.Prefix) bool {
	return func(r netip.Prefix) bool { return r.Bits() <= p.Bits() && r.Contains(p.Addr()) }
}

func (p *Policy) allowWho(id mesh.PeerID) *Refusal {
	if id == "" {
		return nil // not known yet: it is asked again
	}
	for i := range p.layers {
		r := &p.layers[i]
		switch {
		case slices.Contains(r.Deny.Peers, id):
			return &Refusal{Peer: id, Rule: "deny names this peer", Source: r.Source}
		case len(r.Allow.Peers) > 0 && !slices.Contains(r.Allow.Peers, id):
			return &Refusal{Peer: id, Rule: "allow names other peers", Source: r.Source}
		}
	}
	return nil
}

// allowWhere judges a plain address, and remembers what it found.
func (p *Policy) allowWhere(a netip.Addr) *Refusal {
	p.mu.RLock()
	v, found := p.known[a]
	p.mu.RUnlock()
	if !found {
		v = p.judge(a)
		p.mu.Lock()
		if len(p.known) >= maxVerdicts {
			clear(p.known)
		}
		p.known[a] = v
		p.mu.Unlock()
	}
	if v.rule == "" {
		return nil
	}
	return &Refusal{Addr: a, Rule: v.rule, Source: v.source}
}

// judge finds the rule that refuses a plain address.
func (p *Policy) judge(a netip.Addr) verdict {
	if noHost(a) {
		return verdict{rule: noMachine}
	}
	places := destinations(a)
	for i := range p.layers {
		r := &p.layers[i]
		if rule := r.denies(a); rule != "" {
			return verdict{rule, r.Source}
		}
		for _, place := range places {
			if noHost(place) {
				return verdict{rule: noMachine}
			}
			if rule := p.judgePlace(r, place); rule != "" {
				return verdict{rule, r.Source}
			}
		}
	}
	return verdict{}
}

const (
	noMachine      = "this is no address of a machine"
	unknownCountry = "the country is not known, and there are rules about countries"
)

// judgePlace judges one place where packets may end.
func (p *Policy) judgePlace(r *Rules, place netip.Addr) string {
	if rule := r.denies(place); rule != "" {
		return rule
	}
	country, known := "", false
	homely := inAny(r.NoCountry, place)
	if !homely && len(r.Deny.Countries)+len(r.Allow.Countries) > 0 {
		country, known = p.country(place)
	}
	if len(r.Deny.Countries) > 0 && !homely {
		switch {
		case !known:
			return unknownCountry
		case slices.Contains(r.Deny.Countries, country):
			return ruleText("deny", country)
		}
	}
	switch {
	case len(r.Allow.Ranges)+len(r.Allow.Countries) == 0, inAny(r.Allow.Ranges, place):
		return ""
	case len(r.Allow.Countries) == 0:
		return "allow names other addresses"
	case homely || known && slices.Contains(r.Allow.Countries, country):
		return ""
	case !known:
		return unknownCountry
	}
	return "allow names other countries than " + country
}

func (r *Rules) denies(a netip.Addr) string {
	for _, d := range r.Deny.Ranges {
		if d.Contains(a) {
			return ruleText("deny", rangeText(d))
		}
	}
	return ""
}

func inAny(ranges []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(a) })
}

func ruleText(list, rule string) string { return list + ` "` + rule + `"` }

// rangeText is p as people write it: one address without its length.
func rangeText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// Gater is p, or nil where it has no rule at all: no packet need be held
// against it.
func (p *Policy) Gater() Gater {
	if p == nil || !slices.ContainsFunc(p.layers, Rules.judges) {
		return nil
	}
	return p
}

func (s *Selection) any() bool { return len(s.Peers)+len(s.Ranges)+len(s.Countries) > 0 }

// judges tells whether there is any rule.
func (r Rules) judges() bool {
	return r.Allow.any() || r.Deny.any() || r.Relays.Mode != RelaysTicketed || r.BeyondDenied
}
