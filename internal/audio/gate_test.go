package audio

import (
	"math"
	"slices"
	"testing"
	"time"
)

// sounding is a block of a sine at 300 Hz with the given mean square, the i-th
// of its kind.
func sounding(dbfs float64, i int) []float32 {
	b := make([]float32, BlockFrames)
	amplitude := math.Sqrt2 * math.Pow(10, dbfs/20)
	for j := range b {
		b[j] = float32(amplitude * math.Sin(2*math.Pi*300*float64(i*BlockFrames+j)/Rate))
	}
	return b
}

// hear runs blocks of the levels through g and gives the states.
func hear(g *Gate, levels ...float64) (states []GateState) {
	for i, l := range levels {
		state, _ := g.Step(sounding(l, i), false)
		states = append(states, state)
	}
	return states
}

func repeat(level float64, n int) []float64 {
	l := make([]float64, n)
	for i := range l {
		l[i] = level
	}
	return l
}

// open is in how many of the states something goes through.
func open(states []GateState) (n int) {
	for _, s := range states {
		if s == GatePassed {
			n++
		}
	}
	return n
}

func TestParseGate(t *testing.T) {
	for _, m := range []GateMode{GateOpen, GateVoice, GatePTT} {
		if got, err := ParseGate(m.String()); err != nil || got != m {
			t.Errorf("%v: %v, %v", m, got, err)
		}
	}
	for _, text := range []string{"", "Voice", "push", "none", "ptt,voice"} {
		if m, err := ParseGate(text); err == nil {
			t.Errorf("%q: %v", text, m)
		}
	}
}

func TestVoiceGate(t *testing.T) {
	hold := int(gateHold / BlockDuration)
	g := Gate{Mode: GateVoice}
	if n := open(hear(&g, repeat(-65, 500)...)); n != 0 {
		t.Errorf("a quiet room opens the gate %d times", n)
	}
	if states := hear(&g, repeat(-30, 50)...); open(states) != 50 {
		t.Errorf("speech is let through in %d of 50 blocks", open(states))
	}
	// Between the thresholds it stays open, and does not open.
	if states := hear(&g, repeat(-53, 100)...); open(states) != 100 {
		t.Errorf("what is above the lower threshold is let through in %d of 100 blocks", open(states))
	}
	if n := open(hear(&g, repeat(-65, 100)...)); n != hold {
		t.Errorf("the gate is held for %d blocks, not %d", n, hold)
	}
	if n := open(hear(&g, repeat(-53, 100)...)); n != 0 {
		t.Errorf("what is below the upper threshold opens the gate, %d times", n)
	}

	// Noise that lasts is no voice, however loud; a voice above it is.
	g = Gate{Mode: GateVoice}
	hear(&g, repeat(-65, 100)...)
	hear(&g, repeat(-40, 500)...)
	if n := open(hear(&g, repeat(-40, 100)...)); n != 0 {
		t.Errorf("noise of -40 dBFS is let through %d times, 5 s after it has begun", n)
	}
	if n := open(hear(&g, repeat(-24, 20)...)); n != 20 {
		t.Errorf("a voice 16 dB above the noise is let through in %d of 20 blocks", n)
	}
}

// TestGateFades: silence is silence, and no edge clicks.
func TestGateFades(t *testing.T) {
	g := Gate{Mode: GateVoice}
	levels := append(append(repeat(-120, 50), repeat(-20, 50)...), repeat(-60, 60)...)
	var last float32
	for i, l := range levels {
		b := sounding(l, i)
		state, _ := g.Step(b, false)
		for _, x := range b {
			// The sine itself moves by 0.0056 a sample, the fade by 0.006.
			if abs(x-last) > 0.02 {
				t.Fatalf("block %d: a jump from %v to %v", i, last, x)
			}
			last = x
		}
		if state == GateSilent && Peak(b) != 0 {
			t.Fatalf("block %d is called silence, and peaks at %v", i, Peak(b))
		}
	}
}

