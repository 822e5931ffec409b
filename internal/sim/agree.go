package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"teahouse/room"
)

const (
	// settleEvery is how often a Settle looks, and settleHold how long all
	// must go on agreeing before it is believed.
	settleEvery = 20 * time.Millisecond
	settleHold  = time.Second
	// spareSessions is how many sessions beyond one for each pair may stand while
	// sessions that met give way.
	spareSessions = 4
	// lastWord is how long sessions may stand that have just been ended: the
	// last word of each has a quarter of a second. Whom a split cuts off drops
	// all others at once.
	lastWord = time.Second
)

// settling is a Settle that is under way.
type settling struct {
	Settle
	begun time.Time
	// since when each kind of agreement has held; zero: it does not.
	since [agreements]time.Time
	// last is what was missing when something was missing last.
	last string
}

// The kinds of agreement, and how Settled shows them.
const (
	onRoster = iota
	onEpoch
	onVoice
	agreements
)

// departed is a life that has ended, with what it could still open.
type departed struct {
	life *life
	held map[[32]byte]uint32
	// settled is, for each origin that it held and the others still hold now
	// that they know of its going, the number they were at: beyond it the
	// one that went must not be able to follow.
	settled map[[32]byte]uint32
}

func (w *world) depart(l *life) {
	l.tapped.mu.Lock()
	held := l.tapped.held
	l.tapped.held = make(map[[32]byte]uint32)
	l.tapped.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.past = append(w.past, &departed{life: l, held: held, settled: make(map[[32]byte]uint32)})
	w.over = append(w.over, &ended{who: l.person.who, number: l.number, peer: l.peer, at: time.Now(), held: held})
}

// settle looks whether all agree. The caller has waited until everybody is at
// rest.
func (w *world) settle(now time.Time) {
	s := w.settling
	parts := w.parts()
	why, last := "", s.begun
	for kind, differ := range [agreements]func([]*life) string{differInRoster, differInEpoch, differInVoice} {
		missing := ""
		for _, part := range parts {
			if missing == "" {
				missing = differ(part)
			}
		}
		switch {
		case missing != "":
			s.since[kind] = time.Time{}
			if why == "" {
				why = missing
			}
		case s.since[kind].IsZero():
			s.since[kind] = now
		}
		if s.since[kind].After(last) {
			last = s.since[kind]
		}
	}
	if why != "" {
		s.last = why
	}
	agreed := why == "" && now.Sub(last) >= settleHold
	if !agreed && now.Sub(s.begun) < s.Patience {
		return
	}
	w.settling, w.stood = nil, w.stood+now.Sub(s.begun)
	took := func(kind int) time.Duration {
		if s.since[kind].IsZero() {
			return now.Sub(s.begun)
		}
		return s.since[kind].Sub(s.begun)
	}
	done := Settled{
		At: s.begun.Sub(w.start), Roster: took(onRoster), Epoch: took(onEpoch), Voice: took(onVoice), All: last.Sub(s.begun),
	}
	if !agreed {
		done.All = now.Sub(s.begun)
		if done.Why = why; why == "" {
			done.Why = "they had just begun to agree"
		}
	}
	w.result.Settled = append(w.result.Settled, done)
	if done.Why != "" {
		w.violated("not one room %v later: %s", done.All, done.Why)
		return
	}
	if done.All > s.Within {
		w.violated("one room only %v later, not %v (roster %v, epoch %v, voice %v); the last that was missing: %s",
			done.All, s.Within, done.Roster, done.Epoch, done.Voice, s.last)
	}
	w.atRest()
}

// parts are those present, by part of the network.
func (w *world) parts() map[int][]*life {
	parts := make(map[int][]*life)
	for _, p := range w.people {
		if l := p.here(); l != nil {
			g := w.wires.group(p.who)
			parts[g] = append(parts[g], l)
		}
	}
	return parts
}

// differInRoster tells who sees somebody else than is there; "" for nobody.
func differInRoster(part []*life) string {
	for _, l := range part {
		r := l.room.Load()
		if err := r.Err(); err != nil {
			return fmt.Sprintf("%v has left: %v", l, err)
		}
		roster := r.Members()
		for _, other := range part {
			if !shows(roster, other.peer) {
				return fmt.Sprintf("%v does not see %v", l, other)
			}
		}
		if len(roster) != len(part) {
			return fmt.Sprintf("%v sees %d people where there are %d", l, len(roster), len(part))
		}
		for _, m := range roster {
			who, _ := l.world.whose(m.Peer) // each was seen to be one of part
			p := l.world.people[who]
			if m.Member != p.member || m.Nick != fmt.Sprint("p", p.who) || m.Instance != p.instance.Load() {
				return fmt.Sprintf("%v sees a past state of person %d", l, p.who)
			}
		}
	}
	return ""
}

// differInEpoch tells who says to hold different epochs. Somebody alone says
// nothing.
func differInEpoch(part []*life) string {
	if len(part) < 2 {
		return ""
	}
	first, _ := part[0].look()
	for _, l := range part[1:] {
		if k, _ := l.look(); k != first {
			return fmt.Sprintf("%v is in %v, %v in %v", part[0], first, l, k)
		}
	}
	if first.id == ([16]byte{}) {
		return fmt.Sprintf("%v holds no epoch", part[0])
	}
	return ""
}

