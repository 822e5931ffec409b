//go:build lab

package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// network makes a network for a test; without root the test is skipped, never
// in CI.
func network(t *testing.T, topology Topology) *Net {
	t.Helper()
	n, err := NewNet(t.Context(), topology)
	if errors.Is(err, ErrNotRoot) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func host(t *testing.T, n *Net, name string) *Host {
	t.Helper()
	h, err := n.Host(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// probe sends n datagrams to port 9; bash does it without a helper program.
func probe(t *testing.T, from *Host, to netip.Addr, n int) {
	t.Helper()
	cmd := from.Command(soon(t), "bash", "-c", fmt.Sprintf(
		`for i in $(seq %d); do printf x > /dev/udp/%s/9; done`, n, to))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("send: %v: %s", err, out)
	}
}

// counter counts the datagrams to port 9 that get past the loss at a host.
func counter(t *testing.T, h *Host) (read func() int) {
	t.Helper()
	cmd := h.Command(soon(t), "nft", "add table inet count; add counter inet count c; "+
		"add chain inet count in { type filter hook prerouting priority 0; }; "+
		"add rule inet count in udp dport 9 counter name c drop")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
	return func() (n int) {
		out, err := h.Command(soon(t), "nft", "reset", "counter", "inet", "count", "c").Output()
		if err != nil {
			t.Fatal(err)
		}
		_, after, _ := strings.Cut(string(out), "packets ")
		if _, err := fmt.Sscan(after, &n); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		return n
	}
}

func TestNet(t *testing.T) {
	for _, topology := range []Topology{Bridge, Routed} {
		t.Run(fmt.Sprint(topology), func(t *testing.T) {
			n := network(t, topology)
			a, b := host(t, n, "a"), host(t, n, "b")
			count := counter(t, b)
			file := filepath.Join(t.TempDir(), "c.pcap")
			capture, err := n.Core().Capture(soon(t), file)
			if err != nil {
				t.Fatal(err)
			}
			probe(t, a, b.Addr(), 200)
			time.Sleep(100 * time.Millisecond)
			if got := count(); got != 200 {
				t.Errorf("%d of 200 arrived", got)
			}
			if err := b.Loss(t.Context(), 300); err != nil {
				t.Fatal(err)
			}
			probe(t, a, b.Addr(), 1000)
			time.Sleep(100 * time.Millisecond)
			if got := count(); got < 640 || got > 760 { // 4 standard deviations are 58
				t.Errorf("%d of 1,000 arrived, 30 %% lost", got)
			}
			if err := b.Loss(t.Context(), 0); err != nil {
				t.Fatal(err)
			}
			if err := b.Unplug(t.Context(), true); err != nil {
				t.Fatal(err)
			}
			if err := b.Unplug(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			if err := capture.Stop(); err != nil {
				t.Fatal(err)
			}
			packets, err := ReadPcap(file)
			if err != nil {
				t.Fatal(err)
			}
			seen := 0
			for _, p := range packets {
				if p.Proto == "udp" && p.Src.Addr() == a.Addr() && p.Dst == netip.AddrPortFrom(b.Addr(), 9) && string(p.Payload) == "x" {
					seen++
				} else if p.Proto != "arp" {
					t.Errorf("stray %s %v > %v", p.Proto, p.Src, p.Dst)
				}
			}
			if want := 2 * 1200; seen != want {
				t.Errorf("captured %d packets, want %d", seen, want)
			}
			// There is no way out.
			out, err := a.Command(soon(t), "bash", "-c", "exec 3<>/dev/tcp/192.0.2.1/80").CombinedOutput()
			if err == nil || !strings.Contains(string(out), "unreachable") {
				t.Errorf("the world outside: %v: %s", err, out)
			}
		})
	}
}

func TestRate(t *testing.T) {
	n := network(t, Bridge)
	a, b := host(t, n, "a"), host(t, n, "b")
	if err := a.Rate(t.Context(), 1000); err != nil {
		t.Fatal(err)
	}
	cmd := a.Command(soon(t), "bash", "-c", fmt.Sprintf(
		"head -c 200000 /dev/zero > /dev/tcp/%s/80", b.Addr()))
	listener := b.Command(soon(t), "python3", "-c",
		"import socket\ns=socket.create_server(('0.0.0.0',80))\nprint('ready',flush=True)\nc,_=s.accept()\nn=0\n"+
			"while True:\n d=c.recv(65536)\n if not d: break\n n+=len(d)\nprint(n)")
	stdout, err := listener.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Start(); err != nil {
		t.Skipf("no python3: %v", err)
	}
	defer func() { _ = listener.Wait() }()
	said := bufio.NewReader(stdout)
	if _, err := said.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if line, err := said.ReadString('\n'); err != nil || line != "200000\n" {
		t.Fatalf("received %q, %v", line, err)
	}
	if d := time.Since(begun); d < 1400*time.Millisecond || d > 10*time.Second {
		t.Errorf("200 kB at 1 Mbit/s took %v", d)
	}
	if err := a.Rate(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
}

// A lab whose process died leaves namespaces and processes; the next removes
// them and nothing else.
func TestSweep(t *testing.T) {
	n := network(t, Bridge)
	host(t, n, "keep")
	dead := exec.CommandContext(t.Context(), "true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	stale := fmt.Sprintf("%s%dx0-a", netPrefix, dead.ProcessState.Pid())
	if err := tool(t.Context(), "ip", "netns", "add", stale); err != nil {
		t.Fatal(err)
	}
	orphan := exec.CommandContext(t.Context(), "ip", "netns", "exec", stale, "sleep", "60")
	if err := orphan.Start(); err != nil {
		t.Fatal(err)
	}
	for {
		pids, _ := command(soon(t), "ip", "netns", "pids", stale).Output()
		if len(pids) > 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	network(t, Bridge)
	if err := orphan.Wait(); err == nil {
		t.Error("a process of a dead lab lives on")
	}
	names, err := namespaces(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if names[stale] {
		t.Error("a namespace of a dead lab is still there")
	}
	if !names[n.name+"-keep"] || !names[n.name+"-core"] {
		t.Error("a namespace of a living lab has gone")
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
	names, _ = namespaces(t.Context())
	if names[n.name+"-keep"] || names[n.name+"-core"] {
		t.Error("Close left a namespace")
	}
}

const labChild = "TEAHOUSE_LAB_CHILD"

// TestMain lets the test binary be the lab of TestSignal, or of a test that
// kills it.
func TestMain(m *testing.M) {
	switch os.Getenv(labChild) {
	case "":
		os.Exit(m.Run())
	case labChildInternet:
		childMakesInternet()
		return
	case labChildPunch:
		childPunches()
		return
	}
	n, err := NewNet(context.Background(), Bridge)
	if err == nil {
		_, err = n.Host(context.Background(), "a")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("{\"event\":\"ready\",\"name\":%q}\n", n.name)
	time.Sleep(time.Minute)
}

// A lab that is told to end removes its namespaces first.
func TestSignal(t *testing.T) {
	network(t, Bridge)
	p := start(t, Spec{Path: os.Args[0], Env: []string{labChild + "=1"}})
	e, err := p.WaitEvent(soon(t), func(e Event) bool { return e.Name == "ready" })
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code, err := p.Wait(soon(t)); err != nil || code != -1 {
		t.Errorf("exit code %d, %v; want death by the signal", code, err)
	}
	names, err := namespaces(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name := range names {
		if strings.HasPrefix(name, e.Text("name")+"-") {
			t.Errorf("%s is still there", name)
		}
	}
}
