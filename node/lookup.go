package node

import (
	"context"
	"net/netip"
	"slices"
	"time"

	kbucket "github.com/libp2p/go-libp2p-kbucket"
	"github.com/libp2p/go-libp2p/core/peer"
)

// A lookup walks towards a key of the DHT and asks whoever stands near it
// (Maymounkov and Mazières 2002, section 2.3). It is ours and not the
// library's because that one believes what it is told: it asks the closest
// first, and waits for each, so that one node that names forty peers near the
// key that there are not, or that never answers, holds up a search for a minute
// and a record for as long; with a third of such nodes 10 % of searches found
// anybody (docs/measurements.md). Here
//
//   - nobody is waited for: who has not answered within lookupHedge keeps no
//     place from others,
//   - who names peers that are not there is believed less: each that fails
//     beyond lookupTrust and beyond those that answered puts the others he alone
//     candidate behind those of everybody else (S/Kademlia's disjoint paths with the
//     same aim, Baumgart and Mies 2007),
//   - an answer counts for 20 peers at most, and so do peers of one /24 or /48
//     for lookupPerPrefix.

const (
	// lookupWidth is how many are asked at a time, those not counted that are
	// late; lookupMost with them.
	lookupWidth = 8
	lookupMost  = 24
	// lookupReplicas is how many hold a record: Kademlia's k.
	lookupReplicas = 20
	// lookupBudget is how many one lookup asks in all.
	lookupBudget = 128
	// lookupHedge is when an answer is late, lookupPatience when it is not
	// waited for any more: a dial and two round trips.
	lookupHedge    = 500 * time.Millisecond
	lookupPatience = 4 * time.Second
	// lookupTrust is how many of the peers that somebody names may fail before
	// he is believed less, lookupDistrust how many until he is not at all.
	lookupTrust    = 2
	lookupDistrust = 3
	// lookupPerPrefix is how many of one public /24 or /48 are asked.
	lookupPerPrefix = lookupReplicas / 2
	// lookupNamed is how many peers one answer may name.
	lookupNamed = lookupReplicas
)

// candidate is a peer that a lookup has heard of.
type candidate struct {
	info     peer.AddrInfo
	distance kbucket.ID
	prefixes []netip.Prefix
	by       []peer.ID // who candidate it; nobody: we knew it
	state    askState
	late     bool // asked, and not answered for lookupHedge
	first    bool // it is asked before all others, wherever it stands
}

type askState int

const (
	unasked askState = iota
	asked
	answered
	failed
)

// lookup is the state of one: it reads no clock and starts nothing.
type lookup struct {
	self   peer.ID
	target kbucket.ID
	peers  map[peer.ID]*candidate
	order  []*candidate // the closest first
	budget int
}

func newLookup(self peer.ID, key []byte) *lookup {
	return &lookup{self: self, target: kbucket.ConvertKey(string(key)), peers: make(map[peer.ID]*candidate), budget: lookupBudget}
}

// hear takes in peers that by names; by is empty for those that we know.
func (l *lookup) hear(by peer.ID, infos []peer.AddrInfo) {
	if by != "" {
		infos = infos[:min(len(infos), lookupNamed)]
	}
	for _, info := range infos {
		if info.ID == l.self || !validPeer(info.ID) {
			continue
		}
		p := l.peers[info.ID]
		if p == nil {
			p = &candidate{info: info, distance: distance(l.target, info.ID), prefixes: prefixesOf(info.Addrs)}
			l.peers[info.ID] = p
			i, _ := slices.BinarySearchFunc(l.order, p.distance, func(o *candidate, d kbucket.ID) int { return slices.Compare(o.distance, d) })
			l.order = slices.Insert(l.order, i, p)
		} else if p.by == nil {
			continue // nobody's word counts beside our own knowledge
		}
		switch {
		case by == "":
			p.by = nil
		case len(p.by) < lookupReplicas && !slices.Contains(p.by, by):
			p.by = append(p.by, by)
		}
	}
}

// distance is that of Kademlia: the exclusive or of what names are hashed to.
func distance(target kbucket.ID, p peer.ID) kbucket.ID {
	d := slices.Clone(kbucket.ConvertPeerID(p))
	for i := range d {
		d[i] ^= target[i]
	}
	return d
}

// doubt is how far those who candidate a peer have shown that they are not to be
// believed: 0 for the word of one who is.
func (l *lookup) doubt(credit map[peer.ID]int, p *candidate) int {
	if len(p.by) == 0 {
		return 0
	}
	least := lookupDistrust
	for _, by := range p.by {
		least = min(least, max(0, -credit[by]-lookupTrust))
	}
	return least
}

