package sim

import (
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"teahouse/internal/mesh"
	"teahouse/room"
)

// world is a scenario that is being played. One goroutine, the director, does
// what is due; those that join and leave have goroutines of their own, because
// both take time.
type world struct {
	// Constant.
	t        *testing.T
	scenario *Scenario
	start    time.Time
	secret   room.Secret
	wires    *wires
	watch    *nonceWatch
	ground   ground
	people   []*person
	doctor   func([]view) // a test that has the looks see what is not so; nil
	idle     int          // goroutines before anybody came

	// Owned by the director.
	next     int           // of the scenario's steps
	stood    time.Duration // how long the clock of the steps has stood still
	settling *settling
	looking  looking

	nodes   sync.Map     // mesh.PeerID: int, whose it is
	depth   atomic.Int32 // 1 more than all links are made to have; 0: as they choose
	done    atomic.Int64 // steps begun
	handed  atomic.Int64
	lives   atomic.Int64
	wg      sync.WaitGroup
	windows windows
	// What one room has verified the others need not: they have it from the
	// same wires, and it is half of what a virtual hour costs.
	verified room.VerifiedEntries

	mu      sync.Mutex
	closing bool // all leave: what becomes of links counts no more
	result  *Result
	past    []*departed
	over    []*ended          // since the last look
	secrets map[naming]naming // what an epoch is called: its secret's id, and the other way about
}

func newWorld(t *testing.T, s *Scenario) *world {
	w := &world{
		t: t, scenario: s, start: time.Now(), secret: seed32("room", s.Seed, 0, 0),
		wires: newWires(s.Seed, s.Wire), secrets: make(map[naming]naming),
		result: &Result{
			Scenario: s, Links: make(map[string]int), Done: make(map[string]int), Uploaded: make(map[int]int),
			Peak: make(map[string]int), Longest: make(map[string]time.Duration),
		},
	}
	w.looking.invariants = newInvariants(churnPatience, w.identity)
	w.watch = newNonceWatch(w.violated)
	switch s.Ground {
	case Memory:
		w.ground = newMemoryGround(s.Seed, w.wires)
	case Internet:
		g, err := newInternet(s, w.wires, func(who int) (up, down *uplink) {
			return &w.people[who].uplink, &w.people[who].downlink
		}, w.watch)
		if err != nil {
			t.Fatalf("make the internet: %v", err)
		}
		w.ground = g
	}
	for who := range s.People {
		p := &person{world: w, who: who, key: deriveKey("member", s.Seed, who, 0)}
		copy(p.member[:], p.key[32:])
		w.people = append(w.people, p)
	}
	w.idle = w.looking.goroutines()
	w.windows.begin("", 0)
	return w
}

// direct plays the scenario.
func (w *world) direct() {
	for {
		now := time.Now()
		next := now.Add(settleEvery)
		if w.settling != nil {
			synctest.Wait()
			w.settle(now)
		}
		if !w.looking.at.After(now) {
			synctest.Wait()
			w.lookAround(now)
		}
		if w.settling == nil {
			var ok bool
			if next, ok = w.step(now); !ok {
				return
			}
		}
		for _, p := range w.people {
			if p.talking {
				for !p.talkAt.After(now) {
					p.speak()
				}
				next = earlier(next, p.talkAt)
			}
		}
		next = earlier(next, w.looking.at)
		time.Sleep(time.Until(next))
	}
}

// step does the acts that are due, up to a Settle, and tells when the next one
// is; false: the scenario has ended.
func (w *world) step(now time.Time) (next time.Time, ok bool) {
	start, steps := w.start.Add(w.stood), w.scenario.Steps
	for ; w.next < len(steps); w.next++ {
		if next = start.Add(steps[w.next].At); next.After(now) {
			return next, true
		}
		synctest.Wait() // what was due at this time has happened
		w.lookAround(now)
		w.done.Store(int64(w.next) + 1)
		w.result.Done[actName(steps[w.next].Do)]++
		steps[w.next].Do.act(w)
		if w.settling != nil {
			w.next++
			return now, true
		}
	}
	next = start.Add(w.scenario.For)
	return next, next.After(now)
}

