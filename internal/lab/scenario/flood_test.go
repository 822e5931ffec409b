//go:build lab

package scenario

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"teahouse/internal/lab"
	"teahouse/internal/lab/hostile"
	"teahouse/node"
	"teahouse/room"
)

// heardIn is how somebody heard a voice within a part of the talk.
type heardIn struct {
	frames, lost, late, concealed float64
	delay, jitter                 float64 // the worst, ms
}

func (h heardIn) String() string {
	return fmt.Sprintf("%.0f frames, lost %.0f, late %.0f, concealed %.0f, playout delay up to %.1f ms, jitter up to %.2f ms",
		h.frames, h.lost, h.late, h.concealed, h.delay, h.jitter)
}

func (a *actor) heardBetween(member string, from, to time.Time) (h heardIn) {
	var first, last *lab.Event
	for _, e := range a.Events() {
		if e.Name != "stats" || e.Text("member") != member || e.Seen.Before(from.Add(-time.Second)) || e.Seen.After(to.Add(time.Second)) {
			continue
		}
		if first == nil {
			first = &e
		} else {
			h.delay, h.jitter = max(h.delay, e.Number("delay_ms")), max(h.jitter, e.Number("jitter_ms"))
		}
		last = &e
	}
	if first == nil {
		return h
	}
	d := func(name string) float64 { return last.Number(name) - first.Number(name) }
	h.frames, h.lost, h.late, h.concealed = d("received"), d("lost"), d("late"), d("concealed")
	return h
}

// rss is the resident memory of a process, bytes.
func rss(t *testing.T, pid int) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			must(t, err)
			return kb << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// peak samples the memory of a process until stop is called.
func peak(t *testing.T, pid int) (stop func() int64) {
	t.Helper()
	var most int64
	end := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			most = max(most, rss(t, pid))
			select {
			case <-tick.C:
			case <-end:
				return
			}
		}
	})
	return func() int64 { close(end); wg.Wait(); return most }
}

// overhear captures voice datagrams on their way to a host.
func overhear(t *testing.T, s *stage, h *lab.Host) (payloads [][]byte) {
	t.Helper()
	file := filepath.Join(s.dir, "voice.pcap")
	p, err := lab.Start(lab.Spec{Host: h, Path: "tcpdump", Args: []string{
		"-i", "eth0", "-nn", "-s", "0", "-Z", "root", "-c", "200", "-w", file, "udp and dst host " + h.Addr().String(),
	}})
	must(t, err)
	t.Cleanup(p.Kill)
	_, err = p.Wait(soon(t))
	must(t, err)
	packets, err := lab.ReadPcap(file)
	must(t, err)
	for _, p := range packets {
		if p.Proto == "udp" && len(p.Payload) > 29 && p.Payload[0] == 0x21 {
			payloads = append(payloads, p.Payload)
		}
	}
	return payloads
}

// Issue 3, item 5: two people talk, and a hostile neighbour with a host of his
// own does to one of them all that he can: as a stranger by datagrams, as a
// neighbour by connections, streams and gossip, as somebody who knows the topic
// by sessions. He runs on one processor and the two run before him (see
// newSoundStage), so that what is measured is what he sends and not his share
// of the machine.
func TestFloods(t *testing.T) {
	s := newSoundStage(t)
	program := neighbour(t, s)
	n := network(t, lab.Routed)
	boot, ha, hb, hm := host(t, n, "boot"), host(t, n, "a"), host(t, n, "b"), host(t, n, "mallory")
	_, wav := speech(t, s.dir, "demo-instruct", 12*time.Second)
	s.bootstrap(t, boot)
	victim := s.join(t, hb, "victim", "loop:"+wav, "record")
	other := s.join(t, ha, "other", "loop:"+wav, "none")
	him, her := other.member(t), victim.member(t)
	victim.hears(t, him)
	other.hears(t, her)
	nw, err := node.AdHocNetwork(s.network)
	must(t, err)
	secret, err := room.OpenSecret(s.topic, nw.Secret)
	must(t, err)
	l := lurker{secret: secret}
	where := peerOf(t, victim)
	base := hostile.Order{
		Bind: hm.Addr().String(), Peer: []byte(where.ID), Addrs: where.Addrs,
		Network: s.network, Door: l.derive(t, "teahouse session 1"),
	}
	base.Overheard = overhear(t, s, hb)
	if len(base.Overheard) < 50 {
		t.Fatalf("only %d datagrams were overheard", len(base.Overheard))
	}

	quietFrom := time.Now()
	time.Sleep(5 * time.Second)
	quiet := victim.heardBetween(him, quietFrom, time.Now())
	before := rss(t, victim.Pid())
	t.Logf("before: %v; memory %d KiB", quiet, before>>10)
	if quiet.frames < 200 {
		t.Fatalf("there is no talk: %v", quiet)
	}
	calm := len(victim.Events())
	f := floods{victim: victim, member: him, quiet: quiet, before: before, mallory: hm, program: program, base: base}

	for _, phase := range []struct {
		attacks []string
		dropped bool // all of them
		silent  bool // nothing may come back
	}{
		{attacks: []string{"resent", "forged"}, silent: true},
		{attacks: []string{"unknown", "malformed", "quic"}},
		{attacks: []string{"junk"}},
		{attacks: []string{"streams", "pings", "attempts", "lengths"}, dropped: true},
		{attacks: []string{"records", "subscriptions", "broadcasts", "ihave"}, dropped: true},
		{attacks: []string{"stalls", "packets"}, dropped: true},
		// The last, because afterwards this address may connect once a second.
		{attacks: []string{"half", "connects"}},
	} {
		// What other programs of a busy machine do comes and goes: what is the
		// attack's is there each time.
		harm := f.play(t, phase.attacks, phase.dropped, phase.silent)
		for try := 1; try < 3 && len(harm) > 0; try++ {
			t.Logf("once more, because: %v", harm)
			harm = f.play(t, phase.attacks, phase.dropped, phase.silent)
		}
		for _, h := range harm {
			t.Errorf("%s: each time %s", strings.Join(phase.attacks, ", "), h)
		}
	}
	for _, e := range victim.Events()[calm:] {
		if e.Name == "link" {
			t.Errorf("the link has moved: %v", e.Fields)
		}
		if e.Name == "member" && e.Text("member") != him && e.Text("member") != her {
			t.Errorf("somebody is in the room: %v", e.Fields)
		}
	}
	if !talks(victim) || !talks(other) {
		t.Error("the talk has ended")
	}
	other.leaves(t)
	victim.leaves(t)
}