// next picks whom to ask now, and marks it; nil: nobody, for now.
func (l *lookup) next() *candidate {
	credit := make(map[peer.ID]int) // of who named others: those that answered, less those that did not
	prefixes := make(map[netip.Prefix]int)
	pending, running, near := 0, 0, 0
	var edge kbucket.ID // of the area that a record lies in
	for _, p := range l.order {
		worth := 0
		switch p.state {
		case unasked:
			continue
		case asked:
			if running++; !p.late {
				pending++
			}
			worth = -1
		case answered:
			worth = 1
			if near++; near == lookupReplicas {
				edge = p.distance
			}
		case failed:
			worth = -1
		}
		for _, by := range p.by {
			credit[by] += worth
		}
		if p.state != failed {
			for _, x := range p.prefixes {
				prefixes[x]++
			}
		}
	}
	if l.budget == 0 || pending >= lookupWidth || running >= lookupMost {
		return nil
	}
	best := l.pick(credit, prefixes, edge)
	if best != nil {
		best.state = asked
		l.budget--
	}
	return best
}

// pick is who should be asked next: those that come first, then the closest of
// those who are least doubted, as far as the edge; nil: nobody.
func (l *lookup) pick(credit map[peer.ID]int, prefixes map[netip.Prefix]int, edge kbucket.ID) (best *candidate) {
	for _, p := range l.order {
		if p.first && p.state == unasked {
			return p
		}
	}
	least := lookupDistrust
	for _, p := range l.order {
		if edge != nil && slices.Compare(p.distance, edge) > 0 {
			break
		}
		if p.state != unasked || len(p.by) > 0 && slices.ContainsFunc(p.prefixes, func(x netip.Prefix) bool { return prefixes[x] >= lookupPerPrefix }) {
			continue
		}
		switch doubt := l.doubt(credit, p); {
		case doubt == 0:
			return p
		case doubt < least:
			best, least = p, doubt
		}
	}
	return best
}

// nearest are the closest that answered.
func (l *lookup) nearest(n int) (out []*candidate) {
	for _, p := range l.order {
		if p.state == answered && len(out) < n {
			out = append(out, p)
		}
	}
	return out
}

// told is what one peer answers.
type told struct {
	closer    []peer.AddrInfo // who stands nearer to the key
	providers []peer.AddrInfo
}

// surroundings are what a lookup walks in.
type surroundings struct {
	// run starts a goroutine, or tells that it may not.
	run func(func()) bool
	ask func(context.Context, peer.AddrInfo) (told, error)
	// heard is called for each answer, on the goroutine of the caller.
	heard func(*candidate, told)
	// seed has the lookup hear whom we know. It is called again when news comes;
	// wait tells that somebody should be known and is not yet, for whom a lookup
	// with nobody left to ask stays until limit.
	seed  func() (news <-chan struct{}, wait bool)
	limit time.Time
}

// walk runs a lookup until there is nobody left to ask, or ctx ends.
func (l *lookup) walk(ctx context.Context, in surroundings) {
	type result struct {
		of     *candidate
		answer told
		err    error
		late   bool
	}
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan result, 2*lookupBudget) // all that there can be: nobody waits to say his
	running := 0
	defer func() {
		cancel()
		for running > 0 {
			if r := <-results; !r.late {
				running--
			}
		}
	}()
	stay := time.NewTimer(time.Until(in.limit))
	defer stay.Stop()
	news, wait := in.seed()
	for {
		for p := l.next(); p != nil; p = l.next() {
			info := p.info
			if !in.run(func() {
				ctx, cancel := context.WithTimeout(ctx, lookupPatience)
				defer cancel()
				hedge := time.AfterFunc(lookupHedge, func() { results <- result{of: p, late: true} })
				answer, err := in.ask(ctx, info)
				hedge.Stop()
				results <- result{of: p, answer: answer, err: err}
			}) {
				p.state = failed
				continue
			}
			running++
		}
		if running == 0 && !wait {
			return
		}
		select {
		case r := <-results:
			switch {
			case r.late:
				r.of.late = true
				continue
			case r.err != nil:
				r.of.state = failed
			default:
				r.of.state = answered
				l.hear(r.of.info.ID, r.answer.closer)
				in.heard(r.of, r.answer)
			}
			running--
		case <-news:
			news, wait = in.seed()
		case <-stay.C:
			wait = false
		case <-ctx.Done():
			return
		}
	}
}
