package node

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"teahouse/internal/mesh"
	"teahouse/internal/mesh/meshtest"
)

// bottleneck is a path in virtual time: a delay, random loss, and a queue of
// bounded length before a line of a certain rate.
type bottleneck struct {
	oneWay   time.Duration
	loss     float64
	capacity float64       // bytes per second
	queue    time.Duration // what it holds
	freeAt   time.Time
	dice     *rand.Rand
}

// carry is how long a packet waits in the queue, or false if it is lost.
func (b *bottleneck) carry(now time.Time, size int) (time.Duration, bool) {
	if b.freeAt.Before(now) {
		b.freeAt = now
	}
	wait := b.freeAt.Sub(now)
	if wait > b.queue {
		return 0, false
	}
	b.freeAt = b.freeAt.Add(time.Duration(float64(size) / b.capacity * float64(time.Second)))
	return wait, b.dice.Float64() >= b.loss
}

// played is what a run of drive has shown.
type played struct {
	wanted, dropped int // by the rate control
	delivered       int // bytes
	worst           time.Duration
	brokeAfter      time.Duration // -1: never
}

// drive sends packets of one size at one rate over a path for a while, with a
// path check each 60 ms, and tells the rate control what they show.
func drive(c *rateControl, b *bottleneck, from time.Time, d time.Duration, size, perSecond int) (p played) {
	var m rateMeter
	var got tally
	p.brokeAfter = -1
	const wire = 28 + headerLen + 16
	checkAt := from
	for now := from; now.Before(from.Add(d)); now = now.Add(time.Second / time.Duration(perSecond)) {
		send := func(size int) (time.Duration, bool) {
			wait, ok := b.carry(now, size+wire)
			got.highest++
			if ok {
				got.received++
			}
			return wait, ok
		}
		if c.broken(now) {
			p.brokeAfter = now.Sub(from)
			return p
		}
		voice := func() {
			p.wanted++
			m.packets++
			if !c.take(now, size) {
				p.dropped++
				return
			}
			m.bytes += uint64(size)
			if wait, ok := send(size); ok {
				p.delivered += size
				if now.Sub(from) > d/2 {
					p.worst = max(p.worst, wait)
				}
			}
		}
		ask := func() {
			if checkAt.After(now) {
				return
			}
			checkAt = now.Add(checkTalk)
			wait, ok := send(checkLen)
			if ok && b.dice.Float64() >= b.loss {
				if s, full := m.add(got, 2*b.oneWay+wait, now); full {
					c.observe(now, s, c.queue(now, s))
				}
			}
		}
		// Either may find the last place in the queue.
		if b.dice.IntN(2) == 0 {
			voice()
			ask()
		} else {
			ask()
			voice()
		}
	}
	return p
}

// TestRateNeverHarmsTalk: ordinary talk at every repair depth and on every
// path that Teahouse wants to work over loses nothing to the rate control.
func TestRateNeverHarmsTalk(t *testing.T) {
	for depth := range 4 {
		size := 2 + 14 + (depth+1)*(80+2+23+1)
		for _, loss := range []float64{0, 0.05, 0.2, 0.33, 0.4} {
			for _, oneWay := range []time.Duration{time.Millisecond, 20 * time.Millisecond, 60 * time.Millisecond, 150 * time.Millisecond} {
				b := &bottleneck{oneWay: oneWay, loss: loss, capacity: 1e7, queue: time.Second, dice: rand.New(rand.NewPCG(1, 2))}
				var c rateControl
				if p := drive(&c, b, epoch, 10*time.Minute, size, 50); p.dropped > 0 || p.brokeAfter >= 0 {
					t.Errorf("depth %d, %.0f %% loss, %v: %d of %d packets dropped, breaker after %v", depth, 100*loss, oneWay, p.dropped, p.wanted, p.brokeAfter)
				}
			}
		}
	}
}

