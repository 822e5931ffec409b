// A connection of Multipath TCP takes in other addresses by itself, which no
// policy would be asked about, and tells the other side all addresses of this
// machine.
//
//go:debug multipathtcp=0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"teahouse/internal/home"
	"teahouse/internal/mesh"
	"teahouse/node"
)

// policyFlags say whom this node exchanges packets with, in the words of
// policy.toml. They can narrow what the file allows, and never widen it.
type policyFlags struct {
	Allow     []string `placeholder:"RULE" sep:"none" help:"Exchange packets with these alone: a peer id, an address or a range such as 192.0.2.0/24, or a country such as DE; may be repeated. policy.toml beside the settings knows the same rules, and must allow them too."`
	Deny      []string `placeholder:"RULE" sep:"none" help:"Never exchange packets with these: RULE as for --allow, over which it wins; may be repeated."`
	NoCountry []string `placeholder:"RANGE" sep:"none" help:"Addresses that have no country, such as 192.168.0.0/16: rules about countries do not apply to them, and refuse all others whose country is not known; may be repeated."`
	CountryDB string   `name:"country-db" placeholder:"FILE" help:"Database of countries (MMDB), needed for rules about them; shows the country of each link, too."`
	Relays    string   `placeholder:"WHICH" help:"Relays that packets may go through: none, ticketed (those with a ticket of the network; the default) or peer ids with commas between them."`
	Beyond    string   `placeholder:"allow|deny" help:"deny: refuse paths on which a third node passes packets on, because what lies beyond it is not known."`
	HideIP    bool     `name:"hide-ip" help:"Reach others through relays alone. Not supported yet: refused."`
}

// The flags of policyFlags, which mean nothing to a node that runs already.
var policyFlagNames = []string{"allow", "deny", "no-country", "country-db", "relays", "beyond", "hide-ip"}

// policyName is the file's name in the config directory. Nothing but a person
// ever writes it.
const policyName = "policy.toml"

// maxPolicy bounds policy.toml, maxRules what stands in it.
const (
	maxPolicy = 64 << 10
	maxRules  = 2048
)

// policyFile is policy.toml. No key is ignored: a rule that is misspelt would
// not hold, and nobody would notice.
type policyFile struct {
	Allow     []ruleText  `toml:"allow"`
	Deny      []ruleText  `toml:"deny"`
	NoCountry []rangeText `toml:"no_country"`
	CountryDB string      `toml:"country_db"`
	Relays    any         `toml:"relays"` // a word, or a list of peer ids
	Beyond    beyondText  `toml:"beyond"`
	HideIP    bool        `toml:"hide_ip"`
}

// ruleText, rangeText and beyondText are checked where they are read, so that
// the error names the line. (go-toml asks structs, and not strings.)
type (
	ruleText   struct{ text string }
	rangeText  struct{ text string }
	beyondText struct{ text string }
)

// UnmarshalText checks a rule.
func (r *ruleText) UnmarshalText(b []byte) error {
	r.text = string(b)
	return addRule(&node.Selection{}, string(b))
}

// UnmarshalText checks a range.
func (r *rangeText) UnmarshalText(b []byte) error {
	r.text = string(b)
	_, err := node.ParseRange(string(b))
	return err
}

// UnmarshalText checks a word.
func (w *beyondText) UnmarshalText(b []byte) error {
	w.text = string(b)
	_, err := beyondDenied(string(b))
	return err
}

func beyondDenied(word string) (bool, error) {
	switch word {
	case "", "allow":
		return false, nil
	case "deny":
		return true, nil
	}
	return false, fmt.Errorf("%.40q is neither allow nor deny", word)
}

var errHideIP = errors.New("hide_ip is not supported yet, and half of it would give your address away")

// addRule reads a rule of allow or deny: a peer id, an address, a range or a
// country.
func addRule(s *node.Selection, rule string) error {
	if len(rule) > 50 { // peer ids of Ed25519 keys have 52 letters, and ranges at most 43
		if id, err := parsePeerText(rule); err == nil {
			if !slices.Contains(s.Peers, id) {
				s.Peers = append(s.Peers, id)
			}
			return nil
		}
	}
	if strings.HasPrefix(rule, "/") || strings.HasPrefix(rule, "12D3") || len(rule) > 50 {
		return fmt.Errorf("%.80q is no rule: give a peer id, an address, a range such as 192.0.2.0/24, or a country such as DE", rule)
	}
	return s.Add(rule)
}

// readPolicy reads policy.toml. A file that is not there is a policy that
// allows all; one that is there and does not read is an error, whatever the
// reason: nothing starts without the rules that somebody has written.
func readPolicy(d home.Dirs) (rules node.Rules, countryDB string, err error) {
	path := filepath.Join(d.Config, policyName)
	rules.Source = policyName
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return rules, "", nil
	}
	data, err := readAtMost(path, maxPolicy)
	if err == nil {
		rules, countryDB, err = parsePolicy(data)
	}
	if err != nil {
		return node.Rules{}, "", wrap(err, exitOther, "policy", "%s, %v; mend it, or move the file away to go without its rules: nothing was sent, and the file is left as it is", path, err)
	}
	if countryDB != "" && !filepath.IsAbs(countryDB) {
		countryDB = filepath.Join(d.Config, countryDB)
	}
	return rules, countryDB, nil
}

