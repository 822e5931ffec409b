package node

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"teahouse/internal/mesh"
)

// layer is one made of words: "deny 10.0.0.0/8", "allow DE", "home
// 192.168.0.0/16".
func layer(t testing.TB, words ...string) Rules {
	t.Helper()
	r := Rules{Source: "the test"}
	for _, w := range words {
		what, rule, _ := strings.Cut(w, " ")
		var err error
		switch what {
		case "allow":
			err = r.Allow.Add(rule)
		case "deny":
			err = r.Deny.Add(rule)
		case "home":
			var p netip.Prefix
			p, err = ParseRange(rule)
			r.NoCountry = append(r.NoCountry, p)
		default:
			t.Fatalf("what is %q", w)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// atlas: 44.1.0.0/16 and 2a01::/16 are in Germany, 44.2.0.0/16 and 2a02::/16
// in Brazil.
func atlas(a netip.Addr) (string, bool) {
	for prefix, country := range map[string]string{"44.1.0.0/16": "DE", "2a01::/16": "DE", "44.2.0.0/16": "BR", "2a02::/16": "BR"} {
		if netip.MustParsePrefix(prefix).Contains(a) {
			return country, true
		}
	}
	return "", false
}

func TestPolicyOfAddresses(t *testing.T) {
	for name, c := range map[string]struct {
		rules   []string
		allowed string
		refused string
	}{
		"no rules":               {nil, "1.2.3.4 127.0.0.1 ::1 fe80::1%eth0 10.0.0.1 64:ff9b::a00:1", "0.0.0.0 :: 224.0.0.1 ff02::1 255.255.255.255 ::ffff:0.0.0.0"},
		"a range denied":         {[]string{"deny 44.2.0.0/16"}, "44.1.0.1 44.3.0.1 ::1 10.0.0.1", "44.2.0.1 44.2.255.255"},
		"one address denied":     {[]string{"deny 44.2.0.7", "deny 2a02::7"}, "44.2.0.8 2a02::8", "44.2.0.7 2a02::7"},
		"a range allowed":        {[]string{"allow 44.1.0.0/16"}, "44.1.0.1", "44.2.0.1 127.0.0.1 ::1 192.168.0.1 2a01::1 fe80::1"},
		"deny wins":              {[]string{"allow 44.0.0.0/8", "deny 44.2.0.0/16"}, "44.1.0.1", "44.2.0.1 45.0.0.1"},
		"the order is no matter": {[]string{"deny 44.2.0.0/16", "allow 44.2.0.0/24", "allow 44.0.0.0/8"}, "44.1.0.1", "44.2.0.1"},
		"loopback is no exempt":  {[]string{"deny 127.0.0.0/8", "deny ::1"}, "44.1.0.1", "127.0.0.1 ::1 ::ffff:127.0.0.1 0.0.0.0 :: ::127.0.0.1"},
		"a zone":                 {[]string{"deny fe80::/10"}, "44.1.0.1", "fe80::1 fe80::1%eth0 febf::1%2"},
		"a rule mapped":          {[]string{"deny ::ffff:44.2.0.0/112"}, "44.1.0.1 ::ffff:44.1.0.1", "44.2.0.1 ::ffff:44.2.0.1"},
		"IPv4 in other clothes": {
			[]string{"deny 44.2.0.0/16"},
			"::ffff:44.1.0.1 64:ff9b::2c01:1 2002:2c01:1:: ::ffff:0:2c01:1 2001:0:2c01:1::d3fe:fffe",
			"::ffff:44.2.0.1 64:ff9b::2c02:1 64:ff9b:1::2c02:1 64:ff9b:1:2c02:0:100:: 64:ff9b:1:2c:2:1:: 64:ff9b:1:0:2c:200:100:0 2002:2c02:1:: 2002:2c02:1::5 " +
				"::44.2.0.1 ::ffff:0:2c02:1 2001:0:2c02:1::d3fe:fffe 2001:0:2c01:1::d3fd:fffe",
		},
		"and allowed":          {[]string{"allow 44.1.0.0/16"}, "64:ff9b::2c01:1 2002:2c01:1::9", "64:ff9b::2c02:1 2001:0:2c01:1::d3fd:fffe"},
		"all of IPv6 allowed":  {[]string{"allow ::/0"}, "2a01::1 ::1", "44.1.0.1 64:ff9b::2c01:1 2002:2c01:1::"},
		"a translator denied":  {[]string{"deny 64:ff9b::/96"}, "44.1.0.1", "64:ff9b::2c01:1"},
		"all of IPv4 denied":   {[]string{"deny 0.0.0.0/0"}, "2a01::1", "44.1.0.1 ::ffff:44.1.0.1 64:ff9b::2c01:1 2002:2c01:1::"},
		"all of IPv6 denied":   {[]string{"deny ::/0"}, "44.1.0.1 ::ffff:44.1.0.1", "2a01::1 ::1 64:ff9b::2c01:1"},
		"a country denied":     {[]string{"deny BR"}, "44.1.0.1 2a01::1 64:ff9b::2c01:1", "44.2.0.1 2a02::1 64:ff9b::2c02:1 44.9.0.1 127.0.0.1 192.168.0.1 ::1"},
		"a country allowed":    {[]string{"allow DE"}, "44.1.0.1 2a01::1", "44.2.0.1 44.9.0.1 127.0.0.1"},
		"home has no country":  {[]string{"deny BR", "home 192.168.0.0/16"}, "44.1.0.1 192.168.0.1", "44.2.0.1 192.169.0.1 127.0.0.1"},
		"home, and a country":  {[]string{"allow de", "home 192.168.0.0/16"}, "44.1.0.1 192.168.0.1", "44.2.0.1 127.0.0.1"},
		"home is no licence":   {[]string{"deny 192.168.7.0/24", "allow DE", "home 192.168.0.0/16"}, "192.168.8.1", "192.168.7.1"},
		"home needs a country": {[]string{"allow 44.1.0.0/16", "home 192.168.0.0/16"}, "44.1.0.1", "192.168.0.1"},
		"a range or a country": {[]string{"allow DE", "allow 192.168.0.0/16"}, "44.1.0.1 192.168.0.1", "44.2.0.1 10.0.0.1"},
		"a range, not a state": {[]string{"deny BR", "allow 44.9.0.0/16"}, "", "44.9.0.1 44.2.0.1 44.1.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := NewPolicy(atlas, layer(t, c.rules...))
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // judged, then remembered
				for a := range strings.FieldsSeq(c.allowed) {
					if err := p.Allow("", netip.MustParseAddr(a), Outbound); err != nil {
						t.Errorf("%s: %v", a, err)
					}
				}
				for a := range strings.FieldsSeq(c.refused) {
					err := p.Allow("", netip.MustParseAddr(a), Inbound)
					if r := (*Refusal)(nil); !errors.As(err, &r) || r.Rule == "" {
						t.Errorf("%s: %v", a, err)
					}
				}
			}
		})
	}
}

func TestPolicySaysWhichRule(t *testing.T) {
	file, flags := layer(t, "deny 44.2.0.0/16", "deny BR", "deny 44.3.0.9"), layer(t, "allow 44.0.0.0/8", "allow 45.0.0.0/8")
	file.Source, flags.Source = "policy.toml", "the command line"
	file.Deny.Countries = nil
	p, err := NewPolicy(nil, file, flags)
	if err != nil {
		t.Fatal(err)
	}
	for a, want := range map[string]string{
		"44.1.0.1": "<nil>", "44.2.0.1": `deny "44.2.0.0/16" (policy.toml)`, "44.3.0.9": `deny "44.3.0.9" (policy.toml)`,
		"46.0.0.1": "allow names other addresses (the command line)", "0.0.0.0": noMachine,
	} {
		err := p.Allow("", netip.MustParseAddr(a), Outbound)
		if got := errorText(err); got != want {
			t.Errorf("%s: %s, want %s", a, got, want)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return "<nil>"
	}
	return err.Error()
}

func TestPolicyOfPeers(t *testing.T) {
	friend, foe, other := peerNumber(1), peerNumber(2), peerNumber(3)
	here := netip.MustParseAddr("44.1.0.1")
	deny, allow := layer(t, "deny 44.2.0.0/16"), layer(t, "allow 44.0.0.0/8")
	deny.Deny.Peers, allow.Allow.Peers = []mesh.PeerID{foe}, []mesh.PeerID{friend, foe}
	for name, c := range map[string]struct {
		layers  []Rules
		allowed map[mesh.PeerID]bool
	}{
		"denied":  {[]Rules{deny}, map[mesh.PeerID]bool{friend: true, foe: false, other: true}},
		"allowed": {[]Rules{allow}, map[mesh.PeerID]bool{friend: true, foe: true, other: false}},
		"both":    {[]Rules{allow, deny}, map[mesh.PeerID]bool{friend: true, foe: false, other: false}},
	} {
		p, err := NewPolicy(nil, c.layers...)
		if err != nil {
			t.Fatal(err)
		}
		for id, want := range c.allowed {
			if got := p.Allow(id, here, Outbound) == nil; got != want || (p.AllowPeer(id) == nil) != want {
				t.Errorf("%s: peer %v: %v", name, id, got)
			}
		}
		if p.Allow("", here, Inbound) != nil {
			t.Errorf("%s: who is not known yet is refused", name)
		}
	}
	p, err := NewPolicy(nil, deny)
	if err != nil {
		t.Fatal(err)
	}
	if p.Allow(friend, netip.MustParseAddr("44.2.0.1"), Outbound) == nil {
		t.Error("a friend is allowed wherever he is")
	}
}

// peerNumber is a peer id like no other.
func peerNumber(n byte) mesh.PeerID {
	key := make([]byte, 32)
	key[0] = n
	return mesh.PeerIDOf(key)
}

func TestPolicyOfRelays(t *testing.T) {
	relay, at := peerNumber(1), netip.MustParseAddr("44.1.0.1")
	for name, c := range map[string]struct {
		rules              Rules
		ticketed, stranger bool
	}{
		"by default":        {Rules{}, true, false},
		"none":              {Rules{Relays: Relays{Mode: RelaysNone}}, false, false},
		"listed":            {Rules{Relays: Relays{Mode: RelaysListed, Peers: []mesh.PeerID{relay}}}, true, true},
		"others listed":     {Rules{Relays: Relays{Mode: RelaysListed, Peers: []mesh.PeerID{peerNumber(2)}}}, false, false},
		"none listed":       {Rules{Relays: Relays{Mode: RelaysListed}}, false, false},
		"beyond denied":     {Rules{BeyondDenied: true}, false, false},
		"its address":       {layer(t, "deny 44.1.0.0/16"), false, false},
		"the relay himself": {Rules{Deny: Selection{Peers: []mesh.PeerID{relay}}}, false, false},
	} {
		p, err := NewPolicy(nil, Rules{}, c.rules)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.AllowRelay(relay, at, true) == nil; got != c.ticketed {
			t.Errorf("%s: with a ticket %v", name, got)
		}
		listed := c.rules.Relays.Mode == RelaysListed
		if got := p.AllowRelay(relay, at, false) == nil; got != c.stranger && !listed {
			t.Errorf("%s: without a ticket %v", name, got)
		}
	}
}

func TestPolicyOfLinks(t *testing.T) {
	for _, c := range []struct {
		rules []string
		link  string
		want  bool
	}{
		{nil, "10.77.0.5/16", true},
		{[]string{"deny 10.77.3.0/24"}, "10.77.0.5/16", false},
		{[]string{"deny 10.0.0.0/8"}, "10.77.0.5/16", false},
		{[]string{"deny 10.78.0.0/16"}, "10.77.0.5/16", true},
		{[]string{"allow 10.77.3.0/24"}, "10.77.3.5/16", false},
		{[]string{"allow 10.0.0.0/8"}, "10.77.0.5/16", true},
		{[]string{"allow 10.0.0.0/8"}, "fe80::/64", false},
		{[]string{"deny BR"}, "10.77.0.5/16", false},
		{[]string{"deny BR", "home 10.0.0.0/8"}, "10.77.0.5/16", true},
		{[]string{"allow DE"}, "10.77.0.5/16", false},
		{[]string{"allow DE", "home 10.0.0.0/8"}, "10.77.0.5/16", true},
		{[]string{"allow DE", "home 10.0.0.0/8", "deny 10.77.9.9"}, "10.77.0.5/16", false},
	} {
		p, err := NewPolicy(atlas, layer(t, c.rules...))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.AllowLink(netip.MustParsePrefix(c.link)); (err == nil) != c.want {
			t.Errorf("%v: %s: %v", c.rules, c.link, err)
		}
	}
}

func TestRulesRefused(t *testing.T) {
	for rule, says := range map[string]string{
		"10.1.2.3/8":        "did you mean 10.0.0.0/8",
		"fe80::1%eth0":      "zone",
		"fe80::%eth0/10":    "zone",
		"::ffff:0:0/90":     "beyond", // 90 bits leave ::ff00:0:0
		"10.0.0.0/33":       "neither",
		"10.0.0":            "neither",
		"":                  "neither",
		"example.org":       "neither",
		"UK":                "no country",
		"zz":                "no country",
		"2130706433":        "neither",
		"0177.0.0.1":        "neither",
		"::ffff:0.0.0.0/95": "beyond",
	} {
		if err := new(Selection).Add(rule); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", rule, err)
		}
	}
	for _, rule := range []string{"64:ff9b::/96", "2002::/16", "2001:0:1234::/48", "::/96", "::ffff:0:0:0/96"} {
		if _, err := NewPolicy(nil, layer(t, "allow "+rule)); !errors.Is(err, errDisguised) {
			t.Errorf("allow %s: %v", rule, err)
		}
		if _, err := NewPolicy(nil, layer(t, "deny "+rule)); err != nil {
			t.Errorf("deny %s: %v", rule, err)
		}
	}
	for _, rule := range []string{"allow DE", "deny DE"} {
		if _, err := NewPolicy(nil, layer(t, rule)); !errors.Is(err, ErrNoCountries) {
			t.Errorf("%s without a database: %v", rule, err)
		}
	}
}

func TestPolicyForgets(t *testing.T) {
	p, err := NewPolicy(nil, layer(t, "deny 44.2.0.0/16"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint32(3 * maxVerdicts) {
		a := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 44<<24|i*64)))
		if want := !netip.MustParsePrefix("44.2.0.0/16").Contains(a); (p.Allow("", a, Outbound) == nil) != want {
			t.Fatalf("%v", a)
		}
		if len(p.known) > maxVerdicts {
			t.Fatalf("%d verdicts are kept", len(p.known))
		}
	}
}

