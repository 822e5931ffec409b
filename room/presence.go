package room

import (
	"slices"
	"time"

	"teahouse/internal/mesh"
)

// present shows ourselves and drops the silent when it is time, and tells when
// to come again.
func (r *Room) present(now time.Time) (next time.Time) {
	if !r.presenceAt.After(now) {
		r.announceSelf()
		r.showAddrs(now)
	}
	silent, next := r.roster.silent(now)
	for _, m := range silent {
		if until := r.lastReport(m).Add(presenceGone); until.After(now) {
			r.roster.present[m].until = until
			next = sooner(next, until)
			continue
		}
		r.roster.remove(m, now)
		r.miss(r.roster.last(m).Peer, now)
		r.memberGone(m, "has fallen silent")
	}
	return sooner(next, r.presenceAt)
}

// lastReport is when the latest report of a present member came; zero: none has.
// Reports are packets of a session: they show that the member lives where its
// entries wait in a stream whose connection is dead, which may not be known for
// 15 s, and where that stream has broken and the voice goes on by itself
// (ending.go), for brokenFor at most, while a new one is not found at once.
func (r *Room) lastReport(m Member) (at time.Time) {
	for s := range r.sessions {
		if s.state != sessionOpen && s.state != sessionFading || s.far.member != m {
			continue
		}
		s.link.mu.Lock()
		if s.link.came.After(at) {
			at = s.link.came
		}
		s.link.mu.Unlock()
	}
	return at
}

// freshEntry signs our entry anew; nil where the network does not sign any
// more, because it is closing.
func (r *Room) freshEntry() *entry {
	r.own.Sequence++
	if err := r.own.sign(r.id, r.cfg.Key, r.cfg.Network.SignAsHost); err != nil {
		r.log.Debug("sign our entry", "err", err)
		return nil
	}
	return &r.own
}

// announceSelf shows our entry to everybody, by session and by gossip.
func (r *Room) announceSelf() {
	r.presenceAt = time.Now().Add(r.jitter(presenceEvery, time.Second))
	fresh := r.freshEntry()
	if fresh == nil {
		return
	}
	e := *fresh
	data := e.appendMessage(nil)
	for s := range r.sessions {
		if s.state == sessionOpen {
			s.send(mesh.Roster, data)
		}
	}
	if boxes := *r.boxes.Load(); len(boxes) > 0 {
		r.gossip.publish(func(topic string) []byte { return boxes[0].seal(topic, &e) })
	}
}

// show takes an entry of another member, verified and come from its own peer,
// into the roster, and does what follows from it.
func (r *Room) show(e *entry) shown { return r.showBy(r.roster.show, e) }

// showHearsay is show for an entry that somebody else has shown.
func (r *Room) showHearsay(e *entry) { r.showBy(r.roster.showHearsay, e) }

func (r *Room) showBy(take func(*entry, time.Time) shown, e *entry) shown {
	now := time.Now()
	var flags uint16
	var before mesh.PeerID
	if p := r.roster.present[e.Member]; p != nil {
		flags, before = p.entry.Flags, p.entry.Peer
		if !p.fresh(now) {
			r.wake() // it may be let in again
		}
	}
	what := take(e, now)
	switch what {
	case shownJoined:
		r.redial()
		r.membersChanged()
		r.memberEvents(e, 0, stateIn)
	case shownChanged:
		r.membersChanged()
		r.memberEvents(e, flags, stateChanged)
	case shownRestart:
		if before != e.Peer {
			r.farewell(before)
		}
		// The instance before has gone, with its keys and with what it knew of
		// others' going; it may go on in a copy of its home.
		r.handing.depart(e.Member, now)
		r.silence(e.Member)
		r.endSessionsOf(e.Member, e, "a newer instance has come")
		r.membersChanged()
		r.memberEvents(e, flags, stateChanged)
	case shownLeft:
		r.farewell(e.Peer)
		r.memberGone(e.Member, "left")
	case shownOutdated, shownClash, shownFull:
		r.count.entriesRefused.Add(1)
	}
	return what
}

// isPresent tells whether the instance that e is of is here.
func (r *Room) isPresent(e *entry) bool {
	p := r.roster.present[e.Member]
	return p != nil && p.entry.Instance == e.Instance && sameInstance(&p.entry, e)
}

// memberGone does what follows from a member's going.
func (r *Room) memberGone(m Member, reason string) {
	r.handing.depart(m, time.Now())
	r.silence(m)
	r.endSessionsOf(m, nil, reason)
	r.membersChanged()
	if e := r.roster.last(m); e != nil {
		r.emit(Event{Kind: EventMember, Member: m, Info: e.info(time.Time{}, false), State: stateOut, Reason: reason})
	}
}

// endSessionsOf ends the sessions with a member, whose voice has been closed,
// at once, those that fade too; it tells them last, if any.
func (r *Room) endSessionsOf(m Member, last *entry, reason string) {
	for s := range r.sessions {
		if s.far == nil || s.far.member != m {
			continue
		}
		if last != nil {
			s.send(mesh.Urgent, last.appendMessage(nil))
		}
		r.endSession(s, reason)
	}
}