// TestRateFindsTheLine: who wants more than the line carries gets most of it,
// and no standing queue; when the line is wider again, all.
func TestRateFindsTheLine(t *testing.T) {
	b := &bottleneck{oneWay: 30 * time.Millisecond, capacity: 60_000, queue: 2 * time.Second, dice: rand.New(rand.NewPCG(1, 2))}
	var c rateControl
	p := drive(&c, b, epoch, 2*time.Minute, 1100, 100)
	used := float64(p.delivered) / 120 / b.capacity
	if p.brokeAfter >= 0 || used < 0.6 || p.worst > 500*time.Millisecond {
		t.Errorf("used %.2f of the line, queue up to %v, breaker %v", used, p.worst, p.brokeAfter)
	}
	t.Logf("used %.2f of the line, queue in the second half up to %v", used, p.worst)
	b.capacity = 1e6
	drive(&c, b, epoch.Add(2*time.Minute), time.Minute, 1100, 100)
	if p := drive(&c, b, epoch.Add(3*time.Minute), time.Minute, 1100, 100); p.dropped > 0 {
		t.Errorf("a minute after the line is wide, %d packets were dropped, rate %.0f", p.dropped, c.rate())
	}
}

// TestBreaker: a line that cannot even carry the floor is given up.
func TestBreaker(t *testing.T) {
	b := &bottleneck{oneWay: 30 * time.Millisecond, capacity: 8_000, queue: 2 * time.Second, dice: rand.New(rand.NewPCG(1, 2))}
	var c rateControl
	p := drive(&c, b, epoch, time.Minute, 440, 50)
	if p.brokeAfter < breakerAfter || p.brokeAfter > 20*time.Second {
		t.Errorf("the breaker opened after %v", p.brokeAfter)
	}
	opened := epoch.Add(p.brokeAfter)
	if c.rate() != rateFloor || !c.broken(opened.Add(breakerRest-time.Second)) || c.broken(opened.Add(breakerRest+time.Second)) {
		t.Error("it does not rest for a minute and begin at the floor")
	}
}

// TestBreakerOnLink: the breaker closes datagrams; voice goes on by a stream,
// or the session says why it ends.
func TestBreakerOnLink(t *testing.T) {
	for _, transport := range []Transport{Auto, DatagramOnly} {
		t.Run(string(transport), func(t *testing.T) {
			meshtest.Bubble(t, func(t *testing.T) {
				net := newInternet(t, 20*time.Millisecond)
				ca, cb := net.config(t), net.config(t)
				ca.Transport = transport
				a, b := startNode(t, ca), startNode(t, cb)
				p := openPair(t, a, b)
				time.Sleep(2 * time.Second)
				l := inside(p.a).link
				l.out.mu.Lock()
				for now := time.Now(); !l.rate.broken(now); now = now.Add(time.Second) {
					if time.Until(now) > time.Minute {
						t.Error("it never opens")
						break
					}
					l.rate.observe(now, rateSample{elapsed: time.Second, rtt: time.Second, loss: 0.5, packets: 50, bytes: 10000}, false)
				}
				l.out.mu.Unlock()
				inside(p.a).kick()
				time.Sleep(2 * time.Second)
				path, ok := p.a.Path()
				if transport == Auto {
					if !ok || path.Carrier != mesh.Stream {
						t.Errorf("path %+v", path)
					}
				} else if !errors.Is(p.a.Err(), errCongested) {
					t.Errorf("it ended with %v", p.a.Err())
				}
			})
		})
	}
}

// TestBudget: what is over the permitted rate is dropped and counted.
func TestBudget(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		net := newInternet(t, 20*time.Millisecond)
		a, b := startNode(t, net.config(t)), startNode(t, net.config(t))
		p := openPair(t, a, b)
		time.Sleep(time.Second)
		l := inside(p.a).link
		l.out.mu.Lock()
		l.rate.permitted = rateFloor
		l.out.mu.Unlock()
		before := p.a.Stats()
		for i := range 100 { // 100 kB at once
			_ = p.a.SendPacket(fmt.Appendf(nil, "%01000d", i))
		}
		s := p.a.Stats()
		sent, dropped := s.SentPackets-before.SentPackets, s.DroppedSending-before.DroppedSending
		if sent != 8 || dropped != 92 { // a quarter of 32 kB
			t.Errorf("%d sent, %d dropped", sent, dropped)
		}
	})
}