// FuzzPolicy: no spelling of an IPv4 address walks round a rule, a deny is
// never undone by an allow, and the remembered verdict is the one that was
// found.
func FuzzPolicy(f *testing.F) {
	f.Add([]byte{44, 2, 0, 1}, []byte{44, 2, 0, 0}, uint8(16))
	f.Add([]byte{127, 0, 0, 1}, []byte{127, 0, 0, 0}, uint8(8))
	f.Add([]byte{44, 1, 0, 1}, []byte{44, 2, 0, 0}, uint8(32))
	f.Fuzz(func(t *testing.T, host, net []byte, bits uint8) {
		if len(host) != 4 || len(net) != 4 || bits > 32 {
			return
		}
		a := netip.AddrFrom4([4]byte(host))
		r := netip.PrefixFrom(netip.AddrFrom4([4]byte(net)), int(bits)).Masked()
		deny, err := NewPolicy(nil, layer(t, "deny "+r.String()), layer(t, "allow 0.0.0.0/0", "allow ::/0"))
		if err != nil {
			t.Fatal(err)
		}
		allow, err := NewPolicy(nil, layer(t, "allow "+r.String()))
		if err != nil {
			t.Fatal(err)
		}
		in := r.Contains(a)
		for _, d := range disguised(a) {
			for range 2 {
				if got := deny.Allow("", d, Outbound) == nil; got && (in || noHost(a)) {
					t.Fatalf("deny %v: %v, which is %v, is allowed", r, d, a)
				}
				if got := allow.Allow("", d, Outbound) == nil; got && !in {
					t.Fatalf("allow %v: %v, which is %v, is allowed", r, d, a)
				}
			}
		}
		if !noHost(a) && (deny.Allow("", a, Outbound) == nil) == in {
			t.Fatalf("deny %v: %v", r, a)
		}
		if !noHost(a) && (allow.Allow("", a, Outbound) == nil) != in {
			t.Fatalf("allow %v: %v", r, a)
		}
	})
}

