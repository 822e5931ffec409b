package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// people turns events into lines that people read. It takes events as their
// JSON, so that a view that is attached to a running node shows the same.
type people struct {
	mu     sync.Mutex // show and tick
	screen *screen
	keys   bool // m and q are taken, and the bottom line is shown
	stays  bool // the node goes on when the room is left
	view   bool // attached to a node that goes on without us
	// levels are asked for meters; nil: there are none.
	levels func() (own uint8, others map[string]uint8)

	topic      string // of the room to be joined; empty for none
	name       string // of the room; empty while in none
	muted      bool
	silent     bool // no microphone
	deaf       bool
	mode       string // of what we send
	gate       string // of our microphone
	pressed    bool   // the key of push to talk is down
	self       string // our member key
	members    map[string]*personLine
	order      []string // who speaks now, by when they began
	lastSpoke  string
	lastSpokeT time.Time
	replaced   map[string]bool // the microphone, the speaker: by the default one
}

type personLine struct {
	nick, member     string
	muted, recording bool
	path             string
}

func newPeople(s *screen, keys, view bool) *people {
	return &people{screen: s, keys: keys, view: view, members: map[string]*personLine{}, replaced: map[string]bool{}}
}

// decoded has the fields of every event that people see.
type decoded struct {
	Event      string   `json:"event"`
	Addrs      []string `json:"addrs"`
	Name       string   `json:"name"`
	Member     string   `json:"member"`
	Others     int      `json:"others"`
	Nick       string   `json:"nick"`
	State      string   `json:"state"`
	Muted      bool     `json:"muted"`
	ListenOnly bool     `json:"listen_only"`
	Recording  bool     `json:"recording"`
	On         bool     `json:"on"`
	Reason     string   `json:"reason"`
	Path       string   `json:"path"`
	Transport  string   `json:"transport"`
	Remote     string   `json:"remote"`
	RTTms      float64  `json:"rtt_ms"`
	Self       bool     `json:"self"`
	Code       string   `json:"code"`
	Message    string   `json:"message"`
	Kind       string   `json:"kind"`
	Mode       string   `json:"mode"`
	Gate       string   `json:"gate"`
	Replaced   bool     `json:"replaced"`
}

// tick moves the meters.
func (p *people) tick() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bottom()
}

// show takes one event.
func (p *people) show(text []byte, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var e decoded
	if err := json.Unmarshal(text, &e); err != nil {
		return // from a newer node: not for us
	}
	switch e.Event {
	case "listening":
		p.listening(&e)
	case "joined":
		p.joined(&e)
	case "muted":
		p.setMuted(e.On)
	case "member":
		p.member(&e)
	case "speaking":
		p.speaking(&e, now)
	case "recording":
		p.recording(&e)
	case "link":
		p.link(&e)
	case "deaf":
		p.setDeaf(e.On)
	case "ptt":
		p.pressed = e.On
	case "mode":
		p.setMode(e.Mode)
	case "warning":
		p.say(styleAlarm, "! ", plain(e.Message))
	case "device":
		p.device(&e)
	case "error":
		p.say(styleAlarm, "! ", plain(e.Message))
	case "left":
		p.left(&e)
	}
	p.bottom()
}

func (p *people) say(style string, parts ...string) {
	p.screen.println(p.screen.paint(style, strings.Join(parts, "")))
}

func (p *people) listening(e *decoded) {
	if p.topic == "" { // the addresses are what counts
		p.say(styleBold, "This node is up. Others start from it with any of these:")
		for _, a := range e.Addrs {
			p.say("", "  --peer ", a)
		}
		return
	}
	quic := slices.DeleteFunc(slices.Clone(e.Addrs), func(a string) bool { return !strings.Contains(a, "/quic-v1/") })
	if len(quic) == 0 {
		quic = e.Addrs
	}
	if len(quic) == 1 {
		p.say(styleDim, "Others can start from this node with --peer ", quic[0])
		return
	}
	p.say(styleDim, "Others can start from this node with the one of these that they can reach:")
	for _, a := range quic {
		p.say(styleDim, "  --peer ", a)
	}
}

func (p *people) joined(e *decoded) {
	p.name, p.muted, p.silent, p.self, p.deaf = plain(e.Name), e.Muted, e.ListenOnly, e.Member, false
	p.gate, p.pressed = e.Gate, false
	with := "nobody else is here yet"
	switch {
	case e.Others == 1:
		with = "one other is here"
	case e.Others > 1:
		with = fmt.Sprintf("%d others are here", e.Others)
	}
	p.say(styleBold, "You are in ", p.name, " as ", plain(e.Nick), "; ", with, ".")
	p.say(styleDim, "Anyone who knows the name ", p.name, " can join: it is as private as the name.")
	if e.Recording {
		p.say(styleAlarm, "You are recording. Everybody in the room sees it; only those who allow it are in the file.")
	}
	switch {
	case p.silent:
		p.say(styleDim, "You have no microphone here.")
	case p.muted:
		p.sayMuted()
	case p.keyUp():
		p.sayKeyUp()
	}
	if p.mode = e.Mode; !p.silent && p.mode != "standard" {
		p.sayMode(p.mode)
	}
}

