package main

import (
	"bytes"
	"encoding/base32"
	"encoding/json"
	"time"

	"teahouse/internal/mesh"
	"teahouse/internal/voice"
	"teahouse/room"
)

// Events as --json prints them: contract. Fields may be added, never renamed.
// Every event begins with head; a field that belongs to an event is always
// there, also when it is false or 0.

const timeFormat = "2006-01-02T15:04:05.000000Z07:00" // RFC 3339, µs

type head struct {
	Time  string `json:"time"`
	Event string `json:"event"`
	Room  string `json:"room,omitempty"`
}

func headOf(event string, at time.Time, roomID string) head {
	return head{Time: at.UTC().Format(timeFormat), Event: event, Room: roomID}
}

func (h head) heading() head { return h }

// event is one of the structs below.
type event interface{ heading() head }

type listeningEvent struct {
	head
	Peer  string   `json:"peer"`
	Addrs []string `json:"addrs"` // with /p2p/
}

type joinedEvent struct {
	head
	Name       string `json:"name"` // as this node calls the room
	Member     string `json:"member"`
	Others     int    `json:"others"`
	Nick       string `json:"nick"`
	Muted      bool   `json:"muted"`
	ListenOnly bool   `json:"listen_only"`
	Recording  bool   `json:"recording"`
	Mode       string `json:"mode"` // of what we send
	Gate       string `json:"gate"` // of our microphone: open, voice, ptt
}

type memberEvent struct {
	head
	Member         string `json:"member"`
	Nick           string `json:"nick"`
	State          string `json:"state"` // in, out, changed
	Role           string `json:"role"`
	Muted          bool   `json:"muted"`
	Recording      bool   `json:"recording"`
	ListenOnly     bool   `json:"listen_only"`
	AllowRecording bool   `json:"allow_recording"`
	Self           bool   `json:"self"`
}

type speakingEvent struct {
	head
	Member string `json:"member"`
	On     bool   `json:"on"`
}

type linkEvent struct {
	head
	Member    string  `json:"member"`
	State     string  `json:"state"` // up, down
	Reason    string  `json:"reason"`
	Path      string  `json:"path"` // datagram, stream, relay, forwarded
	Transport string  `json:"transport"`
	Remote    string  `json:"remote"`
	Country   string  `json:"country"` // empty: not known
	Via       string  `json:"via"`
	RTTms     float64 `json:"rtt_ms"`
}

type statsEvent struct {
	head
	Member      string  `json:"member"`
	Received    uint64  `json:"received"`
	Sent        uint64  `json:"sent"`
	Lost        uint64  `json:"lost"`
	Late        uint64  `json:"late"`
	Repaired    uint64  `json:"repaired"`
	FEC         uint64  `json:"fec"`
	Concealed   uint64  `json:"concealed"`
	Depth       int     `json:"depth"`
	KbitS       float64 `json:"kbit_s"`
	ConcealedMs float64 `json:"concealed_ms"`
	StretchedMs float64 `json:"stretched_ms"`
	JitterMs    float64 `json:"jitter_ms"`
	DelayMs     float64 `json:"delay_ms"`
	MouthToEar  float64 `json:"mouth_to_ear_ms"`
	Estimated   bool    `json:"estimated"`
	Skipped     uint64  `json:"skipped"` // there in time, but not played
}

type recordingEvent struct {
	head
	Member string `json:"member"`
	On     bool   `json:"on"`
}

type epochEvent struct {
	head
	Number uint32 `json:"number"`
	Reason string `json:"reason"`
}

// deviceEvent: a sound card was lost (down), or is there (up): again, or
// another in its stead, or with other buffers.
type deviceEvent struct {
	head
	Kind     string  `json:"kind"` // microphone, speaker
	State    string  `json:"state"`
	Name     string  `json:"name"`      // empty while there is none
	Replaced bool    `json:"replaced"`  // it is the default one, until the one asked for is there
	PeriodMs float64 `json:"period_ms"` // between callbacks
	Reason   string  `json:"reason"`    // why the one before was lost; empty if only its buffers changed
}

type errorEvent struct {
	head
	Code    string `json:"code"`
	Message string `json:"message"`
}

// leftEvent: code is empty where the room was left because it was asked for.
type leftEvent struct {
	head
	Code    string `json:"code"`
	Message string `json:"message"`
}

// mutedEvent tells views what this node's own microphone does in a room.
type mutedEvent struct {
	head
	On bool `json:"on"`
}

