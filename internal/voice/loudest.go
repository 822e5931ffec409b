package voice

import "math"

// Of many voices only the loudest are decoded; the others are passed over.
//
// A voice is as loud as it was over the last 200 ms: as measured, where it is
// decoded, else as its sender claims in each frame. A claim costs nothing, so
// whoever was found to claim more than 6 dB above what was heard is believed
// that much less from then on.
//
// Somebody louder takes the place of the one who is least loud, if by 3 dB and
// if that one has had the place for half a second; so two who are equally loud do
// not take turns. Whoever is alone with seven others is always decoded.
const (
	mostDecoded  = 8
	loudSpan     = 20   // blocks of 10 ms over which loudness is taken
	placeMargin  = 2.0  // as power: 3 dB
	placeHold    = 50   // blocks
	claimMargin  = 4.0  // as power: 6 dB
	claimSpan    = 100  // blocks over which a claim is compared with the sound, at most
	claimAudible = 1e-6 // power, -60 dBov: below it a claim gains nothing
)

// powerOf is a level in -dBov as power, 1 for 0 dBov; what is silent is 0.
func powerOf(level uint8) float64 {
	if level >= 127 {
		return 0
	}
	return math.Pow(10, -float64(level)/10)
}

// levelOf is the inverse of powerOf.
func levelOf(power float64) uint8 {
	if power <= 0 {
		return 127
	}
	return uint8(max(0, min(127, math.Round(-10*math.Log10(power)))))
}

// loudness is how loud one voice is. It belongs to the playout goroutine. The
// zero value is silent, and believes what is claimed.
type loudness struct {
	ring [loudSpan]float64
	next int
	mean float64 // of ring

	heard, claimed float64 // over claimSpan, while decoded
	known          int     // blocks of that
	boast          float64 // what claims are divided by, once it is not 0
}

// hear takes the power of one block, as it was measured, if it was decoded, and
// as its sender claims.
func (l *loudness) hear(heard, claimed float64, decoded bool) {
	now := heard
	if decoded {
		l.compare(heard, claimed)
	} else {
		l.known = 0
		now = claimed
		if l.boast > 0 {
			now /= l.boast
		}
	}
	l.ring[l.next] = now
	l.next = (l.next + 1) % loudSpan
	sum := 0.0
	for _, p := range l.ring {
		sum += p
	}
	l.mean = sum / loudSpan
}

// compare judges what is claimed by what is heard, before the place can be lost.
func (l *loudness) compare(heard, claimed float64) {
	if l.known == 0 {
		l.heard, l.claimed = 0, 0
	}
	l.known++
	weight := 1 / float64(min(l.known, claimSpan))
	l.heard += weight * (heard - l.heard)
	l.claimed += weight * (claimed - l.claimed)
	switch {
	case l.known < placeHold || l.claimed < claimAudible:
	case l.claimed > claimMargin*l.heard:
		l.boast = l.claimed / max(l.heard, 1e-12)
	default:
		l.boast = 0
	}
}

// level is the loudness in -dBov.
func (l *loudness) level() uint8 { return levelOf(l.mean) }

// ranking finds, in one walk over everybody, who is decoded and should not be,
// and who is not and should. The zero value is ready; it belongs to the playout
// goroutine.
type ranking struct {
	decoded int
	least   *person // of the decoded
	most    *person // of the others
}

func (r *ranking) add(p *person) {
	if p.passed {
		if r.most == nil || p.rank() > r.most.rank() {
			r.most = p
		}
		return
	}
	r.decoded++
	if r.least == nil || p.rank() < r.least.rank() {
		r.least = p
	}
}

// settle makes the change that is due, and tells whether there was one: at most
// one in a block, for one walk knows no more.
func (r *ranking) settle() (changed bool) {
	switch {
	case r.decoded > mostDecoded:
		r.least.pass(true) // somebody has come
	case r.most == nil:
		return false
	case r.decoded < mostDecoded:
		r.most.pass(false)
	case r.least.held >= placeHold && r.most.rank() > placeMargin*r.least.rank():
		r.least.pass(true)
		r.most.pass(false)
	default:
		return false
	}
	return true
}