// disguised are the spellings of an IPv4 address.
func disguised(a netip.Addr) []netip.Addr {
	b := a.As4()
	at := func(prefix string, where ...int) netip.Addr {
		x := netip.MustParseAddr(prefix).As16()
		for i, w := range where {
			x[w] = b[i]
		}
		return netip.AddrFrom16(x)
	}
	client := netip.MustParseAddr("2001:0:2c09:1::").As16()
	for i := range 4 {
		client[12+i] = ^b[i]
	}
	return []netip.Addr{
		a, netip.AddrFrom16(a.As16()), netip.AddrFrom16(a.As16()).WithZone("eth0"),
		at("64:ff9b::", 12, 13, 14, 15), at("64:ff9b:1::", 12, 13, 14, 15), at("64:ff9b:1::", 6, 7, 9, 10),
		at("64:ff9b:1::", 7, 9, 10, 11), at("64:ff9b:1::", 9, 10, 11, 12), at("2002::1", 2, 3, 4, 5),
		at("2001::", 4, 5, 6, 7), netip.AddrFrom16(client), at("::ffff:0:0:0", 12, 13, 14, 15),
	}
}

// FuzzRule: a rule that is taken means what it says, and nothing is taken
// twice.
func FuzzRule(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8", "::1", "de", "::ffff:1.2.3.4/100", "fe80::1%x", "10.1.1.1/8"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var sel Selection
		if err := sel.Add(s); err != nil {
			if len(sel.Ranges)+len(sel.Countries) > 0 {
				t.Fatalf("%q is refused and taken", s)
			}
			return
		}
		if sel.Add(s) != nil || len(sel.Ranges)+len(sel.Countries) != 1 {
			t.Fatalf("%q gives %+v", s, sel)
		}
		for _, p := range sel.Ranges {
			again, err := ParseRange(p.String())
			if err != nil || again != p || p.Masked() != p || p.Addr().Is4In6() || p.Addr().Zone() != "" {
				t.Fatalf("%q is %v, which reads as %v, %v", s, p, again, err)
			}
		}
	})
}

// A policy is in force where any rule stands, one about relays too.
func TestPolicyInForce(t *testing.T) {
	for name, c := range map[string]struct {
		rules Rules
		want  bool
	}{
		"nothing": {Rules{}, false}, "no country": {layer(t, "home 10.0.0.0/8"), false},
		"allow": {layer(t, "allow 10.0.0.0/8"), true}, "deny": {layer(t, "deny BR"), true},
		"peer":   {Rules{Deny: Selection{Peers: []mesh.PeerID{peerNumber(1)}}}, true},
		"relays": {Rules{Relays: Relays{Mode: RelaysNone}}, true}, "beyond": {Rules{BeyondDenied: true}, true},
	} {
		p, err := NewPolicy(atlas, Rules{}, c.rules)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Gater() != nil; got != c.want {
			t.Errorf("%s: in force %v", name, got)
		}
	}
}
