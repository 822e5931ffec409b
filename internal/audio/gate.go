package audio

import (
	"fmt"
	"time"
)

// GateMode says when a microphone is let through.
type GateMode int

const (
	// GateOpen lets everything through.
	GateOpen GateMode = iota
	// GateVoice lets through what is louder than the noise: it opens at
	// gateOpens, and closes gateHold after all was below gateCloses.
	GateVoice
	// GatePTT lets through what is said while a key is down, and a little
	// before and after.
	GatePTT
)

// ParseGate reads open, voice or ptt. The error is one sentence.
func ParseGate(text string) (GateMode, error) {
	for m := GateOpen; m <= GatePTT; m++ {
		if text == m.String() {
			return m, nil
		}
	}
	return 0, fmt.Errorf("%.20q is no gate; give ptt (push to talk), voice (opens by itself when someone speaks) or open", text)
}

// String is how ParseGate reads it.
func (m GateMode) String() string {
	if m < GateOpen || m > GatePTT {
		return "none"
	}
	return [...]string{"open", "voice", "ptt"}[m]
}

const (
	// GatePreRoll is what push to talk lets through of the time before the
	// key went down: people begin to speak as they press.
	GatePreRoll = preRollBlocks * BlockDuration
	// GateTail is what it lets through after the key went up, or the last
	// sound of a word would be cut.
	GateTail = tailBlocks * BlockDuration

	preRollBlocks = 4
	tailBlocks    = 20

	// The voice gate opens at a block gateOpens dB above the noise and not
	// below gateOpensLeast dBFS, which every syllable of a voice 40 dB below
	// full scale is, and a quiet room is not. It stays open as long as a block
	// within gateHold was above the lower threshold.
	gateOpens, gateOpensLeast   = 12, -50
	gateCloses, gateClosesLeast = 6, -56
	gateHold                    = 300 * time.Millisecond
)

// GateState is what became of a block.
type GateState int

const (
	// GateShut: push to talk is up. Nothing is to be sent.
	GateShut GateState = iota
	// GateSilent: nobody speaks. The block is silence now.
	GateSilent
	// GatePassed: the block goes through.
	GatePassed
)

// Gate decides block by block what of a microphone is let through. It adds no
// delay and allocates nothing. The zero value is open; not safe for concurrent
// use.
type Gate struct {
	Mode GateMode // changes with the next block
	// Late makes push to talk give all sound GatePreRoll later, and none of it
	// as before: so what was said right before the key went down is there
	// though nothing is sent twice or at another time. It changes with the
	// next block.
	Late bool

	was    gateKind
	floor  NoiseFloor
	passed bool // the block before was let through
	left   int  // voice: blocks of hold; ptt: of tail

	ring [preRollBlocks * BlockFrames]float32 // ptt: the blocks before
	held int                                  // blocks in it, the newest last
}

// gateKind is what a Gate was told to be.
type gateKind struct {
	mode GateMode
	late bool
}

// Step takes a mono block of BlockFrames and makes it silence where the state
// that it answers says so; where the gate opens or shuts within the block, the
// block fades. pressed tells whether the key is down.
//
// before is what was captured right before the block, up to GatePreRoll, and
// is to be sent before it: only where push to talk has just gone down, and
// nothing that was let through already. It is valid until the next Step.
func (g *Gate) Step(block []float32, pressed bool) (state GateState, before []float32) {
	block = block[:BlockFrames]
	floor := g.floor.Step(Power(block)) // whatever the mode: it may change
	if now := (gateKind{g.Mode, g.Late}); now != g.was {
		switch {
		case now.mode != g.was.mode:
			g.left = 0 // a hold of the one is no tail of the other
		case now.late && g.left > 0:
			g.left += preRollBlocks
		case !now.late:
			g.left = max(0, g.left-preRollBlocks)
		}
		if g.passed || now.mode != g.was.mode {
			g.held = 0 // it has been let through, or was of another gate
		}
		g.was = now
	}
	switch g.Mode {
	case GateVoice:
		g.held = 0
		return g.voice(block, floor), nil
	case GatePTT:
		if g.Late {
			return g.talkLate(block, pressed), nil
		}
		return g.talk(block, pressed)
	default:
		g.held, g.passed = 0, true
		return GatePassed, nil
	}
}

// Lost tells that sound was lost: what was captured before does not stand
// right before what comes.
func (g *Gate) Lost() { g.held = 0 }

func (g *Gate) voice(block []float32, floor float64) GateState {
	level := Power(block)
	switch {
	case level >= max(floor+gateOpens, gateOpensLeast),
		g.passed && level >= max(floor+gateCloses, gateClosesLeast):
		g.left = int(gateHold / BlockDuration)
	case g.left > 0:
		g.left--
	}
	return g.pass(block, g.left > 0, GateSilent)
}

func (g *Gate) talk(block []float32, pressed bool) (GateState, []float32) {
	if pressed {
		g.left = tailBlocks
	} else if g.left > 0 {
		g.left--
	}
	if g.left == 0 {
		if !g.passed {
			g.keep(block)
			return GateShut, nil
		}
		return g.pass(block, false, GatePassed), nil // the block that fades away
	}
	n := g.held * BlockFrames
	g.held = 0
	if n == 0 {
		return g.pass(block, true, GatePassed), nil
	}
	g.passed = true
	before := g.ring[len(g.ring)-n:]
	fade(before[:BlockFrames], 0, 1)
	return GatePassed, before
}

// talkLate is talk for a block that is given preRollBlocks later.
func (g *Gate) talkLate(block []float32, pressed bool) GateState {
	if pressed {
		g.left = preRollBlocks + tailBlocks
	} else if g.left > 0 {
		g.left--
	}
	full := g.held == preRollBlocks
	var out [BlockFrames]float32 // silence while the ring fills
	if full {
		copy(out[:], g.ring[:])
	}
	g.keep(block)
	switch {
	case full:
		copy(block, out[:])
		return g.pass(block, g.left > 0, GateShut)
	case g.passed: // it has become late in mid-speech: what comes is said again later
		return g.pass(block, false, GateShut)
	}
	clear(block)
	return GateShut
}

// pass lets block through, or makes it silence and answers shut; a change is a
// fade over the block.
func (g *Gate) pass(block []float32, open bool, shut GateState) GateState {
	was := g.passed
	g.passed = open
	switch {
	case open && was:
	case open:
		// The first sound of a word is what tells it from others: half a
		// millisecond is enough against a click.
		fade(block[:BlockFrames/20], 0, 1)
	case was:
		fade(block, 1, 0)
		return GatePassed
	default:
		clear(block)
		return shut
	}
	return GatePassed
}

// keep adds block to what was captured before the key goes down.
func (g *Gate) keep(block []float32) {
	copy(g.ring[:], g.ring[BlockFrames:])
	copy(g.ring[len(g.ring)-BlockFrames:], block)
	g.held = min(g.held+1, preRollBlocks)
}

// fade goes from one gain to the other, in a straight line.
func fade(block []float32, from, to float32) {
	step := (to - from) / float32(len(block))
	for i := range block {
		block[i] *= from + step*float32(i)
	}
}
