//go:build lab

package scenario

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"teahouse/internal/lab"
)

// policyFile gives a home a policy.toml before anything starts on it.
func (s *stage) policyFile(t *testing.T, home, text string) (path string) {
	t.Helper()
	dir := filepath.Join(s.dir, home, "config")
	must(t, os.MkdirAll(dir, 0o700))
	path = filepath.Join(dir, "policy.toml")
	must(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// captureOf captures what passes a host's wire; the answer stops it and gives
// the packets.
func captureOf(t *testing.T, h *lab.Host, file string) func() []lab.Packet {
	t.Helper()
	c, err := h.Capture(soon(t), file)
	must(t, err)
	return func() []lab.Packet {
		t.Helper()
		must(t, c.Stop())
		packets, err := lab.ReadPcap(c.File)
		must(t, err)
		return packets
	}
}

// between counts the packets from one address to the other.
func between(packets []lab.Packet, from, to netip.Addr) (n int) {
	for _, p := range packets {
		if p.Src.Addr() == from && p.Dst.Addr() == to {
			n++
		}
	}
	return n
}

// refusedBy waits until somebody is told that policy refuses the way to an
// address, and by which rule.
func (a *actor) refusedBy(t *testing.T, addr netip.Addr, rule string) lab.Event {
	t.Helper()
	return a.event(t, "error", func(e lab.Event) bool {
		return e.Text("code") == "policy" && strings.Contains(e.Text("message"), addr.String()) && strings.Contains(e.Text("message"), rule)
	})
}

// TestPolicyForbidsPaths: whoever is forbidden by a range, by what an allow list
// leaves out, in the file or on the command line, or by country, gets not one
// packet, though he is in the same room and knocks; others are heard as ever.
func TestPolicyForbidsPaths(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	n := network(t, lab.Routed)
	boot, friend, foe := host(t, n, "boot"), host(t, n, "friend"), host(t, n, "foe")
	s.bootstrap(t, boot)
	range24 := func(h *lab.Host) string { return netip.PrefixFrom(h.Addr(), 16).Masked().String() }
	countries := filepath.Join(s.dir, "countries.mmdb")
	where := map[netip.Prefix]string{}
	for country, h := range map[string]*lab.Host{"DE": boot, "FR": friend, "BR": foe} {
		where[netip.PrefixFrom(h.Addr(), 16).Masked()] = country
	}
	must(t, lab.WriteCountries(countries, where))

	type guarded struct {
		name  string
		rule  string // what is told
		file  string // policy.toml
		flags []string
		host  *lab.Host
		stop  func() []lab.Packet
		*actor
	}
	all := []*guarded{
		{name: "range", rule: `deny "` + range24(foe) + `" (the command line)`, flags: []string{"--deny", range24(foe)}},
		{name: "file", rule: `deny "` + foe.Addr().String() + `" (policy.toml)`, file: "# quiet\ndeny = [\"" + foe.Addr().String() + "\"]\n"},
		{name: "allow", rule: "allow names other addresses (the command line)", flags: []string{"--allow", range24(boot), "--allow", range24(friend)}},
		{name: "country", rule: `deny "BR" (policy.toml)`, file: "deny = [\"BR\"]\ncountry_db = \"" + countries + "\"\n"},
		{name: "states", rule: "allow names other countries than BR (the command line)", flags: []string{"--allow", "DE", "--allow", "FR", "--country-db", countries}},
	}
	f := s.on(t, friend, "friend", "join", s.topic, "--network", s.network, "--peer", s.peer, "--mic", "tone:440", "--mic-after", "0", "--speaker", "none")
	for _, g := range all {
		g.host = host(t, n, g.name)
		g.stop = captureOf(t, g.host, filepath.Join(s.dir, g.name+".pcap"))
		if g.file != "" {
			s.policyFile(t, g.name, g.file)
		}
		g.actor = s.on(t, g.host, g.name, append([]string{"join", s.topic, "--network", s.network, "--peer", s.peer, "--mic", "none", "--speaker", "none"}, g.flags...)...)
	}
	for _, g := range all {
		g.hears(t, f.member(t))
	}
	// He comes, and all of them are in the room that he finds.
	e := s.on(t, foe, "foe", "join", s.topic, "--network", s.network, "--peer", s.peer, "--mic", "tone:523", "--mic-after", "0", "--speaker", "none")
	f.hears(t, e.member(t))
	e.hears(t, f.member(t))
	for _, g := range all {
		told := g.refusedBy(t, foe.Addr(), g.rule)
		t.Logf("%s: %s", g.name, told.Text("message"))
	}
	time.Sleep(5 * time.Second) // he goes on knocking
	e.leaves(t)                 // before the others: where no program is, the kernel answers whoever knocks
	for _, g := range all {
		g.leaves(t)
	}
	f.leaves(t)
	for _, g := range all {
		if _, up := g.lastUp(e.member(t)); up {
			t.Errorf("%s: there is a link to whom the policy forbids", g.name)
		}
		up, ok := g.lastUp(f.member(t))
		if !ok || !strings.HasPrefix(up.Text("remote"), friend.Addr().String()+":") {
			t.Errorf("%s: no link to the friend: %v", g.name, up.Fields)
		}
		if want := map[string]string{"country": "FR", "states": "FR"}[g.name]; up.Text("country") != want {
			t.Errorf("%s: the friend is in %q", g.name, up.Text("country"))
		}
		packets := g.stop()
		sent, knocked := between(packets, g.host.Addr(), foe.Addr()), between(packets, foe.Addr(), g.host.Addr())
		t.Logf("%s: %d packets to the forbidden address, which sent %d; %d to the friend", g.name, sent, knocked, between(packets, g.host.Addr(), friend.Addr()))
		if sent != 0 {
			t.Errorf("%s: %d packets went to the forbidden address", g.name, sent)
		}
		if knocked == 0 || between(packets, g.host.Addr(), friend.Addr()) == 0 {
			t.Errorf("%s: the test tests nothing", g.name)
		}
	}
}

// TestPolicyOfPeers: a peer that is forbidden by its id is neither dialled nor
// let in, wherever it is.
func TestPolicyOfPeers(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.bootstrap(t, nil)
	foe := s.join(t, nil, "foe", "tone:523", "none", "--mic-after", "0")
	id := foe.event(t, "listening", nil).Text("peer")
	friend := s.join(t, nil, "friend", "tone:440", "none", "--mic-after", "0")
	a := s.join(t, nil, "a", "none", "none", "--deny", id)
	a.hears(t, friend.member(t))
	told := a.event(t, "error", func(e lab.Event) bool {
		return e.Text("code") == "policy" && strings.Contains(e.Text("message"), "deny names this peer (the command line)")
	})
	t.Log(told.Text("message"))
	friend.hears(t, foe.member(t))
	time.Sleep(3 * time.Second)
	if _, up := a.lastUp(foe.member(t)); up {
		t.Error("there is a link to the forbidden peer")
	}
	if _, up := foe.lastUp(a.member(t)); up {
		t.Error("the forbidden peer has a link")
	}
	for _, p := range []*actor{a, friend, foe} {
		p.leaves(t)
	}
}

// TestPolicyCutsWhoMoves: a peer that moves in mid-talk to where the policy
// forbids packets is cut: no packet follows him, and it is told why.
func TestPolicyCutsWhoMoves(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	n := network(t, lab.Routed)
	boot, a, b := host(t, n, "boot"), host(t, n, "a"), host(t, n, "b")
	s.bootstrap(t, boot)
	// 44.3.0.2, from where he will go to 44.3.1.2.
	next := b.Addr().As4()
	next[2]++
	forbidden := netip.PrefixFrom(netip.AddrFrom4(next), 24).Masked()
	stop := captureOf(t, a, filepath.Join(s.dir, "a.pcap"))
	stays := s.on(t, a, "a", "join", s.topic, "--network", s.network, "--peer", s.peer, "--mic", "tone:440", "--speaker", "none", "--deny", forbidden.String())
	moves := s.on(t, b, "b", "join", s.topic, "--network", s.network, "--peer", s.peer, "--mic", "tone:523", "--speaker", "none")
	stays.hears(t, moves.member(t))
	moves.hears(t, stays.member(t))
	time.Sleep(3 * time.Second) // a path by TCP stands by
	before := b.Addr()
	moved := time.Now()
	must(t, b.Renumber(t.Context()))
	if b.Addr() != netip.AddrFrom4(next) {
		t.Fatalf("he is at %v", b.Addr())
	}
	down := stays.event(t, "link", func(e lab.Event) bool {
		return e.Text("member") == moves.member(t) && e.Text("state") == "down" && e.Seen.After(moved)
	})
	told := stays.refusedBy(t, b.Addr(), `deny "`+forbidden.String()+`"`)
	t.Logf("cut after %v; told after %v: %s", down.Seen.Sub(moved).Round(time.Millisecond), told.Seen.Sub(moved).Round(time.Millisecond), told.Text("message"))
	if d := down.Seen.Sub(moved); d > 10*time.Second {
		t.Errorf("cut only after %v", d)
	}
	heard := stays.lastStats(moves.member(t)).Number("received")
	time.Sleep(5 * time.Second)
	for _, e := range tell(t, stays, moves.member(t), moved) {
		if e.Text("state") == "up" && strings.HasPrefix(e.Text("remote"), b.Addr().String()) {
			t.Errorf("a link is up: %v", e.Fields)
		}
	}
	if more := stays.lastStats(moves.member(t)).Number("received"); more > heard {
		t.Errorf("%v frames more were heard", more-heard)
	}
	moves.leaves(t)
	stays.leaves(t)
	packets := stop()
	t.Logf("%d packets to where he was, %d to where he is, from where %d came", between(packets, a.Addr(), before), between(packets, a.Addr(), b.Addr()), between(packets, b.Addr(), a.Addr()))
	if sent := between(packets, a.Addr(), b.Addr()); sent != 0 {
		t.Errorf("%d packets followed him", sent)
	}
	if between(packets, b.Addr(), a.Addr()) == 0 || between(packets, a.Addr(), before) == 0 {
		t.Error("the test tests nothing")
	}
}

// TestPolicyLeavesNobody: where all that there is to start from is forbidden,
// the program ends with 4, says which rule, and has sent nothing.
func TestPolicyLeavesNobody(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	n := network(t, lab.Routed)
	boot, a := host(t, n, "boot"), host(t, n, "a")
	s.bootstrap(t, boot)
	stop := captureOf(t, a, filepath.Join(s.dir, "a.pcap"))
	for home, args := range map[string][]string{
		"deny":  {"join", s.topic, "--network", s.network, "--peer", s.peer, "--mic", "none", "--speaker", "none", "--deny", boot.Addr().String()},
		"allow": {"bootstrap", "--network", s.network, "--peer", s.peer, "--peer", s.peerTCP, "--allow", "10.0.0.0/8"},
	} {
		p := s.on(t, a, home, args...)
		p.ends(t, 4)
		e := p.event(t, "error", nil)
		t.Log(e.Text("message"))
		if e.Text("code") != "policy" || !strings.Contains(e.Text("message"), home) {
			t.Errorf("it says %v", e.Fields)
		}
		oneSentence(t, p, "policy refuses", "(the command line)", "change the rule")
	}
	for _, p := range stop() {
		if p.Src.Addr() == a.Addr() {
			t.Errorf("a packet went out: %+v", p)
		}
	}
}

// TestCorruptPolicy (DESIGN section 8): refused with 1, in one sentence that
// names the line and the remedy; nothing is sent, and the file stays as it is.
func TestCorruptPolicy(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	n := network(t, lab.Routed)
	boot, a := host(t, n, "boot"), host(t, n, "a")
	s.bootstrap(t, boot)
	stop := captureOf(t, a, filepath.Join(s.dir, "a.pcap"))
	for home, c := range map[string]struct{ text, line string }{
		"cut":     {"deny = [\n  \"44.9.0.0/16\",\n  \"44.8", "line 3"},
		"unknown": {"deny = [\"44.9.0.0/16\"]\ndney = [\"44.8.0.0/16\"]\n", "line 2"},
		"flipped": {"deny = [\"44.9.0.\x10/16\"]\n", "line 1"},
		"empty":   {"", "empty"},
	} {
		path := s.policyFile(t, home, c.text)
		p := s.on(t, a, home, "join", s.topic, "--network", s.network, "--peer", s.peer, "--mic", "none", "--speaker", "none")
		p.ends(t, 1)
		if e := p.event(t, "error", nil); e.Text("code") != "policy" {
			t.Errorf("%s: it says %v", home, e.Fields)
		}
		oneSentence(t, p, path, c.line, "mend it, or move the file away")
		left, err := os.ReadFile(path)
		must(t, err)
		if string(left) != c.text {
			t.Errorf("%s: the file has become %q", home, left)
		}
	}
	for _, p := range stop() {
		if p.Src.Addr() == a.Addr() {
			t.Errorf("a packet went out: %+v", p)
		}
	}
	// With the line mended the node starts, and the rule holds.
	s.policyFile(t, "cut", "deny = [\n  \"44.9.0.0/16\",\n]\n")
	p := s.on(t, a, "cut", "join", s.topic, "--network", s.network, "--peer", s.peer, "--mic", "none", "--speaker", "none")
	p.event(t, "joined", nil)
	p.leaves(t)
}
