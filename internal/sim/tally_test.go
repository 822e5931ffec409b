package sim

import (
	"encoding/json"
	"testing"
	"time"
)

func TestTally(t *testing.T) {
	var all Tally
	for seed := range uint64(2) {
		all.Add(&Result{
			Scenario: &Scenario{Seed: 7 + seed}, Took: 90 * time.Minute, Lives: 5, Looks: 10, Sealed: 3, Keys: 2, Handed: 1,
			Settled:    []Settled{{All: time.Second}, {All: time.Duration(1+seed) * time.Second}},
			Done:       map[string]int{"Leave": 1, "Kill": 2, "Split": 3, "Heal": 4, "Skew": 5, "SetWire": 6, "SetWires": 7},
			Longest:    map[string]time.Duration{ghosts: time.Duration(2-seed) * time.Second},
			Peak:       map[string]int{"sessions": int(seed), "Room.sessions": 4},
			Violations: []Violation{{At: time.Minute, What: "something"}},
		})
	}
	got, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"seeds":2,"hours":3,"rounds":4,"looks":20,"joins":10,"leaves":2,"kills":4,"partitions":6,"heals":8,"skews":10,"wires":26,` +
		`"sealed":6,"keys":4,"handed":2,"worst_reunion_s":2,"worst_reunion_seed":8,"longest_s":{"ghost":2},"peak":{"Room.sessions":4,"sessions":1},` +
		`"violations":[{"seed":7,"at_s":60,"what":"something"},{"seed":8,"at_s":60,"what":"something"}]}`
	if string(got) != want {
		t.Errorf("%s", got)
	}
}
