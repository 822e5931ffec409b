package codec

import (
	"bytes"
	"fmt"
	"math"
	"testing"
	"time"
)

const ms = time.Millisecond

// What happens to a voice, one thing at a time, and what must come of it.
func TestEvents(t *testing.T) {
	voice := speech(t)[:8*Rate]
	frames := uint64(len(voice) / 960)
	for _, c := range []struct {
		name  string
		setup func(*simulation)
		check func(t *testing.T, s Stats)
	}{
		{"burst of 100 ms lost", func(s *simulation) {
			s.path = func(i int, _ time.Duration) []time.Duration {
				if i >= 100 && i < 105 {
					return nil
				}
				return []time.Duration{0}
			}
		}, func(t *testing.T, s Stats) {
			if s.Concealed != 5 || s.Lost != 5 || s.OnTime != frames-5 || s.Delay > 15*ms {
				t.Error("wrong")
			}
		}},
		{"burst of 2 s lost", func(s *simulation) {
			s.path = func(i int, _ time.Duration) []time.Duration {
				if i >= 100 && i < 200 {
					return nil
				}
				return []time.Duration{0}
			}
		}, func(t *testing.T, s Stats) {
			if s.Lost != 100 || s.OnTime != frames-100 || s.Resets != 0 || s.Delay > 15*ms {
				t.Error("wrong")
			}
		}},
		{"reordered in pairs", func(s *simulation) {
			s.path = func(i int, _ time.Duration) []time.Duration {
				return []time.Duration{time.Duration(1-i%2) * 25 * ms}
			}
		}, func(t *testing.T, s Stats) {
			if s.Lost > 8 || s.Delay < 25*ms || s.Delay > 45*ms {
				t.Error("wrong")
			}
		}},
		{"every frame three times", func(s *simulation) {
			s.path = func(int, time.Duration) []time.Duration { return []time.Duration{0, 1 * ms, 50 * ms} }
		}, func(t *testing.T, s Stats) {
			if s.OnTime != frames || s.Doubled != 2*frames || s.Repaired != 0 || s.Target > 5*ms {
				t.Error("wrong")
			}
		}},
		{"a third lost, sent again in the next two packets", func(s *simulation) {
			rng := newRand(5)
			s.path = func(int, time.Duration) []time.Duration {
				copies := []time.Duration{0, 20 * ms, 40 * ms}
				for k := range copies {
					if rng.Float64() < 0.33 {
						copies[k] = lostCopy
					}
				}
				return copies
			}
		}, func(t *testing.T, s Stats) {
			// A frame in 28 has no copy, and the rule leaves one in 100 late.
			if s.Concealed > frames/14 || s.Repaired < frames/5 || s.Repaired > frames*2/5 || s.Delay > 60*ms {
				t.Error("wrong")
			}
		}},
		{"FEC at 15 % loss", func(s *simulation) {
			s.encoder = EncoderConfig{Bitrate: 32000, FEC: true, ExpectedLossPercent: 15}
			s.path = jittered(newRand(5), 0.15, 0)
		}, func(t *testing.T, s Stats) {
			if s.FEC < s.Lost/2 || s.Lost < frames/10 || s.Delay > 40*ms {
				t.Error("wrong")
			}
		}},
		{"silent first half, muted: a pause in media time", func(s *simulation) {
			s.frame = func(i int, f *Frame) bool {
				f.SpurtEnd = f.SpurtEnd || i == 199
				f.SpurtStart = i == 0 || i == 200
				if i >= 200 {
					f.MediaTime += 3 * Rate
				}
				return true
			}
		}, func(t *testing.T, s Stats) {
			if s.OnTime != frames || s.Resets != 0 || s.ConcealedDuration != 0 || s.StretchedDuration != 0 {
				t.Error("wrong")
			}
		}},
		{"the same, its last and first frames lost", func(s *simulation) {
			s.frame = func(i int, f *Frame) bool {
				f.SpurtEnd = f.SpurtEnd || i == 199
				f.SpurtStart = i == 0 || i == 200
				if i >= 200 {
					f.MediaTime += 3 * Rate
				}
				return i != 199 && i != 200
			}
		}, func(t *testing.T, s Stats) {
			if s.OnTime != frames-2 || s.Lost != 2 || s.Delay > 15*ms || s.ConcealedDuration > 120*ms {
				t.Error("wrong")
			}
		}},
		{"microphone stumbles for 30 ms", func(s *simulation) {
			s.frame = func(i int, f *Frame) bool {
				if i >= 100 {
					f.MediaTime += 1440
				}
				return true
			}
		}, func(t *testing.T, s Stats) {
			if s.OnTime != frames || s.ConcealedDuration != 30*ms || s.Concealed != 0 {
				t.Error("wrong")
			}
		}},
		{"the sender's clock jumps ahead", func(s *simulation) {
			s.frame = func(i int, f *Frame) bool {
				if i >= 100 {
					f.MediaTime += 3600 * Rate
				}
				return true
			}
			s.path = func(i int, _ time.Duration) []time.Duration {
				if i >= 100 {
					return []time.Duration{-3600 * time.Second}
				}
				return []time.Duration{0}
			}
		}, func(t *testing.T, s Stats) {
			if s.Resets != 1 || s.OnTime < frames-3 || s.Delay > 25*ms {
				t.Error("wrong")
			}
		}},
		{"the sender's clock jumps back", func(s *simulation) {
			s.frame = func(i int, f *Frame) bool {
				if i >= 100 {
					f.MediaTime -= 10 * Rate
				}
				return true
			}
			s.media = 20 * Rate
			s.path = func(i int, _ time.Duration) []time.Duration {
				if i >= 100 {
					return []time.Duration{10 * time.Second}
				}
				return []time.Duration{0}
			}
		}, func(t *testing.T, s Stats) {
			if s.Resets != 1 || s.OnTime < frames-3 || s.Delay > 25*ms {
				t.Error("wrong")
			}
		}},
		{"the sender restarts with old counters and nobody says so", func(s *simulation) {
			s.counter = 5000
			s.frame = func(i int, f *Frame) bool {
				if i >= 100 {
					f.Counter, f.MediaTime = uint32(i), uint32(i*960)
				}
				return true
			}
		}, func(t *testing.T, s Stats) {
			if s.Resets == 0 || s.OnTime < frames-15 || s.Delay > 20*ms {
				t.Error("wrong")
			}
		}},
		{"counters jump far ahead", func(s *simulation) {
			s.frame = func(i int, f *Frame) bool {
				if i >= 100 {
					f.Counter += 1e6
				}
				return true
			}
		}, func(t *testing.T, s Stats) {
			if s.Resets != 1 || s.OnTime < frames-3 || s.Lost != 0 {
				t.Error("wrong")
			}
		}},
		{"the path becomes 150 ms longer", func(s *simulation) {
			s.path = func(i int, _ time.Duration) []time.Duration {
				if i >= 100 {
					return []time.Duration{150 * ms}
				}
				return []time.Duration{0}
			}
		}, func(t *testing.T, s Stats) {
			if s.Lost > 12 || s.Delay > 25*ms {
				t.Error("wrong")
			}
		}},
		{"the path becomes 150 ms shorter", func(s *simulation) {
			s.path = func(i int, _ time.Duration) []time.Duration {
				if i < 100 {
					return []time.Duration{150 * ms}
				}
				return []time.Duration{0}
			}
		}, func(t *testing.T, s Stats) {
			if s.Lost > 1 || s.Skipped > 0 || s.Delay > 35*ms {
				t.Error("wrong")
			}
		}},
		{"a stall of 300 ms, then all at once", func(s *simulation) {
			s.path = func(i int, _ time.Duration) []time.Duration {
				if i >= 100 && i < 115 {
					return []time.Duration{time.Duration(115-i) * 20 * ms}
				}
				return []time.Duration{0}
			}
		}, func(t *testing.T, s Stats) {
			if s.Lost > 15 || s.Delay > 25*ms {
				t.Error("wrong")
			}
		}},
		{"jitter of 40 ms for 2 s, then none", func(s *simulation) {
			rng := newRand(9)
			s.path = func(i int, _ time.Duration) []time.Duration {
				if i < 100 {
					return []time.Duration{time.Duration(rng.Float64() * 40e6)}
				}
				return []time.Duration{0}
			}
		}, func(t *testing.T, s Stats) {
			if s.Lost > 12 || s.Delay > 25*ms {
				t.Error("wrong")
			}
		}},
		{"the sound device stops for 700 ms", func(s *simulation) {
			s.wake = func(n int) time.Duration {
				if n > 200 {
					return 700 * ms
				}
				return 0
			}
		}, func(t *testing.T, s Stats) {
			if s.Delay > 25*ms || s.Skipped+s.Lost > 40 {
				t.Error("wrong")
			}
		}},
		{"nobody pulls for 3 s", func(s *simulation) {
			s.wake = func(n int) time.Duration {
				if n > 200 {
					return 3 * time.Second
				}
				return 0
			}
		}, func(t *testing.T, s Stats) {
			if s.Delay > 25*ms || s.Skipped == 0 || s.OnTime < frames/3 {
				t.Error("wrong")
			}
		}},
		{"the sound device takes four blocks at once", func(s *simulation) {
			s.wake = func(n int) time.Duration { return time.Duration(-(n % 4)) * 10 * ms }
			s.phase = 50 * ms
		}, func(t *testing.T, s Stats) {
			if s.Lost > 1 || s.Delay > 60*ms {
				t.Error("wrong")
			}
		}},
		{"garbage and packets that libopus refuses", func(s *simulation) {
			s.frame = func(i int, f *Frame) bool {
				switch i % 20 {
				case 7:
					f.Opus = []byte{2, 200, 1} // twice 10 ms, the first longer than the packet
				case 13:
					f.Opus = bytes.Repeat([]byte{0xff}, 2000)
				}
				return true
			}
		}, func(t *testing.T, s Stats) {
			if s.Refused != frames/20 || s.Undecodable != frames/20 || s.Lost != frames/10 {
				t.Error("wrong")
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := simulation{voice: voice, tail: 200 * ms}
			c.setup(&s)
			r := NewReceiver(ReceiverConfig{})
			s.receiver = r
			_, stats := s.run(t)
			if c.check(t, stats); t.Failed() {
				t.Logf("%+v", stats)
			}
		})
	}
}

// Counters and media time may wrap anywhere: it makes no difference at all.
func TestWrap(t *testing.T) {
	voice := speech(t)[:4*Rate]
	play := func(counter, media uint32) []float32 {
		out, _ := simulation{voice: voice, counter: counter, media: media, path: jittered(newRand(1), 0.05, 30*ms)}.run(t)
		return out
	}
	want := play(1<<16, 1<<20)
	for _, counter := range []uint32{0, math.MaxUint32 - 50, 1<<31 - 50} {
		for _, media := range []uint32{0, math.MaxUint32 - 50000, 1<<31 - 50000} {
			got := play(counter, media)
			for i := range want {
				if i >= len(got) || got[i] != want[i] {
					t.Fatalf("counter %d, media time %d: another sound at sample %d", counter, media, i)
				}
			}
		}
	}
}

// A Pull may have any length.
func TestBlockSizes(t *testing.T) {
	voice := speech(t)[:4*Rate]
	ref := throughOpus(t, EncoderConfig{}, voice)
	for _, block := range []int{1, 64, 240, 441, 480, 512, 960, 1000, 4800} {
		t.Run(fmt.Sprint(block), func(t *testing.T) {
			out, stats := simulation{voice: voice, block: block}.run(t)
			if stats.Lost > 0 || stats.Skipped > 0 {
				t.Errorf("%+v", stats)
			}
			if median, least, _ := likeness(ref, out); median < 0.99 || least < 0.9 {
				t.Errorf("likeness: median %.3f, least %.3f", median, least)
			}
		})
	}
}

// A loud tone that begins and ends anywhere makes no click at either edge,
// whether its end is announced, lost, or cut off by the network.
func TestEdges(t *testing.T) {
	tone := make([]float32, Rate)
	for i := range tone {
		tone[i] = float32(0.5 * math.Sin(2*math.Pi*300*float64(i)/Rate))
	}
	cases := map[string]func(int, *Frame) bool{
		"announced": nil,
		"lost":      func(i int, _ *Frame) bool { return i < 49 && i != 0 },
		"cut off":   func(i int, f *Frame) bool { f.SpurtStart, f.SpurtEnd = false, false; return i > 10 && i < 40 },
		"outage":    func(i int, _ *Frame) bool { return i < 15 || i > 35 },
		"pause": func(i int, f *Frame) bool {
			if f.SpurtStart, f.SpurtEnd = false, false; i > 20 {
				f.MediaTime += Rate
			}
			return true
		},
	}
	cases["hole in media time"] = cases["pause"]
	for name, frame := range cases {
		t.Run(name, func(t *testing.T) {
			s := simulation{voice: tone, frame: frame, tail: 2 * time.Second, encoder: EncoderConfig{Bitrate: 64000}}
			if name == "hole in media time" {
				s.path = func(i int, _ time.Duration) []time.Duration {
					if i > 20 {
						return []time.Duration{0} // 1 s later, but as soon as the frames before
					}
					return []time.Duration{time.Second}
				}
			}
			out, stats := s.run(t)
			for i := 1; i < len(out); i++ {
				// The tone moves by at most 0.02 a sample, a fade adds little.
				if d := math.Abs(float64(out[i] - out[i-1])); d > 0.04 {
					t.Fatalf("a step of %.3f at %.1f ms: %+v", d, float64(i)/48, stats)
				}
			}
			if end := rms(out[len(out)-4800:]); end > 1e-6 {
				t.Errorf("not silent in the end: %g", end)
			}
			if rms(out) < 0.1 {
				t.Error("hardly any tone")
			}
		})
	}
}

// After an outage there is comfort noise, as loud as the silence between words
// was, and it goes within a second.
func TestComfortNoise(t *testing.T) {
	rng := newRand(4)
	voice := make([]float32, 3*Rate)
	for i := range voice {
		voice[i] = 0.001 * float32(rng.Float64()*2-1)
	}
	copy(voice[2*Rate:], syntheticSpeech(Rate, 2))
	s := simulation{voice: voice, block: 480, tail: 3 * time.Second, frame: func(_ int, f *Frame) bool { f.SpurtEnd = false; return true }}
	var active []bool
	s.each = func(_ time.Duration, _ []float32, p Pulled) { active = append(active, p.Active) }
	out, _ := s.run(t)
	end := 3*Rate + 480
	noise := rms(out[end+Rate/5 : end+Rate/5+4800])
	if noise < 0.0001 || noise > 0.002 {
		t.Errorf("comfort noise of %g after noise of %g", noise, rms(voice[:2*Rate]))
	}
	if last := rms(out[len(out)-Rate:]); last != 0 {
		t.Errorf("still %g after two seconds", last)
	}
	if active[0] || !active[150] || active[len(active)-1] || active[320] {
		t.Error("activity is wrong")
	}
}

// However wrong the sender's clock is, what is heard is never older than the
// bound, and never later than that by more than a frame.
func TestLagIsBounded(t *testing.T) {
	voice := speech(t)[:10*Rate]
	for _, ppm := range []float64{-100000, -20000, 20000, 100000} {
		r := NewReceiver(ReceiverConfig{})
		s := simulation{voice: voice, drift: ppm, receiver: r}
		var worst time.Duration
		s.each = func(time.Duration, []float32, Pulled) { worst = max(worst, r.Stats().Delay) }
		_, stats := s.run(t)
		t.Logf("%+.0f ppm: worst %v, %+v", ppm, worst, stats)
		if worst > 480*ms {
			t.Errorf("%+.0f ppm: a delay of %v", ppm, worst)
		}
	}
}

// What is buffered beyond the bound, when the path has become much shorter, is
// skipped at once.
func TestBacklogIsSkipped(t *testing.T) {
	r := NewReceiver(ReceiverConfig{})
	s := simulation{voice: speech(t)[:8*Rate], receiver: r}
	s.path = func(i int, _ time.Duration) []time.Duration {
		if i < 200 {
			return []time.Duration{time.Second}
		}
		return []time.Duration{0}
	}
	// Frame 200 comes at 4.02 s, with 50 before it still on their way.
	s.each = func(at time.Duration, _ []float32, _ Pulled) {
		if d := r.Stats().Delay; at > 4200*ms && d > 480*ms {
			t.Fatalf("a delay of %v at %v", d, at)
		}
	}
	if _, stats := s.run(t); stats.Delay > 60*ms || stats.OnTime < 330 {
		t.Errorf("%+v", stats)
	}
}

// A new instance begins anew.
func TestReset(t *testing.T) {
	voice := speech(t)[:2*Rate]
	r := NewReceiver(ReceiverConfig{})
	_, first := simulation{voice: voice, counter: 77, media: 1 << 30, receiver: r}.run(t)
	r.Reset()
	_, second := simulation{voice: voice, counter: 3, media: 9, receiver: r, start: time.Minute}.run(t)
	if second.OnTime != 2*first.OnTime || second.Lost != 0 || second.Resets != 1 {
		t.Errorf("%+v", second)
	}
}
