package room

import (
	"slices"
	"time"
)

// ID is the room id. It is the same for all members and says nothing about
// the topic, but never travels in clear.
func (r *Room) ID() ID { return r.id }

// Self is this member.
func (r *Room) Self() Member { return r.self }

// Members is the roster as of now, self first, then by key. It never waits.
func (r *Room) Members() []MemberInfo { return slices.Clone(*r.members.Load()) }

// Links is the state of the link to each member that we have a session with,
// or had a moment ago, by key. It never waits.
func (r *Room) Links() []LinkInfo {
	now := time.Now()
	links := *r.links.Load()
	infos := make([]LinkInfo, 0, len(links))
	for _, l := range links {
		i := l.info(now)
		if i.Member == (Member{}) {
			continue
		}
		// Of two links to one member the first is the one that stays.
		if last := len(infos) - 1; last >= 0 && infos[last].Member == i.Member {
			if i.Up && !infos[last].Up {
				infos[last] = i
			}
			continue
		}
		infos = append(infos, i)
	}
	return infos
}

// Hearers is how many members hear what we say, by whatever link: those that
// have said so within the last two seconds, see LinkInfo.Hears. It never waits.
func (r *Room) Hearers() (n int) {
	now := time.Now()
	var last Member // the latest that counts: links stand by member
	for _, l := range *r.links.Load() {
		if (n == 0 || l.member != last) && l.hearsNow(now) {
			n, last = n+1, l.member
		}
	}
	return n
}

// Stats is a snapshot of the counters. It never waits.
func (r *Room) Stats() Stats {
	c := &r.count
	return Stats{
		Epoch:           r.epoch.Load(),
		Members:         len(*r.members.Load()),
		FramesSent:      c.framesSent.Load(),
		FramesOpened:    c.framesOpened.Load(),
		FramesReplayed:  c.framesReplayed.Load(),
		FramesUnopened:  c.framesUnopened.Load(),
		PacketsRefused:  c.packetsRefused.Load(),
		BroadcastsBad:   c.broadcastsBad.Load(),
		MessagesBad:     c.messagesBad.Load(),
		EntriesRefused:  c.entriesRefused.Load(),
		SessionsRefused: c.sessionsRefused.Load(),
	}
}

// Speak sends one frame to every member that there is a link to. Of f it
// takes Flow, MediaTime, SpurtStart, SpurtEnd, Level and Opus (1 to MaxOpus
// bytes, not kept); Counter and Instance are the room's own. It never waits
// and allocates nothing. Frames are dropped without an error while muted,
// while listening only, or while nobody else is here. Errors: ErrClosed, and
// a frame that is out of range. Frames of one flow keep the order of the calls.
func (r *Room) Speak(f *Frame) error { return r.plane.speak(f) }

// SetMuted mutes or unmutes: no voice leaves after SetMuted(true) returns.
// Like all setters it returns when the change is on its way to every other
// member, ErrClosed after the room has ended; but see Config.Shielded.
func (r *Room) SetMuted(muted bool) error { return r.setFlag(entryMuted, muted) }

// SetShielded changes Config.Shielded.
func (r *Room) SetShielded(on bool) { r.shielded.Store(on) }

// SetRecording shows all that this member keeps what it hears. Nothing may be
// kept before SetRecording(true) has returned nil.
func (r *Room) SetRecording(on bool) error { return r.setFlag(entryRecording, on) }

// SetAllowRecording tells all whether they may keep what this member says.
func (r *Room) SetAllowRecording(on bool) error { return r.setFlag(entryAllowRecording, on) }

// SetListenOnly tells all that this member has no microphone; no voice leaves
// while it is set.
func (r *Room) SetListenOnly(on bool) error { return r.setFlag(entryListenOnly, on) }

// SetNick changes the nickname: at most MaxNick bytes of UTF-8 without
// control characters, see CheckNick.
func (r *Room) SetNick(nick string) error {
	if err := CheckNick(nick); err != nil {
		return err
	}
	return r.changeSelf(func(e *entry) { e.Nick = nick })
}

func (r *Room) setFlag(bit uint16, on bool) error {
	return r.changeSelf(func(e *entry) { e.Flags = e.Flags&^bit | flag(on, bit) })
}

// changeSelf changes what we show of ourselves and tells everybody.
func (r *Room) changeSelf(change func(*entry)) error {
	var closed bool
	called := r.call(func() {
		if closed = r.leaving; closed {
			return
		}
		old := r.own
		change(&r.own)
		if r.own.Flags == old.Flags && r.own.Nick == old.Nick {
			return
		}
		r.plane.setQuiet(r.own.Flags&entryMuted != 0, r.own.Flags&entryListenOnly != 0)
		if !r.shielded.Load() || r.own.Nick != old.Nick || r.own.Flags^old.Flags != entryMuted {
			r.announceSelf()
		}
		r.membersChanged()
		r.memberEvents(&r.own, old.Flags, stateChanged)
	})
	if called != nil {
		return called // the closure may still be run: what it writes is not read
	}
	if closed {
		return ErrClosed
	}
	return nil
}

// Subscribe begins a view's own queue of events. It opens with the state of
// now: joined, then member (in) for each other member, and link (up) for each
// link that is up; changes follow, the last of them left. The queue is bounded:
// later events about the same thing replace earlier ones that were not read.
func (r *Room) Subscribe() *Subscription {
	s := newSubscription(func(s *Subscription) {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.subs, s)
	})
	err := r.call(func() {
		now := time.Now()
		members := r.Members()
		s.push(Event{Kind: EventJoined, Time: now, Member: r.self, Others: len(members) - 1})
		for _, m := range members {
			if !m.Self {
				s.push(Event{Kind: EventMember, Time: now, Member: m.Member, Info: m, State: stateIn})
			}
			if m.Recording {
				s.push(Event{Kind: EventRecording, Time: now, Member: m.Member, Info: m})
			}
		}
		for o := range r.sessions {
			if o.up && (o.state == sessionOpen || !r.openWith(o.far.member)) {
				s.push(Event{Kind: EventLink, Time: now, Member: o.far.member, State: stateUp, Path: o.path})
			}
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.subs[s] = struct{}{}
	})
	if err != nil {
		<-r.done // so that the reason is known
		s.push(Event{Kind: EventLeft, Time: time.Now(), Reason: "left", Err: r.err})
	}
	return s
}

// emit tells every view.
func (r *Room) emit(e Event) {
	e.Time = time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.subs {
		s.push(e)
	}
}

func (r *Room) emitError(code, message string) {
	r.emit(Event{Kind: EventError, Code: code, Reason: message})
}
