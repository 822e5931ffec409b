package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"teahouse/internal/lab"
)

// voiceCommand lets a recorded voice travel over a bad path in virtual time,
// and tells how it sounds.
type voiceCommand struct {
	Loss   float64       `help:"Packets lost, each by itself, in percent (0 to 90)." placeholder:"P"`
	Burst  time.Duration `help:"Lose everything for this long every two seconds (up to 1s)." placeholder:"D"`
	Jitter time.Duration `help:"Each packet takes up to this much longer, so that they overtake each other (up to 1s)." placeholder:"D"`
	Path   time.Duration `help:"What every packet takes (up to 2s)." default:"60ms" placeholder:"D"`
	Drift  float64       `help:"By how much the speaker's clock is slow, in parts per million (-1000 to 1000)." placeholder:"PPM"`
	Depth  string        `help:"Frames sent again in each packet: auto (as a room does), or 0 to 3." default:"auto" placeholder:"N"`
	Seed   uint64        `help:"Decides what is lost and late." default:"1" placeholder:"S"`
	All    bool          `help:"Play everything that docs/measurements.md shows instead."`
	Words  bool          `help:"Have a machine recognise digits too (slow)." default:"true" negatable:""`
	JSON   bool          `help:"One JSON object on standard output." name:"json"`
	Out    string        `help:"Write tables and plots into this directory." placeholder:"DIR"`
}

// Run plays and shows.
func (c *voiceCommand) Run(ctx context.Context) error {
	path, err := c.path()
	if err != nil {
		return err
	}
	material, err := newVoiceMaterial(ctx)
	if errors.Is(err, lab.ErrNoSpeech) {
		return fmt.Errorf("%w: apt-get install them", err)
	}
	if err != nil {
		return err
	}
	sweeps := []voiceSweep{{name: "voice", title: "As asked", points: []voicePoint{{path: path, words: c.Words}}, systems: voiceSystems()}}
	if c.All {
		sweeps = voiceSweeps(c.Seed, c.Words)
	}
	started := time.Now()
	for i := range sweeps {
		if err := sweeps[i].play(ctx, material, c.progress); err != nil {
			return fmt.Errorf("play %s: %w", sweeps[i].name, err)
		}
	}
	var uplinks []uplinkRow
	if c.All {
		program, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find this program: %w", err)
		}
		if uplinks, err = playUplinksApart(ctx, program); err != nil {
			return fmt.Errorf("play thin uplinks: %w", err)
		}
	}
	c.progress("%v", time.Since(started).Round(time.Second))
	if c.Out != "" {
		if err := writeVoice(c.Out, sweeps, uplinks); err != nil {
			return err
		}
	}
	if c.JSON {
		var all []voiceFigures
		for _, s := range sweeps {
			all = append(all, s.figures...)
		}
		return json.NewEncoder(os.Stdout).Encode(struct {
			Voice   []voiceFigures `json:"voice"`
			Uplinks []uplinkRow    `json:"uplinks,omitempty"`
		}{all, uplinks})
	}
	for _, s := range sweeps {
		fmt.Print(s.table())
	}
	if len(uplinks) > 0 {
		fmt.Print(uplinkTable(uplinks))
	}
	return nil
}

// progress is for people, on standard error.
func (c *voiceCommand) progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}

// path checks the flags.
func (c *voiceCommand) path() (voicePath, error) {
	p := voicePath{Loss: c.Loss / 100, Burst: c.Burst, Jitter: c.Jitter, Path: c.Path, Drift: c.Drift, Depth: autoDepth, Seed: c.Seed}
	if c.Depth != "auto" {
		depth, err := strconv.Atoi(c.Depth)
		if err != nil || depth < 0 || depth > voiceDepthMost {
			return p, fmt.Errorf("%w: --depth is auto or 0 to 3, not %q", errUsage, c.Depth)
		}
		p.Depth = depth
	}
	switch {
	case !(p.Loss >= 0 && p.Loss <= 0.9):
		return p, fmt.Errorf("%w: --loss is 0 to 90 percent, not %v", errUsage, c.Loss)
	case p.Burst < 0 || p.Burst > time.Second:
		return p, fmt.Errorf("%w: --burst is up to 1s, not %v", errUsage, p.Burst)
	case p.Jitter < 0 || p.Jitter > time.Second:
		return p, fmt.Errorf("%w: --jitter is up to 1s, not %v", errUsage, p.Jitter)
	case p.Path < 0 || p.Path > 2*time.Second:
		return p, fmt.Errorf("%w: --path is up to 2s, not %v", errUsage, p.Path)
	case !(p.Drift >= -1000 && p.Drift <= 1000):
		return p, fmt.Errorf("%w: --drift is -1000 to 1000, not %v", errUsage, p.Drift)
	}
	return p, nil
}

// table shows the figures of a sweep at a terminal.
func (s *voiceSweep) table() string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n", s.title)
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(voiceColumns, "\t"))
	for _, f := range s.figures {
		fmt.Fprintln(w, strings.Join(f.cells(), "\t"))
	}
	_ = w.Flush() // a bytes.Buffer takes everything
	b.WriteByte('\n')
	return b.String()
}

var voiceColumns = []string{"path", "system", "delay over path", "concealed", "late", "repaired", "FEC", "stretched", "STOI", "words", "kbit/s", "depth"}

// cells are the figures in the order of voiceColumns.
func (f voiceFigures) cells() []string {
	percent := func(v float64) string { return strconv.FormatFloat(100*v, 'f', 2, 64) + " %" }
	words := "–"
	if f.Words > 0 {
		words = fmt.Sprintf("%d of %d", f.Right, f.Words)
	}
	return []string{
		f.Path.String(), f.System,
		fmt.Sprintf("%.1f ms", f.Delay.Seconds()*1000),
		percent(f.Concealed), percent(f.Late), percent(f.Repaired), percent(f.FEC), percent(f.Stretched),
		strconv.FormatFloat(f.STOI, 'f', 3, 64), words,
		strconv.FormatFloat(f.Wire, 'f', 0, 64), strconv.FormatFloat(f.Depth, 'f', 1, 64),
	}
}

// String is the path in words.
func (p voicePath) String() string {
	text := fmt.Sprintf("%v, %.0f %% loss", p.Path, 100*p.Loss)
	if p.Burst > 0 {
		text += fmt.Sprintf(", %v lost every 2 s", p.Burst)
	}
	if p.Jitter > 0 {
		text += fmt.Sprintf(", jitter %v", p.Jitter)
	}
	if p.Drift != 0 {
		text += fmt.Sprintf(", %+.0f ppm", p.Drift)
	}
	if p.Depth != autoDepth {
		text += fmt.Sprintf(", depth %d", p.Depth)
	}
	return text
}
