package mesh

import (
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// wire is the way from one peer to another, in one direction.
type wire struct {
	cutAt atomic.Int64 // Unix ns since when nothing passes; 0: whole

	mu   sync.Mutex
	like Wire
	rng  *rand.Rand
}

func newWire(cfg MemoryConfig, from, to PeerID) *wire {
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint64(nil, cfg.Seed))
	h.Write([]byte(from))
	h.Write([]byte(to))
	sum := h.Sum(nil)
	return &wire{like: cfg.Wire, rng: rand.New(rand.NewPCG(
		binary.BigEndian.Uint64(sum), binary.BigEndian.Uint64(sum[8:])))}
}

func (w *wire) set(like Wire) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.like = like
}

// setCut marks the wire cut or whole; a cut that goes on keeps its beginning.
func (w *wire) setCut(cut bool, since time.Time) {
	if cut {
		w.cutAt.CompareAndSwap(0, since.UnixNano())
	} else {
		w.cutAt.Store(0)
	}
}

func (w *wire) cut() bool { return w.cutAt.Load() != 0 }

// cutSince is when the cut began; ok is false while there is none.
func (w *wire) cutSince() (at time.Time, ok bool) {
	ns := w.cutAt.Load()
	return time.Unix(0, ns), ns != 0
}

// packet draws the fate of one packet: how many copies arrive (0 to 2), each
// after its delay.
func (w *wire) packet() (copies int, delays [2]time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	copies = 1
	if w.like.Double > 0 && w.rng.Float64() < w.like.Double {
		copies = 2
	}
	if w.like.Loss > 0 && w.rng.Float64() < w.like.Loss {
		copies = 0
	}
	for i := range copies {
		delays[i] = w.delay()
	}
	return copies, delays
}

// reliable is the delay of a piece of a stream: each loss costs a round trip
// more, and at least 10 ms, up to eight times.
func (w *wire) reliable() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.delay()
	for range 8 {
		if w.like.Loss <= 0 || w.rng.Float64() >= w.like.Loss {
			break
		}
		d += max(2*w.like.Latency, 10*time.Millisecond)
	}
	return d
}

// delay is called with mu held.
func (w *wire) delay() time.Duration {
	d := w.like.Latency
	if w.like.Jitter > 0 {
		d += time.Duration(w.rng.Int64N(int64(w.like.Jitter)))
	}
	return d
}

// mean is the delay to expect.
func (w *wire) mean() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.like.Latency + w.like.Jitter/2
}

// memoryQueue is the most packets on their way to one node; what is sent
// beyond them is dropped, as a full socket does.
const memoryQueue = 8192

// arrival is a packet, or a broadcast, on its way to a node.
type arrival struct {
	at     time.Time
	number uint64 // order among equal times

	session *memorySession // a packet: whose, at the receiver
	packet  *[MaxPacket]byte
	size    int

	topic *memoryTopic // a broadcast: whose, at the receiver
	from  PeerID
	data  []byte
}

func (a *arrival) before(b *arrival) bool {
	return a.at.Before(b.at) || a.at.Equal(b.at) && a.number < b.number
}

// arrivals is a heap by time, of values, so that a packet costs no allocation
// once it has grown; and the free packet buffers.
type arrivals struct {
	mu      sync.Mutex
	heap    []arrival
	number  uint64
	packets int // in heap
	free    []*[MaxPacket]byte
	wake    chan struct{} // 1: the first of heap has changed
}

// addPacket copies data onto the heap; false: the queue is full.
func (q *arrivals) addPacket(at time.Time, to *memorySession, data []byte) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.packets >= memoryQueue {
		return false
	}
	var buf *[MaxPacket]byte
	if n := len(q.free); n > 0 {
		buf, q.free = q.free[n-1], q.free[:n-1]
	} else {
		buf = new([MaxPacket]byte)
	}
	q.packets++
	q.push(arrival{at: at, session: to, packet: buf, size: copy(buf[:], data)})
	return true
}

func (q *arrivals) addBroadcast(at time.Time, to *memoryTopic, from PeerID, data []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.push(arrival{at: at, topic: to, from: from, data: data})
}

// release takes a packet's buffer back.
func (q *arrivals) release(buf *[MaxPacket]byte) {
	clear(buf[:]) // whoever kept it shall notice
	q.mu.Lock()
	defer q.mu.Unlock()
	q.free = append(q.free, buf)
}

// next takes what is due, or tells how long to wait for it; none: forever.
func (q *arrivals) next(now time.Time) (a arrival, due bool, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.heap) == 0 {
		return a, false, forever
	}
	if d := q.heap[0].at.Sub(now); d > 0 {
		return a, false, d
	}
	return q.pop(), true, 0
}

// push and pop are called with mu held.
func (q *arrivals) push(a arrival) {
	a.number = q.number
	q.number++
	q.heap = append(q.heap, a)
	i := len(q.heap) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !q.heap[i].before(&q.heap[up]) {
			break
		}
		q.heap[i], q.heap[up] = q.heap[up], q.heap[i]
		i = up
	}
	if i == 0 {
		poke(q.wake)
	}
}

func (q *arrivals) pop() arrival {
	a := q.heap[0]
	if a.packet != nil {
		q.packets--
	}
	last := len(q.heap) - 1
	q.heap[0] = q.heap[last]
	q.heap[last] = arrival{}
	q.heap = q.heap[:last]
	for i := 0; ; {
		least := i
		for _, down := range [2]int{2*i + 1, 2*i + 2} {
			if down < last && q.heap[down].before(&q.heap[least]) {
				least = down
			}
		}
		if least == i {
			return a
		}
		q.heap[i], q.heap[least] = q.heap[least], q.heap[i]
		i = least
	}
}

// forever is how long to wait for what no clock brings.
const forever = time.Duration(1<<63 - 1)

// arm makes timer fire after wait; forever: never, so that a deadlock inside
// testing/synctest is seen as one.
func arm(timer *time.Timer, wait time.Duration) {
	if wait == forever {
		timer.Stop()
	} else {
		timer.Reset(wait)
	}
}

// poke fills a channel of one slot.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