// pttEvent tells views whether the key of push to talk is down.
type pttEvent struct {
	head
	On bool `json:"on"`
}

// modeEvent tells views what the packets of our voice show from now on.
type modeEvent struct {
	head
	Mode string `json:"mode"` // standard, shielded, thrifty, studio
}

// deafEvent tells views that nothing is played here, or everything again.
type deafEvent struct {
	head
	On bool `json:"on"`
}

// warningEvent: something that a person should change. Code is muted (they
// talk while muted) or clipping.
type warningEvent struct {
	head
	Code    string `json:"code"`
	Message string `json:"message"`
}

// descriptorEvent: the node goes by a newer descriptor of its network, which a
// command of this home has signed or joined, or another node has given.
type descriptorEvent struct {
	head
	Network  string `json:"network"`
	Revision uint64 `json:"revision"`
	Expires  string `json:"expires"`
}

// replyEvent answers a verb that came in on standard input.
type replyEvent struct {
	head
	Verb string `json:"verb"`
	reply
}

func newReply(verb string, r reply) event {
	if !r.OK {
		return errorEvent{headOf("error", time.Now(), ""), "refused", verb + ": " + r.Message}
	}
	return replyEvent{headOf("reply", time.Now(), ""), verb, r}
}

func newError(f *failure, roomID string) errorEvent {
	return errorEvent{headOf("error", time.Now(), roomID), f.word, f.sentence}
}

var lowerBase32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func memberText(m room.Member) string { return lowerBase32.EncodeToString(m[:]) }

// fromRoom makes the event of e. ok is false for a kind that is not shown.
func fromRoom(e *room.Event, id room.ID) (out event, ok bool) {
	h := headOf(string(e.Kind), e.Time, id.String())
	member := memberText(e.Member)
	switch e.Kind {
	case room.EventMember:
		return memberEvent{
			head: h, Member: member, Nick: e.Info.Nick, State: e.State, Role: e.Info.Role,
			Muted: e.Info.Muted, Recording: e.Info.Recording, ListenOnly: e.Info.ListenOnly,
			AllowRecording: e.Info.AllowRecording, Self: e.Info.Self,
		}, true
	case room.EventLink:
		return linkEvent{
			head: h, Member: member, State: e.State, Reason: e.Reason, Path: pathWord(e.Path),
			Transport: e.Path.Transport, Remote: e.Path.Remote, Via: viaText(e.Path.Via), RTTms: ms(e.Path.RTT),
		}, true
	case room.EventEpoch:
		return epochEvent{h, e.Number, e.Reason}, true
	case room.EventRecording:
		return recordingEvent{h, member, e.Info.Recording}, true
	case room.EventError:
		message := e.Reason
		if message == "" && e.Err != nil {
			message = e.Err.Error()
		}
		return errorEvent{h, e.Code, message}, true
	}
	return nil, false
}

// pathWord is the carrier, or relay where a third node passes packets on.
func pathWord(p mesh.Path) string {
	if p.Via != "" {
		return "relay"
	}
	return string(p.Carrier)
}

func viaText(p mesh.PeerID) string {
	if p == "" {
		return ""
	}
	return peerText(p)
}

func newStats(v *voice.Voice, m voice.MemberStats, link room.LinkInfo, bitsPerSecond float64, id room.ID) statsEvent {
	s := &m.Stats
	return statsEvent{
		head:   headOf("stats", time.Now(), id.String()),
		Member: memberText(m.Member), Received: s.Received, Sent: m.Sent, Lost: s.Lost, Late: s.Late,
		Repaired: s.Repaired, FEC: s.FEC, Concealed: s.Concealed, Depth: link.Depth,
		KbitS:       round(bitsPerSecond / 1000),
		ConcealedMs: ms(s.ConcealedDuration), StretchedMs: ms(s.StretchedDuration),
		JitterMs: ms(s.Jitter), DelayMs: ms(s.Delay), MouthToEar: ms(v.MouthToEar(m, link.RTT)), Estimated: true,
		Skipped: s.Skipped,
	}
}

func ms(d time.Duration) float64 { return round(float64(d) / float64(time.Millisecond)) }

// round keeps three decimals: what is below a µs is noise.
func round(x float64) float64 { return float64(int64(x*1000+0.5)) / 1000 }

// encode is the line of e, with its end.
func encode(e event) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		panic(err) // strings, numbers and booleans alone
	}
	return b.Bytes()
}
