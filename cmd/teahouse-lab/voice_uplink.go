package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"teahouse/internal/sim"
)

// uplinkRow is one thin uplink that is played with real nodes and rooms on the
// simulated internet (internal/sim), and what was heard.
type uplinkRow struct {
	Rate      int     `json:"rate"` // kbit/s
	Listeners int     `json:"listeners"`
	Loss      float64 `json:"loss"`   // percent, on every way
	Upload    bool    `json:"upload"` // a TCP beside
	sim.ThinFigures
}

// uplinkQueue is what a plain home router holds of what waits.
const uplinkQueue = 300 * time.Millisecond

func uplinkRows() []uplinkRow {
	return []uplinkRow{
		{Rate: 1000, Listeners: 4},
		{Rate: 1000, Listeners: 4, Upload: true},
		{Rate: 700, Listeners: 4, Loss: 20},
		{Rate: 512, Listeners: 4, Loss: 5},
		{Rate: 384, Listeners: 4},
		{Rate: 320, Listeners: 4},
		{Rate: 500, Listeners: 1, Upload: true},
		{Rate: 384, Listeners: 1, Upload: true},
		{Rate: 384, Listeners: 1, Loss: 5, Upload: true},
		{Rate: 200, Listeners: 1, Loss: 20},
	}
}

// uplinkPlayCommand is the process that plays for voiceCommand: virtual time
// belongs to tests.
type uplinkPlayCommand struct{}

// Run does not return: it ends the process as a test does.
func (c *uplinkPlayCommand) Run() error {
	os.Args = os.Args[:1] // the flags of tests are none of ours
	testing.Main(func(string, string) (bool, error) { return true, nil },
		[]testing.InternalTest{{Name: "uplink", F: playUplinks}}, nil, nil)
	return nil
}

// playUplinks writes a line for each row to descriptor 3.
func playUplinks(t *testing.T) {
	results := os.NewFile(3, "results")
	if results == nil {
		t.Fatal("nobody is there to read the results")
	}
	encoder := json.NewEncoder(results)
	for _, row := range uplinkRows() {
		u := sim.ThinUplink{
			Uplink:    sim.Uplink{Rate: row.Rate * 1000, Queue: uplinkQueue},
			Listeners: row.Listeners, Loss: row.Loss / 100, Upload: row.Upload,
		}
		t.Run(fmt.Sprint(row.Rate), func(t *testing.T) { row.ThinFigures = u.Figures(sim.Run(t, u.Scenario())) })
		if err := encoder.Encode(&row); err != nil {
			t.Fatalf("write the results: %v", err)
		}
	}
}

// playUplinksApart has a process of its own play all rows.
func playUplinksApart(ctx context.Context, program string) (rows []uplinkRow, err error) {
	results, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	defer results.Close()
	child := exec.CommandContext(ctx, program, "uplink-play")
	child.ExtraFiles = []*os.File{write} // its descriptor 3
	var said tail
	child.Stdout, child.Stderr = &said, &said
	err = child.Start()
	_ = write.Close() // the child has its own
	if err != nil {
		return nil, fmt.Errorf("start a process to play in: %w", err)
	}
	for lines := json.NewDecoder(results); lines.More() && err == nil; {
		var row uplinkRow
		if err = lines.Decode(&row); err == nil {
			rows = append(rows, row)
		}
	}
	if ended := child.Wait(); ended != nil {
		return rows, fmt.Errorf("%w\n%s", ended, said.text())
	}
	return rows, err
}

// uplinkTable is the rows for voice.md.
func uplinkTable(rows []uplinkRow) string {
	var b bytes.Buffer
	b.WriteString(uplinkHead)
	for _, r := range rows {
		beside := "–"
		if r.Upload {
			beside = fmt.Sprintf("%d kbit/s", r.Uploaded/1000)
		}
		fmt.Fprintf(&b, "| %d kbit/s | %d | %.0f %% | %s | %.1f %% | %.0f %% | %.0f ms |\n",
			r.Rate, r.Listeners, r.Loss, beside, 100*r.Lost, 100*r.Thin, r.Late.Seconds()*1000)
	}
	return b.String()
}

var uplinkHead = strings.TrimLeft(`
## A thin uplink

One talker whose router has a queue of 300 ms and nothing cleverer, 20 ms from everybody; real nodes and rooms on the simulated internet, base 32 kbit/s in 20 ms and
thin 24 kbit/s in 40 ms. Half a minute, from nine seconds after the talk and four after the TCP began. A listener takes some 74 kbit/s of base, and 20 of
everything else. Not as repeatable to the last frame as the rest: goroutines take turns.

| uplink | listeners | loss of the paths | a TCP beside gets | frames lost | in the thin flow | 95 of 100 come within the path and |
|---|---|---|---|---|---|---|
`, "\n")
