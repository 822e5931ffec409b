//go:build lab

package scenario

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"teahouse/internal/lab"
)

// A community's own network from nothing (issue 5, item 1): by the commands
// that `network create` prints, and no others.

// village is a founder and guests on hosts of a routed internet. Nobody names a
// home, a peer or an address to listen on: each has a HOME of their own, and
// listens where the program chooses.
type village struct {
	*stage
	founder *lab.Host
	bin     string // a directory with the program in it, by its name
	next    map[string]string
}

func newVillage(t *testing.T, n *lab.Net) *village {
	t.Helper()
	return newVillageOn(t, host(t, n, "founder"))
}

// newVillageOn is newVillage, with the founder at a host.
func newVillageOn(t *testing.T, founder *lab.Host) *village {
	t.Helper()
	v := &village{stage: newStage(t), founder: founder}
	v.bin = filepath.Join(v.dir, "bin")
	must(t, os.Mkdir(v.bin, 0o755))
	must(t, os.Symlink(v.program, filepath.Join(v.bin, "teahouse")))
	out := v.shell(t, v.founder, "founder", "teahouse network create 'the village'")
	v.next = map[string]string{}
	for who, what := range map[string]string{"founder": "You, on this machine,", "helper": "Your first helper,", "guest": "Your first guest:"} {
		_, after, ok := strings.Cut(out, what)
		command := regexp.MustCompile(`(?m)^    (.*)$`).FindStringSubmatch(after)
		if !ok || command == nil {
			t.Fatalf("network create tells the %s nothing:\n%s", who, out)
		}
		v.next[who] = command[1]
	}
	return v
}

func (v *village) home(who string) string { return filepath.Join(v.dir, who) }

// env is a person's environment: their HOME, and the program by its name.
func (v *village) environment(who string) []string {
	return []string{
		"HOME=" + v.home(who), "PATH=" + v.bin + ":" + os.Getenv("PATH"), "NO_COLOR=1",
		"XDG_CONFIG_HOME=", "XDG_DATA_HOME=", "XDG_STATE_HOME=", "XDG_RUNTIME_DIR=",
	}
}

// shell runs what somebody types, to its end.
func (v *village) shell(t *testing.T, h *lab.Host, who, command string) string {
	t.Helper()
	must(t, os.MkdirAll(v.home(who), 0o700))
	cmd := h.Command(within(t, time.Minute), "sh", "-c", command)
	cmd.Env, cmd.Dir = append(os.Environ(), v.environment(who)...), v.home(who)
	out, err := cmd.Output()
	if err != nil {
		stderr := ""
		if exit, ok := err.(*exec.ExitError); ok {
			stderr = string(exit.Stderr)
		}
		t.Fatalf("%s: %s: %v\n%s%s", who, command, err, out, stderr)
	}
	return string(out)
}

// types starts what somebody types and does not wait for its end. what is
// added to it tells this test what happens, and gives a microphone and a
// speaker to a machine without a sound card.
func (v *village) types(t *testing.T, h *lab.Host, who, command string, added ...string) *actor {
	t.Helper()
	must(t, os.MkdirAll(v.home(who), 0o700))
	// exec, so that signals reach the program and not the shell.
	words := strings.Split(command, " && ")
	words[len(words)-1] = "exec " + words[len(words)-1] + " " + strings.Join(append(added, "--json"), " ")
	p, err := lab.Start(lab.Spec{Host: h, Path: "sh", Args: []string{"-c", strings.Join(words, " && ")}, Env: v.environment(who), Dir: v.home(who)})
	must(t, err)
	a := &actor{Process: p, home: v.home(who)}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s: exit code %s\n%s", who, exitOf(p), p.Stderr())
			for _, e := range p.Events() {
				if e.Name != "stats" {
					t.Logf("  %s %v %v", e.Seen.Format("05.000"), e.Name, e.Fields)
				}
			}
		}
	})
	return a
}

// meets waits until somebody's node knows another of its network.
func (v *village) meets(t *testing.T, h *lab.Host, who string) {
	t.Helper()
	limit := soon(t)
	for {
		var status struct{ Nodes int }
		must(t, json.Unmarshal([]byte(v.shell(t, h, who, "teahouse ctl status")), &status))
		if status.Nodes > 0 {
			return
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-limit.Done():
			t.Fatalf("%s meets nobody", who)
		}
	}
}

