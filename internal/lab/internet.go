//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Internet is a [Plan] come true: one namespace that routes (the core), one for
// each public host, and for each home one with its router and one for each of
// its hosts. Nothing leads out of it. Each site has 44.N.0.0/30, and
// 2a00:7ea:N::/48 where it has IPv6: libp2p takes both for public.
//
//	anna ── eth0 ─┐
//	axel ── eth0 ─┴ lan ─ elm ─ wan ──── port2 ┐
//	                                           core
//	boot ──────────────── eth0 ──── port1 ─────┘
//
// The line of a site that delays is a pair of TUN devices with a shim between,
// any other one a veth pair. Its methods may be called from any goroutine.
type Internet struct {
	*Net
	plan  *Plan
	shim  *shim
	named map[string]*Host

	closing sync.Once
	closed  error // what Close answers
}

// InternetOptions are what is not in the plan.
type InternetOptions struct {
	// LeaveSignals leaves SIGINT and SIGTERM to the caller; otherwise the lab
	// cleans up at one and lets the process die of it, as NewNet does.
	LeaveSignals bool
}

// NewInternet makes what the plan says, after sweeping away what dead labs
// left.
func NewInternet(ctx context.Context, plan *Plan, opts InternetOptions) (*Internet, error) {
	n, err := newNet(ctx, Routed)
	if err != nil {
		return nil, err
	}
	if !opts.LeaveSignals {
		n.stop = n.closeOnSignal()
	}
	x := &Internet{Net: n, plan: plan, named: make(map[string]*Host)}
	if x.shim, err = newShim(); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	if err := x.build(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("make the lab's internet: %w", err), x.Close())
	}
	x.shim.start()
	return x, nil
}

