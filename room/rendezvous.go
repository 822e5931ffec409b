package room

import (
	"context"
	"slices"
	"sync"
	"time"

	"teahouse/internal/mesh"
)

const (
	// While nobody has been met the DHT is asked again after findFirst,
	// doubling to findMost; once somebody has, each findCalm, in which groups
	// that began apart find each other.
	findFirst = 500 * time.Millisecond
	findMost  = 30 * time.Second
	findCalm  = time.Minute
	findTime  = 20 * time.Second // for one search
	// findReach is how many hours' keys to each side are looked up beside that
	// of the hour: a clock may be wrong by an hour. While nobody has been met it
	// is findWide: two may be wrong by an hour to both sides.
	findReach = 1
	findWide  = 2

	provideRetryFirst = time.Second
	provideRetryMost  = time.Minute

	// Beacons go out at join, after beaconSecond, then each beaconEvery with a
	// jitter of a fifth.
	beaconSecond = 2 * time.Second
	beaconEvery  = 30 * time.Second

	// Who hears somebody for the first time after a silence shows itself out
	// of turn, by a beacon and an entry, and by another entry surfaceAgain
	// later, when the epochs may have met: surfaceBurst times at once, then
	// once each surfaceEvery. surfaceSpread keeps a crowd that hears the same
	// from answering as one.
	surfaceEvery  = 5 * time.Second
	surfaceBurst  = 2
	surfaceSpread = 50 * time.Millisecond
	surfaceAgain  = time.Second

	addrsEvery = 2 * time.Second
)

// rendezvous is how a room finds its members: whom it has heard of, and when
// to look again. Owned by the room.
type rendezvous struct {
	candidates map[mesh.PeerID]*candidate
	dialling   dialling
	dialAt     time.Time
	changed    bool // somebody may be due earlier than dialAt

	hour        int64
	stopProvide context.CancelFunc
	finding     bool
	findAt      time.Time
	findPause   time.Duration
	beaconAt    time.Time
	beacons     int
	surfaceAt   time.Time // when to show ourselves out of turn; zero: not
	surfaced    bucket    // how often that was
	topicsAt    time.Time
	shown       []mesh.Addr // our addresses as we last looked
	showAgain   time.Time   // not looked at before

	lostAt    time.Time // when to look again for those in the roster whom we do not meet
	lostPause time.Duration
}

func newRendezvous(now time.Time) rendezvous {
	return rendezvous{
		candidates: make(map[mesh.PeerID]*candidate), stopProvide: func() {},
		findAt: now, findPause: findFirst, beaconAt: now, topicsAt: now,
		surfaced: bucket{rate: 1 / surfaceEvery.Seconds(), burst: surfaceBurst}, lostPause: lostFirst,
	}
}

// seek does what is due to find others, and tells when to come again.
func (r *Room) seek(now time.Time) (next time.Time) {
	v := &r.seeking
	if v.changed || !v.dialAt.After(now) {
		v.changed = false
		if v.dialAt = r.dial(now); v.dialAt.IsZero() {
			v.dialAt = now.Add(time.Minute)
		}
	}
	clock := r.cfg.Now()
	if hour := clock.Unix() / 3600; hour != v.hour {
		v.hour = hour
		v.stopProvide()
		v.stopProvide = r.provide(clock)
	}
	if !v.topicsAt.After(now) {
		v.topicsAt = now.Add(time.Minute)
		r.gossip.retopic(clock)
	}
	if !v.beaconAt.After(now) {
		r.gossip.publish(r.sealBeacon)
		v.beacons++
		v.beaconAt = now.Add(r.jitter(beaconEvery, beaconEvery/5))
		if v.beacons == 1 {
			v.beaconAt = now.Add(beaconSecond)
		}
	}
	if !v.surfaceAt.IsZero() && !v.surfaceAt.After(now) {
		r.showOutOfTurn(now)
	}
	if !v.findAt.After(now) && !v.finding {
		r.find(clock)
	}
	if !v.finding {
		next = v.findAt
	}
	for _, at := range []time.Time{
		v.dialAt, v.topicsAt, v.beaconAt, v.surfaceAt, r.presenceAt, now.Add(time.Unix((v.hour+1)*3600, 0).Sub(clock)),
	} {
		next = sooner(next, at)
	}
	return next
}

