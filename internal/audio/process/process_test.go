package process

import (
	"math"
	"sync"
	"syscall"
	"testing"
	"time"

	"teahouse/internal/audio"
)

// each runs f with every engine that this build has, and every set of stages.
func each(t *testing.T, f func(t *testing.T, cfg Config)) {
	for _, engine := range []Engine{Best, WebRTC, Speex} {
		for _, stages := range []Stages{
			{}, {Echo: true}, {Noise: true}, {Gain: true}, {Echo: true, Noise: true}, All(),
		} {
			t.Run(engine.String()+"/"+stages.String(), func(t *testing.T) {
				f(t, Config{Stages: stages, Engine: engine})
			})
		}
	}
}

// TestDelay: what comes out is as late as Delay says.
func TestDelay(t *testing.T) {
	speech := atLevel(prompt(t, "demo-congrats")[:4*audio.Rate], -20)
	each(t, func(t *testing.T, cfg Config) {
		p := newProcessor(t, cfg)
		out := append([]float32(nil), speech...)
		for i := 0; i < len(out); i += audio.BlockFrames {
			p.Process(out[i:i+audio.BlockFrames], start.Add(nominal(i)))
		}
		best, lag := math.Inf(-1), 0
		for l := range 2000 {
			sum := 0.0
			for i := audio.Rate; i+l < len(out) && i < 3*audio.Rate; i += 2 {
				sum += float64(speech[i]) * float64(out[i+l])
			}
			if sum > best {
				best, lag = sum, l
			}
		}
		if got := nominal(lag); (got - p.Delay()).Abs() > 500*time.Microsecond {
			t.Errorf("the sound is %v late, not %v", got, p.Delay())
		}
	})
}

func TestOff(t *testing.T) {
	p := newProcessor(t, Config{})
	sound := white(audio.BlockFrames, 1)
	before := append([]float32(nil), sound...)
	p.Process(sound, start)
	for i := range sound {
		if sound[i] != before[i] {
			t.Fatal("processing that is off changes the sound")
		}
	}
}

// TestPoison: whatever a microphone and a room give, and whatever a clock
// says, what comes out is finite and within bounds, and what follows is clean.
func TestPoison(t *testing.T) {
	speech := atLevel(prompt(t, "demo-congrats")[:6*audio.Rate], -20)
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	each(t, func(t *testing.T, cfg Config) {
		if !cfg.Stages.any() {
			return
		}
		p := newProcessor(t, cfg)
		stereo := make([]float32, 2*audio.BlockFrames)
		block := make([]float32, audio.BlockFrames)
		poison := []float32{nan, inf, -inf, 1e30, -1e30, 5, math.SmallestNonzeroFloat32, 0}
		for i := range 400 {
			for j := range block {
				block[j] = poison[(i+j)%len(poison)]
				stereo[2*j], stereo[2*j+1] = poison[(i+j+1)%len(poison)], block[j]
			}
			at := start.Add(time.Duration(i) * audio.BlockDuration)
			switch i % 7 {
			case 3:
				at = time.Time{}
			case 5:
				at = at.Add(200 * 365 * 24 * time.Hour)
			}
			p.Play(stereo, at)
			p.Process(block, at)
			for j, x := range block {
				if !(x >= -1 && x <= 1) {
					t.Fatalf("block %d, sample %d: %v", i, j, x)
				}
			}
		}
		p.Play(stereo[:7], start)
		p.Process(block[:7], start)
		p.Process(nil, start)
		out := run(p, speech)
		if got, want := active(out[3*audio.Rate:]), active(speech[3*audio.Rate:]); math.Abs(got-want) > 4 {
			t.Errorf("speech of %.1f dBFS comes out at %.1f after poison", want, got)
		}
	})
}

func TestAllocations(t *testing.T) {
	each(t, func(t *testing.T, cfg Config) {
		p := newProcessor(t, cfg)
		stereo, mono := make([]float32, 2*audio.BlockFrames), white(audio.BlockFrames, 1)
		at := start
		step := func() {
			p.Play(stereo, at.Add(20*time.Millisecond))
			p.Process(mono, at)
			at = at.Add(audio.BlockDuration)
		}
		for range 100 {
			step()
		}
		if n := testing.AllocsPerRun(200, step); n != 0 {
			t.Errorf("%v allocations a block", n)
		}
	})
}

