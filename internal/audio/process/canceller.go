package process

import (
	"math"
	"time"

	"teahouse/internal/audio"
)

const (
	// astraySmooth is over how much sound the filter is judged, a share for
	// each block; astrayLouder is by how much what it leaves is louder than
	// what was heard, in power, where it is taken to be wrong. astrayLeast is
	// the power below which nothing is judged, -70 dBFS.
	astraySmooth = 0.1
	astrayLouder = 1.05
	astrayLeast  = 1e-7
	// guardBlocks is over how many blocks what comes out is never louder than
	// what went in by more than guardLouder, 0.5 dB; guardLeast is left alone,
	// -80 dBFS.
	guardBlocks = 10
	guardLouder = 1.122
	guardLeast  = 1e-8
)

// canceller takes the echo of what the speaker plays out of what the
// microphone hears: a linear filter finds it (echofilter.go), what is left is
// lowered (residual.go), and neither is let do harm:
//
//	far ----------> echoFilter --+ echo
//	                 ^           v
//	near ------------+--------> near - echo -> residual -> guard -> near
type canceller struct {
	filter   *echoFilter
	residual *residual
	guard    guard
	echo     block

	// Smoothed powers of what was heard and of what the filter left of it.
	heard, left float64
	relearnt    int // how often the filter had to begin anew
}

func newCanceller() *canceller {
	return &canceller{filter: newEchoFilter(), residual: newResidual(), guard: guard{gain: 1}}
}

// process takes far's echo out of near, in place; both are within -1..1. What
// comes out is canceller.delay late.
func (c *canceller) process(far, near *block) error {
	in := *near
	c.filter.process(far, near, &c.echo)
	c.judge(near)
	c.residual.process(near, &c.echo)
	c.guard.process(&in, near)
	return nil
}

// judge finds out whether the filter adds to the sound instead of taking from
// it, as when someone has moved the microphone: then it is quicker to learn
// the way anew than to unlearn it.
func (c *canceller) judge(near *block) {
	var heard, left float64
	for i, x := range near {
		e := float64(x - c.echo[i])
		heard += float64(x) * float64(x)
		left += e * e
	}
	c.heard += astraySmooth * (heard/audio.BlockFrames - c.heard)
	c.left += astraySmooth * (left/audio.BlockFrames - c.left)
	// Written so that a filter that has come to what is not a number is astray.
	if c.left <= astrayLouder*c.heard+astrayLeast {
		return
	}
	c.filter.forget()
	c.residual.forget()
	c.echo = block{}
	c.left = c.heard
	c.relearnt++
}

func (c *canceller) delay() time.Duration { return residualDelay }

func (c *canceller) close() {}

// guard holds what comes out below what went in.
type guard struct {
	late    [residualHop]float32 // the newest of what went in, which has not come out
	in, out [guardBlocks]float64 // energies
	at      int
	gain    float32
}

func (g *guard) process(in, out *block) {
	const hop = residualHop
	var went, comes float64
	for i := range hop {
		a, b := float64(g.late[i]), float64(in[i])
		went += a*a + b*b
	}
	copy(g.late[:], in[hop:])
	for _, x := range out {
		comes += float64(x) * float64(x)
	}
	g.at = (g.at + 1) % guardBlocks
	g.in[g.at], g.out[g.at] = went, 0
	allowed := guardLeast * audio.BlockFrames * guardBlocks
	for i := range g.in {
		allowed += guardLouder*g.in[i] - g.out[i]
	}
	gain := float32(1)
	if comes > allowed {
		gain = float32(math.Sqrt(max(0, allowed) / comes))
	}
	if gain < 1 || g.gain < 1 {
		g.ramp(out, gain)
	}
	comes = 0
	for _, x := range out {
		comes += float64(x) * float64(x)
	}
	g.gain, g.out[g.at] = gain, comes
}

// ramp goes to the gain in a millisecond, without a click.
func (g *guard) ramp(out *block, gain float32) {
	const ms = audio.Rate / 1000
	for i := range out {
		f := min(1, float32(i+1)/ms)
		out[i] *= g.gain + f*(gain-g.gain)
	}
}
