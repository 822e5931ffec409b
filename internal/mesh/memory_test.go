package mesh_test

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"teahouse/internal/mesh"
	"teahouse/internal/mesh/meshtest"
)

// join opens a session from a to b, at both ends started with nothing.
func join(t *testing.T, a, b *mesh.MemoryNode) (ours, theirs mesh.Session) {
	t.Helper()
	accepted := make(chan mesh.Session, 1)
	stop, err := b.Listen(mesh.Door{1}, func(s mesh.Session) { accepted <- s })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	ours, err = a.Open(t.Context(), b.Self(), mesh.Door{1})
	if err != nil {
		t.Fatal(err)
	}
	return ours, <-accepted
}

func ignore([]byte)                          {}
func ignorePacket([]byte, time.Time)         {}
func ids(peers ...mesh.PeerID) []mesh.PeerID { return peers }

// fates sends packets 10 ms apart over a wire and tells when each arrived.
func fates(t *testing.T, cfg mesh.MemoryConfig, packets int) (arrivals map[int][]time.Duration, order []int) {
	t.Helper()
	m := mesh.NewMemory(cfg)
	defer m.Close()
	ours, theirs := join(t, m.Node(nil), m.Node(nil))
	arrivals = make(map[int][]time.Duration)
	begun := make([]time.Time, packets)
	theirs.Start(ignore, func(b []byte, at time.Time) {
		k := int(binary.BigEndian.Uint32(b))
		arrivals[k] = append(arrivals[k], at.Sub(begun[k]))
		order = append(order, k)
	})
	for k := range packets {
		begun[k] = time.Now()
		if err := ours.SendPacket(binary.BigEndian.AppendUint32(nil, uint32(k))); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(time.Second)
	synctest.Wait()
	return arrivals, order
}

func TestMemoryWire(t *testing.T) {
	const n = 20000
	wire := mesh.Wire{Latency: 20 * time.Millisecond, Jitter: 30 * time.Millisecond, Loss: 0.3, Double: 0.1}
	meshtest.Bubble(t, func(t *testing.T) {
		arrivals, order := fates(t, mesh.MemoryConfig{Seed: 7, Wire: wire}, n)
		doubled, sum, least, most := 0, time.Duration(0), time.Hour, time.Duration(0)
		for _, at := range arrivals {
			if len(at) > 1 {
				doubled++
			}
			sum += at[0]
			least, most = min(least, at[0]), max(most, at[0])
		}
		// Three standard deviations of a binomial are about 0.01 here.
		if loss := 1 - float64(len(arrivals))/n; math.Abs(loss-wire.Loss) > 0.01 {
			t.Errorf("loss %.3f, want %.2f", loss, wire.Loss)
		}
		if double := float64(doubled) / float64(len(arrivals)); math.Abs(double-wire.Double) > 0.01 {
			t.Errorf("doubled %.3f, want %.2f", double, wire.Double)
		}
		if least < wire.Latency || most >= wire.Latency+wire.Jitter || most-least < wire.Jitter*9/10 {
			t.Errorf("delays from %v to %v", least, most)
		}
		if slices.IsSorted(order) {
			t.Error("30 ms of jitter reordered nothing")
		}
	})
	meshtest.Bubble(t, func(t *testing.T) {
		arrivals, order := fates(t, mesh.MemoryConfig{Wire: mesh.Wire{Latency: 20 * time.Millisecond}}, 100)
		for k := range 100 {
			if at := arrivals[k]; len(at) != 1 || at[0] != 20*time.Millisecond || order[k] != k {
				t.Fatalf("packet %d on a clean wire: %v, place of %d", k, at, order[k])
			}
		}
	})
}

// The same seed loses the same packets, another seed others.
func TestMemoryIsDeterministic(t *testing.T) {
	run := func(seed uint64) (order []int) {
		meshtest.Bubble(t, func(t *testing.T) {
			_, order = fates(t, mesh.MemoryConfig{Seed: seed, Wire: mesh.Wire{
				Latency: time.Millisecond, Jitter: 40 * time.Millisecond, Loss: 0.2, Double: 0.1,
			}}, 500)
		})
		return order
	}
	if !slices.Equal(run(1), run(1)) {
		t.Error("one seed, two runs")
	}
	if slices.Equal(run(1), run(2)) {
		t.Error("two seeds, one run")
	}
}

func TestMemorySetWire(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		m := mesh.NewMemory(mesh.MemoryConfig{})
		defer m.Close()
		a, b := m.Node(nil), m.Node(nil)
		ours, theirs := join(t, a, b)
		m.SetWire(a.Self().ID, b.Self().ID, mesh.Wire{Latency: time.Second})
		var there, back time.Duration
		begun := time.Now()
		ours.Start(ignore, func(_ []byte, at time.Time) { back = at.Sub(begun) })
		theirs.Start(ignore, func(_ []byte, at time.Time) { there = at.Sub(begun) })
		_ = ours.SendPacket([]byte("x"))
		_ = theirs.SendPacket([]byte("x"))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if there != time.Second || back != 0 {
			t.Errorf("%v there, %v back", there, back)
		}
		if p, _ := ours.Path(); p.RTT != time.Second {
			t.Errorf("RTT %v", p.RTT)
		}
	})
}

