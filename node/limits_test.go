package node

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"

	"teahouse/internal/mesh"
)

var epoch = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func TestBucket(t *testing.T) {
	// What passes of a steady load in 10 s, and whether the session ends.
	for _, c := range []struct {
		perSecond, size int
		least, most     int
		abusive         bool
	}{
		{50, 200, 500, 500, false},
		{399, 200, 3990, 3990, false},
		{800, 200, 3900, 4100, true},
		{390, mesh.MaxPacket, 3900, 3900, false},
	} {
		var b bucket
		passed, abusiveAt := 0, -1
		for i := range 10 * c.perSecond {
			ok, abusive := b.take(epoch.Add(time.Duration(i)*time.Second/time.Duration(c.perSecond)), c.size)
			if ok {
				passed++
			}
			if abusive && abusiveAt < 0 {
				abusiveAt = i
			}
		}
		if passed < c.least || passed > c.most || (abusiveAt >= 0) != c.abusive {
			t.Errorf("%d/s of %d bytes: %d passed, abusive at %d", c.perSecond, c.size, passed, abusiveAt)
		}
		if after := time.Duration(abusiveAt) * time.Second / time.Duration(c.perSecond); c.abusive && (after < bucketPatience || after > bucketPatience+time.Second) {
			t.Errorf("ended after %v", after)
		}
	}
	var b bucket
	if ok, _ := b.take(epoch, 200<<10); ok {
		t.Error("more bytes than the burst passed")
	}
	for i := range 41 {
		if ok, _ := b.take(epoch, 10); ok != (i < 40) {
			t.Errorf("packet %d of a burst: %v", i, ok)
		}
	}
	// What waited while this machine was asleep is none, a flood is.
	var woken bucket
	for i := range bucketAmount + 100 {
		if _, abusive := woken.take(epoch, 10); abusive != (i >= bucketAmount+39) {
			t.Fatalf("abusive after %d at once: %v", i+1, abusive)
		}
	}
	// A burst over the limit now and then is no abuse.
	for i := range 100 {
		now := epoch.Add(time.Duration(i) * time.Second)
		for range 60 {
			if _, abusive := b.take(now, 10); abusive {
				t.Fatal("short bursts were called abuse")
			}
		}
	}
}

func TestThrottle(t *testing.T) {
	var th throttle
	bad, good := netip.MustParseAddrPort("44.0.0.1:1"), netip.MustParseAddrPort("44.0.0.2:1")
	for i := range failedOpens {
		if th.ignore(bad, epoch) {
			t.Fatalf("ignored after %d", i)
		}
		th.fail(bad, epoch)
	}
	if th.ignore(bad, epoch) {
		t.Error("ignored at the limit")
	}
	th.fail(bad, epoch)
	if !th.ignore(bad, epoch) || th.ignore(good, epoch) {
		t.Error("the wrong source is ignored")
	}
	if th.ignore(bad, epoch.Add(time.Second)) {
		t.Error("ignored in the next second")
	}
	// Another port, or another address of one /64, is the same source.
	same := epoch.Add(4 * time.Second)
	for i := range failedOpens + 1 {
		th.fail(netip.MustParseAddrPort(fmt.Sprintf("[2a00:1:2:3::%x]:%d", i+1, i+1)), same)
	}
	if !th.ignore(netip.MustParseAddrPort("[2a00:1:2:3:ffff::1]:9"), same) || th.ignore(netip.MustParseAddrPort("[2a00:1:2:4::1]:9"), same) {
		t.Error("a /64 is not one source")
	}
	// More sources than can be told apart are bounded together.
	many := epoch.Add(6 * time.Second)
	for i := range failedInAll + 1 {
		th.fail(netip.AddrPortFrom(netip.AddrFrom4([4]byte{2, byte(i >> 16), byte(i >> 8), byte(i)}), 9), many)
	}
	if !th.ignore(netip.MustParseAddrPort("3.0.0.1:1"), many) || th.ignore(netip.MustParseAddrPort("3.0.0.1:1"), many.Add(time.Second)) {
		t.Error("forged sources are not bounded, or for ever")
	}
	for i := range 5 * throttleSources {
		for range 3 {
			th.fail(netip.AddrPortFrom(netip.AddrFrom4([4]byte{1, 2, byte(i >> 8), byte(i)}), 9), epoch.Add(2*time.Second))
		}
	}
	if len(th.failed) > throttleSources {
		t.Errorf("%d sources", len(th.failed))
	}
}

func TestStanding(t *testing.T) {
	var s standing
	p := peer.ID(idOf(1))
	if s.at(p, epoch) != 0 {
		t.Error("a fault from nothing")
	}
	s.penalise(p, epoch)
	if got := s.at(p, epoch); got != -faultWeight {
		t.Errorf("score %v", got)
	}
	if got := s.at(p, epoch.Add(faultHalfLife)); got < -5.01 || got > -4.99 {
		t.Errorf("after its half-life %v", got)
	}
	for range 20 {
		s.penalise(p, epoch)
	}
	if s.at(p, epoch) > shunBelow {
		t.Error("not shunned")
	}
	for i := range 3 * maxFaulty {
		s.penalise(peer.ID(fmt.Sprint(i)), epoch)
	}
	if len(s.faults) > maxFaulty || s.at(p, epoch) > shunBelow {
		t.Errorf("%d faults kept, the worst at %v", len(s.faults), s.at(p, epoch))
	}
}

