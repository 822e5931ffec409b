//go:build linux

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ErrNotRoot: network namespaces need root.
var ErrNotRoot = errors.New("the lab needs root for network namespaces")

// Topology is how the hosts of a [Net] are joined.
type Topology int

const (
	// Bridge: one LAN, 10.77.0.0/16, without a router.
	Bridge Topology = iota
	// Routed: a /30 for each host (44.N.0.2, router 44.N.0.1), which libp2p
	// takes for public addresses.
	Routed
)

// netPrefix begins the name of each namespace: it is followed by the process
// id of the lab, "x", a number, "-" and the host's name.
const netPrefix = "thlab"

// Net is an isolated network: a namespace with the bridge or router in it and
// one for each host. No interface leads out of it, IPv6 is off. Its methods
// may be called from any goroutine.
type Net struct {
	topology Topology
	name     string
	core     *Host // where the bridge or the routes are
	stop     func()

	mu     sync.Mutex
	hosts  []*Host
	closed bool
}

// Host is one namespace of a [Net] with the interfaces lo and eth0.
type Host struct {
	net  *Net
	ns   string
	dev  string // its interface
	port string // of the core that it is joined to

	number byte // among the network's hosts, from 1

	addr6  netip.Addr // none, unless a plan gave it one
	router *Host      // of its home, if it is behind one
	// moved, if any, sees to what depends on the address once it is another.
	moved func(ctx context.Context) error

	mu      sync.Mutex
	addr    netip.Addr
	gateway netip.Addr // none on a bridge
	moves   byte       // how often Renumber gave it another address
}

// made counts the networks of this process, whose names the whole machine sees:
// two that are made at once must not have one name.
var made atomic.Int32

// NewNet makes a network without hosts, after sweeping away what dead labs
// left. On SIGINT and SIGTERM it cleans up before the process dies of them.
func NewNet(ctx context.Context, topology Topology) (*Net, error) {
	n, err := newNet(ctx, topology)
	if err == nil {
		n.stop = n.closeOnSignal()
	}
	return n, err
}

// newNet is NewNet without a hand on signals.
func newNet(ctx context.Context, topology Topology) (*Net, error) {
	if os.Geteuid() != 0 {
		return nil, ErrNotRoot
	}
	if err := sweep(ctx); err != nil {
		return nil, err
	}
	used, err := namespaces(ctx)
	if err != nil {
		return nil, err
	}
	n := &Net{topology: topology}
	for n.name == "" || used[n.name+"-core"] {
		n.name = fmt.Sprintf("%s%dx%d", netPrefix, os.Getpid(), made.Add(1))
	}
	n.core = &Host{net: n, ns: n.name + "-core", dev: "br0"}
	if err := n.core.make(ctx); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	setup := [][]string{{"ip", "link", "add", "name", "br0", "type", "bridge", "mcast_snooping", "0"}, {"ip", "link", "set", "dev", "br0", "up"}}
	if topology == Routed {
		setup = [][]string{{"sysctl", "-qw", "net.ipv4.ip_forward=1"}}
	}
	for _, c := range setup {
		if err := n.core.tool(ctx, c...); err != nil {
			return nil, errors.Join(err, n.Close())
		}
	}
	return n, nil
}

// closeOnSignal cleans up when the process is told to end, and then lets it.
func (n *Net) closeOnSignal() (stop func()) {
	c, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM)
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-done:
		case s := <-c:
			_ = n.remove() // what stays, the next lab sweeps away
			signal.Stop(c)
			_ = syscall.Kill(os.Getpid(), s.(syscall.Signal))
		}
	})
	return func() { signal.Stop(c); close(done); wg.Wait() }
}

// Host adds a host. Names are short: letters, digits, hyphens.
func (n *Net) Host(ctx context.Context, name string) (*Host, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h, err := n.add(ctx, name, "eth0")
	if err != nil {
		return nil, err
	}
	bridge := ""
	if n.topology == Bridge {
		bridge = "br0"
	}
	if err := h.plug(ctx, n.core, bridge); err != nil {
		return nil, err
	}
	if err := h.settle(ctx); err != nil {
		return nil, err
	}
	return h, nil
}

// add makes the namespace of another host, whose interface dev is to come. It
// is called with mu held.
func (n *Net) add(ctx context.Context, name, dev string) (*Host, error) {
	number := len(n.hosts) + 1
	switch {
	case n.closed:
		return nil, errors.New("the lab's network is closed")
	case number > 250:
		return nil, errors.New("a lab's network has at most 250 hosts")
	}
	h := &Host{net: n, ns: n.name + "-" + name, dev: dev, number: byte(number), port: fmt.Sprintf("port%d", number)}
	if err := h.make(ctx); err != nil {
		return nil, err
	}
	n.hosts = append(n.hosts, h)
	return h, nil
}

// plug joins the host by a cable to another namespace, and to the bridge there
// if one is named.
func (h *Host) plug(ctx context.Context, into *Host, bridge string) error {
	if err := into.tool(ctx, "ip", "link", "add", "name", h.port, "type", "veth", "peer", "name", h.dev, "netns", h.ns); err != nil {
		return err
	}
	up := []string{"ip", "link", "set", "dev", h.port, "up"}
	if bridge != "" {
		up = []string{"ip", "link", "set", "dev", h.port, "master", bridge, "up"}
	}
	if err := into.tool(ctx, up...); err != nil {
		return err
	}
	return h.tool(ctx, "ip", "link", "set", "dev", h.dev, "up")
}

