package sim

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"teahouse/internal/mesh"
	"teahouse/room"
)

type ctx = context.Context

// person is somebody with a home: a member key and an instance number, which
// outlive each stay in the room.
type person struct {
	// Constant.
	world  *world
	who    int
	key    ed25519.PrivateKey
	member room.Member
	uplink uplink
	// downlink is what comes in passes after it.
	downlink uplink

	// Owned by the director.
	last    chan struct{} // closed when the latest of join, leave and kill is done
	upload  *upload       // nil: none
	talking bool
	talkAt  time.Time
	window  int    // in which inWindow frames were spoken
	spoken  uint32 // in it

	// Owned by whatever joins, leaves or kills at the time.
	lives int
	hosts int

	skew     atomic.Int64 // how wrong the clock is, ns
	instance atomic.Uint64
	life     atomic.Pointer[life] // nil while away
}

// life is one stay in the room.
type life struct {
	// Constant.
	world  *world
	person *person
	number int
	net    mesh.Network
	peer   mesh.PeerID

	room   atomic.Pointer[room.Room] // nil until it has been entered
	ending atomic.Bool
	tapped tapped

	// Owned by the director.
	frame room.Frame
	opus  [thinBytes]byte
	thin  bool // some link wants the thin flow
}

func (l *life) String() string { return fmt.Sprintf("person %d (life %d)", l.person.who, l.number) }

// after has something done to a person once all before it is done.
func (p *person) after(do func()) {
	before, done := p.last, make(chan struct{})
	p.last = done
	p.world.wg.Go(func() {
		defer close(done)
		if before != nil {
			<-before
		}
		do()
	})
}

func (p *person) join(sameHost bool) { p.after(func() { p.enter(sameHost) }) }
func (p *person) leave()             { p.after(func() { p.end(false) }) }
func (p *person) kill()              { p.after(func() { p.end(true) }) }

func (p *person) enter(sameHost bool) {
	w := p.world
	if p.life.Load() != nil {
		return // here already
	}
	p.lives++
	if !sameHost || p.hosts == 0 {
		p.hosts++
	}
	w.lives.Add(1)
	key := deriveKey("host", w.scenario.Seed, p.who, p.hosts)
	l := &life{world: w, person: p, number: p.lives, peer: mesh.PeerIDOf(key.Public().(ed25519.PublicKey))}
	l.tapped.held, l.tapped.voiceTo = make(map[[32]byte]uint32), make(map[mesh.PeerID]bool)
	w.nodes.Store(l.peer, p.who)
	var err error
	if l.net, err = w.ground.node(p.who, key); err != nil {
		w.violated("person %d cannot start a node: %v", p.who, err)
		return
	}
	r, err := room.Join(context.Background(), room.Config{
		Network: &tap{l.net, l}, Secret: w.secret, Key: p.key, Instance: p.instance.Add(1),
		RaiseInstance: func(atLeast uint64) error { p.instance.Store(atLeast); return nil },
		Nick:          fmt.Sprint("p", p.who), Log: w.log(p.who),
		Heard: l.hear, Now: p.clock, Verified: &w.verified,
		Random: rand.NewPCG(w.scenario.Seed, uint64(p.who)<<32|uint64(p.lives)),
	})
	if err != nil {
		w.violated("person %d cannot join: %v", p.who, err)
		_ = l.net.Close() // the room's error says more
		return
	}
	l.room.Store(r)
	p.life.Store(l)
	events := r.Subscribe()
	w.wg.Go(func() { l.follow(events) })
}

// follow counts what becomes of the links, until the room has ended.
func (l *life) follow(events *room.Subscription) {
	defer events.Close()
	for {
		e, err := events.Next(context.Background())
		if err != nil {
			return // after EventLeft
		}
		if e.Kind == room.EventLink {
			l.world.linked(&e)
		}
		if f := l.world.scenario.Event; f != nil {
			f(e.Time.Sub(l.world.start), l.person.who, &e)
		}
	}
}

