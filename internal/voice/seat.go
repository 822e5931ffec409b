package voice

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"teahouse/internal/audio"
	"teahouse/room"
)

// Room is what a seat needs of a joined room; *room.Room is one.
type Room interface {
	Speak(f *room.Frame) error
	SetMuted(muted bool) error
	Hearers() int
	Flows() room.Flows
	SwitchFlows()
}

// Seat is this node's place in one room: whose voices come from there, and
// whether ours goes there. All methods may be called from any goroutine, but
// not from the callbacks of Config.
type Seat struct {
	// Constant.
	v  *Voice
	id room.ID

	// Copy on write: read by the playout goroutine and by sockets, replaced
	// under people.
	heard  atomic.Pointer[map[room.Member]*person]
	people sync.Mutex
	past   past // guarded by people

	muting sync.Mutex // one SetMuted at a time

	mu      sync.Mutex // what follows; held while a frame is sealed and sent
	room    Room       // nil until Attach
	muted   bool
	sending [2]spurt // by flow
	out     room.Frame
}

// spurt is where the talk in one flow stands.
type spurt struct {
	talking bool   // the last thing sent was not the end of a spurt
	broken  bool   // sound was lost: the next frame begins a spurt
	media   uint32 // media time of the next frame
}

// Sit takes a place in the room id. Its Heard goes into room.Config, and the
// joined room into Attach.
func (v *Voice) Sit(id room.ID, muted bool) *Seat {
	s := &Seat{v: v, id: id, muted: muted}
	s.heard.Store(&map[room.Member]*person{})
	v.editSeats(func(seats []*Seat) []*Seat { return append(seats, s) })
	return s
}

// Attach begins to speak in r, unless muted.
func (s *Seat) Attach(r Room) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.room = r
}

// Leave gives the place up: nothing is sent or played from here on.
func (s *Seat) Leave() {
	s.v.editSeats(func(seats []*Seat) []*Seat {
		return slices.DeleteFunc(seats, func(o *Seat) bool { return o == s })
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked()
	s.room = nil
}

// flows is what the links here want.
func (s *Seat) flows() room.Flows {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.room == nil {
		return room.Flows{}
	}
	return s.room.Flows()
}

// switchFlows gives the links what they want, now that on says which flows
// there are.
func (s *Seat) switchFlows(on [2]bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.muted && s.v.capture.plan.mode != Shielded {
		s.endLocked() // what has covered the mute, if anything
	}
	for flow := range s.sending {
		if !on[flow] {
			s.sending[flow].talking = false
		}
	}
	if s.room != nil {
		s.room.SwitchFlows()
	}
}

// Muted tells whether this seat is muted.
func (s *Seat) Muted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.muted
}

// SetMuted mutes or unmutes in this room alone. No voice leaves after
// SetMuted(true) has begun: a spurt ends in a frame of silence, or goes on in
// silence in the mode Shielded.
func (s *Seat) SetMuted(muted bool) error {
	s.muting.Lock()
	defer s.muting.Unlock()
	s.mu.Lock()
	r := s.room
	if muted {
		if !s.v.shields() {
			s.endLocked()
		}
		s.muted = true
	}
	s.mu.Unlock()
	if r != nil {
		if err := r.SetMuted(muted); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.muted = muted
	return nil
}

// hearers is how many hear what we say here: none while muted.
func (s *Seat) hearers() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.muted || s.room == nil {
		return 0
	}
	return s.room.Hearers()
}

// tick notes the media time after the current frame of a flow and tells whether
// the frame is to be sent here.
func (s *Seat) tick(flow uint8, next uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sending[flow].media = next
	return !s.muted && s.room != nil
}

// speak sends f, which it marks as the start of a spurt where it is one. With
// cover there is silence where f is not to be sent.
func (s *Seat) speak(f *room.Frame, cover bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.room == nil {
		return
	}
	s.out = *f
	if s.muted || len(f.Opus) == 0 {
		silent := (*s.v.capture.stops.Load())[f.Flow]
		if !cover || silent == nil {
			return
		}
		s.out.Opus, s.out.Level, s.out.Cover = silent, audio.SilentLevel, true
	}
	at := &s.sending[f.Flow]
	s.out.SpurtStart = !at.talking || at.broken
	at.talking, at.broken = true, false
	// What Speak can refuse is a room that has ended; whoever watches its
	// events learns that.
	_ = s.room.Speak(&s.out)
	s.out.Opus = nil
}

func (s *Seat) breakSpurt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for flow := range s.sending {
		s.sending[flow].broken = true
	}
}

func (s *Seat) endSpurt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked()
}

// endLocked sends a frame of silence as the end of the spurt, if there is one.
func (s *Seat) endLocked() {
	silent := s.v.capture.stops.Load()
	for flow := range s.sending {
		at := &s.sending[flow]
		if !at.talking || s.room == nil {
			continue
		}
		at.talking = false
		if silent[flow] == nil {
			continue // it has just been switched off
		}
		s.out = room.Frame{Flow: uint8(flow), MediaTime: at.media, SpurtEnd: true, Level: audio.SilentLevel, Cover: true, Opus: silent[flow]}
		_ = s.room.Speak(&s.out) // as in speak
		s.out.Opus = nil
	}
}

// Heard is for room.Config.Heard: step 7.
func (s *Seat) Heard(from room.Member, f *room.Frame, arrival time.Time) {
	p := (*s.heard.Load())[from]
	if p == nil {
		if p = s.meet(from); p == nil {
			return
		}
	}
	p.push(f, arrival)
}

// meet makes the place of a member who is heard or seen for the first time;
// nil if there are too many.
func (s *Seat) meet(m room.Member) *person {
	s.people.Lock()
	defer s.people.Unlock()
	old := *s.heard.Load()
	if p := old[m]; p != nil {
		return p
	}
	if len(old) >= room.MaxMembers {
		return nil
	}
	p := newPerson(m, s.v.cfg.Recorder)
	p.before = s.past.take(m)
	s.replaceHeard(func(next map[room.Member]*person) { next[m] = p })
	return p
}

// Update tells what the roster says of a member now: someone who is there.
func (s *Seat) Update(info room.MemberInfo) {
	if info.Self {
		return
	}
	if p := s.meet(info.Member); p != nil {
		p.setGone(false)
		p.update(info.AllowRecording)
	}
}

// Gone forgets a member who has left, once their voice has faded out.
func (s *Seat) Gone(m room.Member) {
	if p := (*s.heard.Load())[m]; p != nil {
		p.setGone(true)
	}
}

// forget takes p off the list; for the playout goroutine.
func (s *Seat) forget(p *person) {
	s.people.Lock()
	defer s.people.Unlock()
	if p.isGone() { // and has not come back meanwhile
		s.keep(p)
		s.replaceHeard(func(next map[room.Member]*person) { delete(next, p.member) })
	}
}

// replaceHeard is called with people held.
func (s *Seat) replaceHeard(edit func(map[room.Member]*person)) {
	next := maps.Clone(*s.heard.Load())
	edit(next)
	s.heard.Store(&next)
}

// MinVolume, in decibels, and what is less, is silence; MaxVolume is the most
// that a voice can be raised.
const (
	MinVolume = -60
	MaxVolume = 24
)

// SetVolume sets how loud a member is played, in decibels, and whether they
// are to be silent here; it fades over 10 ms. Who is muted so is still shown
// to speak.
func (s *Seat) SetVolume(m room.Member, decibels float64, muted bool) {
	if p := s.meet(m); p != nil {
		p.setVolume(decibels, muted)
	}
}
