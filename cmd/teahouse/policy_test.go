package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"teahouse/internal/home"
	"teahouse/internal/lab"
	"teahouse/internal/mesh"
	"teahouse/node"
)

// policyHome is a home whose policy.toml has this text.
func policyHome(t testing.TB, text string) home.Dirs {
	t.Helper()
	d := home.Dirs{Config: t.TempDir()}
	if err := os.WriteFile(filepath.Join(d.Config, policyName), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestPolicyFile(t *testing.T) {
	relay, err := parsePeerText(somePeer)
	if err != nil {
		t.Fatal(err)
	}
	rules, db, err := parsePolicy([]byte(`# who
allow = ["44.0.0.0/8", "` + somePeer + `", "de"] # and not these
deny = [
  "44.2.0.0/16",
  "::1",
]
no_country = ["10.0.0.0/8"]
country_db = "c.mmdb"
relays = ["` + somePeer + `"]
beyond = "deny"
hide_ip = false
`))
	if err != nil || db != "c.mmdb" || rules.Source != "policy.toml" || !rules.BeyondDenied || rules.HideIP {
		t.Fatalf("%+v, %q, %v", rules, db, err)
	}
	if a, d := rules.Allow, rules.Deny; len(a.Ranges) != 1 || len(a.Peers) != 1 || a.Peers[0] != relay || len(a.Countries) != 1 || a.Countries[0] != "DE" ||
		len(d.Ranges) != 2 || len(d.Peers)+len(d.Countries) != 0 || len(rules.NoCountry) != 1 {
		t.Errorf("%+v", rules)
	}
	if rules.Relays.Mode != node.RelaysListed || len(rules.Relays.Peers) != 1 || rules.Relays.Peers[0] != relay {
		t.Errorf("relays %+v", rules.Relays)
	}
	for text, want := range map[string]node.RelayMode{"beyond = \"allow\"": node.RelaysTicketed, "relays = 'none'": node.RelaysNone, "relays = \"ticketed\"": node.RelaysTicketed, "# nothing": node.RelaysTicketed} {
		if rules, _, err := parsePolicy([]byte(text)); err != nil || rules.Relays.Mode != want || rules.BeyondDenied {
			t.Errorf("%s: %+v, %v", text, rules, err)
		}
	}
}

// A file that does not read as it must is refused by its line, and left alone.
func TestPolicyFileRefused(t *testing.T) {
	for text, says := range map[string]string{
		"":                                   "which is empty",
		"\x00\x00\x00\x00":                   "line 1:",
		"\ndney = [\"1.2.3.4\"]":             `line 2: no such setting: "dney"`,
		"deny = [\"1.2.3.4\"]\n[allow]\n":    "allow",
		"deny = [\n\"1.2.3.4\",\n\"1.2.3\"]": "line 3: \"1.2.3\" is neither",
		"\n\ndeny = \"1.2.3.4\"":             "line 3: deny has a value of the wrong kind",
		"deny = [\"1.2.3.4\"":                "line 1:",
		"deny = []\ndeny = []":               "line 2:",
		"deny = [\"UK\"]":                    "line 1: \"UK\" is no country",
		"deny = [\"12D3KooWnotApeer\"]":      "line 1:",
		"deny = [\"/ip4/1.2.3.4/tcp/1\"]":    "line 1:",
		"# x\nno_country = [\"home\"]":       "line 2:",
		"# x\nbeyond = \"perhaps\"":          "line 2: \"perhaps\" is neither allow nor deny",
		"# x\nrelays = \"some\"":             "line 2: relays:",
		"# x\nrelays = []":                   "line 2: relays: the list is empty",
		"# x\nrelays = 7":                    "line 2: relays:",
		"# x\n\nhide_ip = true":              "line 3: hide_ip is not supported yet",
		"\xff\xfe":                           "line 1:",
		strings.Repeat("#", maxPolicy+1):     "longer than",
	} {
		d := policyHome(t, text)
		_, err := loadPolicy(d, &policyFlags{})
		f := explain(err)
		if f == nil || f.exit != exitOther || f.word != "policy" || !strings.Contains(f.sentence, says) || !strings.Contains(f.sentence, d.Config) || strings.Contains(f.sentence, "\n") {
			t.Errorf("%.40q: %v", text, err)
		}
		if left, err := os.ReadFile(filepath.Join(d.Config, policyName)); err != nil || string(left) != text {
			t.Errorf("%.40q: the file has become %.40q, %v", text, left, err)
		}
	}
	// Files of other kinds, and one that is there only by name.
	d := home.Dirs{Config: t.TempDir()}
	if _, err := loadPolicy(d, &policyFlags{}); err != nil {
		t.Errorf("no file: %v", err)
	}
	path := filepath.Join(d.Config, policyName)
	if err := os.Symlink(filepath.Join(d.Config, "elsewhere"), path); err != nil {
		t.Fatal(err)
	}
	if _, err := loadPolicy(d, &policyFlags{}); explain(err) == nil || explain(err).exit != exitOther {
		t.Errorf("a link to nowhere: %v", err)
	}
	if err := os.Mkdir(filepath.Join(d.Config, "elsewhere"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := loadPolicy(d, &policyFlags{}); explain(err) == nil || !strings.Contains(err.Error(), "no file") {
		t.Errorf("a directory: %v", err)
	}
}

func TestPolicyFlagsRefused(t *testing.T) {
	for _, c := range []struct {
		flags policyFlags
		says  string
	}{
		{policyFlags{Allow: []string{"x"}}, "--allow"},
		{policyFlags{Deny: []string{"1.2.3.4/8"}}, "did you mean"},
		{policyFlags{NoCountry: []string{"DE"}}, "--no-country"},
		{policyFlags{Relays: "none,some"}, "--relays"},
		{policyFlags{Beyond: "x"}, "--beyond"},
		{policyFlags{HideIP: true}, "not supported yet"},
	} {
		_, err := loadPolicy(home.Dirs{Config: t.TempDir()}, &c.flags)
		if f := explain(err); f == nil || f.exit != exitUsage || !strings.Contains(f.sentence, c.says) {
			t.Errorf("%+v: %v", c.flags, err)
		}
	}
	_, err := loadPolicy(home.Dirs{Config: t.TempDir()}, &policyFlags{Deny: []string{"DE"}})
	if f := explain(err); f == nil || f.exit != exitOther || !strings.Contains(f.sentence, "--country-db") {
		t.Errorf("a country without a database: %v", err)
	}
}

// The command line narrows what the file allows, and never widens it.
func TestFlagsNarrowTheFile(t *testing.T) {
	d := policyHome(t, "allow = [\"44.1.0.0/16\"]\n")
	p, err := loadPolicy(d, &policyFlags{Allow: []string{"44.0.0.0/8"}, Deny: []string{"44.1.9.0/24"}})
	if err != nil {
		t.Fatal(err)
	}
	for a, want := range map[string]string{
		"44.1.0.1": "", "44.1.9.1": "the command line", "44.2.0.1": "policy.toml",
	} {
		v := subject{at: netip.MustParseAddr(a)}.judge(p)
		if v.Source != want || (v.Verdict == "allowed") != (want == "") {
			t.Errorf("%s: %+v", a, v)
		}
	}
}

func TestCountries(t *testing.T) {
	db := filepath.Join(t.TempDir(), "c.mmdb")
	if err := lab.WriteCountries(db, map[netip.Prefix]string{
		netip.MustParsePrefix("44.1.0.0/16"): "DE", netip.MustParsePrefix("44.2.0.0/16"): "BR",
		netip.MustParsePrefix("2a02::/16"): "BR", netip.MustParsePrefix("44.3.3.3/32"): "FR",
	}); err != nil {
		t.Fatal(err)
	}
	p, err := loadPolicy(policyHome(t, "deny = [\"BR\"]\nno_country = [\"192.168.0.0/16\"]\ncountry_db = \""+db+"\"\n"), &policyFlags{})
	if err != nil {
		t.Fatal(err)
	}
	for a, want := range map[string]struct {
		country string
		allowed bool
	}{
		"44.1.2.3": {"DE", true}, "44.2.2.3": {"BR", false}, "44.3.3.3": {"FR", true}, "44.3.3.4": {"", false},
		"2a02::5": {"BR", false}, "2a03::5": {"", false}, "192.168.1.1": {"", true}, "127.0.0.1": {"", false},
		"64:ff9b::2c02:203": {"BR", false}, "64:ff9b::2c01:203": {"DE", true},
	} {
		v := subject{at: netip.MustParseAddr(a)}.judge(p)
		if v.Country != want.country || (v.Verdict == "allowed") != want.allowed {
			t.Errorf("%s: %+v", a, v)
		}
	}
	// A database that is damaged anywhere gives no country where there is none
	// to be read, and never a panic; one of another kind is refused.
	whole, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		broken := append([]byte(nil), whole...)
		broken[i] ^= 0x55
		path := filepath.Join(t.TempDir(), "broken")
		if err := os.WriteFile(path, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		country, err := openCountries(path)
		if err != nil {
			continue
		}
		for _, a := range []string{"44.1.2.3", "44.2.2.3", "2a02::5", "9.9.9.9"} {
			if c, ok := country(netip.MustParseAddr(a)); ok && len(c) != 2 {
				t.Errorf("byte %d: %s is in %q", i, a, c)
			}
		}
	}
}

func TestSubjects(t *testing.T) {
	p, err := loadPolicy(policyHome(t, "deny = [\"44.2.0.0/16\"]\nbeyond = \"deny\"\n"), &policyFlags{})
	if err != nil {
		t.Fatal(err)
	}
	const other = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp"
	for text, want := range map[string]string{
		"44.1.0.1": "allowed", "44.2.0.1": "refused", "::ffff:44.2.0.1": "refused", "44.2.0.1:7654": "refused", "[2a01::1]:1": "allowed",
		"0.0.0.0": "refused", somePeer: "allowed", "/ip4/44.2.0.1/tcp/1": "refused", "/ip4/44.1.0.1/udp/1/quic-v1/p2p/" + somePeer: "allowed",
		"/ip4/44.1.0.1/tcp/1/p2p/" + somePeer + "/p2p-circuit":              "refused",
		"/ip4/44.1.0.1/tcp/1/p2p/" + somePeer + "/p2p-circuit/p2p/" + other: "refused",
		"example.org": "", "/dns4/example.org/tcp/1": "", "44.1.0.0/16": "", "/ip4/44.1.0.1/tcp/1/p2p-circuit": "", "/ip4/44.1.0.1/tcp/1/p2p/x": "", "": "",
	} {
		s, err := parseSubject(text)
		if want == "" {
			if f := explain(err); f == nil || f.exit != exitUsage {
				t.Errorf("%s is taken for %+v", text, s)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if v := s.judge(p); v.Verdict != want || v.Message == "" || (want == "refused") != (v.Rule != "") {
			t.Errorf("%s: %+v", text, v)
		}
	}
}

// FuzzPolicyFile: whatever stands in the file, it is read as rules or refused
// in one line, and what is refused leaves no rules behind.
func FuzzPolicyFile(f *testing.F) {
	f.Add([]byte("deny = [\"44.2.0.0/16\"]\n"))
	f.Add([]byte("allow = [\"DE\"]\nrelays = [\"" + somePeer + "\"]\nbeyond = \"deny\""))
	f.Add([]byte("deny = [\n1"))
	f.Add([]byte("[deny]\npeers = [[[]]]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		rules, _, err := parsePolicy(text)
		if err != nil {
			if s := err.Error(); strings.ContainsAny(s, "\n\x00\x1b") || s == "" {
				t.Fatalf("%q", s)
			}
			return
		}
		for _, c := range append(append([]string{}, rules.Allow.Countries...), rules.Deny.Countries...) {
			if len(c) != 2 || strings.ToUpper(c) != c {
				t.Fatalf("country %q", c)
			}
		}
		for _, id := range append(append([]mesh.PeerID{}, rules.Allow.Peers...), rules.Deny.Peers...) {
			if _, ok := id.PublicKey(); !ok {
				t.Fatal("a peer without a key")
			}
		}
	})
}
