package room

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"teahouse/internal/mesh"
)

const (
	// inboxLen is how many closures wait for the room. Who waits for a place
	// is a session's reader, which stops reading; gossip drops.
	inboxLen = 256
	// goodbyeTime is how long Leave waits for the others to close their links
	// once they have been told.
	goodbyeTime = 400 * time.Millisecond
)

// Room is one joined room. All methods may be called from any goroutine at
// once, but not from Config.Heard.
//
// One goroutine owns the room's state; others send it closures (post). The
// voice does not pass it: see plane.go.
type Room struct {
	// Constant.
	cfg     Config
	id      ID
	self    Member
	peer    mesh.PeerID
	door    mesh.Door
	log     *slog.Logger
	beacons *beaconBox
	plane   *plane
	gossip  *gossip
	count   counters
	inbox   chan func()
	ctx     context.Context
	cancel  context.CancelFunc
	stop    func()        // closes the door
	quit    chan struct{} // closed when the owner is to end
	ended   chan struct{} // closed when the owner has ended
	done    chan struct{} // closed when everything has

	// Snapshots, replaced as a whole.
	members atomic.Pointer[[]MemberInfo]
	links   atomic.Pointer[[]memberLink]
	boxes   atomic.Pointer[[]*rosterBox]
	epoch   atomic.Uint32

	spread  spread
	foreign allowance // broadcasts under epochs of others

	ending atomic.Bool // by Leave, or from within
	// shielded: when we mute is not to be seen (Config.Shielded).
	shielded atomic.Bool
	mu       sync.Mutex
	closed   bool // nothing is spawned any more
	wg       sync.WaitGroup
	err      error // why it ended; set before done is closed
	subs     map[*Subscription]struct{}
	pending  []func() // owned by the loop: what is to be done after the closure at hand

	// Owned by the loop.
	leaving    bool
	dying      bool
	dirty      bool      // something may be due earlier than next
	next       time.Time // when something is due
	own        entry
	since      time.Time
	roster     *roster
	handing    *handing
	sessions   map[*session]struct{}
	peers      map[mesh.PeerID]int // of the sessions that are not closing
	voices     map[Member]*voice
	seeking    rendezvous
	rival      rival
	raising    bool
	presenceAt time.Time
	reportAt   time.Time
	told       []toldEpoch
}