// revision waits until the actor goes by a revision.
func (a *actor) revision(t *testing.T, number float64) {
	t.Helper()
	a.event(t, "descriptor", func(e lab.Event) bool { return e.Number("revision") == number })
}

// From nothing to a talk of two guests, by what `network create` prints.
func TestNetworkFromNothing(t *testing.T) {
	n := network(t, lab.Routed)
	v := newVillage(t, n)
	begun := time.Now() // the program is built, and the network created
	boot := v.types(t, v.founder, "founder", v.next["founder"])
	addrs := boot.event(t, "listening", nil).Texts("addrs")
	if !slices.ContainsFunc(addrs, func(a string) bool {
		return strings.HasPrefix(a, "/ip4/"+v.founder.Addr().String()+"/udp/7654/quic-v1/p2p/")
	}) {
		t.Fatalf("the founder's bootstrap is at %v", addrs)
	}
	// The helper's machine becomes a second bootstrap, of the same network.
	hostHelper := host(t, n, "helper")
	helper := v.types(t, hostHelper, "helper", v.next["helper"])
	helper.event(t, "listening", nil)
	v.meets(t, hostHelper, "helper")
	one := v.types(t, host(t, n, "one"), "one", v.next["guest"], "--mic", "tone:440", "--speaker", "none")
	two := v.types(t, host(t, n, "two"), "two", v.next["guest"], "--mic", "tone:880", "--speaker", "none")
	first, second := one.member(t), two.member(t)
	two.hears(t, first)
	one.hears(t, second)
	t.Logf("from nothing to a talk: %v", time.Since(begun).Round(time.Millisecond))
	for _, a := range []*actor{one, two} {
		if from := a.event(t, "joined", nil); from.Text("name") != "tea" {
			t.Errorf("the guests are in %v", from.Fields)
		}
		a.leaves(t)
	}
	helper.leaves(t)
	boot.leaves(t)
}

// The bootstrap is gone; the founder signs another address. One guest gets the
// new link by hand and the other learns it from them, then a newcomer starts
// from the new place.
func TestNetworkMoves(t *testing.T) {
	n := network(t, lab.Routed)
	v := newVillage(t, n)
	boot := v.types(t, v.founder, "founder", v.next["founder"])
	boot.event(t, "listening", nil)
	hostOne, hostTwo := host(t, n, "one"), host(t, n, "two")
	one := v.types(t, hostOne, "one", v.next["guest"], "--mic", "tone:440", "--speaker", "none")
	two := v.types(t, hostTwo, "two", v.next["guest"], "--mic", "none", "--speaker", "none")
	member := one.member(t)
	two.hears(t, member)
	boot.Kill()
	must(t, v.founder.Renumber(soon(t)))
	now := v.founder.Addr().String()
	v.shell(t, v.founder, "founder", "teahouse network revise --bootstrap "+now)
	invite := v.shell(t, v.founder, "founder", "teahouse network invite --json")
	var link struct{ Link string }
	must(t, json.Unmarshal([]byte(invite), &link))
	// No bootstrap runs: what guest two learns it learns from guest one.
	v.shell(t, hostOne, "one", "printf %s "+link.Link+" | teahouse network join -")
	one.revision(t, 2)
	two.revision(t, 2)
	if list := v.shell(t, hostTwo, "two", "teahouse network show"); !strings.Contains(list, now) {
		t.Errorf("guest two has not stored it:\n%s", list)
	}
	// The new place is where the descriptor says, with the identity of before,
	// and a newcomer with the new link meets the talk by it.
	again := v.types(t, v.founder, "founder", v.next["founder"])
	again.event(t, "listening", nil)
	three := v.types(t, host(t, n, "three"), "three", strings.Replace(v.next["guest"], linkIn(t, v.next["guest"]), link.Link, 1), "--mic", "none", "--speaker", "none")
	three.hears(t, member)
	for _, a := range []*actor{one, two, three, again} {
		a.leaves(t)
	}
}

func linkIn(t *testing.T, command string) string {
	t.Helper()
	link := regexp.MustCompile(`teahouse:net/[a-z2-7]+`).FindString(command)
	if link == "" {
		t.Fatalf("no link in %q", command)
	}
	return link
}
