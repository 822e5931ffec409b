package node

import (
	"encoding/binary"
	"math"
	"sync"
	"time"
)

// Path checks tell whether packets arrive, both ways, and how long they take:
//
//	kind u8 (1 ask, 2 answer) | token u32 | received u32 | highest u32
//
// Datagrams carry them under their own type (datagram.go), voice streams in
// their own frames (voicestream.go). Who gets an ask answers at once with its
// token. The answer to a datagram says how many datagrams of this session have
// come, and one above the highest counter among them, both modulo 2^32: the
// forward loss, for the rate control. In asks and on streams both are zero.
const checkLen = 13

type check struct {
	answer bool
	token  uint32
	tally  tally
}

// tally is what one side has received of a session's datagrams, modulo 2^32.
type tally struct {
	received uint32 // authentic, each once
	highest  uint32 // one above the highest counter among them
}

func (c check) appendTo(dst []byte) []byte {
	kind := byte(1)
	if c.answer {
		kind = 2
	}
	dst = binary.BigEndian.AppendUint32(append(dst, kind), c.token)
	dst = binary.BigEndian.AppendUint32(dst, c.tally.received)
	return binary.BigEndian.AppendUint32(dst, c.tally.highest)
}

func parseCheck(b []byte) (check, bool) {
	if len(b) != checkLen || b[0] != 1 && b[0] != 2 {
		return check{}, false
	}
	return check{
		answer: b[0] == 2, token: binary.BigEndian.Uint32(b[1:]),
		tally: tally{binary.BigEndian.Uint32(b[5:]), binary.BigEndian.Uint32(b[9:])},
	}, true
}

// The judgement of a path.
const (
	// checkEvery is how often a path is asked while all is well, checkFast
	// while it loses something, checkAgain while answers are missing or it has
	// yet to show that it works, and checkTalk while voice is sent and a stream
	// could carry it too: a path that dies is doubted within 200 ms then. An
	// ask and its answer both pass a path that loses 40 % with 36 %: at one a
	// second one minute in 6 would have 3 s without an answer.
	checkEvery = time.Second
	checkFast  = 200 * time.Millisecond
	checkAgain = 100 * time.Millisecond
	checkTalk  = 60 * time.Millisecond
	// unprovenFor is how long a path may take to answer for the first time, and
	// how old the last answer of one may be whose place is taken by another
	// that is believed at once.
	unprovenFor = 1500 * time.Millisecond
	// silentFor is how long a proven path may be silent (DESIGN section 4).
	silentFor = 3 * time.Second
	// recoverAfter is how many answers within silentFor bring a path back: not
	// in a row, which a path that loses much would seldom show.
	recoverAfter = 3
	// outstanding bounds the asks that may still be answered.
	outstanding = 64
	// lossy is from which part of the asks on, being without an answer, a path
	// counts as one that loses something.
	lossy = 0.05
	// doubtLate is how late an answer must be to count as missing, beyond the
	// round trip, doubtChance how likely that many may be missing by chance
	// for the path to be doubted, and doubtAsks bounds how many that is.
	doubtLate = 50 * time.Millisecond
	// doubtSilence is how long nothing at all may have been answered for the
	// path to be doubted: answers that come later and later, but come, are a
	// queue, and to send by a second path too would feed it.
	doubtSilence = 2*checkTalk + doubtLate/2
	doubtChance  = 0.01
	doubtAsks    = 12
)

