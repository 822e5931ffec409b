package room

import (
	"slices"
	"time"

	"teahouse/internal/mesh"
)

// gossip is the room's part in the topics of the day. One goroutine owns the
// topics; the network's callbacks only check, and post what they got.
type gossip struct {
	room *Room
	work chan func() // what the goroutine is to do; dropped when it is full

	// Owned by that goroutine.
	topics  map[string]mesh.Topic
	current string
}

// gossipQueue is how many broadcasts wait to be sent at most.
const gossipQueue = 16

func (r *Room) startGossip() {
	r.gossip = &gossip{room: r, work: make(chan func(), gossipQueue), topics: make(map[string]mesh.Topic)}
	r.spawn(r.gossip.run)
}

func (g *gossip) run() {
	defer func() {
		for _, t := range g.topics {
			_ = t.Close() // waits for its callbacks; there is nobody to tell
		}
	}()
	for {
		select {
		case f := <-g.work:
			f()
		case <-g.room.quit:
			for { // the goodbye may wait here
				select {
				case f := <-g.work:
					f()
				default:
					return
				}
			}
		}
	}
}

func (g *gossip) do(f func()) {
	select {
	case g.work <- f:
	default: // gossip may lose things
	}
}

// retopic joins the topics of a time and leaves those of the past.
func (g *gossip) retopic(now time.Time) {
	g.do(func() {
		publish, subscribe := g.room.cfg.Secret.gossipTopics(now)
		g.current = publish
		for name, t := range g.topics {
			if !slices.Contains(subscribe, name) {
				_ = t.Close() // as above
				delete(g.topics, name)
			}
		}
		for _, name := range subscribe {
			if g.topics[name] != nil {
				continue
			}
			t, err := g.room.cfg.Network.Join(name,
				func(from mesh.PeerID, data []byte) mesh.Verdict { return g.room.validBroadcast(name, from, data) },
				func(from mesh.PeerID, data []byte) { g.room.takeBroadcast(name, from, data) })
			if err != nil {
				g.room.log.Debug("join the day's topic", "err", err)
				continue
			}
			g.topics[name] = t
		}
	})
}

// publish sends what seal makes for the topic of today; nil is not sent.
func (g *gossip) publish(seal func(topic string) []byte) {
	g.do(func() {
		t := g.topics[g.current]
		if t == nil {
			return
		}
		if data := seal(g.current); data != nil {
			if err := t.Publish(data); err != nil {
				g.room.log.Debug("publish", "err", err)
			}
		}
	})
}

// validBroadcast tells whether a broadcast may be passed on. It runs on the
// network's goroutines. What is sealed under an epoch that we do not hold may
// be that of people whom we have not met, so it is passed on, but little of it.
// Only a bad beacon is held against who brought it: everyone in this topic can
// judge beacons, while a sealed roster can be judged by who holds its epoch.
func (r *Room) validBroadcast(topic string, from mesh.PeerID, data []byte) mesh.Verdict {
	verdict := mesh.Ignore
	if isBeacon(data) {
		verdict = mesh.Reject
		if _, err := r.beacons.open(topic, from, data); err == nil {
			return mesh.Accept
		}
	} else if epoch, ok := sealedRosterEpoch(data); ok {
		box := r.boxFor(epoch)
		if box == nil {
			if r.foreign.allow(time.Now()) {
				return mesh.Accept
			}
			return mesh.Ignore
		}
		if e, err := box.open(topic, data); err == nil && e.Peer == from && r.verify(&e) == nil {
			return mesh.Accept
		}
	}
	r.count.broadcastsBad.Add(1)
	return verdict
}

// takeBroadcast takes what validBroadcast has passed. It must not wait for the
// room: what there is no room for is lost.
func (r *Room) takeBroadcast(topic string, from mesh.PeerID, data []byte) {
	if isBeacon(data) {
		if p, err := r.beacons.open(topic, from, data); err == nil {
			r.offer(func() { r.heardOf(p, wordOwn, false) })
		}
		return
	}
	epoch, ok := sealedRosterEpoch(data)
	if !ok {
		return
	}
	box := r.boxFor(epoch)
	if box == nil {
		r.offer(func() { r.lives(from, time.Now()) }) // of people who are apart from us, or who pretend to
		return
	}
	e, err := box.open(topic, data)
	if err != nil || e.Peer != from || r.verify(&e) != nil {
		return
	}
	r.offer(func() { r.takeGossiped(&e, epoch) })
}

// takeGossiped takes an entry that was sealed under an epoch that we held.
func (r *Room) takeGossiped(e *entry, epoch tag) {
	if e.Member == r.self {
		r.shownSelf(e, true)
		return
	}
	r.show(e)
	if e.Flags&entryLeaving != 0 {
		return
	}
	r.lives(e.Peer, time.Now())
	if newest := r.handing.newest(); newest != nil && newest.tag == epoch && r.isPresent(e) {
		r.handing.entitle(e.Member, e.Instance) // it holds what we hold
	}
}

func (r *Room) boxFor(epoch tag) *rosterBox {
	for _, b := range *r.boxes.Load() {
		if b.epoch == epoch {
			return b
		}
	}
	return nil
}
