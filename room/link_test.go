package room

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"teahouse/internal/mesh"
)

// TestReportsMeasure: two links that report to each other know the round trip
// and whether they are heard.
func TestReportsMeasure(t *testing.T) {
	onStage(t, mesh.MemoryConfig{Wire: mesh.Wire{Latency: 30 * time.Millisecond}}, func(t *testing.T, s *stage) {
		a, b := s.enter("a"), s.enter("b")
		s.gather(5 * time.Second)
		s.talk(200, a)
		for _, p := range s.people {
			links := p.room.Links()
			if len(links) != 1 {
				t.Fatalf("%s has %d links", p.name, len(links))
			}
			if l := links[0]; !l.Up || !l.Hears || l.RTT < 55*time.Millisecond || l.RTT > 70*time.Millisecond {
				t.Errorf("%s: up %v, hears %v, round trip %v", p.name, l.Up, l.Hears, l.RTT)
			}
		}
		if l := b.room.Links()[0]; l.Received != 200 || l.Lost != 0 || l.Member != a.member() {
			t.Errorf("b received %d, lost %d of %x", l.Received, l.Lost, l.Member[:3])
		}
		if l := a.room.Links()[0]; l.PeerReceived != 200 || l.PeerLost != 0 {
			t.Errorf("a was told that %d were received, %d lost", l.PeerReceived, l.PeerLost)
		}
		// A path that is gone for long is not believed to be heard.
		s.memory.Partition([]mesh.PeerID{a.node.Self().ID})
		time.Sleep(reportSilence + time.Second)
		synctest.Wait()
		if n := a.room.Hearers(); n != 0 {
			t.Errorf("heard by %d over a cut wire", n)
		}
		if a.room.Links()[0].Up {
			t.Error("the link is shown as up over a cut wire")
		}
	})
}

// TestRepairMeetsLoss: at 20 and 30 % loss less than about 1 % of frames stay
// lost, once the reports have told of it.
func TestRepairMeetsLoss(t *testing.T) {
	for _, loss := range []float64{0, 0.05, 0.20, 0.30} {
		cfg := mesh.MemoryConfig{Seed: 5, Wire: mesh.Wire{Latency: 20 * time.Millisecond, Loss: loss}}
		onStage(t, cfg, func(t *testing.T, s *stage) {
			a, b := s.enter("a"), s.enter("b")
			s.gather(10 * time.Second)
			s.talk(300, a) // until the depth has settled
			b.numbers(a)
			before := a.said
			s.talk(3000, a)
			heard := b.numbers(a)
			lost := float64(len(gaps(heard, before, a.said))) / 3000
			l := a.room.Links()[0]
			t.Logf("loss %.0f %%: depth %d, %.2f %% stay lost; b counts %d", 100*loss, l.Depth, 100*lost, b.room.Links()[0].Lost)
			if lost > 0.015 {
				t.Errorf("%.2f %% of frames stay lost at %.0f %%", 100*lost, 100*loss)
			}
			if loss == 0 && l.Depth != 0 {
				t.Errorf("depth %d without loss", l.Depth)
			}
		})
	}
}

// TestDoubledAndReordered: each frame is heard once however often it comes.
func TestDoubledAndReordered(t *testing.T) {
	cfg := mesh.MemoryConfig{Seed: 6, Wire: mesh.Wire{Latency: 5 * time.Millisecond, Jitter: 90 * time.Millisecond, Double: 0.5}}
	onStage(t, cfg, func(t *testing.T, s *stage) {
		a, b := s.enter("a"), s.enter("b")
		s.gather(10 * time.Second)
		s.talk(500, a)
		heard := b.numbers(a)
		if len(heard) != 500 || len(gaps(heard, 0, 500)) != 0 {
			t.Errorf("%d frames heard, missing %v", len(heard), gaps(heard, 0, 500))
		}
		if b.room.Stats().FramesReplayed < 100 {
			t.Error("the wire doubled nothing: the test sees nothing")
		}
	})
}

// TestJitterIsNoLoss: where packets overtake each other, a frame may come by a
// copy sent again before it comes by the one sent first; nothing is lost, and
// nothing is made of it.
func TestJitterIsNoLoss(t *testing.T) {
	cfg := mesh.MemoryConfig{Seed: 8, Wire: mesh.Wire{Latency: 20 * time.Millisecond, Jitter: 90 * time.Millisecond}}
	onStage(t, cfg, func(t *testing.T, s *stage) {
		a, b := s.enter("a"), s.enter("b")
		s.gather(10 * time.Second)
		s.talk(100, a)
		link := (*a.room.links.Load())[0]
		link.mu.Lock()
		link.repair.depth, link.repair.high = 2, time.Now()
		link.mu.Unlock()
		s.talk(1500, a)
		if l := a.room.Links()[0]; l.Depth != 0 {
			t.Errorf("depth %d after 30 s of jitter without loss", l.Depth)
		}
		if l := b.room.Links()[0]; l.Repaired < 20 || l.Lost > 0 {
			t.Errorf("%d came by copies, %d lost: the test tests something else", l.Repaired, l.Lost)
		}
	})
}

