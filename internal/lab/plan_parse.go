package lab

import (
	"embed"
	"fmt"
	"io/fs"
	"math"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed topologies/*.topology
var examples embed.FS

const planSuffix = ".topology"

// Topologies are the names of the plans that come with the lab.
func Topologies() (names []string) {
	files, _ := fs.Glob(examples, "topologies/*"+planSuffix) // the pattern is sound
	for _, f := range files {
		names = append(names, strings.TrimSuffix(strings.TrimPrefix(f, "topologies/"), planSuffix))
	}
	return names
}

// LoadPlan reads a plan that comes with the lab, by its name, or that of a
// file.
func LoadPlan(name string) (*Plan, error) {
	if slices.Contains(Topologies(), name) {
		text, err := examples.ReadFile("topologies/" + name + planSuffix)
		if err != nil {
			return nil, err
		}
		return ParsePlan(name, string(text))
	}
	if info, err := os.Stat(name); err == nil && info.Size() > maxPlan {
		return nil, fmt.Errorf("%s: a topology has at most %d bytes", name, maxPlan)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read a topology: %w (those that come with the lab are %s)", err, strings.Join(Topologies(), ", "))
	}
	return ParsePlan(name, string(text))
}

// ParsePlan reads the text of a plan. Errors begin with name and the line.
func ParsePlan(name, text string) (*Plan, error) {
	if len(text) > maxPlan {
		return nil, fmt.Errorf("%s: a topology has at most %d bytes", name, maxPlan)
	}
	p := planParser{plan: &Plan{Seed: 1}, used: map[string]bool{"core": true}}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line, _, _ = strings.Cut(line, "#")
		p.words = strings.Fields(line)
		if len(p.words) == 0 {
			continue
		}
		if err := p.statement(); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, number, err)
		}
	}
	if len(p.plan.Sites) == 0 {
		return nil, fmt.Errorf("%s: there is no host in it", name)
	}
	return p.plan, nil
}

// planParser reads one statement after the other.
type planParser struct {
	plan   *Plan
	words  []string // of the line that are not read yet
	used   map[string]bool
	seeded bool
}

// next is the next word of the line; what says what is missing if there is
// none.
func (p *planParser) next(what string) (string, error) {
	if len(p.words) == 0 {
		return "", fmt.Errorf("%s is missing at the end of the line", what)
	}
	word := p.words[0]
	p.words = p.words[1:]
	return word, nil
}

// accept takes the next word if it is this one.
func (p *planParser) accept(word string) bool {
	if len(p.words) == 0 || p.words[0] != word {
		return false
	}
	p.words = p.words[1:]
	return true
}

func (p *planParser) statement() (err error) {
	word, err := p.next("a statement")
	if err != nil {
		return err
	}
	switch word {
	case "seed":
		err = p.seed()
	case "public":
		err = p.site(false)
	case "home":
		err = p.site(true)
	case "host":
		err = p.host()
	default:
		return fmt.Errorf("%q is none of seed, public, home, host", word)
	}
	if err == nil && len(p.words) > 0 {
		err = fmt.Errorf("%q is not expected here", p.words[0])
	}
	return err
}

func (p *planParser) seed() error {
	word, err := p.next("the seed")
	if err != nil {
		return err
	}
	if p.seeded || len(p.plan.Sites) > 0 {
		return fmt.Errorf("the seed is said once, before all hosts")
	}
	p.seeded = true
	p.plan.Seed, err = strconv.ParseUint(word, 10, 64)
	if err != nil {
		return fmt.Errorf("a seed is a whole number, not %q", word)
	}
	return nil
}

// name reads a name that nobody has yet.
func (p *planParser) name() (string, error) {
	name, err := p.next("a name")
	switch {
	case err != nil:
		return "", err
	case !goodName(name):
		return "", fmt.Errorf("%q is no name: up to 15 lower-case letters, digits and hyphens, a letter first", name)
	case p.used[name]:
		return "", fmt.Errorf("the name %s is taken", name)
	case len(p.used) > maxPlanHosts:
		return "", fmt.Errorf("a topology has at most %d hosts and homes", maxPlanHosts)
	}
	p.used[name] = true
	return name, nil
}

func goodName(name string) bool {
	for i, c := range name {
		letter := c >= 'a' && c <= 'z'
		if !letter && (i == 0 || (c < '0' || c > '9') && c != '-') {
			return false
		}
	}
	return name != "" && len(name) <= 15
}

func (p *planParser) host() error {
	name, err := p.name()
	if err != nil {
		return err
	}
	if !p.accept("in") {
		return fmt.Errorf("host NAME in HOME: in is missing; a host with an address of its own is public NAME")
	}
	home, err := p.next("the home's name")
	if err != nil {
		return err
	}
	for i := range p.plan.Sites {
		s := &p.plan.Sites[i]
		if s.Name == home && s.NAT != "" {
			s.Hosts = append(s.Hosts, name)
			return nil
		}
	}
	return fmt.Errorf("there is no home %q above", home)
}

// site reads a public host, or a home.
func (p *planParser) site(home bool) (err error) {
	var s Site
	if s.Name, err = p.name(); err != nil {
		return err
	}
	if home {
		s.LAN = usualLAN
	}
	said := make(map[string]bool)
	for len(p.words) > 0 {
		word, _ := p.next("")
		if said[word] {
			return fmt.Errorf("%s is said twice", word)
		}
		said[word] = true
		if err := p.attribute(&s, word, home); err != nil {
			return err
		}
	}
	switch {
	case home && s.NAT == "":
		return fmt.Errorf("home %s: nat KIND is missing", s.Name)
	case s.Hairpin && s.NAT != FullCone:
		return fmt.Errorf("home %s: hairpin goes with nat %s alone", s.Name, FullCone)
	case s.IPv6 == ULA && !home:
		return fmt.Errorf("public %s: ipv6 ula is for homes", s.Name)
	}
	p.plan.Sites = append(p.plan.Sites, s)
	return nil
}

// attribute reads what follows a word of a site.
func (p *planParser) attribute(s *Site, word string, home bool) (err error) {
	switch word {
	case "nat", "lan", "hairpin":
		if !home {
			return fmt.Errorf("%s is for homes", word)
		}
	}
	switch word {
	case "nat":
		return p.nat(s)
	case "lan":
		return p.lan(s)
	case "hairpin":
		s.Hairpin = true
		return nil
	case "delay":
		s.Link.Delay, err = p.duration(word, 0, maxDelay)
		return err
	case "jitter":
		s.Link.Jitter, err = p.duration(word, 0, maxJitter)
		s.Link.InOrder = p.accept("in-order") && s.Link.Jitter > 0
		return err
	case "burst":
		return p.burst(s)
	case "loss":
		return p.loss(s)
	case "ipv6":
		return p.ipv6(s)
	}
	return fmt.Errorf("%q is not known of a site", word)
}

func (p *planParser) nat(s *Site) error {
	word, err := p.next("the kind of nat")
	if err != nil {
		return err
	}
	if !slices.Contains(NATKinds(), NATKind(word)) {
		return fmt.Errorf("nat %q is none of %v", word, NATKinds())
	}
	s.NAT = NATKind(word)
	return nil
}

func (p *planParser) lan(s *Site) error {
	word, err := p.next("the network of the lan")
	if err != nil {
		return err
	}
	s.LAN, err = netip.ParsePrefix(word)
	if err != nil || !s.LAN.Addr().Is4() || !s.LAN.Addr().IsPrivate() || s.LAN.Bits() != 24 || s.LAN != s.LAN.Masked() {
		return fmt.Errorf("lan is a private /24 as 192.168.7.0/24, not %q", word)
	}
	return nil
}

func (p *planParser) duration(what string, least, most time.Duration) (time.Duration, error) {
	word, err := p.next(what)
	if err != nil {
		return 0, err
	}
	d, err := time.ParseDuration(word)
	if err != nil || d < least || d > most {
		return 0, fmt.Errorf("%s is %v to %v, as 20ms, not %q", what, least, most, word)
	}
	return d, nil
}

func (p *planParser) burst(s *Site) (err error) {
	if s.Link.Burst, err = p.duration("burst", time.Millisecond, maxBurst); err != nil {
		return err
	}
	if !p.accept("every") {
		return fmt.Errorf("burst D every D: every is missing")
	}
	if s.Link.Every, err = p.duration("every", time.Millisecond, maxEvery); err != nil {
		return err
	}
	if s.Link.Every < 2*s.Link.Burst {
		return fmt.Errorf("a burst of %v is at most every %v", s.Link.Burst, 2*s.Link.Burst)
	}
	return nil
}

func (p *planParser) loss(s *Site) error {
	word, err := p.next("the loss")
	if err != nil {
		return err
	}
	number, percent := strings.CutSuffix(word, "%")
	v, err := strconv.ParseFloat(number, 64)
	tenths := math.Round(v * 10)
	if !percent || err != nil || !(v >= 0 && v <= 100) || math.Abs(v*10-tenths) > 1e-9 {
		return fmt.Errorf("loss is 0%% to 100%% in tenths, as 0.5%%, not %q", word)
	}
	s.Loss = int(tenths)
	return nil
}

func (p *planParser) ipv6(s *Site) error {
	word, err := p.next("the kind of ipv6")
	if err != nil {
		return err
	}
	if s.IPv6 = IPv6Kind(word); s.IPv6 != PublicIPv6 && s.IPv6 != ULA {
		return fmt.Errorf("ipv6 is %s or %s, not %q", PublicIPv6, ULA, word)
	}
	return nil
}
