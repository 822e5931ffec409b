package sim

import (
	"sync"
	"sync/atomic"
	"time"
)

// Uplink is the narrowest place on the way out of somebody's home, or into it:
// one queue for everything that passes, first in, first out, as in a plain router.
type Uplink struct {
	Rate  int           // bits per second, headers included; 0: no limit
	Queue time.Duration // how much waits at most, at Rate; what comes beyond is lost
}

// SetUplink makes somebody's uplink that thin, on [Internet]. It holds for
// later lives too.
type SetUplink struct {
	Who    int
	Uplink Uplink
}

// SetDownlink is SetUplink for the way in.
type SetDownlink struct {
	Who    int
	Uplink Uplink
}

// Upload begins, or ends, to send as much as TCP would over somebody's uplink,
// to somewhere that is a round trip of RTT away; see [Result].Uploaded.
type Upload struct {
	Who int
	RTT time.Duration // 0: ends
}

func (a SetUplink) act(w *world) { w.people[a.Who].uplink.set(a.Uplink) }

func (a SetDownlink) act(w *world) { w.people[a.Who].downlink.set(a.Uplink) }

func (a Upload) act(w *world) {
	p := w.people[a.Who]
	if p.upload != nil {
		p.upload.stop()
		w.result.Uploaded[a.Who] += int(p.upload.delivered.Load())
		p.upload = nil
	}
	if a.RTT > 0 {
		p.upload = startUpload(&p.uplink, a.RTT)
	}
}

// uplink is the queue of one person. It may be used from several goroutines at
// once.
type uplink struct {
	mu   sync.Mutex
	like Uplink
	free time.Time // when all that waits has gone
}

func (u *uplink) set(like Uplink) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.like = like
}

// take puts a packet of so many bytes into the queue and tells how long it is
// until the last of it has gone; false: the queue is full.
func (u *uplink) take(now time.Time, bytes int) (wait time.Duration, ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.like.Rate == 0 {
		return 0, true
	}
	if u.free.Before(now) {
		u.free = now
	}
	if u.free.Sub(now) > u.like.Queue {
		return 0, false
	}
	u.free = u.free.Add(time.Duration(bytes*8) * time.Second / time.Duration(u.like.Rate))
	return u.free.Sub(now), true
}

const (
	uploadPacket = 1500 // bytes, with headers
	uploadBegin  = 10   // packets: RFC 6928
)

// upload is a greedy TCP as RFC 5681 has it: slow start, one packet more per
// round trip, half at a loss, which is seen one round trip later. It has no
// retransmission timeout: something of it is always on its way.
type upload struct {
	delivered atomic.Int64 // bytes
	done      chan struct{}
	ended     chan struct{}
}

func startUpload(u *uplink, rtt time.Duration) *upload {
	f := &upload{done: make(chan struct{}), ended: make(chan struct{})}
	go f.run(u, rtt) // ended by stop
	return f
}

func (f *upload) stop() {
	close(f.done)
	<-f.ended
}

// answer is what comes of one packet, and when.
type answer struct {
	at   time.Time
	lost bool
}

func (f *upload) run(u *uplink, rtt time.Duration) {
	defer close(f.ended)
	window, threshold := float64(uploadBegin), 1e9
	var flight []answer // in the order of their times: the queue keeps it
	recovered := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		for len(flight) > 0 && !flight[0].at.After(now) {
			a := flight[0]
			flight = flight[1:]
			switch {
			case a.lost && now.After(recovered):
				window = max(2, window/2)
				threshold, recovered = window, now.Add(rtt) // one cut for one window
			case a.lost:
			case window < threshold:
				f.delivered.Add(uploadPacket)
				window++
			default:
				f.delivered.Add(uploadPacket)
				window += 1 / window
			}
		}
		for float64(len(flight)) < window {
			wait, ok := u.take(now, uploadPacket)
			a := answer{now.Add(wait + rtt), !ok}
			if !ok && len(flight) > 0 {
				a.at = flight[len(flight)-1].at // seen by what comes after it
			}
			flight = append(flight, a)
			if !ok {
				break
			}
		}
		timer.Reset(time.Until(flight[0].at))
		select {
		case <-timer.C:
		case <-f.done:
			return
		}
	}
}
