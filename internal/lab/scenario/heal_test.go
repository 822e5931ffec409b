//go:build lab

package scenario

import (
	"strings"
	"testing"
	"time"

	"teahouse/internal/lab"
)

// Issue 3, item 4: UDP is blocked in mid-talk and free again. Voice goes on in
// TCP at once, comes back to datagrams, and the link events tell both.
func TestUDPBlocked(t *testing.T) {
	s := newStage(t)
	n := network(t, lab.Routed)
	boot, a, b := host(t, n, "boot"), host(t, n, "a"), host(t, n, "b")
	s.bootstrap(t, boot)
	listener := s.join(t, b, "listener", "none", "record")
	listener.event(t, "joined", nil)
	speaker := s.join(t, a, "speaker", "tone:440", "none")
	member := speaker.member(t)
	listener.hears(t, member)
	up := func(path string) func(lab.Event) bool {
		return func(e lab.Event) bool {
			return e.Text("member") == member && e.Text("state") == "up" && e.Text("path") == path
		}
	}
	listener.event(t, "link", up("datagram"))
	time.Sleep(3 * time.Second) // until TCP stands by
	before := listener.lastStats(member)

	cmd := n.Core().Command(t.Context(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader("table inet block { chain through { type filter hook forward priority 0; meta l4proto udp drop\n}\n}\n")
	must(t, cmd.Run())
	blocked := time.Now()
	e := listener.event(t, "link", up("stream"))
	if d := e.Seen.Sub(blocked); d > 5*time.Second || e.Text("transport") != "tcp" {
		t.Errorf("by %s over %s after %v", e.Text("path"), e.Text("transport"), d)
	}
	time.Sleep(time.Second)
	during := listener.lastStats(member)
	skip := len(listener.Events())
	must(t, n.Core().Command(t.Context(), "nft", "delete", "table", "inet", "block").Run())
	free := time.Now()
	e, err := listener.WaitEventFrom(soon(t), skip, func(e lab.Event) bool { return e.Name == "link" && up("datagram")(e) })
	must(t, err)
	if d := e.Seen.Sub(free); d > 5*time.Second {
		t.Errorf("datagrams again after %v", d)
	}
	concealed := during.Number("concealed_ms") - before.Number("concealed_ms")
	lost := during.Number("lost") - before.Number("lost")
	t.Logf("UDP blocked: %v frames lost, %v ms concealed; datagrams again after %v", lost, concealed, e.Seen.Sub(free).Round(time.Millisecond))
	if during.Number("received") <= before.Number("received") || lost > 20 {
		t.Errorf("%v frames of the change were lost, received %v, then %v", lost, before.Number("received"), during.Number("received"))
	}
	speaker.Kill()
	listener.leaves(t)
}
