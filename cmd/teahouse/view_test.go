package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"teahouse/internal/audio/portaudio"
	"teahouse/internal/mesh"
	"teahouse/room"
)

func TestPlain(t *testing.T) {
	for in, want := range map[string]string{
		"Ada":                      "Ada",
		"Zoë 李明 🎉":                 "Zoë 李明 🎉",
		"\x1b[31mred\x1b[0m":       "[31mred[0m",
		"a\rb\nc\td\x00":           "abcd",
		"abc\u202edef\u2066\u200b": "abcdef",
		"line\u2028break":          "linebreak",
		"\x9b31m":                  "\uFFFD31m",
	} {
		if got := plain(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		in    string
		width int
		want  string
	}{
		{"abc", 3, "abc"},
		{"abcd", 3, "abc"},
		{"李明好", 5, "李明"},
		{"\x1b[1mabcd\x1b[0m", 2, "\x1b[1mab\x1b[0m"},
		{"e\u0301e\u0301", 1, "e\u0301"},
	} {
		if got := cut(c.in, c.width); got != c.want {
			t.Errorf("%q to %d: %q, want %q", c.in, c.width, got, c.want)
		}
	}
}

// Every field of the contract is there, also where it is false or 0.
func TestEventFields(t *testing.T) {
	at := time.Date(2026, 5, 4, 3, 2, 1, 123456789, time.FixedZone("", 7200))
	for _, c := range []struct {
		event event
		want  string
	}{
		{memberEvent{head: headOf("member", at, "r")}, `{"time":"2026-05-04T01:02:01.123456Z","event":"member","room":"r","member":"","nick":"","state":"","role":"","muted":false,"recording":false,"listen_only":false,"allow_recording":false,"self":false}`},
		{speakingEvent{head: headOf("speaking", at, "r")}, `"room":"r","member":"","on":false}`},
		{linkEvent{head: headOf("link", at, "r")}, `"member":"","state":"","reason":"","path":"","transport":"","remote":"","country":"","via":"","rtt_ms":0}`},
		{statsEvent{head: headOf("stats", at, "r")}, `"member":"","received":0,"sent":0,"lost":0,"late":0,"repaired":0,"fec":0,"concealed":0,"depth":0,"kbit_s":0,"concealed_ms":0,"stretched_ms":0,"jitter_ms":0,"delay_ms":0,"mouth_to_ear_ms":0,"estimated":false,"skipped":0}`},
		{joinedEvent{head: headOf("joined", at, "r"), Name: "<tea>"}, `"name":"<tea>","member":"","others":0,`},
		{recordingEvent{head: headOf("recording", at, "r")}, `"member":"","on":false}`},
		{epochEvent{head: headOf("epoch", at, "r")}, `"number":0,"reason":""}`},
		{deviceEvent{head: headOf("device", at, "")}, `"event":"device","kind":"","state":"","name":"","replaced":false,"period_ms":0,"reason":""}`},
		{
			newDevice(portaudio.Event{Microphone: true, Device: "USB\x1b[2J", Replaced: true, Period: 5 * time.Millisecond, Err: errors.New("gone")}, at),
			`"kind":"microphone","state":"up","name":"USB[2J","replaced":true,"period_ms":5,"reason":"gone"}`,
		},
		{newDevice(portaudio.Event{Err: errors.New("gone")}, at), `"kind":"speaker","state":"down","name":"","replaced":false,"period_ms":0,"reason":"gone"}`},
		{deafEvent{head: headOf("deaf", at, "r")}, `"event":"deaf","room":"r","on":false}`},
		{warningEvent{headOf("warning", at, "r"), "muted", "m"}, `"event":"warning","room":"r","code":"muted","message":"m"}`},
		{errorEvent{head: headOf("error", at, "")}, `"event":"error","code":"","message":""}`},
		{listeningEvent{head: headOf("listening", at, ""), Addrs: []string{}}, `"peer":"","addrs":[]}`},
		{leftEvent{head: headOf("left", at, "r")}, `"event":"left","room":"r","code":"","message":""}`},
	} {
		got := string(encode(c.event))
		if !strings.Contains(got, c.want) {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
		if !json.Valid([]byte(got)) || strings.Index(got, "\n") != len(got)-1 {
			t.Errorf("not one line of JSON: %q", got)
		}
	}
}

func TestPathWords(t *testing.T) {
	for _, c := range []struct {
		path mesh.Path
		want string
	}{
		{mesh.Path{Carrier: mesh.Datagram}, "datagram"},
		{mesh.Path{Carrier: mesh.Stream}, "stream"},
		{mesh.Path{Carrier: mesh.Stream, Via: "x"}, "relay"},
	} {
		if got := pathWord(c.path); got != c.want {
			t.Errorf("%+v: %s, want %s", c.path, got, c.want)
		}
	}
	e := room.Event{Kind: room.EventLink, State: "up", Path: mesh.Path{Carrier: mesh.Datagram, Transport: "quic", Remote: "1.2.3.4:5", RTT: 1234567 * time.Nanosecond}}
	out, ok := fromRoom(&e, room.ID{})
	if l, is := out.(linkEvent); !ok || !is || l.RTTms != 1.235 || l.Remote != "1.2.3.4:5" {
		t.Errorf("%+v", out)
	}
}

func member(state, who, nick string) memberEvent {
	return memberEvent{head: headOf("member", time.Now(), "r"), Member: who, Nick: nick, State: state}
}

func linesOf(t *testing.T, f *feed) (out []string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for {
		l, ok := f.next(ctx)
		if !ok {
			return out
		}
		var e decoded
		if err := json.Unmarshal(l.text, &e); err != nil {
			t.Fatal(err)
		}
		out = append(out, strings.TrimRight(e.Event+" "+e.Member+" "+e.State, " "))
	}
}

// A late view begins with the state of now, in the order in which it arose.
func TestLateViews(t *testing.T) {
	h := newHub()
	h.publish(listeningEvent{head: headOf("listening", time.Now(), "")})
	h.publish(joinedEvent{head: headOf("joined", time.Now(), "r"), Member: "me"})
	h.publish(member("in", "a", "Ada"))
	h.publish(member("in", "b", "Bo"))
	h.publish(linkEvent{head: headOf("link", time.Now(), "r"), Member: "a", State: "up"})
	h.publish(speakingEvent{headOf("speaking", time.Now(), "r"), "a", true})
	h.publish(speakingEvent{headOf("speaking", time.Now(), "r"), "a", false})
	h.publish(recordingEvent{headOf("recording", time.Now(), "r"), "b", true})
	h.publish(member("changed", "a", "Ada L."))
	h.publish(member("out", "b", "Bo"))
	h.publish(statsEvent{head: headOf("stats", time.Now(), "r"), Member: "a"})
	h.publish(deviceEvent{head: headOf("device", time.Now(), ""), Kind: "speaker", State: "down"})
	h.publish(deviceEvent{head: headOf("device", time.Now(), ""), Kind: "speaker", State: "up"})
	h.publish(deviceEvent{head: headOf("device", time.Now(), ""), Kind: "microphone", State: "down"})
	want := "listening|joined me|member a in|link a up|device  down"
	if got := strings.Join(linesOf(t, h.subscribe()), "|"); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	h.publish(leftEvent{head: headOf("left", time.Now(), "r")})
	if got := strings.Join(linesOf(t, h.subscribe()), "|"); got != "listening" {
		t.Errorf("after leaving: %s", got)
	}
}

// A view that does not read loses the figures first, and nothing waits for it.
func TestSlowView(t *testing.T) {
	h := newHub()
	f := h.subscribe()
	for i := range 3 * feedLength {
		h.publish(statsEvent{head: headOf("stats", time.Now(), "r"), Received: uint64(i)})
		if i%100 == 0 {
			h.publish(member("in", "a", "Ada"))
		}
	}
	h.close()
	lines := linesOf(t, f)
	members := 0
	for _, l := range lines {
		if strings.HasPrefix(l, "member") {
			members++
		}
	}
	if len(lines) != feedLength || members != 31 {
		t.Errorf("%d lines, %d of them about members; want %d and 31", len(lines), members, feedLength)
	}
}

// What people read.
func TestPeopleLines(t *testing.T) {
	var out bytes.Buffer
	s := &screen{out: &out, width: func() int { return 0 }}
	p := newPeople(s, true, false)
	now := time.Now()
	show := func(e event) { p.show(encode(e), now) }
	show(joinedEvent{head: headOf("joined", now, "r"), Name: "tea", Member: "me", Nick: "Me", Others: 2, Muted: true, Recording: true})
	show(member("in", "aaaaaaaaaaaa", "Ada"))
	second := member("in", "bbbbbbbbbbbb", "Ada")
	second.Recording = true
	show(second)
	show(recordingEvent{headOf("recording", now, "r"), "bbbbbbbbbbbb", true})
	show(member("changed", "aaaaaaaaaaaa", "Eve\x1b[2J"))
	show(speakingEvent{headOf("speaking", now, "r"), "aaaaaaaaaaaa", true})
	show(speakingEvent{headOf("speaking", now, "r"), "aaaaaaaaaaaa", false})
	show(speakingEvent{headOf("speaking", now, "r"), "aaaaaaaaaaaa", true})
	show(linkEvent{head: headOf("link", now, "r"), Member: "aaaaaaaaaaaa", State: "up", Path: "datagram", Transport: "quic", Remote: "192.0.2.1:9"})
	show(linkEvent{head: headOf("link", now, "r"), Member: "aaaaaaaaaaaa", State: "down", Reason: "nothing came for 3 s"})
	show(mutedEvent{headOf("muted", now, "r"), false})
	show(recordingEvent{headOf("recording", now, "r"), "bbbbbbbbbbbb", false})
	for _, e := range []deviceEvent{
		{Kind: "speaker", State: "down", Reason: "gone"},
		{Kind: "speaker", State: "up", Name: "inner", Replaced: true, Reason: "gone"},
		{Kind: "speaker", State: "up", Name: "inner", Replaced: true}, // larger buffers
		{Kind: "speaker", State: "up", Name: "headset"},
		{Kind: "speaker", State: "up", Name: "headset"},
		{Kind: "microphone", State: "down", Reason: "gone"},
		{Kind: "microphone", State: "up", Name: "mic", Reason: "gone"},
	} {
		e.head = headOf("device", now, "")
		show(e)
	}
	show(speakingEvent{headOf("speaking", now, "r"), "me", true}) // they know
	show(warningEvent{headOf("warning", now, "r"), "muted", "you are muted\x1b[2J"})
	show(deafEvent{headOf("deaf", now, "r"), true})
	show(deafEvent{headOf("deaf", now, "r"), true})
	show(deafEvent{headOf("deaf", now, "r"), false})
	show(member("out", "aaaaaaaaaaaa", "Eve"))
	show(leftEvent{head: headOf("left", now, "r")})
	want := `You are in tea as Me; 2 others are here.
Anyone who knows the name tea can join: it is as private as the name.
You are recording. Everybody in the room sees it; only those who allow it are in the file.
You are MUTED: nobody hears you. Press m to speak.
+ Ada is here
+ Ada (bbbbbbbb) is here
! Ada (bbbbbbbb) records this room
  Ada (aaaaaaaa) is now called Eve[2J
  Eve[2J speaks
  path to Eve[2J: datagram over quic to 192.0.2.1:9
! no way to Eve[2J for the moment: nothing came for 3 s
You are LIVE: everybody here hears you. Press m to mute.
  Ada has stopped recording
! your speaker is gone: you hear nothing until it, or another, is there
  your speaker is now inner, in place of the one that is gone
  your speaker is there again: headset
! your microphone is gone: nobody hears you until it, or another, is there
  your microphone is there again: mic
! you are muted[2J
You are DEAF: you hear nobody. ` + "`teahouse ctl undeafen`" + ` ends it.
You hear everybody again.
- Eve[2J has left
You have left.
`
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestParseVerb(t *testing.T) {
	for line, want := range map[string]request{
		"mute":                   {Verb: "mute"},
		" undeafen ":             {Verb: "undeafen"},
		"ptt press":              {Verb: "ptt", Key: "press"},
		"device mic USB  Audio":  {Verb: "device", Device: "mic", Spec: "USB  Audio"},
		"volume Bo -6":           {Verb: "volume", Member: "Bo", Volume: "-6"},
		"mode shielded":          {Verb: "mode", Mode: "shielded"},
		"volume  Ada L.  unmute": {Verb: "volume", Member: "Ada L.", Volume: "unmute"},
	} {
		if got, ok := parseVerb(line); !ok || got != want {
			t.Errorf("%q: %+v, %v", line, got, ok)
		}
	}
	for _, line := range []string{"", "dance", "mute now", "ptt", "ptt down", "volume", "volume Bo", "device mic", "check", "watch", "toggle", "mode"} {
		if got, ok := parseVerb(line); ok {
			t.Errorf("%q: %+v", line, got)
		}
	}
}

func TestNumbersAreNoFlags(t *testing.T) {
	in := []string{"ctl", "volume", "-12.5", "--home", "-x", "-", "-.5", "--5"}
	if got := numbers(in); !slices.Equal(got, []string{"ctl", "volume", "−12.5", "--home", "-x", "-", "−.5", "--5"}) || in[2] != "-12.5" {
		t.Errorf("%q of %q", got, in)
	}
}

// The bottom line shows how loud we and those who speak are.
func TestMeters(t *testing.T) {
	for level, want := range map[uint8]string{0: "[#####]", 12: "[#####]", 13: "[#### ]", 37: "[##   ]", 60: "[#    ]", 61: "[     ]", 127: "[     ]"} {
		if got := bar(level); got != want {
			t.Errorf("%d: %s, want %s", level, got, want)
		}
	}
	s := &screen{out: &bytes.Buffer{}, width: func() int { return 80 }}
	p := newPeople(s, true, false)
	p.name, p.order = "tea", []string{"bbbbbbbbbbbb"}
	p.members["bbbbbbbbbbbb"] = &personLine{nick: "Bo", member: "bbbbbbbbbbbb"}
	p.levels = func() (uint8, map[string]uint8) { return 20, map[string]uint8{"bbbbbbbbbbbb": 40} }
	p.tick()
	if !strings.HasPrefix(s.bottom, "[#### ]  LIVE ") || !strings.Contains(s.bottom, "Bo [##   ]") {
		t.Errorf("the bottom line is %q", s.bottom)
	}
	p.silent = true
	p.tick()
	if strings.HasPrefix(s.bottom, "[") {
		t.Errorf("a meter for no microphone: %q", s.bottom)
	}
}
