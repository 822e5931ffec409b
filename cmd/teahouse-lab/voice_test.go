package main

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"teahouse/codec"
	"teahouse/internal/lab"
)

const tick = time.Millisecond

// tonePackets is a second of a tone as Opus, over and over.
func tonePackets(t *testing.T, seconds int) (packets [][]byte) {
	t.Helper()
	tone := make([]float32, codec.Rate)
	for i := range tone {
		tone[i] = float32(0.3 * math.Sin(2*math.Pi*300*float64(i)/codec.Rate))
	}
	second, _, err := encodeVoice(tone, codec.EncoderConfig{Complexity: 1})
	if err != nil {
		t.Fatal(err)
	}
	for range seconds {
		packets = append(packets, second...)
	}
	return packets
}

// The same seed is the same path, whatever is sent; another one is not.
func TestVoicePathIsDeterministic(t *testing.T) {
	packets := tonePackets(t, 20)
	path := voicePath{Loss: 0.2, Jitter: 60 * tick, Path: 50 * tick, Depth: autoDepth, Seed: 7}
	a, b := path.carry(packets, 20*tick), path.carry(packets, 20*tick)
	if !reflect.DeepEqual(a, b) {
		t.Error("two runs with one seed differ")
	}
	path.Depth = 0
	first := make(map[uint32]time.Duration)
	for _, a := range a.arrivals {
		if !a.frame.Repaired {
			first[a.frame.Counter] = a.at
		}
	}
	for _, b := range path.carry(packets, 20*tick).arrivals {
		if first[b.frame.Counter] != b.at {
			t.Fatalf("frame %d came after %v with repair, %v without", b.frame.Counter, first[b.frame.Counter], b.at)
		}
	}
	path.Seed = 8
	if c := path.carry(packets, 20*tick); reflect.DeepEqual(a.arrivals, c.arrivals) {
		t.Error("another seed is the same path")
	}
}

// What a path is told to do, it does.
func TestVoicePathCarries(t *testing.T) {
	packets := tonePackets(t, 60)
	const length = 20 * tick
	for _, p := range []voicePath{
		{},
		{Loss: 0.3, Jitter: 100 * tick, Path: 40 * tick, Depth: 2, Seed: 1},
		{Burst: 120 * tick, Seed: 2, Depth: 3},
		{Drift: 300, Path: 10 * tick, Seed: 3},
	} {
		c := p.carry(packets, length)
		come := make(map[uint32]bool)
		direct, bytes := 0, 0
		last := time.Duration(0)
		for _, a := range c.arrivals {
			if a.at < last {
				t.Fatalf("%v: out of order", p)
			}
			last = a.at
			come[a.frame.Counter] = true
			sent := time.Duration(float64(length) * float64(a.frame.Counter+1) * (1 + p.Drift/1e6))
			most := p.Path + p.Jitter + time.Duration(p.Depth)*length
			if late := a.at - sent; late < p.Path-1 || late > most+tick {
				t.Fatalf("%v: frame %d took %v", p, a.frame.Counter, late)
			}
			if !a.frame.Repaired {
				direct++
			}
		}
		for i := range packets {
			bytes += voicePacketOver + voiceInternetOver
			for k := range min(p.Depth, i) + 1 {
				bytes += voiceFrameOver + len(packets[i-k])
			}
		}
		lost := 1 - float64(direct)/float64(len(packets))
		want := p.Loss + p.Burst.Seconds()/burstEvery.Seconds()
		if math.Abs(lost-want) > 0.025 || c.bytes != bytes {
			t.Errorf("%v: lost %.3f, not %.3f; %d bytes, not %d", p, lost, want, c.bytes, bytes)
		}
		if left := 1 - float64(len(come))/float64(len(packets)); p.Loss > 0 && math.Abs(left-p.Loss*p.Loss*p.Loss) > 0.015 {
			t.Errorf("%v: %.3f have no copy", p, left)
		}
	}
}

// The depth that the room would have follows the loss.
func TestVoiceDepthFollowsLoss(t *testing.T) {
	packets := tonePackets(t, 60)
	for loss, want := range map[float64][2]float64{0: {0, 0}, 0.05: {0.8, 2.1}, 0.15: {1.8, 3}, 0.4: {2.7, 3}} {
		c := voicePath{Loss: loss, Path: 50 * tick, Depth: autoDepth, Seed: 5}.carry(packets, 20*tick)
		if c.depth < want[0] || c.depth > want[1] {
			t.Errorf("%.0f %% loss: a mean depth of %.2f", 100*loss, c.depth)
		}
	}
}