// Join enters the room of cfg.Secret and returns when it is entered, even
// alone: it does not wait for the network, and others are met afterwards. ctx
// bounds the call, not the stay; the stay ends with [Room.Leave], which must
// be called even where the room has ended by itself (EventLeft). Errors: a
// configuration that cannot work, mesh.ErrBusy where 16 rooms are joined,
// mesh.ErrClosed.
func Join(ctx context.Context, cfg Config) (*Room, error) {
	switch {
	case cfg.Network == nil:
		return nil, errors.New("join a room: no network")
	case len(cfg.Key) != ed25519.PrivateKeySize:
		return nil, errors.New("join a room: no member key")
	case cfg.Instance == 0:
		return nil, errors.New("join a room: no instance number")
	}
	if err := CheckNick(cfg.Nick); err != nil {
		return nil, fmt.Errorf("join a room: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("join a room: %w", err)
	}
	r := newRoom(cfg)
	if err := r.own.sign(r.id, r.cfg.Key, cfg.Network.SignAsHost); err != nil {
		r.cancel()
		return nil, fmt.Errorf("join a room: %w", err)
	}
	r.membersChanged()
	r.startGossip()
	stop, err := cfg.Network.Listen(r.door, r.adopt)
	if err != nil {
		close(r.quit)
		r.cancel()
		r.wg.Wait()
		return nil, fmt.Errorf("join a room: %w", err)
	}
	r.stop = stop
	go r.run() // ended by Leave, which waits for r.ended
	return r, nil
}

func newRoom(cfg Config) *Room {
	now := time.Now()
	r := &Room{
		cfg: cfg, id: cfg.Secret.ID(), self: memberOf(cfg.Key), peer: cfg.Network.Self().ID,
		door: cfg.Secret.door(), log: cfg.Log, beacons: newBeaconBox(&cfg.Secret),
		inbox: make(chan func(), inboxLen),
		quit:  make(chan struct{}), ended: make(chan struct{}), done: make(chan struct{}),
		subs: make(map[*Subscription]struct{}), since: now, roster: newRoster(),
		sessions: make(map[*session]struct{}), peers: make(map[mesh.PeerID]int), voices: make(map[Member]*voice),
		seeking: newRendezvous(now), presenceAt: now.Add(presenceEvery), reportAt: now,
		foreign: allowance{bucket: bucket{rate: 20, burst: 100}},
	}
	r.shielded.Store(cfg.Shielded)
	if r.cfg.Now == nil {
		r.cfg.Now = time.Now
	}
	if cfg.Random != nil {
		r.spread.random = mathrand.New(cfg.Random)
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	r.ctx, r.cancel = context.WithCancel(context.Background()) // ends with Leave
	if r.cfg.Verified == nil {
		r.cfg.Verified = &VerifiedEntries{}
	}
	r.plane = newPlane(&r.cfg, &r.count)
	r.boxes.Store(&[]*rosterBox{})
	r.links.Store(&[]memberLink{})
	r.own = entry{
		Member: r.self, Peer: r.peer, Instance: cfg.Instance, Salt: newSalt(), Sequence: 1, Nick: cfg.Nick,
		Flags: flag(cfg.ListenOnly, entryListenOnly) | flag(cfg.Recording, entryRecording) |
			flag(cfg.AllowRecording, entryAllowRecording) | flag(cfg.Muted, entryMuted),
	}
	r.handing = r.newHanding()
	return r
}

// meeting tells whether sessions are about to open.
func (r *Room) meeting() bool {
	if r.seeking.dialling.any() {
		return true
	}
	for s := range r.sessions {
		if s.state == sessionGreeting {
			return true
		}
	}
	return false
}

func newSalt() (s salt) {
	_, _ = rand.Read(s[:]) // never fails: crypto/rand
	return s
}

func flag(on bool, bit uint16) uint16 {
	if on {
		return bit
	}
	return 0
}

func (r *Room) newHanding() *handing {
	return &handing{
		room: r.id, self: r.self, key: r.cfg.Key, epochs: newEpochs(),
		fresh:   newEpochSecret,
		members: func() int { return len(r.roster.present) },
		rtt:     r.longestRTT,
		changed: r.epochChanged,

		joined: time.Now(), meeting: r.meeting,
	}
}

// run owns the room.
func (r *Room) run() {
	defer close(r.ended)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-r.quit:
			r.closeAll()
			return
		case f := <-r.inbox:
			f()
		case <-timer.C:
		}
		for len(r.pending) > 0 {
			f := r.pending[0]
			r.pending = r.pending[1:]
			f()
		}
		now := time.Now()
		if !r.dirty && now.Before(r.next) {
			continue
		}
		r.dirty = false
		r.next = sooner(r.tick(now), now.Add(time.Minute))
		timer.Reset(max(0, r.next.Sub(now)))
	}
}

// tick does what is due and tells when to come again.
func (r *Room) tick(now time.Time) (next time.Time) {
	next = r.closeDue(now)
	if r.leaving {
		return next
	}
	next = sooner(next, r.present(now))
	next = sooner(next, r.report(now))
	next = sooner(next, r.handing.tick(now))
	r.keysChanged()
	next = sooner(next, r.checkRival(now))
	return sooner(next, r.seek(now))
}

// post gives the room a closure; false: the room, or what stop belongs to, has
// ended before there was a place for it.
func (r *Room) post(stop <-chan struct{}, f func()) bool {
	select {
	case <-r.quit:
		return false
	default:
	}
	select {
	case r.inbox <- f:
		return true
	case <-stop:
		return false
	case <-r.quit:
		return false
	}
}

// offer is post for what may be lost; it never waits.
func (r *Room) offer(f func()) {
	select {
	case r.inbox <- f:
	default:
	}
}