// A short partition stalls streams and loses packets; a path is given up
// after 3 s, a session after 15 s.
func TestMemoryPartition(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		m := mesh.NewMemory(mesh.MemoryConfig{Wire: mesh.Wire{Latency: 10 * time.Millisecond}})
		defer m.Close()
		a, b, c := m.Node(nil), m.Node(nil), m.Node(nil)
		ours, theirs := join(t, a, b)
		withC, _ := join(t, b, c)
		var messages []string
		var packets atomic.Int32
		ours.Start(ignore, ignorePacket)
		theirs.Start(func(b []byte) { messages = append(messages, string(b)) },
			func([]byte, time.Time) { packets.Add(1) })
		var paths []string
		begun := time.Now()
		ours.OnPath(func(_ mesh.Path, ok bool) {
			paths = append(paths, fmt.Sprint(ok, time.Since(begun).Round(time.Second)))
		})
		wait := func(d time.Duration) { time.Sleep(d); synctest.Wait() }

		m.Partition(ids(a.Self().ID))
		_ = ours.Send(mesh.Chat, []byte("one"))
		_ = ours.SendPacket([]byte("lost"))
		wait(2 * time.Second)
		if len(messages) > 0 || packets.Load() > 0 {
			t.Error("something came through a partition")
		}
		m.Heal()
		_ = ours.Send(mesh.Chat, []byte("two"))
		wait(time.Second)
		if strings.Join(messages, " ") != "one two" || packets.Load() != 0 {
			t.Errorf("after 2 s of partition: messages %q, %d packets", messages, packets.Load())
		}

		m.Partition(ids(a.Self().ID), ids(b.Self().ID, c.Self().ID)) // at 3 s
		wait(5 * time.Second)
		if err := ours.SendPacket([]byte("x")); err != nil || ours.Stats().DroppedSending != 1 {
			t.Errorf("a packet without a path: %v, %+v", err, ours.Stats())
		}
		m.Heal() // at 8 s
		wait(time.Second)
		if got := strings.Join(paths, ", "); got != "true 0s, false 6s, true 8s" {
			t.Errorf("paths: %s", got)
		}
		_ = ours.SendPacket([]byte("x"))
		wait(time.Second)
		if packets.Load() != 1 {
			t.Errorf("%d packets after healing", packets.Load())
		}

		m.Partition(ids(a.Self().ID))
		wait(14 * time.Second)
		if ours.Err() != nil || theirs.Err() != nil {
			t.Error("a session ended after 14 s of silence")
		}
		wait(2 * time.Second)
		if ours.Err() == nil || theirs.Err() == nil {
			t.Error("a session lives after 16 s of silence")
		}
		if withC.Err() != nil {
			t.Error("a session ended on one side of the partition")
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begun = time.Now()
		if _, err := a.Open(ctx, b.Self(), mesh.Door{1}); err == nil || time.Since(begun) != 5*time.Second {
			t.Errorf("a dial through a partition: %v after %v", err, time.Since(begun))
		}
	})
}

