package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"teahouse/internal/audio"
	"teahouse/internal/voice"
)

// What the packets of our voice show, and how that is changed in mid-talk.

// modeShows says in a few words what each mode costs.
func modeShows(mode string) string {
	return map[string]string{
		"standard": "your packets show when you are muted, not when you speak",
		"shielded": "your packets show nothing of what you do",
		"thrifty":  "your packets show when you speak",
		"studio":   "your packets show when you are muted, and everything around you is heard",
	}[mode]
}

// modes is the part of a seat that is about its mode.
type modes struct {
	gate    audio.GateMode // as asked for when the node was started
	changes chan struct{}  // 1: another mode is in force

	mu sync.Mutex // what the voice hides and what the room hides are set together
}

func newModes(gate audio.GateMode) modes {
	return modes{gate: gate, changes: make(chan struct{}, 1)}
}

// changed is for voice.Config.OnMode.
func (m *modes) changed(voice.Mode) {
	select {
	case m.changes <- struct{}{}:
	default: // which one is looked up when it is told
	}
}

// modeWithin is how long a change may take, which is in force after a frame
// unless the machine or the microphone stands still; under controlTimeout.
const modeWithin = 3 * time.Second

// setMode is the verb mode. The answer comes once the mode is in force.
func (s *seat) setMode(text string) reply {
	m, err := voice.ParseMode(text)
	switch {
	case err != nil:
		return reply{Code: exitUsage, Message: err.Error()}
	case s.silent:
		return refused("there is no microphone here, and a mode is about what it sends: start again with --mic")
	case m == voice.Studio && s.modes.gate == audio.GatePTT:
		// The microphone would be open without a key.
		return refused("studio has no push to talk: start again without --gate ptt, or choose another mode")
	}
	s.modes.mu.Lock()
	if m == voice.Shielded {
		s.room.SetShielded(true)
	}
	s.voice.SetMode(m)
	s.modes.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), modeWithin)
	defer cancel()
	if s.voice.AwaitMode(ctx) != nil {
		return refused("the mode is still %v, because the microphone gives no sound: it will be %v as soon as it does", s.voice.ModeInForce(), m)
	}
	return okay("the mode is %v: %s", m, modeShows(m.String()))
}

// tellMode publishes the mode that is in force, and has the room hide mutes or
// not.
func (s *seat) tellMode() {
	s.modes.mu.Lock()
	m := s.voice.ModeInForce()
	s.room.SetShielded(m == voice.Shielded || s.voice.Mode() == voice.Shielded)
	s.modes.mu.Unlock()
	s.house.hub.publish(modeEvent{headOf("mode", time.Now(), s.id.String()), m.String()})
}

// sayMode shows the mode to people.
func (p *people) sayMode(mode string) {
	if shows := modeShows(mode); shows != "" { // else it is one of a newer node
		p.say(styleDim, fmt.Sprintf("The mode is %s: %s.", mode, shows))
	}
}