// surface has us show ourselves soon: somebody is there who may not know of
// us.
func (r *Room) surface(now time.Time) {
	if v := &r.seeking; v.surfaceAt.IsZero() {
		v.surfaceAt = now.Add(r.jitter(surfaceSpread, surfaceSpread))
		r.wake()
	}
}

// showAddrs tells everybody where we are once that has changed, at most each
// addrsEvery: an interface may come and go each second.
func (r *Room) showAddrs(now time.Time) {
	v := &r.seeking
	if v.showAgain.After(now) {
		return
	}
	self := r.cfg.Network.Self()
	if slices.Equal(v.shown, self.Addrs) {
		return
	}
	v.showAgain = now.Add(addrsEvery)
	first := v.shown == nil
	if v.shown = slices.Clone(self.Addrs); first {
		return // beacons and PEERS have told
	}
	r.surface(now)
	data := appendPeersMessage(nil, []mesh.Peer{self})
	for s := range r.sessions {
		if s.state == sessionOpen {
			s.send(mesh.Roster, data)
		}
	}
}

func (r *Room) showOutOfTurn(now time.Time) {
	v := &r.seeking
	if wait := v.surfaced.wait(now); wait > 0 {
		v.surfaced.tokens++ // not taken
		v.surfaceAt = now.Add(wait)
		return
	}
	v.surfaceAt = time.Time{}
	r.gossip.publish(r.sealBeacon)
	r.announceSelf()
	r.presenceAt = sooner(r.presenceAt, now.Add(surfaceAgain))
}

func (r *Room) sealBeacon(topic string) []byte {
	return append(r.beacons.seal(topic, r.cfg.Network.Self()), beaconTrailer(r.cfg.Nick)...)
}

// provide announces us in the DHT for as long as the hour is this one.
func (r *Room) provide(clock time.Time) context.CancelFunc {
	key := r.cfg.Secret.dhtKeyAt(clock)
	ctx, cancel := context.WithCancel(r.ctx)
	r.spawn(func() {
		for pause := provideRetryFirst; ; pause = min(2*pause, provideRetryMost) {
			attempt, end := context.WithCancel(ctx) // the network goes on with one that did not succeed
			err := r.cfg.Network.Provide(attempt, key)
			if err == nil || ctx.Err() != nil {
				context.AfterFunc(ctx, end)
				return
			}
			end()
			r.log.Debug("the DHT did not take our record", "err", err)
			if !r.sleep(r.jitter(pause, pause/5), ctx.Done()) {
				return
			}
		}
	})
	return cancel
}

// find looks for others under the keys of this hour and its neighbours.
func (r *Room) find(clock time.Time) {
	r.seeking.finding = true
	reach := findReach
	if !r.hasLink() {
		reach = findWide
	}
	keys := r.cfg.Secret.dhtKeysAround(clock, reach)
	r.spawn(func() {
		ctx, cancel := context.WithTimeout(r.ctx, findTime)
		defer cancel()
		var searches sync.WaitGroup
		for _, key := range keys {
			searches.Go(func() {
				err := r.cfg.Network.Find(ctx, key, func(p mesh.Peer) {
					r.post(ctx.Done(), func() { r.heardOf(p, wordDHT, false) })
				})
				if err != nil {
					r.log.Debug("search in the DHT", "err", err)
				}
			})
		}
		searches.Wait()
		r.post(nil, r.found)
	})
}

// found sets the time of the next search.
func (r *Room) found() {
	v := &r.seeking
	v.finding = false
	r.forgetCandidates(time.Now())
	pause := v.findPause
	switch {
	case r.hasLink() || v.findPause >= findMost:
		v.findPause, pause = findMost, findCalm
	default:
		v.findPause = min(2*v.findPause, findMost)
	}
	v.findAt = time.Now().Add(r.jitter(pause, pause/10))
	r.wake()
}

// sooner is the earlier of two times, of which zero is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
