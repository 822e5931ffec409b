package sim

import (
	"bytes"
	"reflect"
	"runtime"
	"time"
)

const (
	// goroutinesMost is how many there may be for each who is present, and
	// goroutinesLink for each of their sessions besides: those of the room and
	// of its in-memory node.
	goroutinesMost = 24
	goroutinesLink = 6
	// measureEvery is at how many looks one of the rooms is measured.
	measureEvery = 10
	// goroutinesEvery is at how many ends of a Settle they are counted once: it
	// stops the world.
	goroutinesEvery = 4
)

// looking is when everybody is looked at, and what was noticed so far. Owned
// by the director.
type looking struct {
	at         time.Time // the next look
	last       time.Time
	looks      int
	turn       int // whose room is measured next
	settled    int
	invariants *invariants
	stacks     []byte
}

// lookAround checks what must hold at any time. Everybody is at rest.
func (w *world) lookAround(now time.Time) {
	l := &w.looking
	if l.last.Equal(now) {
		return // acts of one time come one after the other, and have no effect yet
	}
	l.last, l.at = now, now.Add(lookEvery)
	w.mu.Lock()
	over := w.over
	w.over = nil
	w.mu.Unlock()
	for _, e := range over {
		l.invariants.end(e)
	}
	var views []view
	for _, p := range w.people {
		life := p.here()
		if life == nil {
			continue
		}
		v := view{who: p.who, number: life.number, peer: life.peer, group: w.wires.group(p.who), roster: life.room.Load().Members()}
		sessions := 0
		v.known, sessions = life.look()
		w.peak("sessions", sessions)
		views = append(views, v)
	}
	if w.doctor != nil {
		w.doctor(views)
	}
	for _, what := range l.invariants.check(now, w.wires.cuts(), views) {
		w.violated("%s", what)
	}
	if l.looks++; l.looks%measureEvery == 0 {
		w.measure(len(views))
	}
}

// measure looks what one of the rooms holds: another one each time.
func (w *world) measure(present int) {
	if present == 0 {
		return
	}
	l := &w.looking
	for range w.people {
		l.turn = (l.turn + 1) % len(w.people)
		life := w.people[l.turn].here()
		if life == nil {
			continue
		}
		found := sizes(life.room.Load())
		for path, n := range found {
			w.peak(path, n)
		}
		for _, what := range oversized(found, len(w.people)) {
			w.violated("%v: %s", life, what)
		}
		return
	}
}

func (w *world) peak(what string, n int) { w.result.Peak[what] = max(w.result.Peak[what], n) }

// countGoroutines looks whether there are more than those present need.
func (w *world) countGoroutines(parts map[int][]*life) {
	l := &w.looking
	if l.settled++; l.settled%goroutinesEvery != 1 {
		return
	}
	people, sessions := 0, 0
	for _, part := range parts {
		for _, life := range part {
			people++
			_, n := life.look()
			sessions += n
		}
	}
	if people == 0 {
		return
	}
	n := l.goroutines() - w.idle
	w.peak("goroutines", n/people)
	if most := people*goroutinesMost + sessions*goroutinesLink; w.scenario.Ground == Memory && n > most {
		w.violated("%d goroutines run for %d people with %d sessions, and not %d at most", n, people, sessions, most)
	}
}

// goroutines counts those of this bubble: other tests may run beside it.
func (l *looking) goroutines() int {
	if l.stacks == nil {
		l.stacks = make([]byte, 4<<20)
	}
	// goroutine 7 [sleep (durable), synctest bubble 3]:
	own := l.stacks[:runtime.Stack(l.stacks, false)]
	own, _, _ = bytes.Cut(own, []byte("]:\n"))
	at := bytes.LastIndex(own, []byte(", synctest bubble "))
	if at < 0 {
		return 0
	}
	bubble := append(bytes.Clone(own[at:]), "]:\n"...)
	return bytes.Count(l.stacks[:runtime.Stack(l.stacks, true)], bubble)
}

// naming is a name of an epoch, or of its secret.
type naming struct {
	origin [32]byte // zero: of the secret
	number uint32
	id     [16]byte
}

// claimed notes what somebody says that an epoch is, and what others have
// said: one name is of one secret, and one secret has one name.
func (w *world) claimed(l *life, k known) {
	if k.id == ([16]byte{}) {
		return
	}
	name, secret := naming{origin: k.origin, number: k.number}, naming{id: k.id}
	w.mu.Lock()
	otherSecret, named := w.secrets[name]
	otherName, held := w.secrets[secret]
	w.secrets[name], w.secrets[secret] = secret, name
	w.mu.Unlock()
	if named && otherSecret != secret {
		w.violated("%v holds another secret than others as %v", l, k)
	}
	if held && otherName != name {
		w.violated("%v holds as %v the secret of epoch %d of %x", l, k, otherName.number, otherName.origin[:3])
	}
}

// actName is the name of an act's type.
func actName(a Act) string { return reflect.TypeOf(a).Name() }
