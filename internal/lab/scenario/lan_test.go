//go:build lab

package scenario

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"teahouse/internal/lab"
	"teahouse/node"
)

// on starts teahouse on a host with what a person types, and no more: no
// network, no address to listen on, nobody to start from.
func (s *stage) on(t *testing.T, h *lab.Host, home string, args ...string) *actor {
	t.Helper()
	a := &actor{home: filepath.Join(s.dir, home)}
	args = append(slices.Clone(args), "--json", "--home", a.home)
	p, err := lab.Start(lab.Spec{Host: h, Path: s.program, Args: args, Env: s.env, Dir: s.dir, Urgent: s.judged})
	must(t, err)
	a.Process = p
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s %s: exit code %s\n%s", home, args[0], exitOf(p), p.Stderr())
			for _, e := range p.Events() {
				if e.Name != "stats" {
					t.Logf("  %s %v %v", e.Seen.Format("05.000"), e.Name, e.Fields)
				}
			}
		}
	})
	return a
}

// sits is a member with a tone of its own, and nothing that is not needed for
// want of a sound card.
func (s *stage) sits(t *testing.T, h *lab.Host, home string, args ...string) *actor {
	t.Helper()
	return s.on(t, h, home, append([]string{"join", s.topic, "--mic", "tone:440", "--speaker", "none"}, args...)...)
}

// allHear waits until each of them hears each other.
func allHear(t *testing.T, actors []*actor) {
	t.Helper()
	for _, a := range actors {
		for _, b := range actors {
			if a != b {
				a.hears(t, b.member(t))
			}
		}
	}
}

// onlyIPv6 takes a host's IPv4 address away and gives it an address of its own
// network (a ULA, RFC 4193), as a LAN without a provider has.
func onlyIPv6(t *testing.T, h *lab.Host) {
	t.Helper()
	last := h.Addr().As4()[3]
	for _, c := range [][]string{
		{"sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0", "net.ipv6.conf.default.disable_ipv6=0", "net.ipv6.conf.eth0.disable_ipv6=0"},
		{"ip", "-4", "addr", "flush", "dev", "eth0"},
		{"ip", "-6", "addr", "add", fmt.Sprintf("fd77:7ea::%x/64", last), "dev", "eth0", "nodad"},
	} {
		if out, err := h.Command(t.Context(), c[0], c[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", c, err, out)
		}
	}
}

// Issue 3, item 1: three machines of one LAN, each with no more than a room's
// name, hear each other. Over IPv4, and over IPv6 where that is all there is.
func TestLANWithoutConfiguration(t *testing.T) {
	for _, family := range []string{"ip4", "ip6"} {
		t.Run(family, func(t *testing.T) {
			s := newStage(t)
			n := network(t, lab.Bridge)
			var actors []*actor
			begun := time.Now()
			for _, name := range []string{"a", "b", "c"} {
				h := host(t, n, name)
				if family == "ip6" {
					onlyIPv6(t, h)
				}
				actors = append(actors, s.sits(t, h, name))
			}
			allHear(t, actors)
			t.Logf("three heard each other %v after the first was started", time.Since(begun).Round(10*time.Millisecond))
			want := "/" + family + "/"
			for _, a := range actors {
				for _, b := range actors {
					if up, ok := a.lastUp(b.member(t)); a != b && (!ok || !strings.Contains(remoteAsMultiaddr(up), want)) {
						t.Errorf("the link is %v, want one over %s", up.Fields, family)
					}
				}
			}
			// One that comes while the others have long been there.
			late := host(t, n, "late")
			if family == "ip6" {
				onlyIPv6(t, late)
			}
			begun = time.Now()
			d := s.sits(t, late, "late")
			allHear(t, append(actors, d))
			t.Logf("a late one hears and is heard after %v", time.Since(begun).Round(10*time.Millisecond))
			for _, a := range append(actors, d) {
				a.leaves(t)
			}
		})
	}
}

// remoteAsMultiaddr is where a link goes: a multiaddr already, or IP:PORT.
func remoteAsMultiaddr(up lab.Event) string {
	remote := up.Text("remote")
	switch {
	case strings.HasPrefix(remote, "/"):
		return remote
	case strings.HasPrefix(remote, "["):
		return "/ip6/" + remote
	}
	return "/ip4/" + remote
}

// Issue 3, item 1: with mDNS off a bootstrap is what they find each other by,
// and nothing is ever sent to the group. When the bootstrap is gone for good,
// the homes remember who was there.
func TestLANWithoutMDNS(t *testing.T) {
	s := newSoundStage(t)
	n := network(t, lab.Bridge)
	capture, err := n.Core().Capture(t.Context(), filepath.Join(s.dir, "lan.pcap"))
	must(t, err)
	boot := s.on(t, host(t, n, "boot"), "boot", "bootstrap", "--mdns", "off")
	addrs := boot.event(t, "listening", nil).Texts("addrs")
	peer := addrs[slices.IndexFunc(addrs, func(a string) bool { return strings.HasPrefix(a, "/ip4/10.77.") && strings.Contains(a, "/quic-v1/") })]
	hosts := make(map[string]*lab.Host)
	var actors []*actor
	for _, name := range []string{"a", "b", "c"} {
		hosts[name] = host(t, n, name)
		actors = append(actors, s.sits(t, hosts[name], name, "--mdns", "off", "--peer", peer))
	}
	allHear(t, actors)
	// The bootstrap dies, which nobody hears, and one restarts who is told of
	// nobody.
	actors[0].hearsOn(t, actors[1].member(t), 4*time.Second, boot.Kill)
	actors[2].leaves(t)
	c := s.sits(t, hosts["c"], "c", "--mdns", "off")
	allHear(t, []*actor{actors[0], actors[1], c})
	for _, a := range []*actor{actors[0], actors[1], c} {
		a.leaves(t)
	}
	must(t, capture.Stop())
	packets, err := lab.ReadPcap(capture.File)
	must(t, err)
	if len(packets) == 0 {
		t.Fatal("the capture is empty: the test tests nothing")
	}
	for _, p := range packets {
		if p.Dst.Port() == 5353 || p.Src.Port() == 5353 {
			t.Fatalf("mDNS was spoken though it is off: %v to %v", p.Src, p.Dst)
		}
	}
}

// Elsewhere than on lan mDNS is for who asks for it, and the wire does not
// show which network it is.
func TestLANOfANamedNetwork(t *testing.T) {
	s := newStage(t)
	nw, err := node.AdHocNetwork(s.network)
	must(t, err)
	n := network(t, lab.Bridge)
	capture, err := n.Core().Capture(t.Context(), filepath.Join(s.dir, "lan.pcap"))
	must(t, err)
	var actors []*actor
	for _, name := range []string{"a", "b"} {
		actors = append(actors, s.sits(t, host(t, n, name), name, "--network", s.network, "--mdns", "on"))
	}
	allHear(t, actors)
	for _, a := range actors {
		a.leaves(t)
	}
	must(t, capture.Stop())
	packets, err := lab.ReadPcap(capture.File)
	must(t, err)
	spoken := 0
	for _, p := range packets {
		if p.Dst.Port() == 5353 {
			spoken++
		}
		if bytes.Contains(p.Raw, []byte(nw.ID)) || p.Dst.Port() == 5353 && bytes.Contains(p.Raw, []byte("teahouse")) {
			t.Fatalf("a packet from %v to %v tells the network", p.Src, p.Dst)
		}
	}
	if spoken == 0 {
		t.Error("no mDNS in the capture: the test tests nothing")
	}
}
