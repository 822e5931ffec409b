package room

import "time"

// Reception measures how the frames of one flow of one instance arrive, for
// the reports that its sender gets. A frame is judged when it is settleAfter
// behind the newest: by then each copy that repair sends has had its chance.
// It takes every distinct frame once, in any order. The zero value has seen
// nothing. For one goroutine at a time.
type Reception struct {
	begun    bool
	highest  uint32
	settled  uint32 // counters before it are judged
	received uint64 // distinct frames
	repaired uint64 // of these, by a copy that was sent again
	late     uint64 // of these, after they had been judged lost
	lost     uint64 // judged without any copy
	unaided  uint64 // judged without the copy that was sent first: lost before repair

	have, direct [receptionSpan / 64]uint64 // any copy, the first copy; bit = counter mod span

	burst     int     // unaided losses in a row, up to now
	longest   int     // longest such since takeBursts
	meanBurst float64 // moving mean with weight 1/8

	transit time.Duration // of the last direct frame: arrival less media time
	jitter  float64       // microseconds, RFC 3550 appendix A.8
}

const (
	receptionSpan = 256
	settleAfter   = 16
	// receptionJump is how far counters may run ahead before it is taken for
	// a stream that begins anew, and nothing counts as lost.
	receptionJump = 1 << 14
)

// Tally is what a report says of it.
func (r *Reception) Tally() Tally {
	return Tally{
		Received: uint32(r.received), Lost: uint32(r.lost), Unaided: uint32(r.unaided),
		MeanBurst: uint16(min(r.meanBurst*16, 1<<16-1)),
	}
}

// Frame takes one distinct frame; again: it came by a copy that was sent again.
// mediaTime is in samples at 48 kHz; arrival is time since any fixed moment.
func (r *Reception) Frame(counter, mediaTime uint32, again bool, arrival time.Duration) {
	r.received++
	if again {
		r.repaired++
	}
	if !r.begun {
		r.begun, r.highest, r.settled = true, counter, counter
	}
	switch ahead := counter - r.highest; {
	case ahead < receptionJump:
		r.advance(counter)
	case ahead < 1<<31:
		r.have, r.direct = [receptionSpan / 64]uint64{}, [receptionSpan / 64]uint64{}
		r.highest, r.settled, r.burst = counter, counter, 0
	case counter-r.settled >= 1<<31: // judged already
		r.late++
		return
	}
	i := counter % receptionSpan
	r.have[i/64] |= 1 << (i % 64)
	if !again {
		r.direct[i/64] |= 1 << (i % 64)
		r.measureJitter(mediaTime, arrival)
	}
}

// Direct notes that the copy that was sent first has come after all, where a
// copy sent again had overtaken it: nothing was lost.
func (r *Reception) Direct(counter uint32) {
	if r.begun && counter-r.settled <= r.highest-r.settled {
		i := counter % receptionSpan
		r.direct[i/64] |= 1 << (i % 64)
	}
}

// resume takes the next frame as the first of all, but goes on counting.
func (r *Reception) resume() {
	r.begun, r.burst, r.transit = false, 0, 0
	r.have, r.direct = [receptionSpan / 64]uint64{}, [receptionSpan / 64]uint64{}
}

// advance moves the newest counter on and judges what falls behind.
func (r *Reception) advance(counter uint32) {
	for r.highest != counter {
		r.highest++
		if r.highest-r.settled > settleAfter {
			r.judge(r.settled)
			r.settled++
		}
	}
}

func (r *Reception) judge(counter uint32) {
	i := counter % receptionSpan
	word, bit := &r.have[i/64], uint64(1)<<(i%64)
	if *word&bit == 0 {
		r.lost++
	}
	*word &^= bit
	word = &r.direct[i/64]
	if *word&bit == 0 {
		r.unaided++
		r.burst++
		r.longest = max(r.longest, r.burst)
	} else if r.burst > 0 {
		if r.meanBurst == 0 {
			r.meanBurst = float64(r.burst)
		}
		r.meanBurst += (float64(r.burst) - r.meanBurst) / 8
		r.burst = 0
	}
	*word &^= bit
}

func (r *Reception) measureJitter(mediaTime uint32, arrival time.Duration) {
	const samplesPerMillisecond = 48
	transit := arrival - time.Duration(mediaTime)*time.Millisecond/samplesPerMillisecond
	if r.transit != 0 {
		d := (transit - r.transit).Abs()
		if d > time.Second { // the media clock wrapped or jumped
			d = 0
		}
		r.jitter += (float64(d.Microseconds()) - r.jitter) / 16
	}
	r.transit = transit
}

// takeLongest gives the longest burst of unaided losses since the last call.
func (r *Reception) takeLongest() uint16 {
	longest := uint16(min(r.longest, 1<<16-1))
	r.longest = r.burst
	return longest
}