// end ends a stay, with a goodbye or without.
func (p *person) end(vanish bool) {
	l, w := p.life.Load(), p.world
	if l == nil {
		return // not here
	}
	l.ending.Store(true)
	if vanish {
		w.ground.kill(p.who, l.net)
	}
	r := l.room.Load()
	_ = r.Leave(context.Background()) // always nil
	if err := r.Err(); err != nil {
		w.violated("%v ended by itself: %v", l, err)
	}
	if err := l.net.Close(); err != nil && !vanish {
		w.violated("%v: close the node: %v", l, err)
	}
	w.ground.gone(l.net)
	p.life.Store(nil)
	w.depart(l)
}

// here is the life of a person who is in the room and stays.
func (p *person) here() *life {
	if l := p.life.Load(); l != nil && !l.ending.Load() {
		return l
	}
	return nil
}

// talk has a person talk, at a beat of its own.
func (p *person) talk() {
	p.talking = true
	p.talkAt = time.Now().Add(time.Duration(p.who*37%20) * time.Millisecond)
}

// speak says one frame, if p is in the room, and looks whom it went to.
func (p *person) speak() {
	p.talkAt = p.talkAt.Add(frameEvery)
	l, w := p.here(), p.world
	if l == nil {
		return
	}
	r := l.room.Load()
	if window := len(w.windows.all) - 1; p.window != window {
		p.window, p.spoken = window, 0
	}
	s := spoken{who: p.who, life: l.number, window: p.window, number: p.spoken, at: w.now()}
	s.encode(l.opus[:])
	l.frame.Flow, l.frame.Opus, l.frame.Level = room.FlowBase, l.opus[:frameBytes], 30
	p.spoken++
	w.expect(l, &s)

	before := r.Members()
	if err := r.Speak(&l.frame); err != nil && !l.ending.Load() {
		w.violated("%v speaks: %v", l, err)
	}
	if s.number%2 == 1 {
		l.speakThin(r)
	}
	l.frame.MediaTime += frameSamples
	l.tapped.mu.Lock()
	defer l.tapped.mu.Unlock()
	for peer := range l.tapped.voiceTo {
		if !shows(before, peer) && !shows(r.Members(), peer) {
			w.violated("%v sent voice to %s, who is not in its roster", l, peer.Short())
		}
	}
	clear(l.tapped.voiceTo)
}

// speakThin ends a pair of frames: it is said as one thin frame too, if a link
// takes that, and from here on each link has what it wants.
func (l *life) speakThin(r *room.Room) {
	if l.thin {
		thin := l.frame
		thin.Flow, thin.Opus, thin.MediaTime = room.FlowThin, l.opus[:], l.frame.MediaTime-frameSamples
		if err := r.Speak(&thin); err != nil && !l.ending.Load() {
			l.world.violated("%v speaks: %v", l, err)
		}
	}
	f := r.Flows()
	if f.Change {
		r.SwitchFlows()
	}
	l.thin = f.Thin > 0
}

// hear is the room's Heard.
func (l *life) hear(from room.Member, f *room.Frame, arrival time.Time) {
	w := l.world
	s, ok := decodeSpoken(f.Opus)
	if !ok || s.who >= len(w.people) || w.people[s.who].member != from {
		w.violated("%v heard something as %x that nobody said", l, from[:4])
		return
	}
	w.heard(l, &s, f, arrival)
}

// shows tells whether peer is in a roster.
func shows(roster []room.MemberInfo, peer mesh.PeerID) bool {
	for i := range roster {
		if roster[i].Peer == peer {
			return true
		}
	}
	return false
}

// seed32 derives what a scenario's seed decides.
func seed32(what string, seed uint64, who, number int) [32]byte {
	b := binary.BigEndian.AppendUint64([]byte("teahouse sim "+what), seed)
	b = binary.BigEndian.AppendUint64(b, uint64(who))
	return sha256.Sum256(binary.BigEndian.AppendUint64(b, uint64(number)))
}

func deriveKey(what string, seed uint64, who, number int) ed25519.PrivateKey {
	s := seed32(what, seed, who, number)
	return ed25519.NewKeyFromSeed(s[:])
}
