package meshtest

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"teahouse/internal/mesh"
)

// penalise: it must not cut off a peer for a single offence.
func penalise(t *testing.T, nets []mesh.Network) {
	ours, theirs := pair(t, nets[0], nets[1], door(1))
	nets[0].Penalise(nets[1].Self().ID, "test")
	got := make(chan struct{}, 1)
	ours.Start(func([]byte) { got <- struct{}{} }, noPacket)
	if err := theirs.Send(mesh.Chat, []byte("x")); err != nil {
		t.Error(err)
	}
	receive(t, "a message from a penalised peer", got)
	nets[0].Penalise(mesh.PeerID("nobody"), "test")
}

func closeNetwork(t *testing.T, nets []mesh.Network) {
	ours, theirs := pair(t, nets[0], nets[1], door(1))
	topic, _ := ear(t, nets[0], "oolong", anything)
	stop, err := nets[0].Listen(door(2), func(mesh.Session) {})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := within(t)
	defer cancel()
	var opening sync.WaitGroup
	opening.Go(func() { // an Open that Close interrupts or lets end
		if s, err := nets[0].Open(ctx, nets[1].Self(), door(9)); err == nil {
			t.Errorf("opened %v by a door that is not there", s)
		}
	})
	var closing sync.WaitGroup
	for range 3 { // idempotent, and each waits
		closing.Go(func() {
			if err := nets[0].Close(); err != nil {
				t.Errorf("close: %v", err)
			}
			select {
			case <-ours.Done():
			default:
				t.Error("Close returned before a session had ended")
			}
		})
	}
	closing.Wait()
	opening.Wait()
	ended(t, ours)
	ended(t, theirs)
	closed := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, mesh.ErrClosed) {
			t.Errorf("%s after Close: %v", what, err)
		}
	}
	closed("Send", ours.Send(mesh.Chat, []byte("x")))
	closed("SendPacket", ours.SendPacket([]byte("x")))
	closed("Publish", topic.Publish([]byte("x")))
	_, err = nets[0].Open(ctx, nets[1].Self(), door(1))
	closed("Open", err)
	_, err = nets[0].Listen(door(3), func(mesh.Session) {})
	closed("Listen", err)
	_, err = nets[0].Join("pu-erh", anything, func(mesh.PeerID, []byte) {})
	closed("Join", err)
	closed("Provide", nets[0].Provide(ctx, [32]byte{1}))
	closed("Find", nets[0].Find(ctx, [32]byte{1}, func(mesh.Peer) { t.Error("found after Close") }))
	if err := topic.Close(); err != nil {
		t.Error(err)
	}
	if err := ours.Close(); err != nil {
		t.Error(err)
	}
	ours.Retire()
	stop()
	nets[0].Penalise(nets[1].Self().ID, "test")
	_ = nets[0].Self()
}

// closeWaits: after Close no callback runs.
func closeWaits(t *testing.T, nets []mesh.Network) {
	ours, theirs := pair(t, nets[0], nets[1], door(1))
	var closed atomic.Bool
	inside, running := make(chan struct{}), atomic.Bool{}
	var once sync.Once
	theirs.Start(func([]byte) {
		running.Store(true)
		once.Do(func() { close(inside) })
		if closed.Load() {
			t.Error("a message after Close")
		}
		time.Sleep(100 * time.Millisecond)
		running.Store(false)
	}, func([]byte, time.Time) {
		if closed.Load() {
			t.Error("a packet after Close")
		}
	})
	var stop atomic.Bool
	var sending sync.WaitGroup
	sending.Go(func() {
		for !stop.Load() {
			_ = ours.SendPacket([]byte("x"))
			time.Sleep(time.Millisecond)
		}
	})
	for range 5 {
		if err := ours.Send(mesh.Chat, []byte("x")); err != nil {
			t.Error(err)
		}
	}
	receive(t, "a message", inside)
	if err := nets[1].Close(); err != nil {
		t.Error(err)
	}
	closed.Store(true)
	if running.Load() {
		t.Error("Close returned while a callback ran")
	}
	time.Sleep(quiet)
	stop.Store(true)
	sending.Wait()
}

