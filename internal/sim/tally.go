package sim

import "time"

// Tally is what was seen of many scenarios together; as JSON it is what
// `teahouse-lab churn` writes. The zero value is empty.
type Tally struct {
	Seeds  int     `json:"seeds"`
	Hours  float64 `json:"hours"`  // virtual
	Rounds int     `json:"rounds"` // each ended by a Settle
	Looks  int     `json:"looks"`  // at everybody

	Joins  int `json:"joins"`
	Leaves int `json:"leaves"`
	Kills  int `json:"kills"`
	Splits int `json:"partitions"`
	Heals  int `json:"heals"`
	Skews  int `json:"skews"` // clocks that were set
	Wires  int `json:"wires"` // changes of one or all

	Sealed int `json:"sealed"` // whose nonces were watched
	Keys   int `json:"keys"`   // they were sealed under
	Handed int `json:"handed"` // epochs handed to somebody

	// Reunion is the longest that a Settle took, in seconds, and in which seed.
	Reunion     float64 `json:"worst_reunion_s"`
	ReunionSeed uint64  `json:"worst_reunion_seed"`
	// Longest is how long at most something lasted that must not last, in
	// seconds; see Result.
	Longest map[string]float64 `json:"longest_s"`
	// Peak is the most of what one room held; see Result.
	Peak map[string]int `json:"peak"`

	Violations []SeedViolation `json:"violations"`
}

// SeedViolation is something that must never happen, and in which seed it did.
type SeedViolation struct {
	Seed uint64  `json:"seed"`
	At   float64 `json:"at_s"`
	What string  `json:"what"`
}

// Add adds what was seen of one scenario.
func (t *Tally) Add(r *Result) {
	one := Tally{
		Seeds: 1, Hours: r.Took.Hours(), Rounds: len(r.Settled), Looks: r.Looks,
		Joins: r.Lives, Leaves: r.Done["Leave"], Kills: r.Done["Kill"], Splits: r.Done["Split"], Heals: r.Done["Heal"],
		Skews: r.Done["Skew"], Wires: r.Done["SetWire"] + r.Done["SetWires"],
		Sealed: r.Sealed, Keys: r.Keys, Handed: r.Handed,
		ReunionSeed: r.Scenario.Seed, Longest: make(map[string]float64), Peak: r.Peak,
	}
	for _, s := range r.Settled {
		one.Reunion = max(one.Reunion, s.All.Seconds())
	}
	for what, took := range r.Longest {
		one.Longest[what] = took.Round(time.Millisecond).Seconds()
	}
	for _, v := range r.Violations {
		one.Violations = append(one.Violations, SeedViolation{r.Scenario.Seed, v.At.Seconds(), v.What})
	}
	t.Join(&one)
}

// Join adds what was seen of other scenarios.
func (t *Tally) Join(o *Tally) {
	t.Seeds += o.Seeds
	t.Hours += o.Hours
	t.Rounds += o.Rounds
	t.Looks += o.Looks
	t.Joins += o.Joins
	t.Leaves += o.Leaves
	t.Kills += o.Kills
	t.Splits += o.Splits
	t.Heals += o.Heals
	t.Skews += o.Skews
	t.Wires += o.Wires
	t.Sealed += o.Sealed
	t.Keys += o.Keys
	t.Handed += o.Handed
	if o.Reunion > t.Reunion {
		t.Reunion, t.ReunionSeed = o.Reunion, o.ReunionSeed
	}
	if t.Longest == nil {
		t.Longest, t.Peak = make(map[string]float64), make(map[string]int)
	}
	for what, took := range o.Longest {
		t.Longest[what] = max(t.Longest[what], took)
	}
	for what, n := range o.Peak {
		t.Peak[what] = max(t.Peak[what], n)
	}
	t.Violations = append(t.Violations, o.Violations...)
}