// TestReception compares with a plain count over random losses.
func TestReception(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		var r Reception
		first := random.Uint32()
		n := 100 + random.IntN(2000)
		got, direct := make([]bool, n), make([]bool, n)
		var received, repaired uint64
		for i := range n {
			for back := range 4 { // copies, as repair sends them
				j := i - back
				if j < 0 || got[j] || random.IntN(3) != 0 && i > 0 {
					continue
				}
				got[j], direct[j] = true, back == 0
				received++
				if back > 0 {
					repaired++
				}
				r.Frame(first+uint32(j), uint32(j*960), back > 0, time.Duration(i)*20*time.Millisecond)
			}
		}
		highest := n - 1
		for !got[highest] {
			highest--
		}
		var lost, unaided uint64
		for i := range max(0, highest-settleAfter) {
			if !got[i] {
				lost++
			}
			if !direct[i] {
				unaided++
			}
		}
		if r.received != received || r.repaired != repaired || r.late != 0 || r.lost != lost || r.unaided != unaided {
			t.Fatalf("counted %d received %d repaired %d late %d lost %d unaided, want %d %d 0 %d %d",
				r.received, r.repaired, r.late, r.lost, r.unaided, received, repaired, lost, unaided)
		}
		if r.highest != first+uint32(highest) {
			t.Fatal("wrong highest counter")
		}
	}
}

func TestReceptionEdges(t *testing.T) {
	var r Reception
	r.Frame(10, 0, false, 0)
	r.Frame(10+40, 40*960, false, 800*time.Millisecond) // 39 lost, of which some are judged
	if want := uint64(40 - settleAfter - 1); r.lost != want {
		t.Errorf("%d lost, want %d", r.lost, want)
	}
	r.Frame(12, 2*960, true, 900*time.Millisecond)
	if r.late != 1 {
		t.Errorf("%d late, want 1", r.late)
	}
	lost := r.lost
	r.Frame(1<<30, 0, false, time.Second) // another stream altogether
	if r.lost != lost || r.highest != 1<<30 {
		t.Errorf("a jump counted %d lost", r.lost-lost)
	}
	if r.takeLongest() == 0 {
		t.Error("no burst was seen")
	}
	var j Reception
	for i := range 1000 { // RFC 3550: alternating transit of ±d gives a jitter of 2d
		d := time.Duration(i%2) * 10 * time.Millisecond
		j.Frame(uint32(i), uint32(i*960), false, time.Duration(i)*20*time.Millisecond+d)
	}
	if j.jitter < 9900 || j.jitter > 10100 {
		t.Errorf("jitter %.0f µs, want 10000", j.jitter)
	}
}

// TestHearersAreMembers: never more hear than there are others, whatever
// becomes of links; who dies or is cut off does not count for longer than two
// seconds, and who cannot be heard by no more than three.
func TestHearersAreMembers(t *testing.T) {
	onStage(t, lan, func(t *testing.T, s *stage) {
		var na, nb *brittle
		a, b, c := s.enter("a", breakable(&na)), s.enter("b", breakable(&nb)), s.enter("c")
		s.gather(3 * time.Second)
		over := func(d time.Duration, most int) {
			t.Helper()
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				if n := a.room.Hearers(); n > most {
					t.Fatalf("%d hear a, of %d", n, most)
				}
			}
		}
		for range 3 { // new sessions beside old ones that go on
			over(11*time.Second, 2)
			n, err := b.node.Open(t.Context(), a.node.Self(), s.secret.door())
			if err != nil {
				t.Fatal(err)
			}
			b.room.adopt(n)
			over(2*time.Second, 2)
			na.shatter()
			over(2*time.Second, 2)
			s.gather(3 * time.Second)
		}
		c.leave()
		time.Sleep(10 * time.Millisecond)
		synctest.Wait()
		over(3*time.Second, 1)
		// What a says does not come to b, while what b says comes to a.
		s.memory.SetWire(a.node.Self().ID, b.node.Self().ID, mesh.Wire{Loss: 1})
		took := s.eventually(5*time.Second, "a knows that b does not hear", func() bool { return a.room.Hearers() == 0 })
		t.Logf("known %v after what a says came no more", took)
		if took > answerSilence+reportEvery {
			t.Errorf("only %v after", took)
		}
		s.memory.SetWire(a.node.Self().ID, b.node.Self().ID, lan.Wire)
		s.gather(5 * time.Second)
		b.kill()
		took = s.eventually(5*time.Second, "a knows that b is gone", func() bool { return a.room.Hearers() == 0 })
		if took > reportSilence+100*time.Millisecond {
			t.Errorf("who is dead counts for %v", took)
		}
		over(3*time.Second, 0)
	})
}
