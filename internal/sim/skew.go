package sim

import "time"

// Skew makes somebody's clock wrong by so much, from now on and in later
// lives too; negative: it is behind. Time that passes is the same for all.
type Skew struct {
	Who int
	By  time.Duration
}

func (a Skew) act(w *world) { w.people[a.Who].skew.Store(int64(a.By)) }

// clock is what somebody's clock shows now.
func (p *person) clock() time.Time {
	return time.Now().Add(p.world.scenario.Clock + time.Duration(p.skew.Load()))
}
