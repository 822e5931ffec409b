package node

import (
	"bytes"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"teahouse/internal/mesh"
	"teahouse/internal/seal"
)

// discard is a socket that sends nothing, and keeps the last datagram.
type discard struct{ last []byte }

func (d *discard) sendTo(b []byte, _ netip.AddrPort) error {
	d.last = append(d.last[:0], b...)
	return nil
}

// hop is a pair of links without a network between them.
func hop() (out, in *link) {
	key := filled(9)
	s := &session{node: &Node{}, wake: make(chan struct{}, 1)}
	out, in = newLink(s, seal.New(&key), seal.New(&key), 7), newLink(s, seal.New(&key), seal.New(&key), 7)
	deliver := func([]byte, time.Time) {}
	in.deliver.Store(&deliver)
	return out, in
}

// TestNoAllocations: neither a packet sent nor one received costs the
// collector anything, on datagrams and in the ring of a stream.
func TestNoAllocations(t *testing.T) {
	packet := make([]byte, 120)
	out, in := hop()
	d := &discard{}
	w := &way{kind: onDatagram, sender: d}
	var b []byte
	now := time.Now()
	if n := testing.AllocsPerRun(1000, func() {
		out.out.mu.Lock()
		sealed, err := out.out.seal(typePacket, packet)
		if err != nil {
			t.Error(err)
		}
		_ = w.sender.sendTo(sealed, w.to)
		out.out.mu.Unlock()
	}); n != 0 {
		t.Errorf("sealing and sending: %v allocations", n)
	}
	if n := testing.AllocsPerRun(1000, func() {
		now = now.Add(20 * time.Millisecond)
		out.out.mu.Lock()
		sealed, _ := out.out.seal(typePacket, packet)
		b = append(b[:0], sealed...)
		out.out.mu.Unlock()
		if in.receive(b, now) != taken {
			t.Error("not authentic")
		}
	}); n != 0 {
		t.Errorf("sealing and opening: %v allocations", n)
	}
	if in.stats.snapshot().ReceivedPackets < 1000 {
		t.Errorf("stats %+v", in.stats.snapshot())
	}
	v := newVoiceStream(out.session, onTCP, nil)
	out.session.link = out
	if n := testing.AllocsPerRun(1000, func() {
		v.push(packet, true)
		b, _ = v.take(b[:0], time.Now(), false)
	}); n != 0 {
		t.Errorf("a packet through the ring: %v allocations", n)
	}
}

// TestNoAllocationsOnSockets is the same over real sockets: from SendPacket to
// the callback at the other end.
func TestNoAllocationsOnSockets(t *testing.T) {
	a, b := startNode(t, loopback(t)), startNode(t, loopback(t))
	p := openPair(t, a, b)
	la, lb := inside(p.a).link, inside(p.b).link
	got := make(chan struct{}, 1)
	deliver := func([]byte, time.Time) {
		select {
		case got <- struct{}{}:
		default: // a second copy
		}
	}
	lb.deliver.Store(&deliver)
	eventually(t, "a proven path", func() bool { path, _ := p.a.Path(); return path.RTT > 0 })
	packet := make([]byte, 120)
	again := time.NewTimer(time.Second)
	defer again.Stop()
	round := func() {
		lb.in.mu.Lock()
		lb.bucket = bucket{} // this test goes faster than a link may
		lb.in.mu.Unlock()
		la.out.mu.Lock()
		la.rate = rateControl{}
		la.out.mu.Unlock()
		for came := false; !came; { // a packet may be lost
			if err := la.send(packet); err != nil {
				t.Error(err)
			}
			again.Reset(100 * time.Millisecond)
			select {
			case <-got:
				came = true
			case <-again.C:
			}
		}
	}
	round()
	// The rest of two nodes allocates now and then (QUIC, gossip, DHT): in the
	// best of five runs of many packets it must vanish beside them.
	const packets = 2000
	least := uint64(1 << 62)
	for range 5 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range packets {
			round()
		}
		runtime.ReadMemStats(&after)
		least = min(least, after.Mallocs-before.Mallocs)
	}
	if least > packets/10 {
		t.Errorf("%d allocations in %d packets", least, packets)
	}
}

func BenchmarkSeal(b *testing.B) {
	out, _ := hop()
	packet := make([]byte, 120)
	b.ReportAllocs()
	for b.Loop() {
		out.out.mu.Lock()
		_, _ = out.out.seal(typePacket, packet)
		out.out.mu.Unlock()
	}
}