// readAtMost reads a regular file of at most so many bytes.
func readAtMost(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path) // a device or a pipe would be waited for
	switch {
	case err != nil:
		return nil, fmt.Errorf("which cannot be read: %w", err)
	case !info.Mode().IsRegular():
		return nil, errors.New("which is no file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("which cannot be read: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("which cannot be read: %w", err)
	case int64(len(data)) > most:
		return nil, fmt.Errorf("which is longer than %d bytes", most)
	}
	return data, nil
}

// parsePolicy reads the text of policy.toml. Errors begin with the line.
func parsePolicy(data []byte) (node.Rules, string, error) {
	rules := node.Rules{Source: policyName}
	if len(data) == 0 { // what a power cut leaves of a file that was being written
		return rules, "", errors.New("which is empty")
	}
	var f policyFile
	if err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(&f); err != nil {
		return rules, "", tomlError(err)
	}
	var err error
	if rules.Relays, err = relaysOf(f.Relays); err != nil {
		return rules, "", fmt.Errorf("line %d: relays: %w", lineOf(data, "relays"), err)
	}
	if f.HideIP {
		return rules, "", fmt.Errorf("line %d: %w", lineOf(data, "hide_ip"), errHideIP)
	}
	texts := func(list []ruleText) (out []string) {
		for _, r := range list {
			out = append(out, r.text)
		}
		return out
	}
	var ranges []string
	for _, r := range f.NoCountry {
		ranges = append(ranges, r.text)
	}
	if err := fill(&rules, texts(f.Allow), texts(f.Deny), ranges, f.Beyond.text); err != nil {
		return rules, "", fmt.Errorf("which has a rule that cannot be kept: %w", err)
	}
	return rules, f.CountryDB, nil
}

// fill puts checked words into rules.
func fill(rules *node.Rules, allow, deny, noCountry []string, beyond string) (err error) {
	if n := len(allow) + len(deny) + len(noCountry); n > maxRules {
		return fmt.Errorf("%d rules are too many, there may be %d", n, maxRules)
	}
	for _, list := range []struct {
		name  string
		rules []string
		into  *node.Selection
	}{{"allow", allow, &rules.Allow}, {"deny", deny, &rules.Deny}} {
		for _, rule := range list.rules {
			if err := addRule(list.into, rule); err != nil {
				return fmt.Errorf("%s: %w", list.name, err)
			}
		}
	}
	for _, text := range noCountry {
		var p netip.Prefix
		if p, err = node.ParseRange(text); err != nil {
			return fmt.Errorf("no-country: %w", err)
		}
		rules.NoCountry = append(rules.NoCountry, p)
	}
	if rules.BeyondDenied, err = beyondDenied(beyond); err != nil {
		return fmt.Errorf("beyond: %w", err)
	}
	return nil
}

// relaysOf reads the value of relays: a word, a list of peer ids, or, as on the
// command line, peer ids with commas between them.
func relaysOf(value any) (r node.Relays, err error) {
	var list []any
	switch v := value.(type) {
	case nil:
		return r, nil
	case []any:
		list = v
	case string:
		switch v {
		case "ticketed", "":
			return r, nil
		case "none":
			return node.Relays{Mode: node.RelaysNone}, nil
		}
		for id := range strings.SplitSeq(v, ",") {
			list = append(list, id)
		}
	}
	r.Mode = node.RelaysListed
	for _, item := range list {
		text, _ := item.(string)
		id, err := parsePeerText(text)
		if err != nil || len(r.Peers) >= maxRules {
			return r, fmt.Errorf("%.80q is neither none, ticketed nor a peer id", fmt.Sprint(item))
		}
		r.Peers = append(r.Peers, mesh.PeerID(id))
	}
	if len(r.Peers) == 0 {
		return r, errors.New(`the list is empty: write relays = "none"`)
	}
	return r, nil
}

// tomlError is what go-toml has to say, in one line that begins with where.
func tomlError(err error) error {
	var missing *toml.StrictMissingError
	var decode *toml.DecodeError
	switch {
	case errors.As(err, &missing) && len(missing.Errors) > 0:
		first := missing.Errors[0]
		line, _ := first.Position()
		return fmt.Errorf("line %d: no such setting: %.40q; there are allow, deny, no_country, country_db, relays, beyond and hide_ip", line, strings.Join(first.Key(), "."))
	case errors.As(err, &decode):
		line, _ := decode.Position()
		text := strings.TrimPrefix(oneLine(decode.Error()), "toml: ")
		if strings.Contains(text, "cannot decode") || strings.Contains(text, "cannot store") { // it goes on about types of Go
			text = fmt.Sprintf("%.40s has a value of the wrong kind: allow, deny and no_country are lists of texts, country_db and beyond texts, hide_ip is true or false", strings.Join(decode.Key(), "."))
		}
		return fmt.Errorf("line %d: %s", line, text)
	}
	return fmt.Errorf("which does not read: %s", strings.TrimPrefix(oneLine(err.Error()), "toml: "))
}

