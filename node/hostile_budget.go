package node

import (
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// What one peer, and all peers of one address, may make this node do. Every
// stream that comes in is counted and its bytes are metered (hostile_guard.go),
// every session attempt too (sessions.go).

// resource is something that a peer can use up.
type resource int

const (
	// openings are streams opened, of whatever protocol.
	openings resource = iota
	// attempts are sessions that a peer tries to open. One that knows no door
	// costs refusedAttempt, a voice stream voiceAttempt.
	attempts
	// gossipBytes, lookupBytes (the DHT's) and otherBytes (identify, ping,
	// negotiation) flow in with a price for each message beside its length.
	gossipBytes
	lookupBytes
	otherBytes
	// sessionBytes and voiceBytes are slowed down, nothing else: who sends
	// more has a session, whose own limits end it.
	sessionBytes
	voiceBytes
	resources
)

// String names what a peer has too much of.
func (r resource) String() string {
	return [resources]string{
		"streams", "session attempts", "gossip", "look-ups", "other messages", "messages of a session", "voice",
	}[r] + " beyond all measure"
}

// allowance is how much one source may use: rate a second, burst at once.
type allowance struct{ rate, burst float64 }

// allowances of one peer. What honest peers need was counted (docs/design.md):
// someone who joins opens about 20 streams in his first second, a room of a
// thousand passes 200 roster entries a second on by gossip.
var allowances = [resources]allowance{
	openings:     {rate: 32, burst: 128},
	attempts:     {rate: 8, burst: 64},
	gossipBytes:  {rate: 384 << 10, burst: 512 << 10},
	lookupBytes:  {rate: 64 << 10, burst: 256 << 10},
	otherBytes:   {rate: 32 << 10, burst: 128 << 10},
	sessionBytes: {rate: 2 << 20, burst: 4 << 20},
	voiceBytes:   {rate: 2 << 20, burst: 2 << 20},
}

const (
	refusedAttempt = 4
	voiceAttempt   = 0.25

	// perPrefix is how many peers' allowance all of one address have together:
	// a household, a campus behind one NAT.
	perPrefix = 16

	// A peer that has been over an allowance for floodPatience, never below it
	// for floodCalm, floods; so does one that was over it, in less time, by
	// floodAmount times what it may use at once: a machine that has no time for
	// the attack has none to be patient with it.
	floodPatience = 800 * time.Millisecond
	floodCalm     = 500 * time.Millisecond
	floodAmount   = 8

	// maxWait is the longest that one read is held up.
	maxWait = floodCalm * 4 / 5

	maxAccounts = 4096 // of peers, and of prefixes
)

// spending is what was used of an allowance. The zero value has used nothing.
type spending struct {
	used      float64
	last      time.Time
	overSince time.Time
	lastOver  time.Time
	excess    float64 // since overSince
}

// settle lets what was used fade.
func (s *spending) settle(now time.Time, a allowance) {
	if d := now.Sub(s.last); d > 0 {
		s.used = max(0, s.used-a.rate*d.Seconds())
		s.last = now
	}
}

// over notes that n came with the allowance used up, and tells whether that is
// a flood.
func (s *spending) over(now time.Time, a allowance, n float64) (flood bool) {
	if now.Sub(s.lastOver) > floodCalm {
		s.overSince, s.excess = now, 0
	}
	s.lastOver = now
	s.excess += n
	return now.Sub(s.overSince) >= floodPatience || s.excess >= floodAmount*a.burst
}

// take uses n if there is room for it: for what can be refused.
func (s *spending) take(now time.Time, a allowance, n float64) (ok, flood bool) {
	s.settle(now, a)
	if s.used+n > a.burst {
		return false, s.over(now, a, n)
	}
	s.used += n
	return true, false
}

// spend uses n in any case, because it has come. wait is for how long nothing
// more should be taken.
func (s *spending) spend(now time.Time, a allowance, n float64) (wait time.Duration, flood bool) {
	s.settle(now, a)
	// More than twice the burst is not held against anyone for longer.
	s.used = min(s.used+n, 2*a.burst)
	if s.used <= a.burst {
		return 0, false
	}
	wait = min(time.Duration((s.used-a.burst)/a.rate*float64(time.Second)), maxWait)
	flood = s.over(now, a, n)
	s.lastOver = now.Add(wait) // that nothing comes until then is our doing
	return wait, flood
}

// origin is who uses something: a peer, and where it is connected from.
type origin struct {
	peer peer.ID
	// prefix is zero for this machine's own loopback, whose peers share nothing
	// but that.
	prefix netip.Prefix
}

// sourcePrefix is what one owner has of addresses: an IPv4 address, an IPv6 /64.
func sourcePrefix(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address: nothing to tell it by
	}
	return p
}