// TestConcurrent is for the race detector: playout, capture and a view.
func TestConcurrent(t *testing.T) {
	p := newProcessor(t, Config{Stages: All()})
	var wg sync.WaitGroup
	wg.Go(func() {
		stereo := make([]float32, 2*audio.BlockFrames)
		for i := range 300 {
			p.Play(stereo, start.Add(time.Duration(i)*audio.BlockDuration))
		}
	})
	wg.Go(func() {
		mono := make([]float32, audio.BlockFrames)
		for i := range 300 {
			p.Process(mono, start.Add(time.Duration(i)*audio.BlockDuration))
		}
	})
	for range 300 {
		_ = p.Stats()
	}
	wg.Wait()
}

func TestParseStages(t *testing.T) {
	for text, want := range map[string]Stages{
		"off": {}, "echo": {Echo: true}, "noise": {Noise: true}, "gain": {Gain: true},
		"echo,noise,gain": All(), "gain,echo": {Echo: true, Gain: true},
	} {
		got, err := ParseStages(text)
		if err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
		if again, err := ParseStages(got.String()); err != nil || again != got {
			t.Errorf("%v is written %q, which reads %v, %v", got, got.String(), again, err)
		}
	}
	for _, text := range []string{"", ",", "echo,", "on", "Echo", "echo,echo", "off,echo", "echo,off", "echo noise", " echo"} {
		if got, err := ParseStages(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

// BenchmarkProcess is of whole processors, far talk and a near voice at once.
func BenchmarkProcess(b *testing.B) {
	for _, engine := range []Engine{Best, WebRTC, Speex} {
		for _, stages := range []Stages{{Echo: true}, {Noise: true}, {Gain: true}, {Echo: true, Noise: true}, All()} {
			b.Run(engine.String()+"/"+stages.String(), func(b *testing.B) {
				p := newProcessor(b, Config{Stages: stages, Engine: engine})
				stereo := make([]float32, 2*audio.BlockFrames)
				at := start
				blocks(b, func(far, near *block) {
					for j, x := range far {
						stereo[2*j], stereo[2*j+1] = x, x
					}
					p.Play(stereo, at.Add(30*time.Millisecond))
					p.Process(near[:], at)
					at = at.Add(audio.BlockDuration)
				})
			})
		}
	}
}

// BenchmarkStage is of each stage on its own.
func BenchmarkStage(b *testing.B) {
	b.Run("reference", func(b *testing.B) {
		r := newReference()
		stereo := make([]float32, 2*audio.BlockFrames)
		at := start
		blocks(b, func(far, _ *block) {
			r.play(stereo, at.Add(30*time.Millisecond))
			r.heard(far, at)
			at = at.Add(audio.BlockDuration)
		})
	})
	b.Run("high-pass", func(b *testing.B) {
		h := newHighPass()
		blocks(b, func(_, near *block) { h.process(near) })
	})
	b.Run("echo-filter", func(b *testing.B) {
		f := newEchoFilter()
		var echo block
		blocks(b, func(far, near *block) { f.process(far, near, &echo) })
	})
	b.Run("echo-residual", func(b *testing.B) {
		r := newResidual()
		blocks(b, func(far, near *block) { r.process(near, far) })
	})
	for _, engine := range []Engine{WebRTC, Speex} {
		b.Run("noise/"+engine.String(), func(b *testing.B) {
			p := newProcessor(b, Config{Stages: Stages{Noise: true}, Engine: engine})
			blocks(b, func(far, near *block) {
				if err := p.noise.process(far, near); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
	b.Run("gain", func(b *testing.B) {
		var g gain
		blocks(b, func(_, near *block) { g.process(near) })
	})
}

// blocks gives f one block of far and near sound after the other.
func blocks(b *testing.B, f func(far, near *block)) {
	speech := atLevel(prompt(b, "demo-congrats")[:10*audio.Rate], -20)
	talk := prompt(b, "demo-instruct")
	before := cpu()
	for i := range b.N {
		from := i % (len(speech)/audio.BlockFrames - 1) * audio.BlockFrames
		far := block(talk[from:])
		near := block(speech[from:])
		for j := range near {
			near[j] += far[j] / 4
		}
		f(&far, &near)
	}
	// Of a core, at 100 blocks a second; on a busy machine the time by the
	// clock says little.
	spent := (cpu() - before).Seconds() / float64(b.N)
	b.ReportMetric(100*100*spent, "%core")
	b.ReportMetric(1e6*spent, "cpu-µs/block")
}

// cpu is the time that this process has spent on a processor.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