// Without loss each system plays every frame, at the delay that it has by
// construction; with loss the fixed buffers do what they are there to show.
func TestVoiceSystems(t *testing.T) {
	packets := tonePackets(t, 20)
	for _, s := range voiceSystems() {
		p, err := s.play(packets, 20*tick, voicePath{Path: 30 * tick, Depth: autoDepth})
		if err != nil {
			t.Fatal(err)
		}
		if counted := uint64(p.stats.Played()); p.stats.OnTime != counted || counted < uint64(len(packets))*7/10 {
			t.Errorf("%s without loss: %+v", s.name, p.stats)
		}
		begins := 0
		for begins < len(p.sound) && math.Abs(float64(p.sound[begins])) < 0.05 {
			begins++
		}
		least, most := 50*tick, 80*tick
		if s.buffer > 0 {
			least, most = 50*tick+s.buffer, 65*tick+s.buffer
		}
		if at := time.Duration(begins) * time.Second / codec.Rate; at < least || at > most {
			t.Errorf("%s begins after %v", s.name, at)
		}
		if p, err = s.play(packets, 20*tick, voicePath{Loss: 0.2, Path: 30 * tick, Depth: autoDepth}); err != nil {
			t.Fatal(err)
		}
		made := float64(p.stats.Concealed) / float64(p.stats.Played())
		if s.buffer == 0 && made > 0.03 || s.name == "opus" && math.Abs(made-0.2) > 0.03 || s.name == "fec" && (made > 0.15 || p.stats.FEC == 0) {
			t.Errorf("%s at 20 %% loss: %+v", s.name, p.stats)
		}
	}
}

// One path, played and judged from the flags to the files.
func TestVoiceCommand(t *testing.T) {
	c := voiceCommand{Path: 20 * tick, Depth: "1", Loss: 5, Seed: 1, Out: t.TempDir()}
	err := c.Run(t.Context())
	if errors.Is(err, lab.ErrNoSpeech) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(c.Out, "voice.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range voiceSystems() {
		if !strings.Contains(string(text), "20ms, 5 % loss, depth 1 | "+s.name+" |") {
			t.Errorf("%s is missing in\n%s", s.name, text)
		}
	}
	for _, bad := range []voiceCommand{
		{Depth: "4"},
		{Depth: "-1"},
		{Depth: "deep"},
		{Depth: "auto", Loss: 91},
		{Depth: "auto", Loss: math.NaN()},
		{Depth: "auto", Burst: -1},
		{Depth: "auto", Jitter: time.Hour},
		{Depth: "auto", Path: -1},
		{Depth: "auto", Drift: 1001},
	} {
		if err := bad.Run(t.Context()); !errors.Is(err, errUsage) {
			t.Errorf("%+v was taken: %v", bad, err)
		}
	}
}

// Every sweep has a point for each line of its plots, and plots what it has.
func TestVoicePlots(t *testing.T) {
	sweeps := voiceSweeps(1, true)
	for i := range sweeps {
		s := &sweeps[i]
		for k, point := range s.points {
			for _, system := range s.systems {
				f := voiceFigures{System: system.name, Path: point.path, Delay: time.Duration(k) * 10 * tick, STOI: 0.9}
				if point.words {
					f.Words, f.Right = 50, 49
				}
				s.figures = append(s.figures, f)
			}
		}
		drawn := 0
		for _, plot := range voicePlots {
			if svg, ok := s.plot(plot.y, plot.max, plot.of); ok {
				drawn++
				if n := strings.Count(string(svg), "<circle"); n != len(s.points)*len(s.systems) {
					t.Errorf("%s: %d points", s.name, n)
				}
			}
		}
		want := 3
		if s.points[0].words {
			want++
		}
		if drawn != want {
			t.Errorf("%s: %d plots, not %d", s.name, drawn, want)
		}
	}
}

// The table of thin uplinks has a line for each, and says what there is beside.
func TestUplinkTable(t *testing.T) {
	rows := uplinkRows()
	rows[1].Lost, rows[1].Thin, rows[1].Late, rows[1].Uploaded = 0.012, 0.3, 298*tick, 540_000
	text := uplinkTable(rows)
	if n := strings.Count(text, "\n| "); n != len(rows)+1 {
		t.Errorf("%d lines of %d\n%s", n, len(rows)+1, text)
	}
	if want := "| 1000 kbit/s | 4 | 0 % | 540 kbit/s | 1.2 % | 30 % | 298 ms |"; !strings.Contains(text, want) {
		t.Errorf("no line %s in\n%s", want, text)
	}
}
