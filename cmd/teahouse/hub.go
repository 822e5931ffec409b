package main

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
)

// feedLength is how many lines wait for one view at most: a minute of a busy
// room. A view that is slower loses the oldest stats first, then the oldest
// lines; it never slows anything else.
const feedLength = 1024

// line is one event, encoded once for all views.
type line struct {
	head
	text []byte // with its end; shared by all views, so not to be changed
}

// hub passes events to the views of this node: standard output, the terminal,
// attached processes. A view that comes later begins with the state of now.
type hub struct {
	mu     sync.Mutex
	feeds  map[*feed]struct{}
	state  map[string]kept // what a late view has to know
	count  uint64
	closed bool
}

type kept struct {
	order uint64
	line  line
}

func newHub() *hub {
	return &hub{feeds: map[*feed]struct{}{}, state: map[string]kept{}}
}

// publish passes e on. It never waits for a view.
func (h *hub) publish(e event) {
	l := line{e.heading(), encode(e)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	h.remember(e, l)
	for f := range h.feeds {
		f.push(l)
	}
}

// remember keeps the state that late views begin with.
func (h *hub) remember(e event, l line) {
	keep := func(key string, on bool) {
		key = l.Room + " " + key
		if !on {
			delete(h.state, key)
			return
		}
		order := h.state[key].order
		if order == 0 {
			h.count++
			order = h.count
		}
		h.state[key] = kept{order, l}
	}
	switch e := e.(type) {
	case listeningEvent:
		keep("listening", true)
	case joinedEvent:
		keep("joined", true)
	case mutedEvent:
		keep("muted", true)
	case modeEvent:
		keep("mode", true)
	case pttEvent:
		keep("ptt", e.On)
	case deafEvent:
		keep("deaf", e.On)
	case descriptorEvent:
		keep("descriptor", true)
	case memberEvent:
		keep("member "+e.Member, e.State != "out")
		if e.State == "changed" { // for a late view they are there, not changed
			e.State = "in"
			l.text = encode(e)
			keep("member "+e.Member, true)
		}
		if e.State == "out" {
			keep("speaking "+e.Member, false)
			keep("recording "+e.Member, false)
			keep("link "+e.Member, false)
		}
	case linkEvent:
		keep("link "+e.Member, e.State == "up")
	case recordingEvent:
		keep("recording "+e.Member, e.On)
	case speakingEvent:
		keep("speaking "+e.Member, e.On)
	case deviceEvent: // as it should be is not worth a line
		keep("device "+e.Kind, e.State == "down" || e.Replaced)
	case leftEvent: // the devices are closed with the room
		for key := range h.state {
			if strings.HasPrefix(key, l.Room+" ") || strings.HasPrefix(key, " device ") {
				delete(h.state, key)
			}
		}
	}
}

// subscribe begins a view's feed.
func (h *hub) subscribe() *feed {
	f := &feed{hub: h, wake: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	state := make([]kept, 0, len(h.state))
	for _, k := range h.state {
		state = append(state, k)
	}
	slices.SortFunc(state, func(a, b kept) int { return cmp.Compare(a.order, b.order) })
	for _, k := range state {
		f.push(k.line)
	}
	if h.closed {
		f.end()
		return f
	}
	h.feeds[f] = struct{}{}
	return f
}

// close ends every feed once it has been read.
func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for f := range h.feeds {
		f.end()
	}
	h.feeds = nil
}

// feed is the queue of one view.
type feed struct {
	hub  *hub
	wake chan struct{}

	mu    sync.Mutex
	queue []line
	ended bool
}

// next waits for the next line; ok is false at the end, or when ctx ends.
func (f *feed) next(ctx context.Context) (l line, ok bool) {
	for {
		f.mu.Lock()
		if len(f.queue) > 0 {
			l = f.queue[0]
			f.queue[0] = line{}
			f.queue = f.queue[1:]
			f.mu.Unlock()
			return l, true
		}
		ended := f.ended
		f.mu.Unlock()
		if ended {
			return line{}, false
		}
		select {
		case <-f.wake:
		case <-ctx.Done():
			return line{}, false
		}
	}
}

func (f *feed) push(l line) {
	f.mu.Lock()
	if len(f.queue) >= feedLength {
		i := slices.IndexFunc(f.queue, func(q line) bool { return q.Event == "stats" })
		f.queue = slices.Delete(f.queue, max(i, 0), max(i, 0)+1)
	}
	f.queue = append(f.queue, l)
	f.mu.Unlock()
	f.poke()
}

func (f *feed) end() {
	f.mu.Lock()
	f.ended = true
	f.mu.Unlock()
	f.poke()
}

func (f *feed) poke() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// close takes the feed out of the hub.
func (f *feed) close() {
	f.hub.mu.Lock()
	delete(f.hub.feeds, f)
	f.hub.mu.Unlock()
	f.end()
}