// call has the room do f and waits; ErrClosed where it has ended.
func (r *Room) call(f func()) error {
	done := make(chan struct{})
	if !r.post(nil, func() { f(); close(done) }) {
		return ErrClosed
	}
	select {
	case <-done:
		return nil
	case <-r.ended:
		select {
		case <-done: // it was the last thing done
			return nil
		default:
			return ErrClosed
		}
	}
}

// later does f on the room's goroutine after what it is doing now.
func (r *Room) later(f func()) { r.pending = append(r.pending, f) }

// wake has the room look again at what is due.
func (r *Room) wake() { r.dirty = true }

// spawn runs f on a goroutine that Leave waits for; not if the room has ended.
func (r *Room) spawn(f func()) {
	if r.enter() {
		go func() {
			defer r.wg.Done()
			f()
		}()
	}
}

// enter counts a goroutine of others among those that Leave waits for, until
// it calls wg.Done; false: the room has ended.
func (r *Room) enter() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.wg.Add(1)
	}
	return !r.closed
}

// sleep waits for d; false: the room, or what stop belongs to, ends first.
func (r *Room) sleep(d time.Duration, stop <-chan struct{}) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-stop:
		return false
	case <-r.quit:
		return false
	}
}

// Leave says goodbye, closes every link and waits for everything that the room
// has started. It is idempotent. Where ctx ends first the goodbye is cut
// short, but the room ends all the same. Afterwards Config.Heard is not called
// any more.
func (r *Room) Leave(ctx context.Context) error {
	r.finish(ctx, nil)
	<-r.done
	return nil
}

// finish ends the room for a reason, nil if asked for. The first call counts;
// done is closed when it has returned.
func (r *Room) finish(ctx context.Context, why error) {
	if r.ending.Swap(true) {
		return
	}
	r.stop()
	r.sayGoodbye(ctx)
	close(r.quit)
	<-r.ended
	r.cancel()
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.wg.Wait()
	r.drain()
	r.err = why
	reason := "left"
	if why != nil {
		reason = why.Error()
	}
	r.emit(Event{Kind: EventLeft, Reason: reason, Err: why})
	close(r.done)
}

// sayGoodbye tells everybody that we go, and waits for them to close their
// links, but not for long.
func (r *Room) sayGoodbye(ctx context.Context) {
	gone := make(chan struct{})
	err := r.call(func() {
		r.plane.close()
		r.wake()
		r.own.Flags |= entryLeaving
		r.announceSelf()
		r.leaving = true
		var links []*session
		for s := range r.sessions {
			if s.state == sessionOpen {
				links = append(links, s)
			}
		}
		r.spawn(func() {
			defer close(gone)
			for _, s := range links {
				select {
				case <-s.net.Done():
				case <-r.quit:
					return
				}
			}
		})
	})
	if err != nil {
		return
	}
	t := time.NewTimer(goodbyeTime)
	defer t.Stop()
	select {
	case <-gone:
	case <-ctx.Done():
	case <-t.C:
	}
}

// closeAll is the owner's last act.
func (r *Room) closeAll() {
	r.leaving = true
	r.plane.close()
	for _, v := range r.voices {
		v.close()
	}
	for s := range r.sessions {
		r.forgetSession(s, "left")
		_ = s.net.Close() // it says nothing but that it was closed
	}
	r.seeking.stopProvide()
	r.linksChanged()
	r.drain()
}

// drain runs the closures that came too late; they find everything closed.
func (r *Room) drain() {
	for {
		select {
		case f := <-r.inbox:
			f()
		default:
			return
		}
	}
}

// die ends the room from within.
func (r *Room) die(why error) {
	if r.leaving || r.dying {
		return
	}
	r.dying = true
	r.log.Debug("the room ends", "why", why)
	go r.finish(r.ctx, why) // ends by itself; Leave waits for r.done
}

// Done is closed when the room has ended; Err then tells why, nil if by Leave.
func (r *Room) Done() <-chan struct{} { return r.done }

// Err is nil until Done is closed, and after a Leave.
func (r *Room) Err() error {
	select {
	case <-r.done:
		return r.err
	default:
		return nil
	}
}