func (x *Internet) build(ctx context.Context) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, s := range x.plan.Sites {
		if s.IPv6 == PublicIPv6 {
			// Only the lines of those who have it: default is for links to come.
			if err := x.core.tool(ctx, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0", "net.ipv6.conf.default.disable_ipv6=1", "net.ipv6.conf.all.forwarding=1"); err != nil {
				return err
			}
			break
		}
	}
	for _, s := range x.plan.Sites {
		if err := x.site(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	return x.lose(ctx)
}

// site makes a public host, or a home with all that is in it.
func (x *Internet) site(ctx context.Context, s Site) error {
	dev := "eth0"
	if s.NAT != "" {
		dev = "wan"
	}
	h, err := x.add(ctx, s.Name, dev)
	if err != nil {
		return err
	}
	x.named[s.Name] = h
	if s.NAT != "" {
		if err := h.tool(ctx, "sysctl", "-qw", "net.ipv4.ip_forward=1"); err != nil {
			return err
		}
	}
	if s.IPv6 != "" {
		if err := h.enableIPv6(ctx); err != nil {
			return err
		}
	}
	if s.Link.quiet() {
		err = h.plug(ctx, x.core, "")
	} else {
		err = x.shimmed(ctx, s, h)
	}
	if err != nil {
		return err
	}
	if err := h.settle(ctx); err != nil {
		return err
	}
	if s.IPv6 == PublicIPv6 {
		if err := x.line6(ctx, h); err != nil {
			return err
		}
	}
	if s.NAT == "" {
		return nil
	}
	return x.home(ctx, s, h)
}

// quiet tells whether a line needs no shim.
func (s Shape) quiet() bool { return s.Delay == 0 && s.Jitter == 0 && s.Burst == 0 }

// shimmed is plug for a line that delays.
func (x *Internet) shimmed(ctx context.Context, s Site, h *Host) error {
	if err := x.shim.add(s.Name, s.Link, x.plan.Seed, h, h.dev, x.core, h.port); err != nil {
		return err
	}
	for _, end := range []struct {
		host *Host
		dev  string
	}{{h, h.dev}, {x.core, h.port}} {
		// What waits there while the shim's thread sleeps.
		if err := end.host.tool(ctx, "ip", "link", "set", "dev", end.dev, "mtu", strconv.Itoa(tunMTU), "txqueuelen", "1000", "up"); err != nil {
			return err
		}
	}
	return nil
}

// prefix6 is 2a00:7ea:N:SUB::/64 of a site, or fd77:7ea:N:SUB::/64.
func prefix6(first string, h *Host, sub int) string {
	return fmt.Sprintf("%s:7ea:%x:%x::", first, h.number, sub)
}

// enableIPv6 lets the host's links to come have IPv6, without the noise of
// finding a router or duplicates.
func (h *Host) enableIPv6(ctx context.Context) error {
	return h.tool(ctx, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0", "net.ipv6.conf.default.disable_ipv6=0",
		"net.ipv6.conf.default.accept_ra=0", "net.ipv6.conf.default.router_solicitations=0", "net.ipv6.conf.default.accept_dad=0")
}

// line6 gives a site's line its IPv6 addresses.
func (x *Internet) line6(ctx context.Context, h *Host) error {
	p := prefix6("2a00", h, 0)
	if err := x.core.tool(ctx, "sysctl", "-qw", "net.ipv6.conf."+h.port+".disable_ipv6=0"); err != nil {
		return err
	}
	if err := x.core.tool(ctx, "ip", "-6", "addr", "add", p+"1/64", "dev", h.port, "nodad"); err != nil {
		return err
	}
	if err := h.give6(ctx, p+"2"); err != nil {
		return err
	}
	return h.tool(ctx, "ip", "-6", "route", "add", "default", "via", p+"1", "dev", h.dev)
}

// give6 gives the host an IPv6 address of a /64.
func (h *Host) give6(ctx context.Context, addr string) (err error) {
	if h.addr6, err = netip.ParseAddr(addr); err != nil {
		return err
	}
	return h.tool(ctx, "ip", "-6", "addr", "add", addr+"/64", "dev", h.dev, "nodad")
}

// home makes what is behind a router.
func (x *Internet) home(ctx context.Context, s Site, router *Host) error {
	lan := s.LAN.Addr().Next() // the router's
	commands := [][]string{
		{"ip", "link", "add", "name", "lan", "type", "bridge", "mcast_snooping", "0"},
		{"ip", "addr", "add", lan.String() + "/24", "dev", "lan"},
		{"ip", "link", "set", "dev", "lan", "up"},
		// Else what two hosts of the LAN say to each other passes the rules of
		// the router on machines that have br_netfilter.
		{"sysctl", "-eqw", "net.bridge.bridge-nf-call-iptables=0", "net.bridge.bridge-nf-call-ip6tables=0"},
		// What the kernel has as its defaults, wherever this machine is.
		{"sysctl", "-qw", "net.netfilter.nf_conntrack_udp_timeout=30", "net.netfilter.nf_conntrack_udp_timeout_stream=120"},
	}
	first := "fd77"
	switch s.IPv6 {
	case PublicIPv6:
		first = "2a00"
		if err := router.tool(ctx, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"); err != nil {
			return err
		}
		to := prefix6(first, router, 1)
		if err := x.core.tool(ctx, "ip", "-6", "route", "add", to+"/64", "via", prefix6(first, router, 0)+"2", "dev", router.port); err != nil {
			return err
		}
		fallthrough
	case ULA:
		commands = append(commands, []string{"ip", "-6", "addr", "add", prefix6(first, router, 1) + "1/64", "dev", "lan", "nodad"})
	}
	for _, c := range commands {
		if err := router.tool(ctx, c...); err != nil {
			return err
		}
	}
	router.moved = func(ctx context.Context) error { return router.rules(ctx, natRules(s, router.addr)) }
	if err := router.moved(ctx); err != nil {
		return err
	}
	addr := lan
	for _, name := range s.Hosts {
		addr = addr.Next()
		if err := x.homeHost(ctx, s, router, name, addr, lan, first); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// homeHost makes one host of a home, with addr, and IPv6 addresses that begin
// with first.
func (x *Internet) homeHost(ctx context.Context, s Site, router *Host, name string, addr, gateway netip.Addr, first string) error {
	h, err := x.add(ctx, name, "eth0")
	if err != nil {
		return err
	}
	x.named[name] = h
	h.router = router
	if s.IPv6 != "" {
		if err := h.enableIPv6(ctx); err != nil {
			return err
		}
	}
	if err := h.plug(ctx, router, "lan"); err != nil {
		return err
	}
	h.addr, h.gateway = addr, gateway
	if err := h.tool(ctx, "ip", "addr", "add", addr.String()+"/24", "dev", h.dev); err != nil {
		return err
	}
	if err := h.route(ctx); err != nil {
		return err
	}
	if s.IPv6 == "" {
		return nil
	}
	p := prefix6(first, router, 1)
	if err := h.give6(ctx, fmt.Sprintf("%s%x", p, addr.As4()[3])); err != nil || s.IPv6 == ULA {
		return err
	}
	return h.tool(ctx, "ip", "-6", "route", "add", "default", "via", p+"1", "dev", h.dev)
}

// rules loads nftables in the host's namespace.
func (h *Host) rules(ctx context.Context, text string) error {
	cmd := h.Command(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(text)
	return run(cmd)
}

// lose drops by chance on the lines that lose, both ways, in the core: who
// sends sees nothing of it, and neighbour discovery is spared, as ARP is.
func (x *Internet) lose(ctx context.Context) error {
	var up, down strings.Builder
	for _, s := range x.plan.Sites {
		if s.Loss > 0 {
			const rule = "%s %s meta l4proto != ipv6-icmp numgen random mod 1000 < %d counter drop\n"
			fmt.Fprintf(&up, rule, "iifname", x.named[s.Name].port, s.Loss)
			fmt.Fprintf(&down, rule, "oifname", x.named[s.Name].port, s.Loss)
		}
	}
	if up.Len() == 0 {
		return nil
	}
	return x.core.rules(ctx, fmt.Sprintf("table inet loss {\nchain up { type filter hook prerouting priority -300;\n%s}\nchain down { type filter hook forward priority 0;\n%s}\n}\n", &up, &down))
}

// Named is a public host, a home's router by the home's name, or a host of a
// home; nil if there is none of this name.
func (x *Internet) Named(name string) *Host { return x.named[name] }

// Line counts what passed on the line of a site that has a shim, to the
// internet and from it.
func (x *Internet) Line(site string) (up, down LineStats, ok bool) {
	for _, l := range x.shim.lines {
		if l.name == site {
			up, down = l.stats()
			return up, down, true
		}
	}
	return up, down, false
}

// ShimCPU is the time that the shim has used, user and system, until Close.
func (x *Internet) ShimCPU() (time.Duration, error) {
	tid := x.shim.tid.Load()
	if tid == 0 {
		return 0, nil // no line delays
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/schedstat", tid))
	if err != nil {
		return 0, fmt.Errorf("CPU time of the shim: %w", err)
	}
	first, _, _ := strings.Cut(string(text), " ")
	ns, err := strconv.ParseInt(first, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("CPU time of the shim: %w", err)
	}
	return time.Duration(ns - x.shim.used), nil
}

// Close ends what still runs in the namespaces and removes them.
func (x *Internet) Close() error {
	x.closing.Do(func() { x.closed = errors.Join(x.shim.stop(), x.Net.Close()) })
	return x.closed
}