// A broadcast and a search stay on their side; what was provided before the
// partition is found on both.
func TestMemoryPartitionOfTopicAndRecords(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		m := mesh.NewMemory(mesh.MemoryConfig{Wire: mesh.Wire{Latency: time.Millisecond}})
		defer m.Close()
		nodes := []*mesh.MemoryNode{m.Node(nil), m.Node(nil), m.Node(nil), m.Node(nil)}
		var heard [4]int
		var topics [4]mesh.Topic
		for i, n := range nodes {
			topic, err := n.Join("oolong", nil, func(mesh.PeerID, []byte) { heard[i]++ })
			if err != nil {
				t.Fatal(err)
			}
			topics[i] = topic
		}
		if err := nodes[0].Provide(t.Context(), [32]byte{1}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		m.Partition(ids(nodes[0].Self().ID, nodes[1].Self().ID)) // the others are one group
		if err := nodes[1].Provide(t.Context(), [32]byte{1}); err != nil {
			t.Fatal(err)
		}
		_ = topics[0].Publish([]byte("x"))
		time.Sleep(time.Second)
		synctest.Wait()
		if heard != [4]int{0, 1, 0, 0} {
			t.Errorf("heard %v", heard)
		}
		find := func(i int) (n int) {
			if err := nodes[i].Find(t.Context(), [32]byte{1}, func(mesh.Peer) { n++ }); err != nil {
				t.Error(err)
			}
			return n
		}
		if find(0) != 1 || find(1) != 1 || find(2) != 1 {
			t.Errorf("in the partition found %d %d %d", find(0), find(1), find(2))
		}
		m.Heal()
		if find(0) != 1 || find(2) != 2 {
			t.Errorf("afterwards found %d %d", find(0), find(2))
		}
	})
}

func TestMemoryRecordsExpire(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		m := mesh.NewMemory(mesh.MemoryConfig{})
		defer m.Close()
		a, b := m.Node(nil), m.Node(nil)
		find := func() (n int) { _ = b.Find(t.Context(), [32]byte{1}, func(mesh.Peer) { n++ }); return n }
		ctx, cancel := context.WithCancel(t.Context())
		if err := a.Provide(ctx, [32]byte{1}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Hour)
		if find() != 1 {
			t.Error("a record that is renewed has expired")
		}
		cancel()
		if find() != 1 {
			t.Error("a record went with its provider")
		}
		time.Sleep(2*time.Hour + time.Second)
		if find() != 0 {
			t.Error("a record lives for more than two hours")
		}
	})
}

// Who is killed says nothing: its peers find out by its silence, or when it
// is back.
func TestMemoryKill(t *testing.T) {
	for _, back := range []bool{false, true} {
		t.Run(fmt.Sprintf("back %v", back), func(t *testing.T) {
			meshtest.Bubble(t, func(t *testing.T) {
				m := mesh.NewMemory(mesh.MemoryConfig{Wire: mesh.Wire{Latency: 10 * time.Millisecond}})
				defer m.Close()
				_, key, _ := ed25519.GenerateKey(nil)
				a, b := m.Node(key), m.Node(nil)
				ours, theirs := join(t, a, b)
				ours.Start(ignore, ignorePacket)
				theirs.Start(ignore, ignorePacket)
				begun := time.Now()
				m.Kill(a.Self().ID)
				if ours.Err() == nil {
					t.Error("a killed node has a session")
				}
				if err := ours.SendPacket([]byte("x")); err == nil {
					t.Error("a killed node sends")
				}
				time.Sleep(5 * time.Second)
				synctest.Wait()
				if theirs.Err() != nil {
					t.Error("a peer knows at once")
				}
				if _, ok := theirs.Path(); ok {
					t.Error("there is a path to a killed node after 5 s")
				}
				want := 15 * time.Second
				if back {
					again := m.Node(key)
					want = 5 * time.Second
					defer func() {
						if _, err := b.Open(t.Context(), again.Self(), mesh.Door{1}); err == nil {
							t.Error("the new life has the doors of the old one")
						}
					}()
				}
				<-theirs.Done()
				if d := time.Since(begun); d != want {
					t.Errorf("a peer noticed after %v, want %v", d, want)
				}
				m.Kill(a.Self().ID) // of one that is gone, or of the second life
				m.Kill(a.Self().ID)
			})
		})
	}
}