func (p *people) setMode(mode string) {
	if p.name == "" || p.silent || mode == p.mode {
		return
	}
	p.mode = mode
	p.sayMode(mode)
}

func (p *people) sayMuted() {
	hint := ""
	if p.keys {
		hint = " Press m to speak."
	}
	p.say(styleAlarm, "You are MUTED: nobody hears you.", hint)
}

func (p *people) setMuted(muted bool) {
	if p.name == "" || p.silent || muted == p.muted {
		return
	}
	p.muted = muted
	if muted {
		p.sayMuted()
		return
	}
	if p.keyUp() {
		p.sayKeyUp()
		return
	}
	hint := ""
	if p.keys {
		hint = " Press m to mute."
	}
	p.say(styleLive, "You are LIVE: everybody here hears you.", hint)
}

// keyUp tells whether nobody hears us because no key is pressed.
func (p *people) keyUp() bool { return p.gate == "ptt" && !p.pressed }

func (p *people) sayKeyUp() {
	hint := " `teahouse ctl ptt press` and release are the key."
	if p.keys {
		hint = " Space is the key, and so is `teahouse ctl ptt toggle`."
	}
	p.say(styleBold, "Push to talk: nobody hears you while the key is up.", hint)
}

func (p *people) setDeaf(deaf bool) {
	if p.name == "" || deaf == p.deaf {
		return
	}
	p.deaf = deaf
	if deaf {
		p.say(styleAlarm, "You are DEAF: you hear nobody. `teahouse ctl undeafen` ends it.")
		return
	}
	p.say(styleLive, "You hear everybody again.")
}

func (p *people) member(e *decoded) {
	if e.Self {
		return
	}
	old := p.members[e.Member]
	if e.State == "out" {
		if old == nil {
			old = &personLine{nick: plain(e.Nick), member: e.Member}
		}
		p.say("", "- ", p.call(old), " has left")
		delete(p.members, e.Member)
		p.stopSpeaking(e.Member)
		return
	}
	now := &personLine{nick: plain(e.Nick), member: e.Member, muted: e.Muted, recording: e.Recording}
	if old != nil {
		now.path = old.path
	}
	p.members[e.Member] = now
	switch {
	case old == nil:
		muted := ""
		if e.Muted && !e.ListenOnly {
			muted = ", muted"
		} else if e.ListenOnly {
			muted = ", listening only"
		}
		p.say(styleGood, "+ ", p.call(now), " is here", muted)
	case old.nick != now.nick:
		p.say("", "  ", p.call(old), " is now called ", now.nick)
	case old.muted && !now.muted:
		p.say(styleDim, "  ", p.call(now), " is unmuted")
	case !old.muted && now.muted:
		p.say(styleDim, "  ", p.call(now), " is muted")
	}
	if now.recording && (old == nil || !old.recording) {
		p.sayRecording(now)
	}
}

func (p *people) sayRecording(who *personLine) {
	p.say(styleAlarm, "! ", p.call(who), " records this room")
}

func (p *people) recording(e *decoded) {
	who := p.members[e.Member]
	if who == nil || who.recording == e.On {
		return
	}
	who.recording = e.On
	if e.On {
		p.sayRecording(who)
		return
	}
	p.say("", "  ", p.call(who), " has stopped recording")
}

// speakAgain is how long the same person may go on speaking and pausing
// before it is worth another line.
const speakAgain = 30 * time.Second

func (p *people) speaking(e *decoded, now time.Time) {
	if e.Member == p.self {
		return // they know
	}
	p.stopSpeaking(e.Member)
	if !e.On {
		return
	}
	p.order = append(p.order, e.Member)
	if p.lastSpoke != e.Member || now.Sub(p.lastSpokeT) > speakAgain {
		p.say(styleDim, "  ", p.callMember(e.Member), " speaks")
	}
	p.lastSpoke, p.lastSpokeT = e.Member, now
}

func (p *people) stopSpeaking(member string) {
	for i, m := range p.order {
		if m == member {
			p.order = append(p.order[:i], p.order[i+1:]...)
			return
		}
	}
}

