//go:debug multipathtcp=0

package node

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/bpf"

	"teahouse/internal/mesh"
)

// runFilter asks a filter about a source. It loads from the IP header alone, so
// its loads are moved to a packet that begins with that.
func runFilter(t *testing.T, code block, a netip.Addr) bool {
	t.Helper()
	var moved []bpf.Instruction
	for _, c := range code {
		if l, ok := c.(bpf.LoadAbsolute); ok {
			l.Off -= ipHeader
			c = l
		}
		moved = append(moved, c)
	}
	vm, err := bpf.NewVM(moved)
	if err != nil {
		t.Fatal(err)
	}
	packet := make([]byte, 60)
	if a.Is4() {
		copy(packet[12:], a.AsSlice())
	} else {
		copy(packet[8:], a.AsSlice())
	}
	n, err := vm.Run(packet)
	if err != nil {
		t.Fatal(err)
	}
	return n > 0
}

// The kernel lets nobody in whom the policy refuses; and who is let in by rules
// about ranges alone is everybody whom it allows.
func TestListenFilterIsThePolicy(t *testing.T) {
	for _, c := range [][]string{
		{"deny 44.2.0.0/16"},
		{"deny 44.2.0.7", "deny 10.0.0.0/7", "deny 2a02:1::/33"},
		{"allow 44.1.0.0/16", "allow 2a01::/16"},
		{"allow 44.0.0.0/8", "deny 44.2.0.0/15", "allow ::/0", "deny 2a02::/17"},
		{"allow 0.0.0.0/0"},
		{"deny 0.0.0.0/0"},
		{"deny ::/0"},
		{"deny BR"},
		{"deny BR", "home 10.0.0.0/8"},
		{"allow DE", "home 10.0.0.0/8", "allow 44.9.0.0/16"},
		{"allow DE", "deny BR", "home 10.0.0.0/8", "allow 44.9.0.0/16"},
		{"deny BR", "home 10.0.0.0/8", "allow 44.9.0.0/16"},
	} {
		rules := layer(t, c...)
		p, err := NewPolicy(atlas, rules, layer(t, "deny 44.3.3.0/24"))
		if err != nil {
			t.Fatal(err)
		}
		states := len(rules.Allow.Countries)+len(rules.Deny.Countries) > 0
		passed := 0
		for s := range strings.FieldsSeq("1.2.3.4 9.255.255.255 10.0.0.0 10.9.9.9 11.255.255.255 12.0.0.0 44.1.0.1 44.1.255.255 44.2.0.0 44.2.0.7 44.2.255.255 44.3.0.1 44.3.3.1 44.9.0.1 127.0.0.1 " +
			"::1 2a01::1 2a02::1 2a02:1::1 2a02:1:8000::1 2a02:8000::1 2a03::1 fe80::1 64:ff9b::2c02:1 2002:2c01:1::1 2001:0:1::1") {
			a := netip.MustParseAddr(s)
			got, want := runFilter(t, p.filter(a.Is4()), a), p.judge(a).rule == ""
			if got && !want {
				t.Errorf("%v: %v is let in, though %q", c, a, p.judge(a).rule)
			}
			if !got && want && !states && len(destinations(a)) == 1 && destinations(a)[0] == a {
				t.Errorf("%v: %v is not let in", c, a)
			}
			if got {
				passed++
			}
		}
		t.Logf("%v: %d let in", c, passed)
	}
}

// A machine that policy forbids gets no answer, not even the kernel's, from the
// TCP port; another one does.
func TestListenerIsDeafForTheRefused(t *testing.T) {
	cfg := loopback(t)
	p, err := NewPolicy(nil, layer(t, "deny 127.0.0.2", "deny ::2/127"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Gater = p
	n := startNode(t, cfg)
	var to string
	for _, a := range n.Self().Addrs {
		if parts := strings.Split(string(a), "/"); parts[1] == "ip4" && parts[3] == "tcp" {
			to = net.JoinHostPort(parts[2], parts[4])
		}
	}
	dial := func(from string, patience time.Duration) error {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
		c, err := d.DialContext(t.Context(), "tcp4", to)
		if err == nil {
			_ = c.Close()
		}
		return err
	}
	if err := dial("127.0.0.3", 30*time.Second); err != nil {
		t.Fatalf("who is allowed: %v", err)
	}
	var late net.Error
	if err := dial("127.0.0.2", 500*time.Millisecond); !errors.As(err, &late) || !late.Timeout() {
		t.Errorf("who is refused: %v", err)
	}
}

// A policy that is too long for the kernel makes it let nobody in.
func TestListenFilterTooLong(t *testing.T) {
	var r Rules
	for i := range uint32(2000) {
		r.Deny.Ranges = append(r.Deny.Ranges, netip.PrefixFrom(netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 44<<24|i<<8))), 24))
	}
	cfg := loopback(t)
	p, err := NewPolicy(nil, r)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Gater = p
	n := startNode(t, cfg)
	for _, a := range n.Self().Addrs {
		parts := strings.Split(string(a), "/")
		if parts[3] != "tcp" {
			continue
		}
		if c, err := net.DialTimeout("tcp", net.JoinHostPort(parts[2], parts[4]), 300*time.Millisecond); err == nil {
			_ = c.Close()
			t.Errorf("%s lets in", a)
		}
	}
	if p.Allow(mesh.PeerID(""), netip.MustParseAddr("127.0.0.1"), Inbound) != nil {
		t.Error("the rules are others")
	}
}
