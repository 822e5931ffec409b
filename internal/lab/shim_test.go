//go:build lab

package lab

import (
	"encoding/binary"
	"io"
	"net"
	"slices"
	"testing"
	"time"
)

// passage is what came of datagrams that were sent one by one.
type passage struct {
	took      []time.Duration // of each that came, sorted
	came      int
	overtaken int
	runs      []int // of what was lost, how many followed each other
}

// pass sends n datagrams of 100 bytes, one each interval.
func pass(t *testing.T, from, to *Host, n int, interval time.Duration) (p passage) {
	t.Helper()
	sender, receiver := udp(t, from, anyPort), udp(t, to, anyPort)
	if err := receiver.SetReadBuffer(1 << 20); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	target := at(to, portOf(receiver))
	sent := make([]time.Duration, n)
	done := make(chan error, 1)
	_ = receiver.SetReadDeadline(begun.Add(time.Duration(n)*interval + time.Minute))
	go func() { // ends after n intervals, which is waited for
		// Whatever this machine does, what was sent has this long to come.
		defer func() { _ = receiver.SetReadDeadline(time.Now().Add(2 * time.Second)) }()
		b := make([]byte, 100)
		for i := range n {
			time.Sleep(time.Until(begun.Add(time.Duration(i) * interval)))
			binary.BigEndian.PutUint32(b, uint32(i))
			binary.BigEndian.PutUint64(b[4:], uint64(time.Since(begun)))
			if _, err := sender.WriteToUDPAddrPort(b, target); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	came := make([]bool, n)
	last := -1
	b := make([]byte, 200)
	for p.came < n {
		if _, _, err := receiver.ReadFromUDPAddrPort(b); err != nil {
			break
		}
		now := time.Since(begun)
		i := int(binary.BigEndian.Uint32(b))
		sent[i] = time.Duration(binary.BigEndian.Uint64(b[4:]))
		p.took = append(p.took, now-sent[i])
		came[i] = true
		p.came++
		if i < last {
			p.overtaken++
		}
		last = max(last, i)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	slices.Sort(p.took)
	run := 0
	for _, c := range append(came, true) {
		if !c {
			run++
		} else if run > 0 {
			p.runs = append(p.runs, run)
			run = 0
		}
	}
	return p
}

// part is the time that this part of the packets took at most.
func (p passage) part(of float64) time.Duration {
	if len(p.took) == 0 {
		return 0
	}
	return p.took[min(len(p.took)-1, int(of*float64(len(p.took))))]
}

// A line takes the time it should, from end to end. No packet is early; how
// late they are is this machine's affair, so that half of them bound it.
func TestShimDelays(t *testing.T) {
	x := internet(t, `
public fixed delay 30ms
public jumpy delay 30ms jitter 20ms
public queue delay 30ms jitter 20ms in-order
public torn burst 100ms every 400ms
public q
`)
	const n = 500
	for _, c := range []struct {
		site            string
		least, middle   time.Duration
		most            time.Duration
		overtake, whole bool
	}{
		{"fixed", 30 * time.Millisecond, 30 * time.Millisecond, 30 * time.Millisecond, false, true},
		{"jumpy", 30 * time.Millisecond, 40 * time.Millisecond, 50 * time.Millisecond, true, true},
		{"queue", 30 * time.Millisecond, 44 * time.Millisecond, 50 * time.Millisecond, false, true},
		{"torn", 0, 0, 0, false, false},
	} {
		for _, up := range []bool{true, false} {
			from, to := x.Named(c.site), x.Named("q")
			if !up {
				from, to = to, from
			}
			p := pass(t, from, to, n, 4*time.Millisecond)
			t.Logf("%s, up %v: %d of %d came, %d overtaken; they took %v at least, half %v, 99 %% %v, all %v; lost in runs of %v", c.site, up, p.came, n, p.overtaken, p.part(0), p.part(0.5), p.part(0.99), p.part(1), p.runs)
			if p.part(0) < c.least {
				t.Errorf("%s, up %v: a packet took %v", c.site, up, p.part(0))
			}
			if d := p.part(0.5); d < c.middle-3*time.Millisecond || d > c.middle+10*time.Millisecond {
				t.Errorf("%s, up %v: half of the packets took %v, want %v", c.site, up, d, c.middle)
			}
			if late := p.part(0.9); late > c.most+40*time.Millisecond {
				t.Errorf("%s, up %v: 90 %% of the packets took %v", c.site, up, late)
			}
			if c.overtake != (p.overtaken > 0) {
				t.Errorf("%s, up %v: %d packets were overtaken", c.site, up, p.overtaken)
			}
			if c.whole && p.came != n {
				t.Errorf("%s, up %v: %d of %d came", c.site, up, p.came, n)
			}
			// A fifth to three quarters, over two seconds; whole tenths of a
			// second, of which the sender may not have used each 4 ms.
			if !c.whole && (p.came < n/4 || p.came > n*9/10 || slices.Max(append(p.runs, 0)) < 10) {
				t.Errorf("%s, up %v: %d of %d came, lost in runs of %v", c.site, up, p.came, n, p.runs)
			}
		}
	}
	up, down, ok := x.Line("torn")
	if !ok || up.Lost == 0 || down.Lost == 0 || up.Passed == 0 || down.Passed == 0 {
		t.Errorf("counted of the torn line: %+v, %+v", up, down)
	}
	if _, _, ok := x.Line("q"); ok {
		t.Error("a line without a shim has counts")
	}
}

// bulk sends by TCP from one host to another for a while, and tells the bits
// per second that came.
func bulk(t *testing.T, from, to *Host, d time.Duration) (rate func() float64) {
	t.Helper()
	l := listenTCP(t, to)
	var conn net.Conn
	if err := from.Do(func() (err error) {
		conn, err = net.Dial("tcp4", l.at().String())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(); in.Close() })
	end := time.Now().Add(d)
	_ = conn.SetWriteDeadline(end)
	_ = in.SetReadDeadline(end)
	came := make(chan int64, 1)
	go func() { // both end at the deadline
		b := make([]byte, 64<<10)
		for {
			if _, err := conn.Write(b); err != nil {
				return
			}
		}
	}()
	go func() {
		n, _ := io.Copy(io.Discard, in)
		came <- n
	}()
	return func() float64 { return float64(<-came) * 8 / d.Seconds() }
}

// Voice comes through beside three TCP connections that take what they get,
// all through the shim.
func TestShimCarries(t *testing.T) {
	x := internet(t, "public p delay 10ms\nhome elm nat port-restricted delay 10ms\nhost anna in elm\nhost axel in elm\n")
	const d = 3 * time.Second
	used := func() time.Duration {
		cpu, err := x.ShimCPU()
		if err != nil {
			t.Fatal(err)
		}
		return cpu
	}
	before := used()
	alone := pass(t, x.Named("anna"), x.Named("p"), 100, 20*time.Millisecond)
	t.Logf("voice alone: %d came, half took %v, 99 %% %v; the shim used %.2f %% of a CPU", alone.came, alone.part(0.5), alone.part(0.99), 100*(used()-before).Seconds()/2)
	if alone.came != 100 {
		t.Errorf("%d of 100 came", alone.came)
	}
	before = used()
	carried := func() uint64 {
		up, _, _ := x.Line("elm")
		_, down, _ := x.Line("p")
		return up.Passed + down.Passed
	}
	packets := carried()
	var rates []func() float64
	for range 3 {
		rates = append(rates, bulk(t, x.Named("axel"), x.Named("p"), d))
	}
	voice := pass(t, x.Named("anna"), x.Named("p"), int(d/(20*time.Millisecond))-10, 20*time.Millisecond)
	total := 0.0
	for _, r := range rates {
		total += r()
	}
	took := used() - before
	t.Logf("three TCP connections: %.0f Mbit/s together; voice: %d came, half took %v, 99 %% %v; the shim used %.0f %% of a CPU, %.1f µs a packet of the way there",
		total/1e6, voice.came, voice.part(0.5), voice.part(0.99), 100*took.Seconds()/d.Seconds(), float64(took.Microseconds())/float64(carried()-packets))
	if total < 20e6 {
		t.Errorf("three TCP connections have %.1f Mbit/s together", total/1e6)
	}
	// Where TCP fills a queue, voice loses with it; no packet is early.
	if voice.came < 70 || voice.part(0) < 20*time.Millisecond {
		t.Errorf("%d of 140 packets of voice came, the first after %v", voice.came, voice.part(0))
	}
}