// differInVoice tells who is not heard by whom.
func differInVoice(part []*life) string {
	for _, l := range part {
		r := l.room.Load()
		links := r.Links()
		for _, other := range part {
			if why := deaf(links, other); other != l && why != "" {
				return fmt.Sprintf("%v is not heard by %v: %s", l, other, why)
			}
		}
		if n := r.Hearers(); n != len(part)-1 {
			return fmt.Sprintf("%v says to be heard by %d, where %d others are: %s", l, n, len(part)-1, describe(links, l.world))
		}
	}
	return ""
}

// deaf tells why, by somebody's links, the other does not hear them; "" if it
// does.
func deaf(links []room.LinkInfo, other *life) string {
	i := slices.IndexFunc(links, func(i room.LinkInfo) bool { return i.Peer == other.peer })
	switch {
	case i < 0:
		return "no session"
	case !links[i].Up:
		return "a session without a path"
	case !links[i].Hears:
		return fmt.Sprintf("no report tells so (%d packets sent, %d come)", links[i].Stats.SentPackets, links[i].Stats.ReceivedPackets)
	}
	return ""
}

// hark looks for pairs that heard nothing in the window.
func (w *world) hark() {
	w.windows.mu.Lock()
	window := w.windows.all[len(w.windows.all)-1]
	deafs := make(map[[2]int]int)
	for pair, p := range window.Pairs {
		if h := p.Heard(); h.Expected > 10 && h.Lost == h.Expected {
			deafs[pair] = h.Expected
		}
	}
	w.windows.mu.Unlock()
	for pair, n := range deafs {
		from, to := w.people[pair[0]].here(), w.people[pair[1]].here()
		if from == nil || to == nil {
			continue
		}
		stats := to.room.Load().Stats()
		w.violated("while %q %v heard nothing of %d frames of %v: %s there, %s here; %d frames not opened, %d replayed", window.Name, to, n, from,
			describeLink(to.room.Load().Links(), from), describeLink(from.room.Load().Links(), to), stats.FramesUnopened, stats.FramesReplayed)
	}
}

// describe is all links of somebody, in words.
func describe(links []room.LinkInfo, w *world) string {
	var b strings.Builder
	for _, l := range links {
		who, _ := w.whose(l.Peer)
		fmt.Fprintf(&b, "person %d (path %v, hears %v) ", who, l.Up, l.Hears)
	}
	return b.String()
}

// describeLink is the link to the other, in words.
func describeLink(links []room.LinkInfo, other *life) string {
	i := slices.IndexFunc(links, func(i room.LinkInfo) bool { return i.Peer == other.peer })
	if i < 0 {
		return "no session"
	}
	l := links[i]
	return fmt.Sprintf("a session (path %v, hears %v, sent %d, received %d packets)", l.Up, l.Hears, l.Stats.SentPackets, l.Stats.ReceivedPackets)
}

// atRest checks what must hold once all agree.
func (w *world) atRest() {
	parts := w.parts()
	for _, part := range parts {
		for _, l := range part {
			_, n := l.look()
			if n > 2*(len(part)-1)+spareSessions {
				time.Sleep(lastWord)
				_, n = l.look()
			}
			if n > 2*(len(part)-1)+spareSessions {
				w.violated("%v has %d sessions with %d people", l, n, len(part)-1)
			}
		}
	}
	w.countGoroutines(parts)
	w.pastCannotFollow(parts)
}

// pastCannotFollow: those who went hold no key to what came after the others
// knew of it and changed the epoch (DESIGN section 5, after any departure).
func (w *world) pastCannotFollow(parts map[int][]*life) {
	w.mu.Lock()
	past := w.past
	w.past = nil
	w.mu.Unlock()
	// The parts of a split network may go on from one origin, each by itself.
	var newest []known
	alone := false
	for _, part := range parts {
		if len(part) < 2 {
			alone = true // who is alone says nothing of its epoch
			continue
		}
		k, _ := part[0].look()
		if i := slices.IndexFunc(newest, func(o known) bool { return o.origin == k.origin }); i < 0 {
			newest = append(newest, k)
		} else if k.number > newest[i].number {
			newest[i] = k
		}
	}
	var keep []*departed
	for _, d := range past {
		if w.people[d.life.person.who].lives > d.life.number {
			continue // back again, and entitled anew
		}
		relevant := alone
		for _, k := range newest {
			if _, held := d.held[k.origin]; !held {
				continue
			}
			relevant = true
			if at, ok := d.settled[k.origin]; !ok {
				d.settled[k.origin] = k.number
			} else if k.number > at {
				w.violated("%v, gone before epoch %d, can follow to %v", d.life, at, k)
			}
		}
		if relevant {
			keep = append(keep, d)
		}
	}
	w.mu.Lock()
	w.past = append(w.past, keep...)
	w.mu.Unlock()
}
