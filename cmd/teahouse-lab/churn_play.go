package main

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"teahouse/internal/sim"
)

// churnPlayCommand is the process that plays for churnCommand.
type churnPlayCommand struct {
	First   uint64        `required:"" help:"The first seed."`
	End     uint64        `required:"" help:"One more than the last."`
	Step    uint64        `required:"" help:"From one seed to the next."`
	Members int           `required:"" help:"How many people."`
	Each    time.Duration `required:"" help:"How long one seed lasts."`
}

// Run does not return: it ends the process as a test does, with 1 after a
// failure.
func (c *churnPlayCommand) Run() error {
	os.Args = os.Args[:1] // the flags of tests are none of ours
	testing.Main(func(string, string) (bool, error) { return true, nil },
		[]testing.InternalTest{{Name: "churn", F: c.play}}, nil, nil)
	return nil
}

// play writes a line for each seed to descriptor 3.
func (c *churnPlayCommand) play(t *testing.T) {
	results := os.NewFile(3, "results")
	if results == nil {
		t.Fatal("nobody is there to read the results")
	}
	encoder := json.NewEncoder(results)
	for seed := c.First; seed < c.End; seed += c.Step {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			var one sim.Tally
			one.Add(sim.Run(t, sim.Churn(seed, c.Members, c.Each)))
			if err := encoder.Encode(&one); err != nil {
				t.Fatalf("write the results: %v", err)
			}
		})
		if t.Failed() {
			return // what cannot be played; the parent goes on with the next
		}
	}
}
