package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"teahouse/internal/lab"
)

// voiceSweep is some paths of one kind, each played by some systems.
type voiceSweep struct {
	name, title string
	x           string // what differs, with its unit
	points      []voicePoint
	systems     []voiceSystem
	figures     []voiceFigures
}

type voicePoint struct {
	x     float64
	path  voicePath
	words bool // have a machine listen
}

// voiceSweeps is everything that docs/measurements.md shows.
func voiceSweeps(seed uint64, words bool) []voiceSweep {
	const ms = time.Millisecond
	on := voicePath{Path: 60 * ms, Depth: autoDepth, Seed: seed}
	loss := voiceSweep{name: "loss", title: "Random loss, jitter of 60 ms", x: "packets lost, %", systems: voiceSystems()}
	for _, percent := range []float64{0, 5, 10, 20, 30, 40, 50} {
		p := on
		p.Loss, p.Jitter = percent/100, 60*ms
		loss.points = append(loss.points, voicePoint{percent, p, words})
	}
	burst := voiceSweep{name: "burst", title: "A burst of loss every two seconds", x: "length of a burst, ms", systems: voiceSystems()}
	for _, d := range []time.Duration{0, 20 * ms, 60 * ms, 120 * ms, 200 * ms, 400 * ms} {
		p := on
		p.Burst = d
		burst.points = append(burst.points, voicePoint{float64(d / ms), p, words})
	}
	jitter := voiceSweep{name: "jitter", title: "Jitter with reordering, no loss", x: "jitter, ms", systems: voiceSystems()}
	for _, d := range []time.Duration{0, 20 * ms, 60 * ms, 100 * ms, 200 * ms} {
		p := on
		p.Jitter = d
		jitter.points = append(jitter.points, voicePoint{float64(d / ms), p, words})
	}
	drift := voiceSweep{name: "drift", title: "Two clocks that drift apart, jitter of 10 ms", x: "drift, ppm", systems: voiceSystems()[:1]}
	for _, ppm := range []float64{-300, -100, 0, 100, 300} {
		p := on
		p.Drift, p.Jitter = ppm, 10*ms
		drift.points = append(drift.points, voicePoint{ppm, p, words})
	}
	depth := voiceSweep{name: "depth", title: "Repair of a fixed depth at 20 % loss, jitter of 60 ms", x: "depth", systems: voiceSystems()[:1]}
	for d := range voiceDepthMost + 1 {
		p := on
		p.Loss, p.Jitter, p.Depth = 0.2, 60*ms, d
		depth.points = append(depth.points, voicePoint{float64(d), p, words})
	}
	return []voiceSweep{loss, burst, jitter, drift, depth}
}

// play fills in the figures, in the order of points and then systems.
func (s *voiceSweep) play(ctx context.Context, m *voiceMaterial, progress func(string, ...any)) error {
	s.figures = make([]voiceFigures, len(s.points)*len(s.systems))
	failed := make([]error, len(s.figures))
	var playing sync.WaitGroup
	slots := make(chan struct{}, runtime.NumCPU())
	for i := range s.figures {
		point, system := s.points[i/len(s.systems)], s.systems[i%len(s.systems)]
		slots <- struct{}{}
		playing.Go(func() {
			defer func() { <-slots }()
			if failed[i] = ctx.Err(); failed[i] != nil {
				return
			}
			f, err := m.judge(ctx, system, point.path, point.words)
			if err != nil {
				failed[i] = fmt.Errorf("%s over %v: %w", system.name, point.path, err)
				return
			}
			s.figures[i] = f
			progress("%s: %s", s.name, strings.Join(f.cells(), " · "))
		})
	}
	playing.Wait()
	return errors.Join(failed...)
}

