package node

import (
	"encoding/binary"
	"sync"
	"time"
)

// Path checks tell whether packets arrive, both ways, and how long they take:
//
//	kind u8 (1 ask, 2 answer) | token u32
//
// Datagrams carry them under their own type (datagram.go), voice streams in
// their own frames (voicestream.go). Who gets an ask answers at once with its
// token.
const checkLen = 5

type check struct {
	answer bool
	token  uint32
}

func (c check) appendTo(dst []byte) []byte {
	kind := byte(1)
	if c.answer {
		kind = 2
	}
	return binary.BigEndian.AppendUint32(append(dst, kind), c.token)
}

func parseCheck(b []byte) (check, bool) {
	if len(b) != checkLen || b[0] != 1 && b[0] != 2 {
		return check{}, false
	}
	return check{answer: b[0] == 2, token: binary.BigEndian.Uint32(b[1:])}, true
}

// The judgement of a path.
const (
	// checkEvery is how often a path is asked while all is well, and
	// checkFast while that is not known.
	checkEvery = time.Second
	checkFast  = 200 * time.Millisecond
	// unprovenFor is how long a path may take to answer for the first time.
	unprovenFor = 1500 * time.Millisecond
	// silentFor is how long a proven path may be silent (DESIGN section 4).
	silentFor = 3 * time.Second
	// recoverAfter is how many answers in a row bring a path back.
	recoverAfter = 3
	// outstanding bounds the asks that may still be answered.
	outstanding = 16
)

// checker asks over one path and judges it. Its state is small, and it reads
// no clock.
type checker struct {
	mu  sync.Mutex
	buf [checkLen]byte // for the caller that holds mu

	state    sync.Mutex
	next     uint32
	asked    [outstanding]time.Time // by token, modulo
	since    time.Time              // first ask
	answerAt time.Time
	inRow    int
	bad      bool
	smoothed time.Duration
	least    time.Duration
}

// ask gives the token to send at now.
func (c *checker) ask(now time.Time) uint32 {
	c.state.Lock()
	defer c.state.Unlock()
	if c.since.IsZero() {
		c.since = now
	}
	token := c.next
	c.next++
	c.asked[token%outstanding] = now
	return token
}

// answered notes an answer; changed tells that the path has become good.
func (c *checker) answered(token uint32, now time.Time) (changed bool) {
	c.state.Lock()
	defer c.state.Unlock()
	if c.next-token > outstanding || c.next == token {
		return false // never asked, or long ago
	}
	at := c.asked[token%outstanding]
	if at.IsZero() {
		return false // answered before
	}
	c.asked[token%outstanding] = time.Time{}
	rtt := max(now.Sub(at), time.Microsecond)
	if c.smoothed == 0 {
		c.smoothed, c.least = rtt, rtt
	} else {
		c.smoothed += (rtt - c.smoothed) / 8 // RFC 6298 section 2
		c.least = min(c.least, rtt)
	}
	first := c.answerAt.IsZero()
	c.answerAt = now
	c.inRow++
	if c.bad && c.inRow >= recoverAfter {
		c.bad = false
		return true
	}
	return first && !c.bad
}

// judge tells whether the path is good at now, and whether it was ever proven.
func (c *checker) judge(now time.Time) (good, proven bool) {
	c.state.Lock()
	defer c.state.Unlock()
	proven = !c.answerAt.IsZero()
	quiet := now.Sub(c.answerAt) > silentFor
	if !proven {
		quiet = !c.since.IsZero() && now.Sub(c.since) > unprovenFor
	}
	if quiet {
		c.bad, c.inRow = true, 0
	}
	return !c.bad, proven
}

// waiting is how long the oldest ask has been without an answer, beyond the
// least round trip known. A path that has not answered yet gets unprovenFor.
func (c *checker) waiting(now time.Time) time.Duration {
	c.state.Lock()
	defer c.state.Unlock()
	var longest time.Duration
	for _, at := range c.asked {
		if !at.IsZero() {
			longest = max(longest, now.Sub(at))
		}
	}
	if c.answerAt.IsZero() && longest <= unprovenFor {
		return 0
	}
	return max(0, longest-c.least)
}

// forget makes the path unproven again: it leads elsewhere now.
func (c *checker) forget() {
	c.state.Lock()
	defer c.state.Unlock()
	c.since, c.answerAt, c.inRow, c.bad, c.smoothed = time.Time{}, time.Time{}, 0, false, 0
	clear(c.asked[:])
}

// rtt is the smoothed round trip, 0 while unknown.
func (c *checker) rtt() time.Duration {
	c.state.Lock()
	defer c.state.Unlock()
	return c.smoothed
}
