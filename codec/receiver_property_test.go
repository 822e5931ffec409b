package codec

import (
	"encoding/binary"
	"math"
	"testing"
	"time"
)

// pool is frames of every length, with and without in-band copies, mono and
// stereo, for tests that build wild streams.
func pool(t testing.TB) (packets [][]byte) {
	for _, c := range []EncoderConfig{
		{FrameSamples: 480},
		{FrameSamples: 960, FEC: true, ExpectedLossPercent: 20},
		{FrameSamples: 1920, Bitrate: 24000, FEC: true, ExpectedLossPercent: 20},
		{FrameSamples: 2880},
		{FrameSamples: 960, Application: Audio, Bitrate: 96000},
	} {
		packets = append(packets, encodeOnce(t, c, syntheticSpeech(Rate/2, 6))...)
	}
	return packets
}

// drive runs a receiver by a script of bytes, five a step, and holds it to
// everything that must be true whatever happens.
func drive(t *testing.T, packets [][]byte, script []byte) {
	r := NewReceiver(ReceiverConfig{})
	pcm := make([]float32, 2*2000)
	now := simulated
	var counter, media uint32
	var due uint64 // outcomes so far
	for len(script) >= 5 {
		op, a, b, c := script[0], script[1], script[2], binary.LittleEndian.Uint16(script[3:])
		script = script[5:]
		before, next, resets := r.intake.begun, r.intake.next, r.stats.Resets
		switch op % 8 {
		case 0, 1, 2: // the next frame, perhaps not quite
			f := Frame{Opus: packets[int(c)%len(packets)], SpurtStart: op&16 != 0, SpurtEnd: op&32 != 0, Repaired: op&64 != 0}
			counter++
			f.Counter, f.MediaTime = counter+uint32(int8(a)/16), media+uint32(int8(b)/64)
			info, _ := parsePacket(f.Opus)
			media += uint32(info.samples)
			r.Push(&f, now)
		case 3: // any frame
			f := Frame{Opus: packets[int(c)%len(packets)], Counter: counter + uint32(int32(int8(a))<<(b%25)), MediaTime: media + uint32(int32(int8(b))<<(a%25))}
			r.Push(&f, now.Add(time.Duration(int8(a))*time.Second))
		case 4: // any bytes
			n := min(int(c)%1500, len(script))
			r.Push(&Frame{Opus: script[:n], Counter: counter, MediaTime: media}, now)
		case 5: // a pause, or a jump of the clock
			now = now.Add(time.Duration(int8(a)) << (b % 40))
			if op&128 != 0 {
				media += uint32(c)
			}
			if op&64 != 0 && b%8 == 0 {
				r.Reset()
			}
		default:
			n := 480
			if op&128 != 0 {
				n = int(c) % 2000
			}
			if op&64 != 0 {
				r.SetUnheard(op&32 != 0)
			}
			block := pcm[:2*n]
			p := r.Pull(block, now)
			for _, s := range block {
				if !(s >= -sampleMost && s <= sampleMost) {
					t.Fatalf("sample %v", s)
				}
			}
			if p.Level > 127 {
				t.Fatalf("level %d", p.Level)
			}
			now = now.Add(time.Duration(n) * time.Second / Rate)
		}
		s := r.Stats()
		checkStats(t, s, r.intake.waiting)
		sum := s.OnTime + s.Repaired + s.FEC + s.Concealed + s.Skipped
		if before && s.Resets == resets && sum-due != uint64(r.intake.next-next) && r.intake.next-next < 1<<31 {
			t.Fatalf("%d frames were due, %d have an outcome", r.intake.next-next, sum-due)
		}
		due = sum
		if s.Target < 0 || s.Target > 400*time.Millisecond {
			t.Fatalf("target %v", s.Target)
		}
		if r.tape.head < tapeHistory || r.tape.tail < r.tape.head || r.tape.tail > tapeLength {
			t.Fatalf("tape from %d to %d", r.tape.head, r.tape.tail)
		}
		if r.stuck > 0 {
			t.Fatal("produce went round in a circle")
		}
		waiting := 0
		for i := range r.intake.slots {
			if r.intake.slots[i].state == full {
				waiting++
			}
		}
		if waiting != r.intake.waiting {
			t.Fatalf("%d frames wait, %d counted", waiting, r.intake.waiting)
		}
	}
}

func TestWildStreams(t *testing.T) {
	packets := pool(t)
	for seed := range uint64(60) {
		rng := newRand(seed)
		script := make([]byte, 5*800)
		for i := range script {
			script[i] = byte(rng.Uint32())
			if i%5 == 0 && seed%3 == 0 && script[i]%8 > 2 && script[i]%8 < 6 {
				script[i] = 6 // every third stream is nearly orderly
			}
		}
		drive(t, packets, script)
	}
}