// oneLine keeps what others say from breaking a sentence.
func oneLine(s string) string { return strings.Join(strings.Fields(plain(s)), " ") }

// lineOf is the line on which a key is set, 1 if it is not to be found.
func lineOf(data []byte, key string) int {
	for i, line := range strings.Split(string(data), "\n") {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), key); ok && strings.HasPrefix(strings.TrimSpace(rest), "=") {
			return i + 1
		}
	}
	return 1
}

// rules are the flags' layer.
func (f *policyFlags) rules() (node.Rules, error) {
	rules := node.Rules{Source: "the command line"}
	if f.HideIP {
		return rules, usage("--hide-ip: %v", errHideIP)
	}
	var err error
	if rules.Relays, err = relaysOf(f.Relays); err != nil {
		return rules, usage("--relays: %v", err)
	}
	if err := fill(&rules, f.Allow, f.Deny, f.NoCountry, f.Beyond); err != nil {
		return rules, usage("--%v", err)
	}
	return rules, nil
}

// loadPolicy is the policy of a home and a command line, and of more layers if
// there are any. It reads and touches nothing else.
func loadPolicy(d home.Dirs, f *policyFlags, more ...node.Rules) (*node.Policy, error) {
	file, db, err := readPolicy(d)
	if err != nil {
		return nil, err
	}
	flags, err := f.rules()
	if err != nil {
		return nil, err
	}
	place := `"country_db" in ` + filepath.Join(d.Config, policyName)
	if f.CountryDB != "" {
		db, place = f.CountryDB, "--country-db"
	}
	country, err := openCountries(db)
	if err != nil {
		return nil, wrap(err, exitOther, "policy", "%s: %v: get the database again, or leave it and the rules about countries out", place, err)
	}
	p, err := node.NewPolicy(country, append([]node.Rules{file, flags}, more...)...)
	if errors.Is(err, node.ErrNoCountries) {
		return nil, wrap(err, exitOther, "policy", `%v: name one with --country-db FILE.mmdb or country_db = "FILE.mmdb" in %s`, err, filepath.Join(d.Config, policyName))
	}
	if err != nil {
		return nil, wrap(err, exitOther, "policy", "%v", err)
	}
	return p, nil
}

// allowed are the addresses to start from that the policy allows. If there were
// some and it allows none, nobody is left.
func (h *house) allowed(peers []string) ([]string, error) {
	var out []string
	var last error
	for _, p := range peers {
		id, at := peerAt(p)
		if err := h.policy.Allow(id, at, node.Outbound); err != nil {
			last = fmt.Errorf("%s: %w", p, err)
			continue
		}
		out = append(out, p)
	}
	switch {
	case last == nil:
	case len(out) == 0 && len(peers) == 1:
		return nil, fail(exitRefused, "policy", "policy refuses the only address to start from, %v: change the rule, or name another with --peer", last)
	case len(out) == 0:
		return nil, fail(exitRefused, "policy", "policy refuses all %d addresses to start from, the last of them %v: change the rules, or name others with --peer", len(peers), last)
	default:
		h.hub.publish(newError(fail(exitRefused, "policy", "policy refuses %d of %d addresses to start from, the last of them %v: going on without", len(peers)-len(out), len(peers), last), ""))
	}
	return out, nil
}

// peerAt is whom a multiaddr that checkPeer has taken names, and where.
func peerAt(addr string) (mesh.PeerID, netip.Addr) {
	bare, text, _ := strings.Cut(addr, "/p2p/")
	id, _ := parsePeerText(text)
	parts := strings.Split(bare, "/")
	if len(parts) < 3 {
		return id, netip.Addr{}
	}
	at, _ := netip.ParseAddr(parts[2])
	return id, at
}

// refused tells that the policy keeps us from somebody. It is called by the
// node, from any goroutine.
func (h *house) refused(peer mesh.PeerID, why error) {
	at := ""
	if r := (*node.Refusal)(nil); errors.As(why, &r) && r.Addr.IsValid() {
		at = " at " + r.Addr.String()
	}
	h.hub.publish(newError(fail(exitRefused, "policy", "policy refuses the way to %s%s, %v: you do not hear each other", peerText(peer), at, why), ""))
}

// country is that of the address of a link, as it is shown; empty where it is
// not known.
func (h *house) country(remote string) string {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return ""
	}
	return h.policy.Country(at.Addr())
}