// account is what one source has used of everything.
type account struct {
	used        [resources]spending
	negotiating int // streams that have not said what they are
	touched     time.Time
}

// idle tells that nothing is lost with the account.
func (a *account) idle(now time.Time, share float64) bool {
	if a.negotiating > 0 {
		return false
	}
	for r := range a.used {
		allowed := allowances[r]
		allowed.rate *= share
		if s := &a.used[r]; s.used > allowed.rate*now.Sub(s.last).Seconds() || now.Sub(s.lastOver) < floodCalm {
			return false
		}
	}
	return true
}

// ledger holds the accounts. Its methods may be called from any goroutine.
type ledger struct {
	mu       sync.Mutex
	peers    map[peer.ID]*account
	prefixes map[netip.Prefix]*account
}

// accounts are those of a source; that of its prefix may be nil. mu must be
// held.
func (l *ledger) accounts(o origin, now time.Time) (own, shared *account) {
	if l.peers == nil {
		l.peers, l.prefixes = make(map[peer.ID]*account), make(map[netip.Prefix]*account)
	}
	own = accountOf(l.peers, o.peer, now, 1)
	if o.prefix.IsValid() && !o.prefix.Addr().IsLoopback() {
		shared = accountOf(l.prefixes, o.prefix, now, perPrefix)
	}
	return own, shared
}

func accountOf[K comparable](of map[K]*account, key K, now time.Time, share float64) *account {
	a := of[key]
	if a == nil {
		if len(of) >= maxAccounts {
			sweep(of, now, share)
		}
		a = &account{}
		of[key] = a
	}
	a.touched = now
	return a
}

// sweep makes room: all that are idle go, else the one not used for longest.
func sweep[K comparable](of map[K]*account, now time.Time, share float64) {
	var oldest K
	var at time.Time
	for k, a := range of {
		switch {
		case a.idle(now, share):
			delete(of, k)
		case at.IsZero() || a.touched.Before(at):
			oldest, at = k, a.touched
		}
	}
	if len(of) >= maxAccounts {
		delete(of, oldest)
	}
}

// take uses n of a resource if the peer and its prefix may; flood tells that
// the peer has gone on for too long. What others behind the same address do is
// not its fault.
func (l *ledger) take(now time.Time, o origin, r resource, n float64) (ok, flood bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	own, shared := l.accounts(o, now)
	if ok, flood = own.used[r].take(now, allowances[r], n); !ok {
		return false, flood
	}
	if shared != nil {
		if ok, _ = shared.used[r].take(now, ofPrefix(r), n); !ok {
			return false, false
		}
	}
	return true, false
}

// spend uses n of a resource; the source should not be read from before wait
// has passed.
func (l *ledger) spend(now time.Time, o origin, r resource, n float64) (wait time.Duration, flood bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	own, shared := l.accounts(o, now)
	wait, flood = own.used[r].spend(now, allowances[r], n)
	if shared != nil {
		more, _ := shared.used[r].spend(now, ofPrefix(r), n)
		wait = max(wait, more)
	}
	return wait, flood
}

// negotiate counts a stream of a peer that has not said what it is, if there
// are not too many.
func (l *ledger) negotiate(now time.Time, o origin) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	own, shared := l.accounts(o, now)
	if own.negotiating >= maxNegotiating || shared != nil && shared.negotiating >= maxNegotiatingPrefix {
		return false
	}
	own.negotiating++
	if shared != nil {
		shared.negotiating++
	}
	return true
}

// negotiated ends what negotiate began.
func (l *ledger) negotiated(o origin) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.peers[o.peer]; a != nil && a.negotiating > 0 {
		a.negotiating--
	}
	if a := l.prefixes[o.prefix]; a != nil && a.negotiating > 0 {
		a.negotiating--
	}
}

func ofPrefix(r resource) allowance {
	return allowance{rate: perPrefix * allowances[r].rate, burst: perPrefix * allowances[r].burst}
}