func TestPushToTalk(t *testing.T) {
	g := Gate{Mode: GatePTT}
	next := float32(1)
	// Blocks are numbered by what is in them, up to the fades.
	step := func(pressed bool) (state GateState, numbers []float32) {
		b := make([]float32, BlockFrames)
		for i := range b {
			b[i] = next
		}
		next++
		state, before := g.Step(b, pressed)
		for i := 0; i < len(before); i += BlockFrames {
			numbers = append(numbers, before[i+BlockFrames-1])
		}
		return state, append(numbers, b[BlockFrames-1])
	}
	for range 10 {
		if state, _ := step(false); state != GateShut {
			t.Fatal("something is let through before the key goes down")
		}
	}
	state, got := step(true)
	if want := []float32{7, 8, 9, 10, 11}; state != GatePassed || !close5(got, want) {
		t.Fatalf("as the key goes down %v comes (state %v), not %v", got, state, want)
	}
	for range 20 {
		if state, got := step(true); state != GatePassed || len(got) != 1 || got[0] != next-1 {
			t.Fatalf("while the key is down %v comes (state %v)", got, state)
		}
	}
	passed := 0
	for range 100 {
		state, got := step(false)
		if len(got) != 1 {
			t.Fatalf("as the key is up %v comes", got)
		}
		if state == GatePassed {
			passed++
		}
	}
	if want := int(GateTail / BlockDuration); passed != want {
		t.Errorf("after the key went up %v go through, not %v", time.Duration(passed)*BlockDuration, GateTail)
	}

	// Pressed again soon after the tail: nothing comes twice.
	step(true)
	for range tailBlocks + 2 {
		step(false)
	}
	if _, got := step(true); len(got) != 3 {
		t.Errorf("2 blocks after the tail %v come, not 3 blocks", got)
	}
	// And within the tail: no pre-roll.
	step(false)
	if _, got := step(true); len(got) != 1 {
		t.Errorf("within the tail %v come", got)
	}
	// Sound was lost: what is before the gap is not sent.
	for range 100 {
		step(false)
	}
	g.Lost()
	if _, got := step(true); len(got) != 1 {
		t.Errorf("over lost sound %v come", got)
	}
}

// A late gate gives the same sound for a press as another, each block at its
// own place in a row that is never shorter or longer.
func TestPushToTalkLate(t *testing.T) {
	g := Gate{Mode: GatePTT, Late: true}
	next := float32(1)
	step := func(pressed bool) (state GateState, number float32) {
		b := make([]float32, BlockFrames)
		for i := range b {
			b[i] = next
		}
		next++
		state, before := g.Step(b, pressed)
		if len(before) != 0 {
			t.Fatalf("%d samples come before block %v", len(before), next)
		}
		if state != GatePassed && Peak(b) != 0 {
			t.Fatalf("block %v is shut, and peaks at %v", next, Peak(b))
		}
		return state, b[BlockFrames-1]
	}
	for range 10 {
		if state, got := step(false); state != GateShut {
			t.Fatalf("%v is let through before the key goes down", got)
		}
	}
	// Down for 20 blocks, 11 to 30: 7 to 50 come, the last faded away.
	var passed []float32
	for i := range 100 {
		if state, got := step(i < 20); state == GatePassed {
			passed = append(passed, got)
		}
	}
	if n := preRollBlocks + 20 + tailBlocks; len(passed) != n {
		t.Fatalf("%d blocks come, not %d", len(passed), n)
	}
	for i, got := range passed[:len(passed)-1] {
		if math.Abs(float64(got-float32(i)-7)) > 0.05 {
			t.Fatalf("block %d of those that come is %v", i, got)
		}
	}
	// It becomes late in mid-speech, and is no more: what was let through does
	// not come again, but for the block that fades away.
	g.Late = false
	for range 100 {
		step2(&g, &next, false)
	}
	step2(&g, &next, true)
	was := next
	g.Late = true
	if state, got := step(true); state != GatePassed || got > 1 {
		t.Errorf("as it becomes late %v comes (state %v)", got, state)
	}
	for range preRollBlocks - 1 {
		if state, got := step(true); state != GateShut {
			t.Errorf("before what is late is there %v comes", got)
		}
	}
	for i := range 5 {
		if state, got := step(true); state != GatePassed || math.Abs(float64(got-was-float32(i))) > 0.05 {
			t.Errorf("late by %d blocks %v comes after %v (state %v)", preRollBlocks, got, was, state)
		}
	}
	g.Late = false
	if state, got := step(true); state != GatePassed || got != next-1 {
		t.Errorf("no more late, %v comes (state %v)", got, state)
	}
}