// close has everybody leave and ends the network. It is to be called even
// where the test has failed.
func (w *world) close() {
	w.mu.Lock()
	w.closing = true
	w.mu.Unlock()
	for _, p := range w.people {
		Upload{Who: p.who}.act(w)
		p.after(func() {
			if p.life.Load() != nil {
				p.end(false)
			}
		})
	}
	w.wg.Wait()
	w.ground.close()
	r := w.result
	r.Windows = w.windows.all
	r.Sealed, r.Keys = w.watch.totals()
	r.Handed, r.Lives = int(w.handed.Load()), int(w.lives.Load())
	r.Took, r.Looks = w.now(), w.looking.looks
	maps.Copy(r.Longest, w.looking.invariants.worst)
}

// now is the time since the start.
func (w *world) now() time.Duration { return time.Since(w.start) }

// violated notes that something happened that must not.
func (w *world) violated(format string, args ...any) {
	v := Violation{w.now(), int(w.done.Load()), fmt.Sprintf(format, args...)}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.result.Violations) < maxViolations {
		w.result.Violations = append(w.result.Violations, v)
	}
}

// linked counts a change of a link while the scenario lasts: when all leave at
// once, who is gone first and whose goodbye is lost is nobody's business.
func (w *world) linked(e *room.Event) {
	what := "up: " + string(e.Path.Carrier)
	if e.State == "down" {
		what = "down: " + e.Reason
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closing {
		w.result.Links[what]++
	}
}

// whose is the person that a peer id belongs to.
func (w *world) whose(peer mesh.PeerID) (who int, ok bool) {
	v, ok := w.nodes.Load(peer)
	if !ok {
		return 0, false
	}
	return v.(int), true
}

func (w *world) identity(peer mesh.PeerID) (identity, bool) {
	who, ok := w.whose(peer)
	if !ok {
		return identity{}, false
	}
	p := w.people[who]
	return identity{who: who, member: p.member, instance: p.instance.Load(), lives: p.lives}, true
}

func (w *world) log(who int) *slog.Logger {
	if w.scenario.Log == nil {
		return nil
	}
	return w.scenario.Log.With("person", who, "at", slog.AnyValue(clock{w}))
}

// clock writes the virtual time into each line of a log.
type clock struct{ world *world }

// LogValue is the time since the start.
func (c clock) LogValue() slog.Value { return slog.DurationValue(c.world.now()) }

func (w *world) mark(name string) { w.windows.begin(name, w.now()) }

// expect notes who ought to hear a frame.
func (w *world) expect(from *life, s *spoken) {
	group := w.wires.group(from.person.who)
	w.windows.mu.Lock()
	defer w.windows.mu.Unlock()
	for _, p := range w.people {
		if p != from.person && p.here() != nil && w.wires.group(p.who) == group {
			w.windows.all[s.window].pair(s.who, p.who).mark(s.number, frameExpected)
		}
	}
}

// heard notes that somebody heard a frame: of the thin flow one that is two.
func (w *world) heard(by *life, s *spoken, f *room.Frame, arrival time.Time) {
	delay := arrival.Sub(w.start) - s.at
	w.windows.mu.Lock()
	defer w.windows.mu.Unlock()
	if s.window >= len(w.windows.all) {
		return // cannot be: the frame was checked
	}
	p := w.windows.all[s.window].pair(s.who, by.person.who)
	what := uint8(frameFirst)
	if f.Repaired {
		what = frameRepaired
	}
	if f.Flow == room.FlowThin {
		p.mark(s.number-1, what|frameThin)
		what |= frameThin
	}
	again := p.mark(s.number, what)
	// After a change of the flow, frames sent again may be those heard already.
	had := p.frames[s.number]
	if had&frameThin == 0 && (again || had&(frameFirst|frameRepaired) == frameFirst|frameRepaired) {
		w.violated("%v heard a frame of person %d twice", by, s.who)
	}
	p.Any.add(delay)
	if !f.Repaired {
		p.First.add(delay)
	}
}

// Present is what a [Look] sees.
type Present struct{ world *world }

// Room is the room of a person; nil while away.
func (p *Present) Room(who int) *room.Room {
	if l := p.world.people[who].here(); l != nil {
		return l.room.Load()
	}
	return nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
