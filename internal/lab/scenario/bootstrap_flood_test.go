//go:build lab

package scenario

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"teahouse/internal/lab"
	"teahouse/internal/lab/hostile"
)

var (
	crowdFor   = flag.Duration("crowd.for", 10*time.Second, "TestBootstrapFlood: how long it goes on")
	crowdSize  = flag.Int("crowd.size", 500, "TestBootstrapFlood: identities at a time")
	crowdRate  = flag.Int("crowd.rate", 10_000, "TestBootstrapFlood: streams a second")
	crowdHosts = flag.Int("crowd.hosts", 4, "TestBootstrapFlood: addresses that they come from")
)

// bootstrapMemory is what a small machine has.
const bootstrapMemory = 512 << 20

// peakRSS is the most memory that a process has had, bytes, cgo's too.
func peakRSS(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			must(t, err)
			return kb << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}

// Issue 5: a bootstrap node under hostile load. 500 identities from four
// addresses open 10,000 streams a second on it, subscribe to topics, put
// records, leave requests half said, and come back as others when they are
// dropped; beside them goes all that comes without a connection. It stays within
// 512 MiB, and people join meanwhile.
func TestBootstrapFlood(t *testing.T) {
	s := newStage(t)
	program := neighbour(t, s)
	n := network(t, lab.Routed)
	boot, home := host(t, n, "boot"), host(t, n, "home")
	b := s.bootstrap(t, boot)
	calm := rss(t, b.Pid())
	joins := []time.Duration{s.joinsAndFinds(t, home, "calm")}

	target := peerOf(t, b)
	base := hostile.Order{
		For: *crowdFor, Peer: []byte(target.ID), Addrs: target.Addrs, Network: s.network, Door: make([]byte, 32),
		Crowd: hostile.Crowd{Identities: *crowdSize / *crowdHosts, Rate: *crowdRate / *crowdHosts},
	}
	var crowd []*lab.Process
	for i := range *crowdHosts {
		h := host(t, n, fmt.Sprintf("crowd%d", i))
		o := base
		o.Bind = h.Addr().String()
		o.Attacks = []string{"crowd"}
		if i == 0 {
			o.Attacks, o.Rate = append(o.Attacks, "quic", "malformed", "unknown", "half"), 20_000
		}
		crowd = append(crowd, (&floods{mallory: h, program: program}).hostileProcess(t, o))
	}
	for _, p := range crowd {
		must(t, p.Write("go\n"))
	}
	begun := time.Now()
	time.Sleep(2 * time.Second)
	for i := 0; i < 2 || time.Since(begun) < *crowdFor-3*time.Second; i++ {
		joins = append(joins, s.joinsAndFinds(t, home, fmt.Sprint("guest", i)))
	}
	sum := map[string]float64{}
	for _, p := range crowd {
		code, err := p.Wait(within(t, *crowdFor+patience))
		must(t, err)
		if code != 0 {
			t.Fatalf("a hostile process ended with %d: %s", code, p.Stderr())
		}
		for _, e := range p.Events() {
			if e.Name != "attack" {
				continue
			}
			t.Logf("  %s: sent %.0f %s", e.Text("attack"), e.Number("sent"), e.Text("error"))
			if e.Text("error") != "" || e.Number("sent") == 0 {
				t.Errorf("%s did nothing: the test tests nothing: %s", e.Text("attack"), e.Text("error"))
			}
			for _, k := range []string{"identities", "streams", "refused", "subscriptions", "records"} {
				sum[k] += e.Number(k)
			}
		}
	}
	peak := peakRSS(t, b.Pid())
	t.Logf("%.0f identities, %.0f streams a second opened and %.0f refused, %.0f subscriptions, %.0f records; memory %d MiB before, %d MiB at most; joins: calm %v, then %v",
		sum["identities"], sum["streams"]/crowdFor.Seconds(), sum["refused"]/crowdFor.Seconds(), sum["subscriptions"], sum["records"],
		calm>>20, peak>>20, joins[0].Round(time.Millisecond), joins[1:])
	if peak >= bootstrapMemory {
		t.Errorf("the bootstrap took %d MiB", peak>>20)
	}
	b.leaves(t)
}

// joinsAndFinds is how long somebody who is there and somebody who comes take to
// meet, from the newcomer's start.
func (s *stage) joinsAndFinds(t *testing.T, h *lab.Host, name string) time.Duration {
	t.Helper()
	begun := time.Now()
	first := s.join(t, h, name+"-1", "silence", "none", "--peer", s.peerTCP)
	second := s.join(t, h, name+"-2", "silence", "none", "--peer", s.peerTCP)
	second.event(t, "member", func(e lab.Event) bool { return e.Text("state") == "in" })
	took := time.Since(begun)
	first.leaves(t)
	second.leaves(t)
	return took
}