// settle gives the host the address that it has after so many moves, and the
// way out that belongs to it. It is called with mu held, or before anybody else
// has the host.
func (h *Host) settle(ctx context.Context) error {
	if h.net.topology == Bridge {
		// 250 hosts at most: who moves goes to a second part of the LAN.
		h.addr = netip.AddrFrom4([4]byte{10, 77, h.moves, h.number})
		return h.tool(ctx, "ip", "addr", "add", h.addr.String()+"/16", "dev", "eth0")
	}
	h.addr, h.gateway = netip.AddrFrom4([4]byte{44, h.number, h.moves, 2}), netip.AddrFrom4([4]byte{44, h.number, h.moves, 1})
	if err := h.net.core.tool(ctx, "ip", "addr", "add", h.gateway.String()+"/30", "dev", h.port); err != nil {
		return err
	}
	if err := h.tool(ctx, "ip", "addr", "add", h.addr.String()+"/30", "dev", h.dev); err != nil {
		return err
	}
	return h.route(ctx)
}

// route is the way out of a host with a gateway.
func (h *Host) route(ctx context.Context) error {
	if !h.gateway.IsValid() {
		return nil
	}
	return h.tool(ctx, "ip", "route", "replace", "default", "via", h.gateway.String())
}

// Core is where the bridge br0, or the router, is: a capture there sees what
// all hosts send each other.
func (n *Net) Core() *Host { return n.core }

// Close ends what still runs in the network's namespaces and removes them.
func (n *Net) Close() error {
	n.mu.Lock()
	closed := n.closed
	n.closed = true
	n.mu.Unlock()
	if closed {
		return nil
	}
	if n.stop != nil {
		n.stop()
	}
	return n.remove()
}

func (n *Net) remove() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return removeNamespaces(ctx, func(name string) bool { return strings.HasPrefix(name, n.name+"-") })
}

// Addr is the host's IPv4 address; the core of a bridge has none.
func (h *Host) Addr() netip.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.addr
}

// Resolver is the name server of all hosts. It does not exist: whoever asks
// it for a name is seen in a capture of a [Routed] network.
const Resolver = "44.53.53.53"

// netnsConf is where ip netns exec takes the files from that stand in for
// those in /etc, by namespace.
const netnsConf = "/etc/netns"

// make makes the namespace, with lo up and without IPv6: the sysctl comes
// before the links, so that a capture sees no neighbour discovery.
func (h *Host) make(ctx context.Context) error {
	if err := tool(ctx, "ip", "netns", "add", h.ns); err != nil {
		return err
	}
	conf := filepath.Join(netnsConf, h.ns)
	if err := os.MkdirAll(conf, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(conf, "resolv.conf"), []byte("nameserver "+Resolver+"\n"), 0o644); err != nil {
		return err
	}
	for _, c := range [][]string{
		{"sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"},
		{"ip", "link", "set", "dev", "lo", "up"},
	} {
		if err := h.tool(ctx, c...); err != nil {
			return err
		}
	}
	return nil
}

// Addr6 is the host's IPv6 address, none unless a [Plan] gave it one.
func (h *Host) Addr6() netip.Addr { return h.addr6 }

// Namespace is the name of the host's namespace, as ip netns takes it.
func (h *Host) Namespace() string { return h.ns }

// Command is a command inside the host's namespace. The process that it
// starts is the command itself, so signals reach it, and it dies with the lab.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return command(ctx, "ip", append([]string{"netns", "exec", h.ns, name}, args...)...)
}

func (h *Host) tool(ctx context.Context, args ...string) error {
	return run(h.Command(ctx, args[0], args[1:]...))
}

func tool(ctx context.Context, args ...string) error {
	return run(command(ctx, args[0], args[1:]...))
}

// command is exec.CommandContext for a child that does not outlive us.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

func run(cmd *exec.Cmd) error {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}

// namespaces are the names of all network namespaces.
func namespaces(ctx context.Context) (map[string]bool, error) {
	out, err := command(ctx, "ip", "netns", "list").Output()
	if err != nil {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	names := make(map[string]bool)
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 0 {
			names[f[0]] = true
		}
	}
	return names, nil
}

// sweep removes the namespaces of labs whose process is dead.
func sweep(ctx context.Context) error {
	return removeNamespaces(ctx, func(name string) bool {
		rest, ours := strings.CutPrefix(name, netPrefix)
		number, _, ok := strings.Cut(rest, "x")
		pid, err := strconv.Atoi(number)
		return ours && ok && err == nil && pid > 0 && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
	})
}

// removeNamespaces ends the processes of each namespace that is doomed, by
// their ids, and removes it.
func removeNamespaces(ctx context.Context, doomed func(name string) bool) error {
	names, err := namespaces(ctx)
	if err != nil {
		return err
	}
	var failed error
	for name := range names {
		if !doomed(name) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(netnsConf, name)); err != nil {
			failed = errors.Join(failed, err)
		}
		pids, _ := command(ctx, "ip", "netns", "pids", name).Output() // it may have gone meanwhile
		for f := range strings.FieldsSeq(string(pids)) {
			if pid, err := strconv.Atoi(f); err == nil && pid > 1 && pid != os.Getpid() {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		if err := tool(ctx, "ip", "netns", "del", name); err != nil {
			if left, _ := namespaces(ctx); left[name] {
				failed = errors.Join(failed, err)
			}
		}
	}
	return failed
}
