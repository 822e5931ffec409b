package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"teahouse/internal/sim"
	"teahouse/node"
)

// simulatedPoint is one cell of the network layer's budget.
type simulatedPoint struct {
	Path  time.Duration
	Loss  float64
	Depth int
	// Over is by how much p95 from Speak to Heard exceeds the path, of frames
	// that came in the packet they were spoken into; Auto the same where the
	// node may choose the carrier.
	Over, Auto time.Duration
	Lost       float64 // part of frames lost in spite of repair
}

// benchSimulated measures the network layer in virtual time: two real nodes
// over simulated UDP, p95 one way beyond the path, at losses that a person
// meets on a bad day and beyond. Nothing here depends on the machine.
func benchSimulated(ctx context.Context, b *bench) ([]figure, error) {
	points, err := simulate(ctx, b.lasting(time.Minute))
	if err != nil {
		return nil, err
	}
	var figures []figure
	for cell := range slices.Chunk(points, 4) { // the four depths of one path and loss
		over, auto := time.Duration(0), time.Duration(0)
		for _, p := range cell {
			over, auto = max(over, p.Over), max(auto, p.Auto)
		}
		name := fmt.Sprintf("%.0f-%d", 100*cell[0].Loss, cell[0].Path.Milliseconds())
		what := fmt.Sprintf("%.0f %% loss, path of %v", 100*cell[0].Loss, cell[0].Path)
		figures = append(figures,
			figure{Name: "p95-" + name, What: what + ": p95 beyond the path, datagrams, worst of depth 0 to 3", Value: milliseconds(over), Unit: "ms"}.atMost(5).anywhere(),
			figure{Name: "auto-" + name, What: what + ": the same, carrier chosen by the node", Value: milliseconds(auto), Unit: "ms"},
			figure{Name: "lost-" + name, What: what + ": frames lost with depth 3", Value: 100 * cell[3].Lost, Unit: "%"},
		)
	}
	return figures, nil
}

// simulate has a process of its own play, because virtual time is to be had
// inside a test alone.
func simulate(ctx context.Context, talk time.Duration) (points []simulatedPoint, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	dir, err := os.MkdirTemp("", "teahouse-lab-")
	if err != nil {
		return nil, fmt.Errorf("make a place for results: %w", err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "points")
	if out, err := exec.CommandContext(ctx, self, "simulated", "--talk", talk.String(), file).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("play the scenarios: %w\n%s", err, out)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the results: %w", err)
	}
	if err := json.Unmarshal(data, &points); err != nil {
		return nil, fmt.Errorf("read the results: %w", err)
	}
	return points, nil
}

// simulatedCommand plays the scenarios of benchSimulated.
type simulatedCommand struct {
	Talk time.Duration `required:"" help:"How long to talk in each scenario."`
	File string        `arg:"" help:"Where to write the results."`
}

// Run does not return: it ends the process as a test does, with 1 after a
// failure.
func (c *simulatedCommand) Run() error {
	os.Args = os.Args[:1] // the flags of tests are none of ours
	testing.Main(func(string, string) (bool, error) { return true, nil },
		[]testing.InternalTest{{Name: "network layer", F: c.play}}, nil, nil)
	return nil
}

func (c *simulatedCommand) play(t *testing.T) {
	var points []simulatedPoint
	for _, path := range []time.Duration{20 * time.Millisecond, 60 * time.Millisecond, 150 * time.Millisecond} {
		for _, loss := range []float64{0.05, 0.33, 0.40} {
			for depth := range 4 {
				p := simulatedPoint{Path: path, Loss: loss, Depth: depth}
				s := sim.NetworkLayer(path, sim.Loss{Rate: loss}, depth, c.Talk)
				h, first := heardIn(t, s)
				p.Over, p.Lost = first.Quantile(0.95)-path, float64(h.Lost)/float64(h.Expected)
				s.Transport = node.Auto
				_, first = heardIn(t, s)
				p.Auto = first.Quantile(0.95) - path
				points = append(points, p)
			}
		}
	}
	data, err := json.Marshal(points)
	if err == nil {
		err = os.WriteFile(c.File, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func heardIn(t *testing.T, s sim.Scenario) (sim.Heard, sim.Delays) {
	r := sim.Run(t, s)
	r.Report(t)
	h, first, _ := r.Window("talk").All()
	if h.Expected == 0 || first.Count() == 0 {
		t.Fatalf("nothing was heard of %s", s.Name)
	}
	return h, first
}