// silence ends what is heard of a member's instance so far.
func (r *Room) silence(m Member) {
	if v := r.voices[m]; v != nil {
		v.close()
		delete(r.voices, m)
	}
}

// voiceOf is what is heard of a present member.
func (r *Room) voiceOf(m Member) *voice {
	v := r.voices[m]
	if v == nil {
		v = &voice{plane: r.plane, member: m, instance: r.roster.present[m].entry.Instance}
		r.voices[m] = v
		r.setVoiceKeys(m, v)
	}
	return v
}

func (r *Room) setVoiceKeys(m Member, v *voice) {
	e := &r.roster.present[m].entry
	v.setEpochs(r.handing.held, func(p *epoch) *opener { return newOpener(&p.secret, r.id, m, e.Peer, e.Salt) })
}

// memberEvents tells of a member that came or changed.
func (r *Room) memberEvents(e *entry, before uint16, state string) {
	info := r.infoOf(e)
	r.emit(Event{Kind: EventMember, Member: e.Member, Info: info, State: state})
	if (e.Flags^before)&entryRecording != 0 {
		r.emit(Event{Kind: EventRecording, Member: e.Member, Info: info})
	}
}

func (r *Room) infoOf(e *entry) MemberInfo {
	since := r.since
	if p := r.roster.present[e.Member]; p != nil {
		since = p.since
	}
	return e.info(since, e.Member == r.self)
}

// membersChanged makes the snapshot of Members.
func (r *Room) membersChanged() {
	members := make([]MemberInfo, 0, len(r.roster.present)+1)
	for _, p := range r.roster.present {
		members = append(members, p.entry.info(p.since, false))
	}
	slices.SortFunc(members, func(a, b MemberInfo) int { return slices.Compare(a.Member[:], b.Member[:]) })
	members = slices.Insert(members, 0, r.own.info(r.since, true))
	r.members.Store(&members)
}

// memberLink is one of the links to a member.
type memberLink struct {
	member Member
	*link
}

// linksChanged makes the snapshot of Links: by member, of each the one that
// does not fade first.
func (r *Room) linksChanged() {
	links := []memberLink{}
	for s := range r.sessions {
		if s.far != nil {
			links = append(links, memberLink{s.far.member, s.link})
		}
	}
	slices.SortFunc(links, func(a, b memberLink) int {
		if by := slices.Compare(a.member[:], b.member[:]); by != 0 || a.fading.Load() == b.fading.Load() {
			return by
		} else if a.fading.Load() {
			return 1
		}
		return -1
	})
	r.links.Store(&links)
}

func (r *Room) hasLink() bool { return len(*r.links.Load()) > 0 }

func (r *Room) longestRTT() (longest time.Duration) {
	for s := range r.sessions {
		if s.state == sessionOpen {
			longest = max(longest, s.link.roundTrip(), s.path.RTT)
		}
	}
	return longest
}

// report sends the reports that are due.
func (r *Room) report(now time.Time) (next time.Time) {
	if !r.hasLink() {
		return time.Time{}
	}
	if !r.reportAt.After(now) {
		r.reportAt = now.Add(reportEvery)
		r.reportAll(now, true)
		r.showAddrs(now) // who has moved is not found where it was
	}
	return r.reportAt
}

func (r *Room) reportAll(now time.Time, due bool) {
	for s := range r.sessions {
		if s.far != nil {
			s.link.sendReport(s.link.voice.Load(), now, due)
		}
	}
}

// epochChanged is told by handing of a new epoch.
func (r *Room) epochChanged(reason string, apart bool) {
	r.keysChanged()
	if apart {
		for s := range r.sessions {
			if s.far != nil {
				s.link.unheard()
			}
		}
	}
	r.reportAll(time.Now(), false)
	r.wake()
	if reason == reasonHealed {
		r.emitError("epoch", reason+"; they have been replaced")
	}
	r.emit(Event{Kind: EventEpoch, Number: r.handing.newest().number, Reason: reason})
}

// toldEpoch is an epoch as the plane was last told of it.
type toldEpoch struct {
	*epoch
	skip  bool
	until time.Time
}

// keysChanged gives the plane and the gossip the epochs that are held now.
func (r *Room) keysChanged() {
	held := r.handing.held
	if slices.EqualFunc(held, r.told, func(e *epoch, t toldEpoch) bool { return t == toldEpoch{e, e.skip, e.until} }) {
		return
	}
	r.told = r.told[:0]
	for _, e := range held {
		r.told = append(r.told, toldEpoch{e, e.skip, e.until})
	}
	r.plane.setEpochs(held, func(e *epoch) *sealer {
		return newSealer(&e.secret, r.id, r.self, r.peer, r.own.Salt)
	})
	for m, v := range r.voices {
		r.setVoiceKeys(m, v)
	}
	boxes := make([]*rosterBox, 0, len(held))
	for _, e := range held {
		boxes = append(boxes, newRosterBox(&e.secret))
	}
	r.boxes.Store(&boxes)
	if e := r.handing.newest(); e != nil {
		r.epoch.Store(e.number)
	} else {
		r.epoch.Store(0)
	}
}