func FuzzReceiver(f *testing.F) {
	packets := pool(f)
	orderly := []byte{}
	for i := range byte(60) {
		orderly = append(orderly, 0, 0, 0, i, 0, 6, 0, 0, 0, 0, 6, 0, 0, 0, 0)
	}
	f.Add(orderly)
	f.Add(append(append([]byte{}, orderly...), 3, 127, 24, 0, 0, 5, 127, 33, 0, 0, 6, 0, 0, 0, 0, 3, 129, 20, 1, 0, 6, 0, 0, 0, 0))
	f.Add([]byte{4, 0, 0, 10, 0, 11, 3, 1, 0x40, 0, 9, 9, 9, 9, 9, 134, 0, 0, 1, 0, 166, 0, 0, 208, 7})
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) > 20000 {
			return
		}
		drive(t, packets, script)
	})
}

// The delay rule, against a plain reading of it.
func TestTargetRule(t *testing.T) {
	for seed := range uint64(20) {
		rng := newRand(seed)
		var w delayWindow
		var came []int64
		lost := 0
		for i := range 190 {
			if rng.Float64() < 0.1 {
				w.lost()
				if i > 0 && len(came) > 0 {
					lost++
				}
				continue
			}
			rel := int64(rng.ExpFloat64() * 20e6)
			if rng.Float64() < 0.02 {
				rel += 600e6 // as good as lost
			}
			came = append(came, rel)
			w.add(rel, int64(i)*20e6, true)
		}
		base := int64(math.MaxInt64)
		for _, rel := range came {
			base = min(base, rel)
		}
		n := max(len(came)+lost, windowFew)
		later := func(d int64) (count int) {
			for _, rel := range came {
				if rel-base > d && rel-base <= tooLate {
					count++
				}
			}
			return count
		}
		most := (n+1)/200 - 1 // this is never a clean path
		if later(w.need) > most {
			t.Errorf("seed %d: %d frames of %d later than %v", seed, later(w.need), n, time.Duration(w.need))
		}
		if w.need > 0 && later(w.need-1) <= most {
			t.Errorf("seed %d: %v is more than needed", seed, time.Duration(w.need))
		}
	}
}

// One hiccup in four seconds does not move the target of a clean path, two do.
func TestOneHiccupPasses(t *testing.T) {
	for hiccups, want := range []bool{false, false, true} {
		var w delayWindow
		for i := range 200 {
			rel := int64(0)
			if i >= 100 && i < 100+10*hiccups && i%10 == 0 {
				rel = 60e6
			}
			w.add(rel, int64(i)*20e6, true)
		}
		if got := w.need > 0; got != want {
			t.Errorf("after %d hiccups the path needs %v", hiccups, time.Duration(w.need))
		}
	}
}

// A pause of any length moves the base by what clocks may drift, no more, and
// does not make the path look jittery.
func TestWindowBridgesPauses(t *testing.T) {
	for _, pause := range []time.Duration{time.Second, time.Minute, time.Hour} {
		for _, ppm := range []int64{-300, 0, 300} {
			var w delayWindow
			at := int64(0)
			for range 200 {
				at += 20e6
				w.add(1e6, at, true)
			}
			at += int64(pause)
			drifted := 1e6 + int64(pause)/1e6*ppm
			for range 3 {
				at += 20e6
				w.add(drifted, at, true)
			}
			if abs(w.base-drifted) > 20e3 || w.need > 20e3 {
				t.Errorf("pause %v at %d ppm: base %v off, need %v", pause, ppm, time.Duration(w.base-drifted), time.Duration(w.need))
			}
		}
	}
}

// Joints of a sine stay a sine: cutting or repeating whole periods moves no
// sample by more than the sine itself does.
func TestStretchOfSine(t *testing.T) {
	for _, hz := range []float64{90, 150, 220, 330} {
		for _, length := range []int{480, 960, 2880} {
			r := NewReceiver(ReceiverConfig{})
			sine := make([]float32, 2*(tapeHistory+length))
			for i := range sine {
				sine[i] = float32(0.5 * math.Sin(2*math.Pi*hz*float64(i/2)/Rate))
			}
			for _, direction := range []int{-1, 1} {
				r.tape.init()
				r.tape.write(sine[:2*tapeHistory])
				joint := r.tape.write(sine[2*tapeHistory:])
				r.tape.head = joint - tapeHistory
				width := min(joinLength, length/3)
				longest := longestPeriod
				if direction > 0 {
					longest = min(longest, length-width)
				}
				if float64(longest) < Rate/hz {
					continue // no whole period fits
				}
				period, likeness := r.period(joint, width, direction, longest)
				if likeness < 0.99 {
					t.Errorf("%v Hz, %d samples: likeness %.3f at %d", hz, length, likeness, period)
					continue
				}
				if direction > 0 {
					r.tape.cut(joint, period, width)
				} else {
					r.tape.repeat(joint, period, min(width, period))
				}
				out := r.tape.from(joint - 100)
				if want := length + 100 - direction*period; len(out)/2 != want {
					t.Fatalf("%d samples, not %d", len(out)/2, want)
				}
				for i := 2; i < len(out); i += 2 {
					if d := math.Abs(float64(out[i] - out[i-2])); d > 1.2*math.Pi*hz/Rate {
						t.Fatalf("%v Hz, direction %d: a step of %.4f at %d", hz, direction, d, i/2)
					}
				}
			}
		}
	}
}