func TestChecker(t *testing.T) {
	var c checker
	now := epoch
	step := func(answer bool) (good bool) {
		token := c.ask(now)
		now = now.Add(30 * time.Millisecond)
		if answer {
			c.answered(token, now)
		}
		now = now.Add(970 * time.Millisecond)
		good, _ = c.judge(now)
		return good
	}
	if good, proven := c.judge(now); !good || proven {
		t.Error("a path is not good until shown otherwise")
	}
	for range 3 {
		if !step(true) {
			t.Error("bad though it answers")
		}
	}
	if c.rtt() != 30*time.Millisecond {
		t.Errorf("rtt %v", c.rtt())
	}
	for i, want := range []bool{true, true, true, false, false} {
		if good := step(false); good != want && i != 2 { // at 3 s either will do
			t.Errorf("after %d s of silence: good %v", i+1, good)
		}
	}
	for i, want := range []bool{false, false, true} {
		if good := step(true); good != want {
			t.Errorf("good %v after %d answers", good, i+1)
		}
	}
	if rtt, _ := c.answered(12345, now); rtt != 0 {
		t.Error("an answer to what was never asked counts")
	}
	if rtt, _ := c.answered(0, now); rtt != 0 {
		t.Error("an answer to nothing counts")
	}
	c.forget()
	for range 2 {
		step(false)
	}
	if good, _ := c.judge(now); good {
		t.Error("an unproven path is good for ever")
	}
}

func TestSendQueue(t *testing.T) {
	q := newSendQueue()
	for _, c := range []mesh.Priority{mesh.Bulk, mesh.Chat, mesh.Urgent, mesh.Roster, mesh.Urgent} {
		if err := q.push(c, []byte{byte(c)}); err != nil {
			t.Fatal(err)
		}
	}
	var got []byte
	for m := q.pop(); m != nil; m = q.pop() {
		got = append(got, m[2])
	}
	if string(got) != "\x00\x00\x01\x02\x03" {
		t.Errorf("order %v", got)
	}
	n := 0
	for q.push(mesh.Bulk, make([]byte, mesh.MaxMessage)) == nil {
		n++
	}
	if n != maxQueued/mesh.MaxMessage {
		t.Errorf("%d messages of the largest size wait", n)
	}
	if err := q.push(mesh.Urgent, make([]byte, mesh.MaxMessage)); err != nil {
		t.Errorf("urgent, with the queue full of others: %v", err)
	}
	for range 3 {
		_ = q.push(mesh.Urgent, make([]byte, mesh.MaxMessage))
	}
	if err := q.push(mesh.Urgent, make([]byte, mesh.MaxMessage)); !errors.Is(err, mesh.ErrBusy) {
		t.Errorf("beyond the reserve: %v", err)
	}
}

func subscribe(names ...string) []*pb.RPC_SubOpts {
	var out []*pb.RPC_SubOpts
	for _, n := range names {
		yes := true
		out = append(out, &pb.RPC_SubOpts{Subscribe: &yes, Topicid: &n})
	}
	return out
}

func TestTopicFilter(t *testing.T) {
	f := newTopicFilter()
	p := peer.ID("p")
	if err := f.allow("ours"); err != nil {
		t.Fatal(err)
	}
	if !f.CanSubscribe("ours") || f.CanSubscribe("theirs") {
		t.Error("the allowlist is not held")
	}
	kept := 0
	for i := range 1000 {
		out, err := f.FilterIncomingSubscriptions(p, subscribe(fmt.Sprintf("t%d", i)))
		if err != nil {
			t.Fatal(err)
		}
		kept += len(out)
	}
	if kept != maxOthers {
		t.Errorf("%d foreign topics of one peer kept", kept)
	}
	if out, _ := f.FilterIncomingSubscriptions(p, subscribe("ours")); len(out) != 1 {
		t.Error("our own topic counts as foreign")
	}
	no := false
	name := "t0"
	if out, _ := f.FilterIncomingSubscriptions(p, []*pb.RPC_SubOpts{{Subscribe: &no, Topicid: &name}}); len(out) != 1 {
		t.Error("an unsubscription was left out")
	}
	if out, _ := f.FilterIncomingSubscriptions(p, subscribe("new")); len(out) != 1 {
		t.Error("no room after an unsubscription")
	}
	long := string(make([]byte, maxTopicLen+1))
	if out, _ := f.FilterIncomingSubscriptions("q", subscribe(long)); len(out) != 0 {
		t.Error("a long name was kept")
	}
	if _, err := f.FilterIncomingSubscriptions("q", make([]*pb.RPC_SubOpts, maxSubsPerRPC+1)); err == nil {
		t.Error("a message of too many subscriptions was taken")
	}
	f.OnClosedOutboundStream(p)
	if len(f.others) != 0 {
		t.Errorf("%d peers remembered", len(f.others))
	}
}
