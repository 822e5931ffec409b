package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"teahouse/room"
)

// What a running node can be asked, whoever asks: control socket, standard
// input, keys.

// reply is what ctl prints: contract. code is the exit code that goes with it.
type reply struct {
	OK      bool   `json:"ok"`
	Code    int    `json:"code"`
	Message string `json:"message"`

	*Status
}

func okay(format string, args ...any) reply {
	return reply{OK: true, Message: fmt.Sprintf(format, args...)}
}

func refused(format string, args ...any) reply {
	return reply{Code: exitRefused, Message: fmt.Sprintf(format, args...)}
}

func replyOf(err error) reply {
	f := explain(err)
	return reply{Code: f.exit, Message: f.sentence}
}

// do carries out one verb, whoever asks: control socket, standard input, keys.
func (h *house) do(q request) reply {
	if q.Verb == "status" {
		return h.status()
	}
	st, r := h.pick(q.Room)
	if st == nil {
		return r
	}
	switch q.Verb {
	case "check":
		return okay("in %s", st.name)
	case "mute":
		return st.mute(true)
	case "unmute":
		return st.mute(false)
	case "toggle":
		return st.mute(!st.place.Muted())
	case "toggle-deaf":
		if st.voice.Deaf() {
			return st.undeafen()
		}
		return st.deafen()
	case "deafen":
		return st.deafen()
	case "undeafen":
		return st.undeafen()
	case "volume":
		return st.setVolume(q.Member, q.Volume)
	case "mode":
		return st.setMode(q.Mode)
	case "device":
		return st.chooseDevice(q.Device, q.Spec)
	case "ptt":
		return st.ptt(q.Key)
	case "leave":
		if h.leaveEnds {
			h.stop(errAsked)
			return okay("leaving %s", st.name)
		}
		h.leave()
		return okay("left %s", st.name)
	}
	return noVerb(q.Verb)
}

func noVerb(verb string) reply {
	return reply{Code: exitUsage, Message: fmt.Sprintf("there is no verb %.40q: use status, mute, unmute, deafen, undeafen, volume M DB, ptt press|release|toggle, mode standard|shielded|thrifty|studio, device mic|speaker NAME or leave", verb)}
}

// parseVerb reads a verb as it stands on a line.
func parseVerb(line string) (request, bool) {
	verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	rest = strings.TrimSpace(rest)
	q := request{Verb: verb}
	switch verb {
	case "status", "mute", "unmute", "deafen", "undeafen", "leave":
		return q, rest == ""
	case "ptt":
		q.Key = rest
		return q, rest == "press" || rest == "release" || rest == "toggle"
	case "mode":
		q.Mode = rest
		return q, rest != ""
	case "volume": // nicknames may have spaces
		if i := strings.LastIndexByte(rest, ' '); i > 0 {
			q.Member, q.Volume = strings.TrimSpace(rest[:i]), rest[i+1:]
			return q, true
		}
	case "device":
		q.Device, q.Spec, _ = strings.Cut(rest, " ")
		q.Spec = strings.TrimSpace(q.Spec)
		return q, q.Spec != ""
	}
	return q, false
}

// pick finds the room that is meant.
func (h *house) pick(which string) (*seat, reply) {
	st := h.current()
	if st == nil {
		return nil, refused("this node is in no room")
	}
	if which != "" && which != st.id.String() {
		if name, err := room.NormaliseTopic(which); err != nil || name != st.name {
			return nil, refused("this node is not in the room %.80q", which)
		}
	}
	return st, reply{}
}

func (s *seat) mute(muted bool) reply {
	if s.silent {
		if muted {
			return okay("there is no microphone here: nobody hears you")
		}
		return refused("there is no microphone here: start again with --mic to speak")
	}
	if !muted {
		s.setDeaf(false) // nobody talks to a room they do not hear
	}
	if err := s.setMuted(muted); err != nil {
		return replyOf(err)
	}
	if muted {
		return okay("muted in %s", s.name)
	}
	return okay("unmuted in %s", s.name)
}

