package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"
)

// startViews shows what happens: as JSON lines on standard output, or to
// people, with single keys where there is a terminal.
func (t *talk) startViews(ctx context.Context) {
	a := t.app
	f := t.hub.subscribe()
	if t.json {
		t.views.Go(func() {
			defer a.guard()
			for {
				l, ok := f.next(ctx)
				if !ok {
					return
				}
				if !writeStdout(l.text) {
					a.stop(errAsked) // nobody reads any more
					return
				}
			}
		})
		t.readVerbs(ctx, t.answer)
		return
	}
	keys := !t.bootstrap && a.takeKeyboard()
	p := newPeople(a.screen, keys, false)
	p.topic, p.stays = plain(t.topic), !t.leaveEnds
	shown := make(chan struct{})
	if keys {
		p.levels = t.house.levels
		t.views.Go(func() { t.moveMeters(p, shown) })
	}
	p.tick()
	t.views.Go(func() {
		defer close(shown)
		defer a.guard()
		for {
			l, ok := f.next(ctx)
			if !ok {
				return
			}
			p.show(l.text, time.Now())
		}
	})
	if keys {
		t.readKeys(ctx, func(verb string) {
			if t.house.current() == nil {
				return // not there yet, or not any more
			}
			if r := t.house.do(keyVerb(verb)); !r.OK {
				a.screen.println("! " + r.Message)
			}
		})
	}
}

// moveMeters does so until the view has shown everything.
func (t *talk) moveMeters(p *people, shown <-chan struct{}) {
	defer t.app.guard()
	tick := time.NewTicker(2 * meterEvery)
	defer tick.Stop()
	for {
		select {
		case <-shown:
			return
		case <-tick.C:
			p.tick()
		}
	}
}

// awaitViews gives the views a second to show what is left; who does not read
// must not keep us.
func (t *talk) awaitViews(cancel context.CancelFunc) {
	shown := make(chan struct{})
	go func() {
		t.views.Wait()
		close(shown)
	}()
	select {
	case <-shown:
	case <-time.After(time.Second):
		cancel()
	}
}

// readKeys turns keys into verbs.
func (t *talk) readKeys(ctx context.Context, do func(verb string)) {
	a := t.app
	go func() { // ends with the program: a terminal cannot be waited on otherwise
		defer a.guard()
		a.keys.read(ctx, func(key byte) {
			switch key {
			case 'm', 'M':
				do("toggle")
			case 'd', 'D':
				do("toggle-deaf")
			case ' ':
				do("ptt toggle")
			case 'q', 'Q':
				a.stop(errAsked)
			case '?', 'h':
				a.screen.println("m mutes and unmutes you, d makes you deaf and hear again, space presses the key of push to talk and lets it go, q leaves.")
			}
		})
	}()
}

// keyVerb is what a key asks for: some verbs are for keys alone.
func keyVerb(line string) request {
	if q, ok := parseVerb(line); ok {
		return q
	}
	return request{Verb: line}
}

// readVerbs takes verbs from standard input, one a line. Its end is ignored.
func (t *talk) readVerbs(ctx context.Context, answer func(verb string)) {
	a := t.app
	go func() { // as in readKeys
		defer a.guard()
		in := bufio.NewScanner(io.LimitReader(os.Stdin, 1<<30))
		in.Buffer(make([]byte, 0, 256), 1024)
		for in.Scan() && ctx.Err() == nil {
			if verb := strings.TrimSpace(in.Text()); verb != "" {
				answer(verb)
			}
		}
	}()
}

// answer carries out a verb of standard input; the answer is an event.
func (t *talk) answer(verb string) { t.hub.publish(newReply(verb, t.verb(verb))) }

func (t *talk) verb(line string) reply {
	q, ok := parseVerb(line)
	if !ok {
		return noVerb(line)
	}
	return t.house.do(q)
}

// takeKeyboard tells whether single keys can be taken.
func (a *app) takeKeyboard() bool {
	if a.screen.width() == 0 {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keys = openKeyboard()
	if a.keys != nil {
		// A panic on a goroutine that is not ours cannot be caught here. As a
		// signal, shells give the terminal back themselves; as an exit, not.
		debug.SetTraceback("crash")
	}
	return a.keys != nil
}

var stdout sync.Mutex

// writeStdout writes one line that has its end; false if nobody reads it.
func writeStdout(text []byte) bool {
	stdout.Lock()
	defer stdout.Unlock()
	_, err := os.Stdout.Write(text)
	return err == nil
}