func TestMemoryNeedsAnAddress(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		m := mesh.NewMemory(mesh.MemoryConfig{})
		defer m.Close()
		a, b, c := m.Node(nil), m.Node(nil), m.Node(nil)
		if _, err := b.Listen(mesh.Door{1}, func(mesh.Session) {}); err != nil {
			t.Fatal(err)
		}
		unknown := mesh.Peer{ID: b.Self().ID, Addrs: c.Self().Addrs}
		if _, err := a.Open(t.Context(), unknown, mesh.Door{1}); err == nil {
			t.Error("reached by the address of another")
		}
		if _, err := a.Open(t.Context(), b.Self(), mesh.Door{1}); err != nil {
			t.Error(err)
		}
		if _, err := a.Open(t.Context(), unknown, mesh.Door{1}); err != nil {
			t.Errorf("an address learnt before: %v", err)
		}
		if _, err := a.Open(t.Context(), a.Self(), mesh.Door{1}); err == nil {
			t.Error("a session with itself")
		}
	})
}

func TestMemoryPenalties(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		m := mesh.NewMemory(mesh.MemoryConfig{})
		defer m.Close()
		a, b := m.Node(nil), m.Node(nil)
		topic, err := a.Join("oolong", nil, func(mesh.PeerID, []byte) {})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Join("oolong", func(mesh.PeerID, []byte) mesh.Verdict { return mesh.Reject },
			func(mesh.PeerID, []byte) { t.Error("delivered") }); err != nil {
			t.Fatal(err)
		}
		_ = topic.Publish([]byte("x"))
		synctest.Wait()
		b.Penalise(a.Self().ID, "test")
		if n := b.Penalties(a.Self().ID); n != 2 {
			t.Errorf("%d penalties, want 2", n)
		}
	})
}

// What waits is bounded: 256 KiB in the queue, MaxUnread on the way, and 64 KiB
// more of each for what is urgent.
func TestMemoryQueueIsBounded(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		m := mesh.NewMemory(mesh.MemoryConfig{})
		defer m.Close()
		ours, _ := join(t, m.Node(nil), m.Node(nil)) // nobody reads
		const size = 4096
		for _, c := range []struct {
			class mesh.Priority
			most  int
		}{{mesh.Bulk, 256<<10 + mesh.MaxUnread}, {mesh.Urgent, (64 + 64) << 10}} {
			sent := 0
			for ; sent <= c.most; sent += size {
				if err := ours.Send(c.class, make([]byte, size)); errors.Is(err, mesh.ErrBusy) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
			if sent != c.most {
				t.Errorf("%d bytes of class %d were taken, want %d", sent, c.class, c.most)
			}
		}
	})
}

// A packet costs no allocation, delivered or lost.
func TestMemoryPacketsDoNotAllocate(t *testing.T) {
	m := mesh.NewMemory(mesh.MemoryConfig{Wire: mesh.Wire{Loss: 0.3}})
	defer m.Close()
	ours, theirs := join(t, m.Node(nil), m.Node(nil))
	var got atomic.Int64
	theirs.Start(ignore, func([]byte, time.Time) { got.Add(1) })
	data := make([]byte, 200)
	send := func() {
		if err := ours.SendPacket(data); err != nil {
			t.Fatal(err)
		}
	}
	for range 10000 { // grow the heap and the buffers
		send()
	}
	time.Sleep(100 * time.Millisecond)
	if n := testing.AllocsPerRun(5000, send); n > 0.01 {
		t.Errorf("%v allocations a packet", n)
	}
	if got.Load() == 0 {
		t.Error("nothing arrived")
	}
}

func BenchmarkMemoryPacket(b *testing.B) {
	m := mesh.NewMemory(mesh.MemoryConfig{})
	defer m.Close()
	x, y := m.Node(nil), m.Node(nil)
	accepted := make(chan mesh.Session, 1)
	if _, err := y.Listen(mesh.Door{1}, func(s mesh.Session) { accepted <- s }); err != nil {
		b.Fatal(err)
	}
	ours, err := x.Open(b.Context(), y.Self(), mesh.Door{1})
	if err != nil {
		b.Fatal(err)
	}
	(<-accepted).Start(ignore, ignorePacket)
	data := make([]byte, 200)
	b.ReportAllocs()
	for b.Loop() {
		_ = ours.SendPacket(data)
	}
}
