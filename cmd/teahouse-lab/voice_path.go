package main

import (
	"math/rand/v2"
	"slices"
	"time"

	"teahouse/codec"
	"teahouse/room"
)

// voicePath is what lies between two people, in virtual time and by a seed:
// the same seed loses and delays the same packets whoever speaks over it.
type voicePath struct {
	Loss   float64       `json:"loss"`   // part of packets, 0 to 1, each by itself
	Burst  time.Duration `json:"burst"`  // lost in one piece every two seconds
	Jitter time.Duration `json:"jitter"` // of each packet, uniform from 0: they overtake each other
	Path   time.Duration `json:"path"`   // the least that a packet takes
	Drift  float64       `json:"drift"`  // ppm by which the speaker's clock is slow
	Depth  int           `json:"depth"`  // frames sent again in each packet; autoDepth: by reports
	Seed   uint64        `json:"seed"`
}

const (
	autoDepth      = -1
	voiceDepthMost = 3

	burstEvery    = 2 * time.Second
	voiceReporter = 500 * time.Millisecond

	// What a frame and a packet add on the wire (DESIGN section 6), and what
	// IPv4 and UDP add to that, in bytes.
	voiceFrameOver, voicePacketOver, voiceInternetOver = 24, 35, 28
)

// voiceArrival is one copy of a frame that came.
type voiceArrival struct {
	frame codec.Frame
	at    time.Duration // since capture began
}

// carried is what became of a voice on a path.
type carried struct {
	arrivals []voiceArrival // in order of time
	bytes    int            // on the wire, internet headers included
	depth    float64        // mean
}

// carry sends one spurt of frames over the path, each sealed frame again in as
// many later packets as the room's rule says, or the path fixes.
func (p voicePath) carry(packets [][]byte, length time.Duration) (c carried) {
	rng := rand.New(rand.NewPCG(p.Seed, 0x7ea))
	burstAt := time.Duration(rng.Float64() * float64(burstEvery-p.Burst))
	back := rand.New(rand.NewPCG(p.Seed, 0x7eb)) // reports go the other way
	heard := voiceReception{have: make([]bool, len(packets))}
	var rule room.Repair
	wanted := 0
	var reports []voiceReport
	nextReport := voiceReporter
	known := 0 // arrivals that the listener has counted
	for i := range packets {
		sent := time.Duration(float64(length) * float64(i+1) * (1 + p.Drift/1e6))
		for ; nextReport <= sent; nextReport += voiceReporter {
			for known < len(c.arrivals) && c.arrivals[known].at <= nextReport {
				heard.take(&c.arrivals[known])
				known++
			}
			lost, delay := back.Float64() < p.Loss, p.Path+time.Duration(back.Float64()*float64(p.Jitter))
			if !lost {
				reports = append(reports, voiceReport{at: nextReport + delay, tally: heard.Tally()})
			}
		}
		for len(reports) > 0 && reports[0].at <= sent {
			wanted = rule.Report(time.Unix(0, 0).Add(reports[0].at), reports[0].tally, false)
			reports = reports[1:]
		}
		depth := p.Depth
		if depth == autoDepth {
			depth = wanted
		}
		depth = min(depth, i)
		c.depth += float64(depth) / float64(len(packets))
		c.bytes += voicePacketOver + voiceInternetOver
		lost, delay := rng.Float64() < p.Loss, p.Path+time.Duration(rng.Float64()*float64(p.Jitter))
		lost = lost || p.Burst > 0 && (sent+burstEvery-burstAt)%burstEvery < p.Burst
		for k := range depth + 1 {
			c.bytes += voiceFrameOver + len(packets[i-k])
			if lost {
				continue
			}
			f := codec.Frame{
				Counter: uint32(i - k), MediaTime: uint32(i-k) * uint32(length*codec.Rate/time.Second),
				SpurtStart: i == k, SpurtEnd: i-k == len(packets)-1, Level: 30, Repaired: k > 0, Opus: packets[i-k],
			}
			c.insert(voiceArrival{frame: f, at: sent + delay})
		}
	}
	return c
}

// insert keeps the arrivals in order; what was sent earlier comes first.
func (c *carried) insert(a voiceArrival) {
	at := len(c.arrivals)
	for at > 0 && c.arrivals[at-1].at > a.at {
		at--
	}
	c.arrivals = slices.Insert(c.arrivals, at, a)
}

// voiceReport is what a report says of the voice, and when the speaker has it.
type voiceReport struct {
	at    time.Duration
	tally room.Tally
}

// voiceReception is a room's count of what comes, which takes each frame once.
type voiceReception struct {
	room.Reception
	have []bool
}

func (r *voiceReception) take(a *voiceArrival) {
	switch f := &a.frame; {
	case !r.have[f.Counter]:
		r.have[f.Counter] = true
		r.Frame(f.Counter, f.MediaTime, f.Repaired, a.at)
	case !f.Repaired:
		r.Direct(f.Counter)
	}
}
