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
	// Member and Volume are for the verb volume.
	Member string `json:"member,omitempty"`
	Volume string `json:"volume,omitempty"`
	// Key is for the verb ptt: press, release or toggle.
	Key string `json:"key,omitempty"`
	// Mode is for the verb mode.
	Mode string `json:"mode,omitempty"`
	// Device (mic or speaker) and Spec are for the verb device.
	Device string `json:"device,omitempty"`
	Spec   string `json:"spec,omitempty"`
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