func (p *people) link(e *decoded) {
	who := p.members[e.Member]
	if who == nil {
		who = &personLine{member: e.Member}
	}
	if e.State != "up" {
		who.path = ""
		if p.members[e.Member] != nil && e.Reason != "left" {
			p.say("", "! no way to ", p.call(who), " for the moment: ", plain(e.Reason))
		}
		return
	}
	path := fmt.Sprintf("%s over %s to %s", e.Path, e.Transport, e.Remote)
	if e.Path == "relay" {
		path = fmt.Sprintf("relayed over %s by %s", e.Transport, e.Remote)
	}
	if path == who.path {
		return
	}
	who.path = path
	p.say(styleDim, "  path to ", p.call(who), ": ", plain(path))
}

// device says what has become of a sound card; that its buffers changed is
// nobody's business.
func (p *people) device(e *decoded) {
	what, meanwhile := "speaker", "you hear nothing"
	if e.Kind == "microphone" {
		what, meanwhile = "microphone", "nobody hears you"
	}
	switch {
	case e.State == "down":
		p.say(styleAlarm, "! your ", what, " is gone: ", meanwhile, " until it, or another, is there")
	case e.Replaced && e.Reason != "":
		p.say("", "  your ", what, " is now ", plain(e.Name), ", in place of the one that is gone")
	case !e.Replaced && (e.Reason != "" || p.replaced[what]):
		p.say(styleGood, "  your ", what, " is there again: ", plain(e.Name))
	}
	p.replaced[what] = e.Replaced
}

func (p *people) left(e *decoded) {
	p.name, p.topic, p.order = "", "", nil
	clear(p.members)
	if e.Message != "" {
		p.say("", "You have left: ", plain(e.Message), ".")
		return
	}
	p.say("", "You have left.")
	if p.stays {
		p.say(styleDim, "The node goes on without a room; Ctrl-C ends it.")
	}
}

// call is how a person is named: the nickname, with the start of the member
// key where another has the same, because nicknames are free to choose.
func (p *people) call(who *personLine) string {
	if who.nick == "" {
		return short(who.member)
	}
	for _, other := range p.members {
		if other.member != who.member && other.nick == who.nick {
			return who.nick + " (" + short(who.member) + ")"
		}
	}
	return who.nick
}

func (p *people) callMember(member string) string {
	if who := p.members[member]; who != nil {
		return p.call(who)
	}
	return short(member)
}

// short is what commands accept as a member.
func short(member string) string { return member[:min(8, len(member))] }

// bottom is the line that is always in sight.
func (p *people) bottom() {
	if !p.keys {
		return
	}
	if p.name == "" {
		wait := ""
		if p.topic != "" {
			wait = "Joining " + p.topic + " ... (q gives up)"
		}
		p.screen.setBottom(wait)
		return
	}
	state, key := p.screen.paint(styleLive, " LIVE "), "m mute"
	switch {
	case p.silent:
		state, key = p.screen.paint(styleBold, " LISTENING "), ""
	case p.muted:
		state, key = p.screen.paint(styleAlarm, " MUTED "), "m unmute"
	case p.keyUp():
		state, key = p.screen.paint(styleBold, " KEY UP "), "space talk"
	case p.gate == "ptt":
		key = "space stop"
	}
	if p.deaf {
		state += p.screen.paint(styleAlarm, " DEAF ")
	}
	own, others := uint8(127), map[string]uint8(nil)
	if p.levels != nil {
		own, others = p.levels()
	}
	if p.levels != nil && !p.silent {
		state = bar(own) + " " + state
	}
	parts := []string{state + " " + p.name, fmt.Sprintf("%d here", len(p.members)+1)}
	if !p.silent && p.mode != "standard" && p.mode != "" {
		parts = append(parts, p.mode)
	}
	if n := p.recorders(); n != "" {
		parts = append(parts, p.screen.paint(styleAlarm, n+" records"))
	}
	if len(p.order) > 0 {
		var names []string
		for _, m := range p.order {
			name := p.callMember(m)
			if p.levels != nil {
				name += " " + bar(cmp.Or(others[m], 127))
			}
			names = append(names, name)
		}
		parts = append(parts, strings.Join(names, ", "))
	}
	quit := "q leave"
	if p.view {
		quit = "q close this view"
	}
	if key != "" {
		parts = append(parts, key)
	}
	p.screen.setBottom(strings.Join(append(parts, quit), " · "))
}

// bar shows a level, -dBov, from -60 dB in steps of 12, without colour: a meter
// for those who see none as well.
func bar(level uint8) string {
	const steps = 5
	full := max(0, min(steps, (72-int(level))/12))
	return "[" + strings.Repeat("#", full) + strings.Repeat(" ", steps-full) + "]"
}

func (p *people) recorders() string {
	var names []string
	for _, m := range p.members {
		if m.recording {
			names = append(names, p.call(m))
		}
	}
	switch len(names) {
	case 0:
		return ""
	case 1:
		return names[0]
	}
	return fmt.Sprintf("%d people", len(names))
}