// Where sound is joined that does not fit, the cross-fade keeps it smooth, and
// sound begins at the gain that there was before.
func TestJoinsAreSmooth(t *testing.T) {
	const hz, amplitude, length = 200.0, 0.5, 960
	sine := make([]float32, 2*(tapeHistory+length))
	for i := range sine {
		sine[i] = float32(amplitude * math.Sin(2*math.Pi*hz*float64(i/2)/Rate))
	}
	// A raised cosine rises by at most pi/2 per width, between two samples
	// that are at most twice the amplitude apart.
	most := amplitude * (2*math.Pi*hz/Rate + 2*math.Pi/2/joinLength)
	for n := joinLength; n < length-joinLength; n += 37 {
		for name, change := range map[string]func(*Receiver, int){
			"cut":     func(r *Receiver, joint int) { r.tape.cut(joint, n, joinLength) },
			"repeat":  func(r *Receiver, joint int) { r.tape.repeat(joint, n, joinLength) },
			"fade in": func(r *Receiver, joint int) { r.tape.ramp(joint, 0, 1) },
		} {
			r := NewReceiver(ReceiverConfig{})
			past := sine[:2*tapeHistory]
			if name == "fade in" {
				past = make([]float32, 2*tapeHistory)
			}
			r.tape.write(past)
			phase := 2 * n // where in its period the newer sound begins
			joint := r.tape.write(sine[phase : phase+2*length])
			if name != "fade in" {
				copy(r.tape.buf[2*joint:], sine[2*tapeHistory:])
			}
			change(r, joint)
			out := r.tape.from(joint - 10)
			for i := 2; i < len(out); i++ {
				if d := math.Abs(float64(out[i] - out[i-2])); d > most {
					t.Fatalf("%s of %d: a step of %.4f at %d", name, n, d, i/2-10)
				}
			}
		}
	}
}

// A frame whose rough copy came in the next one is measured once, when that
// came, whether it comes itself before its turn, after it, or never.
func TestCopyIsMeasuredOnce(t *testing.T) {
	packets := encodeAll(t, EncoderConfig{FEC: true, ExpectedLossPercent: 20}, speech(t)[:4*Rate])
	at := 0 // two frames in a row that bear copies
	for ; ; at++ {
		a, _ := parsePacket(packets[at+1])
		b, _ := parsePacket(packets[at+2])
		if a.fec && b.fec {
			break
		}
	}
	for _, pulls := range []int{0, 1, 20} {
		r := NewReceiver(ReceiverConfig{})
		now := simulated
		push := func(i int) {
			r.Push(&Frame{Counter: uint32(i), MediaTime: uint32(i * 960), Opus: packets[at+i]}, now)
		}
		pcm := make([]float32, 960)
		push(0)
		for range 5 {
			now = now.Add(10 * ms)
			r.Pull(pcm, now)
		}
		push(2) // and with it a copy of 1
		for range pulls {
			now = now.Add(10 * ms)
			r.Pull(pcm, now)
		}
		size := r.window.size
		if size != 3 {
			t.Errorf("after %d pulls %d measured, not 3", pulls, size)
		}
		push(1)
		if r.window.size != size {
			t.Errorf("after %d pulls the frame itself was measured again", pulls)
		}
	}
}

func TestReceiverAllocatesNothing(t *testing.T) {
	packets := encodeAll(t, EncoderConfig{FEC: true, ExpectedLossPercent: 20}, speech(t)[:8*Rate])
	rng := newRand(1)
	r := NewReceiver(ReceiverConfig{})
	pcm := make([]float32, 960)
	i := 0
	f := new(Frame)
	if n := testing.AllocsPerRun(350, func() {
		at := simulated.Add(time.Duration(i) * 20 * ms)
		*f = Frame{Counter: uint32(i), MediaTime: uint32(i * 960), Opus: packets[i]}
		if rng.Float64() > 0.1 {
			r.Push(f, at.Add(time.Duration(rng.Float64()*30e6)))
		}
		r.Pull(pcm, at)
		r.Pull(pcm, at.Add(10*ms))
		i++
	}); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
	if s := r.Stats(); s.FEC == 0 || s.Concealed == 0 || s.StretchedDuration == 0 {
		t.Errorf("not everything was tried: %+v", s)
	}
}

func BenchmarkPushPull(b *testing.B) {
	packets := encodeAll(b, EncoderConfig{}, speech(b))
	for name, jitter := range map[string]float64{"clean": 0, "jitter": 30e6} {
		b.Run(name, func(b *testing.B) {
			rng := newRand(1)
			r := NewReceiver(ReceiverConfig{})
			pcm := make([]float32, 960)
			f := new(Frame)
			b.ReportAllocs()
			i := 0
			for b.Loop() { // one frame of 20 ms: one Push, two Pulls
				at := simulated.Add(time.Duration(i) * 20 * ms)
				*f = Frame{Counter: uint32(i), MediaTime: uint32(i * 960), Opus: packets[i%len(packets)]}
				r.Push(f, at.Add(time.Duration(rng.Float64()*jitter)))
				r.Pull(pcm, at)
				r.Pull(pcm, at.Add(10*ms))
				i++
			}
		})
	}
}