// checker asks over one path and judges it. Its state is small, and it reads
// no clock.
type checker struct {
	mu  sync.Mutex
	buf [checkLen]byte // for the caller that holds mu

	state    sync.Mutex
	next     uint32                 // token of the next ask
	heard    uint32                 // one above the newest token answered
	asked    [outstanding]time.Time // by token, modulo
	since    time.Time              // first ask
	answerAt time.Time
	back     [recoverAfter]time.Time // the latest answers, newest first
	bad      bool
	wary     bool // it counts as good only once it has answered
	smoothed time.Duration
	least    time.Duration
	missing  float64 // part of the asks without an answer, smoothed
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

// answered notes an answer; rtt is that of this ask, 0 if it answers none, and
// changed tells that the path has become good.
func (c *checker) answered(token uint32, now time.Time) (rtt time.Duration, changed bool) {
	c.state.Lock()
	defer c.state.Unlock()
	if c.next-token > outstanding || c.next == token {
		return 0, false // never asked, or long ago
	}
	at := c.asked[token%outstanding]
	if at.IsZero() {
		return 0, false // answered before
	}
	c.asked[token%outstanding] = time.Time{}
	rtt = max(now.Sub(at), time.Microsecond)
	if c.smoothed == 0 {
		c.smoothed, c.least = rtt, rtt
	} else {
		c.smoothed += (rtt - c.smoothed) / 8 // RFC 6298 section 2
		c.least = min(c.least, rtt)
	}
	if int32(token-c.heard) >= 0 {
		for range min(token-c.heard, outstanding) {
			c.missing += (1 - c.missing) / 16
		}
		c.missing -= c.missing / 16
		c.heard = token + 1
	}
	first := c.answerAt.IsZero()
	c.answerAt = now
	copy(c.back[1:], c.back[:])
	c.back[0] = now
	if c.bad && now.Sub(c.back[recoverAfter-1]) <= silentFor {
		c.bad = false
		return rtt, true
	}
	return rtt, first && !c.bad
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
		c.bad = true
		clear(c.back[:])
	}
	return !c.bad && (proven || !c.wary), proven
}

// pace is how long after an ask the next one is due.
func (c *checker) pace(now time.Time) time.Duration {
	c.state.Lock()
	defer c.state.Unlock()
	switch {
	case c.bad && now.Sub(c.answerAt) > silentFor:
		return checkEvery
	case c.bad || c.answerAt.IsZero() || c.late(now) > 0:
		return checkAgain
	case c.missing > lossy:
		return checkFast
	}
	return checkEvery
}

// late is how many of the newest asks should have been answered by now. state
// must be held.
func (c *checker) late(now time.Time) (n int) {
	first := c.heard
	if c.next-first > outstanding {
		first = c.next - outstanding
	}
	for token := first; token != c.next; token++ {
		if now.Sub(c.asked[token%outstanding]) >= c.smoothed+doubtLate {
			n++
		}
	}
	return n
}

// doubted tells that voice should go by a second path too: the path has not
// answered yet, or more answers in a row are late than the loss of the path
// explains. With little loss these are two, which takes under 200 ms while
// asks go out every checkTalk.
func (c *checker) doubted(now time.Time) bool {
	c.state.Lock()
	defer c.state.Unlock()
	if c.answerAt.IsZero() || c.bad {
		return true
	}
	if now.Sub(c.answerAt) < doubtSilence {
		return false
	}
	enough := 2
	if c.missing > 0.1 {
		enough = int(math.Ceil(math.Log(doubtChance) / math.Log(min(c.missing, 0.9))))
	}
	return c.late(now) >= min(max(enough, 2), doubtAsks)
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

// silent tells that asks go out, and none has been answered for silentFor.
func (c *checker) silent(now time.Time) bool {
	waits := c.waiting(now)
	c.state.Lock()
	defer c.state.Unlock()
	return waits > silentFor && now.Sub(c.answerAt) > silentFor
}

// turn begins anew with a path that leads elsewhere. It is called good before
// it has answered unless it is a strange one, or takes the place of one that
// does not answer: of two connections that are both dead each would else seem
// to bring the peer back.
func (c *checker) turn(now time.Time, strange bool) {
	c.state.Lock()
	defer c.state.Unlock()
	wary := c.bad || strange || c.wary
	if !c.answerAt.IsZero() {
		wary = c.bad || now.Sub(c.answerAt) > unprovenFor
	}
	c.begin()
	c.wary = wary
}

// forget makes the path unproven again: what was known is old.
func (c *checker) forget() {
	c.state.Lock()
	defer c.state.Unlock()
	c.begin()
}

// begin forgets all. state must be held.
func (c *checker) begin() {
	c.since, c.answerAt, c.bad, c.wary, c.smoothed = time.Time{}, time.Time{}, false, false, 0
	clear(c.back[:])
	c.heard, c.missing = c.next, 0
	clear(c.asked[:])
}

// rtt is the smoothed round trip, 0 while unknown.
func (c *checker) rtt() time.Duration {
	c.state.Lock()
	defer c.state.Unlock()
	return c.smoothed
}