// step2 is a step whatever comes before.
func step2(g *Gate, next *float32, pressed bool) {
	b := make([]float32, BlockFrames)
	for i := range b {
		b[i] = *next
	}
	*next++
	g.Step(b, pressed)
}

// A hold that another gate began is no tail: with the key up nothing comes.
func TestGateChanges(t *testing.T) {
	for _, before := range []GateMode{GateOpen, GateVoice} {
		g := Gate{Mode: before}
		g.left = tailBlocks // as push to talk had left it
		hear(&g, repeat(-20, 50)...)
		g.Mode = GatePTT
		if n := open(hear(&g, repeat(-20, 50)...)); n > 1 { // the one that fades away
			t.Errorf("after %v %d blocks go through with the key up", before, n)
		}
	}
	g := Gate{Mode: GatePTT}
	g.Step(sounding(-20, 0), true)
	g.Mode = GateOpen
	hear(&g, -20)
	g.Mode = GatePTT
	if n := open(hear(&g, repeat(-20, 50)...)); n > 1 {
		t.Errorf("after a press of long ago %d blocks go through with the key up", n)
	}
}

func close5(got, want []float32) bool {
	if len(got) != len(want) {
		return false
	}
	for i := range got {
		if math.Abs(float64(got[i]-want[i])) > 0.05 { // the first block fades in
			return false
		}
	}
	return true
}

func TestGateAllocates(t *testing.T) {
	b := sounding(-20, 0)
	for i, mode := range []GateMode{GateOpen, GateVoice, GatePTT, GatePTT} {
		g := Gate{Mode: mode, Late: i == 3}
		n := 0
		if a := testing.AllocsPerRun(100, func() {
			n++
			g.Step(b, n%7 == 0)
		}); a != 0 {
			t.Errorf("%v: %v allocations", mode, a)
		}
	}
}

// FuzzGate: whatever comes, the state tells the truth about the block, and
// nothing is louder than it was, or than what was captured before where it is late.
func FuzzGate(f *testing.F) {
	f.Add([]byte{1, 2, 3, 200, 100, 0, 255}, uint8(2))
	f.Add([]byte{0, 0, 0, 255, 255, 255}, uint8(1))
	f.Add([]byte{0, 0, 201, 9, 200, 0, 0, 137, 255, 1, 0, 0}, uint8(6))
	f.Fuzz(func(t *testing.T, steps []byte, mode uint8) {
		g := Gate{Mode: GateMode(mode % 4), Late: mode&4 != 0}
		var peaks [preRollBlocks + 1]float32
		for i, s := range steps[:min(len(steps), 300)] {
			b := sounding(float64(s>>1)-120, i)
			if s == 255 {
				b[7] = float32(math.NaN())
			}
			peak := Peak(b)
			if s%16 == 9 {
				g.Mode, g.Late = GateMode(s>>4)%3, s&128 != 0
			}
			peaks[i%len(peaks)] = peak
			if g.Mode == GatePTT && g.Late {
				peak = slices.Max(peaks[:])
			}
			state, before := g.Step(b, s&1 == 1)
			if len(before)%BlockFrames != 0 || len(before) > preRollBlocks*BlockFrames || len(before) > 0 && (g.Mode != GatePTT || g.Late) {
				t.Fatalf("step %d: %d samples before", i, len(before))
			}
			if state == GateSilent && Peak(b) != 0 || Peak(b) > peak {
				t.Fatalf("step %d: state %v, a peak of %v, after %v", i, state, peak, Peak(b))
			}
			if state == GateShut && g.Mode != GatePTT {
				t.Fatalf("step %d: mode %v is shut", i, g.Mode)
			}
		}
	})
}