func BenchmarkReceive(b *testing.B) {
	out, in := hop()
	packet := make([]byte, 120)
	now := time.Now()
	var d []byte
	b.ReportAllocs()
	for b.Loop() { // with a seal of its own in each turn: subtract BenchmarkSeal
		sealed, _ := out.out.seal(typePacket, packet)
		d = append(d[:0], sealed...)
		now = now.Add(20 * time.Millisecond)
		in.receive(d, now)
	}
}

// BenchmarkSend seals and hands to the kernel.
func BenchmarkSend(b *testing.B) {
	sink, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = sink.Close() }()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		b.Fatal(err)
	}
	k, err := newKernelSocket(c, nil, func() {})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = k.Close() }()
	to, _ := addrPortOf(sink.LocalAddr())
	out, _ := hop()
	packet := make([]byte, 120)
	b.ReportAllocs()
	for b.Loop() {
		out.out.mu.Lock()
		d, _ := out.out.seal(typePacket, packet)
		_ = k.sendTo(d, to)
		out.out.mu.Unlock()
	}
}

// BenchmarkRoundOverSockets is SendPacket to the callback on real sockets.
func BenchmarkRoundOverSockets(b *testing.B) {
	x, y := startNode(b, loopback(b)), startNode(b, loopback(b))
	p := openPair(b, x, y)
	la, lb := inside(p.a).link, inside(p.b).link
	got := make(chan struct{}, 1)
	deliver := func([]byte, time.Time) {
		select {
		case got <- struct{}{}:
		default: // a second copy
		}
	}
	lb.deliver.Store(&deliver)
	packet := make([]byte, 120)
	b.ReportAllocs()
	for b.Loop() {
		lb.in.mu.Lock()
		lb.bucket = bucket{}
		lb.in.mu.Unlock()
		la.out.mu.Lock()
		la.rate = rateControl{}
		la.out.mu.Unlock()
		_ = la.send(packet)
		<-got
	}
}

// BenchmarkIdleNode reports the heap of one more node with two neighbours, in
// the process of the benchmark.
func BenchmarkIdleNode(b *testing.B) {
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	boot := startNode(b, loopback(b))
	startNode(b, loopback(b, fullAddrs(boot)...))
	for b.Loop() {
		before := heap()
		n := startNode(b, loopback(b, fullAddrs(boot)...))
		eventually(b, "a neighbour", func() bool { return n.Stats().RoutingTable > 0 })
		time.Sleep(200 * time.Millisecond)
		b.ReportMetric(float64(heap()-before)/(1<<20), "MiB/node")
		if err := n.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHandshake(b *testing.B) {
	x, y := startNode(b, loopback(b)), startNode(b, loopback(b))
	stop, err := y.Listen(testDoor, func(s mesh.Session) {
		s.Start(func([]byte) {}, nil)
		<-s.Done()
		_ = s.Close()
	})
	if err != nil {
		b.Fatal(err)
	}
	defer stop()
	to := y.Self()
	for b.Loop() {
		s, err := x.Open(b.Context(), to, testDoor)
		if err != nil {
			b.Fatal(err)
		}
		_ = s.Close()
	}
}

// TestStreamFrames reads what take wrote.
func TestStreamFrames(t *testing.T) {
	out, _ := hop()
	out.session.link = out
	v := newVoiceStream(out.session, onTCP, nil)
	for i := range ringBurst + 2 { // two more than fit
		v.push([]byte{byte(i)}, true)
	}
	v.answer(7)
	now := time.Now()
	b, packet := v.take(nil, now, true)
	if packet || !bytes.Equal(b, []byte{0x80, 0, 2, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0}) {
		t.Errorf("held back: %x", b)
	}
	next := func(now time.Time, want int) {
		t.Helper()
		if b, packet := v.take(nil, now, false); !packet || !bytes.Equal(b, []byte{0, 1, byte(want)}) {
			t.Errorf("in the place of packet %d: %x", want, b)
		}
	}
	next(now, 2)
	next(now, 3)
	later := now.Add(2 * ringTime) // all are old: the newest five stay
	for i := range ringPackets {
		next(later, ringBurst+2-ringPackets+i)
	}
	if b, packet := v.take(nil, later, false); packet || len(b) != 0 {
		t.Errorf("of nothing: %x", b)
	}
	if got := out.stats.snapshot().DroppedSending; got != 2+ringBurst-2-ringPackets {
		t.Errorf("%d dropped", got)
	}
}
