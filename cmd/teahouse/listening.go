package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"teahouse/internal/audio"
	"teahouse/internal/home"
	"teahouse/internal/voice"
	"teahouse/room"
)

// What a person here hears, and is told of what they say: volumes, deafness,
// own speech, warnings.

// listening is the part of a seat that is about this person's ears.
type listening struct {
	mu      sync.Mutex
	memory  *home.Volumes
	volumes []home.Volume // as remembered, the last set first
	// wasMuted is whether the microphone was muted before deafen.
	wasMuted bool
}

// recall takes the volumes of the room from the home. What cannot be read is
// no reason not to talk.
func (s *seat) recall() error {
	memory, err := s.house.home.Volumes(s.id)
	if err != nil {
		return err
	}
	volumes, err := memory.Load()
	if err != nil {
		s.house.log.Warn("the volumes of this room cannot be read", "err", err)
	}
	s.ears.memory, s.ears.volumes = memory, volumes
	for _, v := range volumes {
		s.place.SetVolume(v.Member, v.Decibels, v.Muted)
	}
	return nil
}

// volume is how a member is to be heard here.
func (s *seat) volume(m room.Member) home.Volume {
	s.ears.mu.Lock()
	defer s.ears.mu.Unlock()
	for _, v := range s.ears.volumes {
		if v.Member == m {
			return v
		}
	}
	return home.Volume{Member: m}
}

// setVolume is the verb volume: decibels, or mute, or unmute.
func (s *seat) setVolume(who, what string) reply {
	m, r := s.find(who)
	if !r.OK {
		return r
	}
	v := s.volume(m.Member)
	switch what {
	case "mute":
		v.Muted = true
	case "unmute":
		v.Muted = false
	default:
		db, err := strconv.ParseFloat(strings.Replace(what, minus, "-", 1), 64)
		if err != nil || !(db >= voice.MinVolume && db <= voice.MaxVolume) {
			return reply{Code: exitUsage, Message: fmt.Sprintf("%.20q is no volume: give decibels from %d to %d, such as -6, or mute, or unmute", what, voice.MinVolume, voice.MaxVolume)}
		}
		v.Decibels = db
	}
	s.place.SetVolume(v.Member, v.Decibels, v.Muted)
	name := plain(m.Nick)
	if err := s.remember(v); err != nil {
		s.house.log.Warn("a volume was not remembered", "err", err)
		return okay("%s is at %g dB until you leave: it could not be written down (%v)", name, v.Decibels, err)
	}
	if v.Muted {
		return okay("you do not hear %s", name)
	}
	return okay("%s is at %g dB", name, v.Decibels)
}

// remember keeps v, the last that was set first; as they come is nothing to
// remember.
func (s *seat) remember(v home.Volume) error {
	s.ears.mu.Lock()
	defer s.ears.mu.Unlock()
	all := slices.DeleteFunc(slices.Clone(s.ears.volumes), func(o home.Volume) bool { return o.Member == v.Member })
	if v.Decibels != 0 || v.Muted {
		all = slices.Insert(all, 0, v)
	}
	s.ears.volumes = all[:min(len(all), home.MaxVolumes)]
	return s.ears.memory.Store(s.ears.volumes)
}

// shortest is how much of a member key must be given.
const shortest = 8

// find is who a command means: by nickname, in other letters' case too where that
// is nobody else's, or by the beginning of the key.
func (s *seat) find(who string) (room.MemberInfo, reply) {
	var named, alike, keyed []room.MemberInfo
	for _, m := range s.room.Members() {
		switch {
		case m.Self:
		case m.Nick == who:
			named = append(named, m)
		case strings.EqualFold(m.Nick, who):
			alike = append(alike, m)
		case len(who) >= shortest && strings.HasPrefix(memberText(m.Member), strings.ToLower(who)):
			keyed = append(keyed, m)
		}
	}
	if len(named) == 0 {
		named = alike
	}
	switch {
	case len(named)+len(keyed) == 0:
		return room.MemberInfo{}, refused("nobody here is called %.80q: `teahouse ctl status` shows who is here", plain(who))
	case len(named)+len(keyed) > 1:
		return room.MemberInfo{}, refused("there are several %.80q here: give the first letters of the member key (`teahouse ctl status` shows them)", plain(who))
	}
	return append(named, keyed...)[0], reply{OK: true}
}

