package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"teahouse/room"
)

// The control socket: a unix socket, 0600, in a directory of 0700, so whoever
// can connect is this user. Client and server speak JSON lines: the client
// sends one request; the server answers one reply, and after a `watch` that is
// ok the events, until either side closes.

const (
	maxControlConns = 16
	maxControlLine  = 4 << 10
	controlTimeout  = 5 * time.Second
)

// request is what a client asks.
type request struct {
	Verb string `json:"verb"`
	// Room picks a room by id or name; empty: the only one.
	Room string `json:"room,omitempty"`
}

// reply is what ctl prints: contract. code is the exit code that goes with it.
type reply struct {
	OK      bool   `json:"ok"`
	Code    int    `json:"code"`
	Message string `json:"message"`

	*Status
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
	case "leave":
		if h.leaveEnds {
			h.stop(errAsked)
			return okay("leaving %s", st.name)
		}
		h.leave()
		return okay("left %s", st.name)
	}
	return reply{Code: exitUsage, Message: fmt.Sprintf("there is no verb %.40q: use status, mute, unmute or leave", q.Verb)}
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
	if err := s.setMuted(muted); err != nil {
		return replyOf(err)
	}
	if muted {
		return okay("muted in %s", s.name)
	}
	return okay("unmuted in %s", s.name)
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
		ListenOnly: s.silent, Recording: s.sound.recorder, Hearers: s.room.Hearers(), Level: int(s.voice.Level()),
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
		state := "down"
		if l.Up {
			state = "up"
		}
		out.Members = append(out.Members, memberStatus{
			Member: memberText(m.Member), Nick: m.Nick, Role: m.Role, Muted: m.Muted, ListenOnly: m.ListenOnly,
			Recording: m.Recording, AllowRecording: m.AllowRecording, Link: state, Path: pathWord(l.Path),
			Transport: l.Path.Transport, Remote: l.Path.Remote, RTTms: ms(l.RTT), Hears: l.Hears,
		})
	}
	return out
}

// control is the server of the control socket.
type control struct {
	listener net.Listener
	do       func(request) reply
	hub      *hub
	log      *slog.Logger
	slots    chan struct{}
	tasks    sync.WaitGroup
	ctx      context.Context // ends with close: what the connections run under
	cancel   context.CancelFunc
}

// openControl listens; the house must be open.
func openControl(h *house) (*control, error) {
	path, err := h.home.PrepareControlSocket()
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("control socket: %w", err), listener.Close())
	}
	c := &control{listener: listener, do: h.do, hub: h.hub, log: h.log, slots: make(chan struct{}, maxControlConns)}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.tasks.Go(c.accept)
	return c, nil
}

// stopAccepting takes no further connections; those there are stay.
func (c *control) stopAccepting() { _ = c.listener.Close() } // removes the socket

// close ends every connection and waits. Views still get what the hub, which
// must have been closed, has for them.
func (c *control) close() {
	c.stopAccepting()
	c.cancel()
	c.tasks.Wait()
}

func (c *control) accept() {
	for {
		conn, err := c.listener.Accept()
		if err != nil {
			return
		}
		select {
		case c.slots <- struct{}{}:
		default:
			_ = conn.Close() // 16 are open already
			continue
		}
		c.tasks.Go(func() {
			defer func() { <-c.slots }()
			defer conn.Close()
			if err := c.serve(conn); err != nil {
				c.log.Debug("control connection", "err", err)
			}
		})
	}
}

func (c *control) serve(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(controlTimeout)); err != nil {
		return err
	}
	text, err := bufio.NewReader(&limited{conn, maxControlLine}).ReadBytes('\n')
	if err != nil {
		return err
	}
	var q request
	if err := json.Unmarshal(text, &q); err != nil {
		return writeLine(conn, reply{Code: exitUsage, Message: "not a request"})
	}
	if q.Verb != "watch" {
		return writeLine(conn, c.do(q))
	}
	r := okay("watching")
	if q.Room != "" {
		// The room must be the one that this node sits in.
		r = c.do(request{Verb: "check", Room: q.Room})
	}
	if err := writeLine(conn, r); err != nil || !r.OK {
		return err
	}
	return c.watch(conn)
}

// watch sends events until the client goes or the node ends.
func (c *control) watch(conn net.Conn) error {
	f := c.hub.subscribe()
	defer f.close()
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c.tasks.Go(func() { // sees that the client has gone
		defer cancel()
		_, _ = conn.Read(make([]byte, 1))
	})
	stop := context.AfterFunc(c.ctx, func() { _ = conn.SetReadDeadline(time.Now()) })
	defer stop()
	for {
		l, ok := f.next(ctx)
		if !ok {
			return nil
		}
		if err := conn.SetWriteDeadline(time.Now().Add(controlTimeout)); err != nil {
			return err
		}
		if _, err := conn.Write(l.text); err != nil {
			return err
		}
	}
}

// limited gives io.ErrUnexpectedEOF-like ends after n bytes, so that a line
// has a bound.
type limited struct {
	conn net.Conn
	left int
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errors.New("line is too long")
	}
	n, err := l.conn.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

func writeLine(conn net.Conn, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = conn.Write(append(text, '\n'))
	return err
}
