package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"time"

	"teahouse/internal/home"
)

// attach makes this process a view of the node that runs on the home already,
// if one does. attached is false if none does.
func (t *talk) attach() (attached bool, err error) {
	dirs, err := t.home.dirs()
	if err != nil {
		return false, err
	}
	conn, err := dial(dirs)
	if errors.Is(err, errNoNode) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer conn.Close()
	for _, flag := range append(append([]string{}, networkFlagNames...), voiceFlagNames...) {
		if t.app.given[flag] && flag != "for" {
			return true, usage("--%s cannot be used now, because a node runs on this home already and `join` only shows it: leave the flag out, end that node, or choose another --home", flag)
		}
	}
	r, in, err := exchange(conn, request{Verb: "watch", Room: t.topic})
	if err != nil {
		return true, err
	}
	if !r.OK {
		return true, fail(r.Code, "refused", "%s: a node runs on this home already and `join` only shows it; leave its room with `teahouse ctl leave`, or choose another --home", r.Message)
	}
	return true, t.watch(conn, in, dirs)
}

// watch shows events until the node ends, the room is left, or somebody here
// has seen enough.
func (t *talk) watch(conn net.Conn, in *bufio.Reader, dirs home.Dirs) error {
	a := t.app
	ctx := a.ctx
	if t.voice.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t.voice.For)
		defer cancel()
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now()) })
	defer stop()
	show := func(text []byte) bool { return writeStdout(text) }
	forward := func(q request) reply {
		q.Room = t.topic
		r, err := ask(dirs, q)
		if err != nil {
			return replyOf(err)
		}
		return r
	}
	if t.json {
		t.readVerbs(ctx, func(verb string) {
			r := noVerb(verb)
			if q, ok := parseVerb(verb); ok {
				r = forward(q)
			}
			writeStdout(encode(newReply(verb, r)))
		})
	} else {
		keys := a.takeKeyboard()
		p := newPeople(a.screen, keys, true)
		show = func(text []byte) bool { p.show(text, time.Now()); return true }
		a.screen.println(a.screen.paint(styleDim, "A node runs here already: this is a view of it."))
		if keys {
			t.readKeys(ctx, func(verb string) {
				if r := forward(keyVerb(verb)); !r.OK {
					a.screen.println("! " + r.Message)
				}
			})
		}
	}
	for {
		text, err := readLine(in)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil { // the node has ended
			if !t.json {
				a.screen.setBottom("")
				a.screen.println("The node has ended.")
			}
			return nil
		}
		if !show(text) {
			return nil
		}
		var h head
		if json.Unmarshal(text, &h) == nil && h.Event == "left" {
			return nil
		}
	}
}