// deafen plays nothing, and mutes: who does not hear a room does not talk to
// it.
func (s *seat) deafen() reply {
	if !s.voice.Deaf() {
		s.ears.mu.Lock()
		s.ears.wasMuted = s.place.Muted()
		s.ears.mu.Unlock()
		s.setDeaf(true)
	}
	if !s.silent {
		if err := s.setMuted(true); err != nil {
			return replyOf(err)
		}
	}
	return okay("deaf in %s, and muted", s.name)
}

func (s *seat) undeafen() reply {
	if !s.voice.Deaf() {
		return okay("you hear %s", s.name)
	}
	s.setDeaf(false)
	s.ears.mu.Lock()
	muted := s.ears.wasMuted
	s.ears.mu.Unlock()
	if !s.silent && s.place.Muted() != muted {
		if err := s.setMuted(muted); err != nil {
			return replyOf(err)
		}
	}
	return okay("you hear %s again", s.name)
}

func (s *seat) setDeaf(deaf bool) {
	if s.voice.Deaf() == deaf {
		return
	}
	s.voice.SetDeaf(deaf)
	s.house.hub.publish(deafEvent{headOf("deaf", time.Now(), s.id.String()), deaf})
}

// ownSpeech is what the voice tells of our microphone, for the seat's own
// goroutine: it may ask the seat, which the voice's goroutines may not.
type ownSpeech struct {
	changes chan bool
	clipped chan struct{}

	// The seat's goroutine's own.
	told   bool      // others were told that we speak
	warned time.Time // that we speak while muted
}

func newOwnSpeech() *ownSpeech {
	return &ownSpeech{changes: make(chan bool, 16), clipped: make(chan struct{}, 1)}
}

// changed is for voice.Config.OnOwnSpeaking.
func (o *ownSpeech) changed(on bool) {
	select {
	case o.changes <- on:
	default: // the views are 16 changes behind
	}
}

// clip is for voice.Config.OnClipping.
func (o *ownSpeech) clip() {
	select {
	case o.clipped <- struct{}{}:
	default:
	}
}

// warnAgain is how long somebody who talks while muted is left in peace.
const warnAgain = 20 * time.Second

// tellSpeech publishes that we speak, or warns that nobody hears it.
func (s *seat) tellSpeech(on bool, now time.Time) {
	o, muted := s.own, s.place.Muted()
	if on && muted && now.Sub(o.warned) >= warnAgain {
		o.warned = now
		s.warn("muted", "you are muted: nobody hears what you say")
	}
	if say := on && !muted; say != o.told {
		o.told = say
		s.house.hub.publish(speakingEvent{headOf("speaking", now, s.id.String()), memberText(s.room.Self()), say})
	}
}

// lastStats publishes how voices came through to their end, when the one who
// spoke leaves, or we do: the last of each second's figures may have missed it.
func (s *seat) lastStats(of func(room.Member) bool) {
	links := map[room.Member]room.LinkInfo{}
	for _, l := range s.room.Links() {
		links[l.Member] = l
	}
	for _, m := range s.place.Stats() {
		if of(m.Member) {
			s.house.hub.publish(newStats(s.voice, m, links[m.Member], 0, s.id))
		}
	}
}

// levels are what meters show, -dBov: our microphone, and everybody's voice by
// member key. In no room there are none.
func (h *house) levels() (own uint8, others map[string]uint8) {
	s := h.current()
	if s == nil {
		return audio.SilentLevel, nil
	}
	others = map[string]uint8{}
	for _, m := range s.room.Members() {
		if !m.Self {
			others[memberText(m.Member)] = s.place.Level(m.Member)
		}
	}
	return s.voice.Level(), others
}

func (s *seat) warn(code, message string) {
	s.house.hub.publish(warningEvent{headOf("warning", time.Now(), s.id.String()), code, message})
}