// Status is the answer to the verb of that name. (It has a capital because
// encoding/json sets embedded structs only then.)
type Status struct {
	PID      int          `json:"pid"`
	Version  string       `json:"version"`
	Network  string       `json:"network"`
	Peer     string       `json:"peer"`
	Addrs    []string     `json:"addrs"`
	Nodes    int          `json:"nodes"` // of the network that are known here
	UptimeMs float64      `json:"uptime_ms"`
	Rooms    []roomStatus `json:"rooms"`
}

type roomStatus struct {
	Room       string         `json:"room"`
	Name       string         `json:"name"`
	Member     string         `json:"member"`
	Nick       string         `json:"nick"`
	Muted      bool           `json:"muted"`
	Deaf       bool           `json:"deaf"` // nothing is played here
	Mode       string         `json:"mode"` // of what leaves now
	ListenOnly bool           `json:"listen_only"`
	Recording  bool           `json:"recording"`
	Hearers    int            `json:"hearers"` // who hear what we say
	Level      int            `json:"level"`   // of the microphone, -dBov
	Members    []memberStatus `json:"members"` // the others
}

type memberStatus struct {
	Member         string  `json:"member"`
	Nick           string  `json:"nick"`
	Role           string  `json:"role"`
	Muted          bool    `json:"muted"`
	ListenOnly     bool    `json:"listen_only"`
	Recording      bool    `json:"recording"`
	AllowRecording bool    `json:"allow_recording"`
	Link           string  `json:"link"` // up, down
	Path           string  `json:"path"`
	Transport      string  `json:"transport"`
	Remote         string  `json:"remote"`
	RTTms          float64 `json:"rtt_ms"`
	Hears          bool    `json:"hears"`
	VolumeDB       float64 `json:"volume_db"`  // how loud they are here
	MutedHere      bool    `json:"muted_here"` // by the verb volume
	Level          int     `json:"level"`      // of their voice, -dBov, 127 for silence
}

func (h *house) status() reply {
	peer, addrs := h.identity()
	st := &Status{
		PID: os.Getpid(), Version: version(), Network: h.networkName, Peer: peer, Addrs: addrs,
		Nodes: h.nodes(), UptimeMs: ms(time.Since(h.started)), Rooms: []roomStatus{},
	}
	if s := h.current(); s != nil {
		st.Rooms = append(st.Rooms, s.status())
	}
	return reply{OK: true, Message: "running", Status: st}
}

func (s *seat) status() roomStatus {
	out := roomStatus{
		Room: s.id.String(), Name: s.name, Member: memberText(s.room.Self()), Nick: s.nick, Muted: s.place.Muted(),
		Deaf: s.voice.Deaf(), Mode: s.voice.ModeInForce().String(), ListenOnly: s.silent, Recording: s.sound.recorder, Hearers: s.room.Hearers(), Level: int(s.voice.Level()),
		Members: []memberStatus{},
	}
	links := map[room.Member]room.LinkInfo{}
	for _, l := range s.room.Links() {
		links[l.Member] = l
	}
	for _, m := range s.room.Members() {
		if m.Self {
			continue
		}
		l := links[m.Member]
		volume := s.volume(m.Member)
		state := "down"
		if l.Up {
			state = "up"
		}
		out.Members = append(out.Members, memberStatus{
			Member: memberText(m.Member), Nick: m.Nick, Role: m.Role, Muted: m.Muted, ListenOnly: m.ListenOnly,
			Recording: m.Recording, AllowRecording: m.AllowRecording, Link: state, Path: pathWord(l.Path),
			Transport: l.Path.Transport, Remote: l.Path.Remote, RTTms: ms(l.RTT), Hears: l.Hears,
			VolumeDB: volume.Decibels, MutedHere: volume.Muted, Level: int(s.place.Level(m.Member)),
		})
	}
	return out
}