// floods is what stays the same from one attack to the next.
type floods struct {
	victim  *actor
	member  string // whom the victim hears
	quiet   heardIn
	before  int64 // the victim's memory, bytes
	mallory *lab.Host
	program string
	base    hostile.Order
}

// floodFor is how long one attack goes on.
const floodFor = 4 * time.Second

// floodRate is how many datagrams a second one flood sends at most. Two or
// three go on at a time. With 0 it is all that one processor sends, 1.5 million
// a second; what that does is in docs/measurements.md.
var floodRate = flag.Int("floods.rate", 60_000, "TestFloods: datagrams a second of each flood at most; 0: all that goes")

// play lets attacks go on together, and tells what harm they did that may be
// the machine's.
func (f *floods) play(t *testing.T, attacks []string, dropped, silent bool) (harm []string) {
	t.Helper()
	name := strings.Join(attacks, ", ")
	o := f.base
	o.Attacks, o.For, o.Rate = attacks, floodFor, *floodRate
	mallory := f.hostileProcess(t, o)
	stop := peak(t, f.victim.Pid())
	begun := time.Now()
	must(t, mallory.Write("go\n"))
	code, err := mallory.Wait(soon(t))
	must(t, err)
	if code != 0 {
		t.Fatalf("%s: the hostile process ended with %d: %s %v", name, code, mallory.Stderr(), mallory.Lines())
	}
	time.Sleep(time.Until(begun.Add(floodFor))) // attackers that were dropped have ended
	grown := stop() - f.before
	heard := f.victim.heardBetween(f.member, begun, begun.Add(floodFor))
	t.Logf("%s: %v; memory %+d KiB", name, heard, grown>>10)
	if grown > 32<<20 {
		t.Errorf("%s: memory grew by %d KiB", name, grown>>10)
	}
	reports := 0
	for _, e := range mallory.Events() {
		if e.Name != "attack" {
			continue
		}
		reports++
		attack := e.Text("attack")
		t.Logf("  %s: sent %.0f, dropped after %.0f ms, came back %.0f times, answers %.0f %s",
			attack, e.Number("sent"), e.Number("dropped_ms"), e.Number("returned"), e.Number("answers"), e.Text("error"))
		if e.Text("error") != "" || e.Number("sent") == 0 {
			t.Errorf("%s did nothing: the test tests nothing", attack)
		}
		drops := dropped && attack != "stalls" // who holds what anybody may
		if ms := e.Number("dropped_ms"); drops && (ms == 0 || ms > 2000) {
			harm = append(harm, fmt.Sprintf("%s was dropped after %.0f ms, not within 2 s", attack, ms))
		}
		if drops && e.Number("returned") > 0 {
			t.Errorf("%s: came back", attack)
		}
		if silent && e.Number("answers") > 0 {
			t.Errorf("%s: %.0f datagrams came back", attack, e.Number("answers"))
		}
	}
	if reports != len(attacks) {
		t.Errorf("%s: %d reports", name, reports)
	}
	// The playout's delay is where all but 1 % of the frames have come; with
	// that and less than 1 % more frames missing, the p99 of what they took has
	// risen by no more than the delay has.
	if more := heard.delay - f.quiet.delay; more > 20 {
		harm = append(harm, fmt.Sprintf("the playout had to wait %.1f ms longer", more))
	}
	if part := heard.lost / max(heard.frames, 1); heard.frames < 120 || part > f.quiet.lost/f.quiet.frames+0.01 {
		harm = append(harm, fmt.Sprintf("%.1f %% of the frames did not come in time: %v", 100*part, heard))
	}
	return harm
}

// neighbour builds the hostile program.
func neighbour(t *testing.T, s *stage) (program string) {
	t.Helper()
	program = filepath.Join(s.dir, "neighbour")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "teahouse/internal/lab/hostile/neighbour").CombinedOutput()
	if err != nil {
		t.Fatalf("build the hostile neighbour: %v: %s", err, out)
	}
	return program
}

// hostileProcess starts a hostile process, which waits for a word.
func (f *floods) hostileProcess(t *testing.T, o hostile.Order) *lab.Process {
	t.Helper()
	text, err := json.Marshal(o)
	must(t, err)
	p, err := lab.Start(lab.Spec{Host: f.mallory, Path: f.program, Env: []string{"GOMAXPROCS=1"}})
	must(t, err)
	t.Cleanup(p.Kill)
	must(t, p.Write(string(text)+"\n"))
	_, err = p.WaitEvent(soon(t), func(e lab.Event) bool { return e.Name == "ready" })
	must(t, err)
	return p
}
