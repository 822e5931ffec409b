package node

import (
	"math"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// standing is what this node holds against peers that broke the protocol. A
// fault weighs faultWeight and is halved every faultHalfLife. Gossip reads it
// as its application score; below shunBelow no handshake is answered.
type standing struct {
	mu     sync.Mutex
	faults map[peer.ID]fault
}

type fault struct {
	weight float64
	at     time.Time
}

const (
	faultWeight   = 10
	faultHalfLife = 5 * time.Minute
	shunBelow     = -100
	// maxFaulty bounds the table: the lightest fault gives way.
	maxFaulty = 1024
)

func (s *standing) penalise(p peer.ID, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.faults == nil {
		s.faults = make(map[peer.ID]fault)
	}
	f, known := s.faults[p]
	if !known && len(s.faults) >= maxFaulty {
		s.drop(now)
	}
	s.faults[p] = fault{weight: f.now(now) + faultWeight, at: now}
}

// drop makes room: what has faded, else the lightest. mu must be held.
func (s *standing) drop(now time.Time) {
	var lightest peer.ID
	least := math.Inf(1)
	for p, f := range s.faults {
		w := f.now(now)
		if w < 0.5 {
			delete(s.faults, p)
		} else if w < least {
			lightest, least = p, w
		}
	}
	if len(s.faults) >= maxFaulty {
		delete(s.faults, lightest)
	}
}

func (f fault) now(now time.Time) float64 {
	if f.weight == 0 {
		return 0
	}
	return f.weight * math.Exp2(-now.Sub(f.at).Seconds()/faultHalfLife.Seconds())
}

// at is the score of p at now, 0 or below.
func (s *standing) at(p peer.ID, now time.Time) float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return -s.faults[p].now(now)
}

// score is at, for gossip.
func (s *standing) score(p peer.ID) float64 { return s.at(p, time.Now()) }