// concurrent does everything at once, for the race detector and deadlocks.
func concurrent(t *testing.T, nets []mesh.Network) {
	var messages, packets, accepted atomic.Int64
	start := func(s mesh.Session) {
		s.OnPath(func(mesh.Path, bool) {})
		s.Start(func([]byte) { messages.Add(1) }, func([]byte, time.Time) { packets.Add(1) })
	}
	for _, n := range nets {
		if _, err := n.Listen(door(1), func(s mesh.Session) { accepted.Add(1); start(s) }); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var wg sync.WaitGroup
	for i, n := range nets {
		topic, _ := ear(t, n, "oolong", anything)
		peer := nets[(i+1)%len(nets)]
		for range 2 {
			wg.Go(func() {
				for i := range 5 {
					s, err := n.Open(ctx, peer.Self(), door(1))
					for errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
						s, err = n.Open(ctx, peer.Self(), door(1)) // thirty handshakes at once, on a busy machine
					}
					if err != nil {
						t.Errorf("open: %v", err)
						return
					}
					start(s)
					for range 3 {
						wg.Go(func() {
							for range 20 {
								_ = s.Send(mesh.Roster, numbered(1, 300))
								_ = s.SendPacket(numbered(1, 100))
								_, _ = s.Path()
								_, _, _ = s.Stats(), s.Err(), s.Binding()
							}
						})
					}
					wg.Go(func() {
						time.Sleep(50 * time.Millisecond)
						for i == 0 && packets.Load() == 0 && ctx.Err() == nil {
							_ = s.SendPacket(numbered(1, 100)) // a stream may take a while to stand
							time.Sleep(5 * time.Millisecond)
						}
						s.Retire()
						_ = s.Close()
					})
				}
			})
		}
		wg.Go(func() {
			for range 5 {
				_ = topic.Publish([]byte("hello"))
				_ = n.Provide(ctx, [32]byte{3})
				fctx, stop := context.WithTimeout(ctx, 200*time.Millisecond)
				_ = n.Find(fctx, [32]byte{3}, func(mesh.Peer) {})
				stop()
				_ = n.Self()
				_, _ = n.SignAsHost("teahouse/test/1", []byte("x"))
			}
		})
	}
	wg.Wait()
	if accepted.Load() == 0 || messages.Load() == 0 || packets.Load() == 0 {
		t.Errorf("%d sessions, %d messages, %d packets", accepted.Load(), messages.Load(), packets.Load())
	}
}

// leaks starts, uses and closes a network twice: the second time must not
// leave more goroutines than the first, which may have woken what lives as
// long as the process.
func leaks(t *testing.T, start New) {
	round := func() int {
		nets := start(t, 2)
		ours, theirs := pair(t, nets[0], nets[1], door(1))
		for _, s := range []mesh.Session{ours, theirs} {
			s.OnPath(func(mesh.Path, bool) {})
			s.Start(noMessage, noPacket)
		}
		for _, n := range nets {
			_, _ = ear(t, n, "oolong", anything)
		}
		retired, _ := pair(t, nets[1], nets[0], door(2))
		retired.Retire()
		_, _ = pair(t, nets[1], nets[0], door(3)) // never started
		for _, n := range nets {
			if err := n.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}
		least := runtime.NumGoroutine()
		for range 100 { // goroutines end a moment after they are waited for
			time.Sleep(10 * time.Millisecond)
			least = min(least, runtime.NumGoroutine())
		}
		return least
	}
	if first, second := round(), round(); second > first {
		buf := make([]byte, 1<<20)
		t.Errorf("%d goroutines after the first Close, %d after the second:\n%s",
			first, second, buf[:runtime.Stack(buf, true)])
	}
}