// The plots of a sweep: what of the figures, and how high the axis is.
var voicePlots = []struct {
	name, y string
	max     float64
	of      func(voiceFigures) float64
}{
	{"delay", "delay over the path, ms", 0, func(f voiceFigures) float64 { return f.Delay.Seconds() * 1000 }},
	{"concealed", "frames concealed, %", 0, func(f voiceFigures) float64 { return 100 * f.Concealed }},
	{"stoi", "STOI", 1, func(f voiceFigures) float64 { return f.STOI }},
	{"words", "words recognised, %", 100, func(f voiceFigures) float64 { return 100 * float64(f.Right) / float64(f.Words) }},
}

// plot draws one of voicePlots; ok is false where there is nothing to draw.
func (s *voiceSweep) plot(y string, most float64, of func(voiceFigures) float64) (svg []byte, ok bool) {
	p := lab.Plot{Title: s.title, X: s.x, Y: y, MaxY: most}
	for k, system := range s.systems {
		line := lab.Line{Name: system.name + ": " + system.what}
		for i, point := range s.points {
			v := of(s.figures[i*len(s.systems)+k])
			if v != v { // words that nobody listened for
				return nil, false
			}
			line.Points = append(line.Points, [2]float64{point.x, v})
		}
		p.Lines = append(p.Lines, line)
	}
	return p.SVG(), true
}

// writeVoice writes voice.md and its plots into a directory.
func writeVoice(dir string, sweeps []voiceSweep, uplinks []uplinkRow) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var b bytes.Buffer
	b.WriteString(voiceHead)
	for i := range sweeps {
		s := &sweeps[i]
		fmt.Fprintf(&b, "\n## %s\n\n", s.title)
		if len(s.points) > 1 {
			for _, plot := range voicePlots {
				svg, ok := s.plot(plot.y, plot.max, plot.of)
				if !ok {
					continue
				}
				name := "voice-" + s.name + "-" + plot.name + ".svg"
				if err := os.WriteFile(filepath.Join(dir, name), svg, 0o644); err != nil {
					return err
				}
				fmt.Fprintf(&b, "![%s: %s](%s)\n", s.title, plot.y, name)
			}
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(voiceColumns, " | "), strings.Repeat("---|", len(voiceColumns)))
		for _, f := range s.figures {
			fmt.Fprintf(&b, "| %s |\n", strings.Join(f.cells(), " | "))
		}
	}
	if len(uplinks) > 0 {
		b.WriteByte('\n')
		b.WriteString(uplinkTable(uplinks))
	}
	return os.WriteFile(filepath.Join(dir, "voice.md"), b.Bytes(), 0o644)
}

const voiceHead = `# A voice over bad paths

Written by ` + "`teahouse-lab voice --all --out docs`" + `, in virtual time and by a seed, so that it is the same on every machine. Said: half a minute of a
recorded voice in one piece, then fifty recorded digits. Teahouse is package codec as it is, repair by the rule of package room, its reports lost
like everything else; one frame is 20 ms, 32 kbit/s, the listener's device takes 5 ms at a time. Beside it the same encoder with a fixed buffer.

- **delay over path**: from a sound at the microphone to the same at the speaker by cross-correlation, median of half seconds, without devices and the path's own
  least delay. A frame of 20 ms and Opus' look-ahead of 6.5 ms are in it.
- **concealed**: frames for which something was made up; **late**: of these, those that came after their turn; **repaired**: played from a copy sent again;
  **stretched**: time added and taken away, of all. The first five seconds are played, but not counted: reports have to come before a link knows what it loses.
- **STOI**: short-time objective intelligibility against the recording itself, so that the codec's own part is in it.
- **words**: digits that pocketsphinx recognises with a closed grammar; – where it was not asked (` + "`--no-words`" + `). **kbit/s** with UDP and IPv4 headers.

It takes four minutes of one core, most of it for the words, and half of that without them. What is promised of the rows of 0, 20 and 40 % and of the bursts of 120 ms is held by ` + "`TestVoicePromises`" + `
of ` + "`cmd/teahouse-lab`" + `. The row of 20 % was confirmed between real processes: ` + "`TestAFifthIsLost`" + ` of ` + "`internal/lab/scenario`" + ` has nftables lose every fifth packet
either way for a minute of speech; see measurements.md.
`
