package process

import (
	"math"
	"time"

	"teahouse/internal/audio"
)

// A clock learns from the time stamps of a stream of blocks when its samples
// are in the air. A sound card counts samples evenly, but not at exactly
// 48 kHz, and the stamps are made by threads that wake up when they may. Of
// each stamp only what two straight lines, one per block, would not explain
// is noise, so the clock is a Kalman filter of two states, how far the stream
// is behind its nominal time and how fast that grows (R. E. Kalman, "A New
// Approach to Linear Filtering and Prediction Problems", 1960). Times are
// seconds after the first stamp that the processor has seen.
type clock struct {
	begun   bool
	samples int64   // before the block that was stamped last
	at      float64 // when that block's first sample is in the air
	rate    float64 // seconds per second beyond the nominal: 1e-4 is 100 ppm slow

	p00, p01, p11 float64 // the covariance of at and rate
	noise         float64 // the variance of the stamps, s²
	heard         float64 // how many blocks that is the mean of
	off           int     // blocks in a row that were out of line, with their sign
}

const (
	blockSeconds = float64(audio.BlockFrames) / audio.Rate

	// clockPrior is the standard deviation of a sound card's rate: crystals
	// are within 100 ppm.
	clockPrior = 100e-6
	// clockWander is by how much the rate may have changed after a second, as
	// a standard deviation: 0.1 ppm, as a crystal warms up.
	clockWander = 0.1e-6
	// clockShake is the same for the time itself: what a resampler in a sound
	// server moves.
	clockShake = 3e-6
	// stampNoise is how much stamps jitter at first, and stampQuiet the least
	// that they are taken to, as standard deviations in seconds.
	stampNoise = 3e-3
	stampQuiet = 0.2e-3
	// noiseMemory is over how many blocks the noise is averaged, 2 s, and
	// stampNoise counts as much as noiseFirst of them.
	noiseMemory = 200
	noiseFirst  = 10
	// A stamp that is off by more than clockJump is out of line; clockPatience
	// of them in a row, all early or all late, mean that the stream was
	// interrupted: a device ran empty, or was opened again.
	clockJump     = 6e-3
	clockPatience = 20
	// A stamp off by more than clockGap is believed at once.
	clockGap = 0.25
)

// step takes the stamp of the next block. It answers true where the stream
// was interrupted, so that what came before says nothing about what follows.
func (c *clock) step(at float64) (jumped bool) {
	if !c.begun {
		c.begin(at)
		return false
	}
	c.samples += audio.BlockFrames
	c.predict()
	off := at - c.at
	if math.Abs(off) > clockJump {
		if (off > 0) != (c.off > 0) {
			c.off = 0
		}
		if off > 0 {
			c.off++
		} else {
			c.off--
		}
		if max(c.off, -c.off) >= clockPatience || math.Abs(off) > clockGap {
			c.restart(at)
			return true
		}
	} else {
		c.off = 0
	}
	c.correct(off)
	return false
}

func (c *clock) begin(at float64) {
	c.begun = true
	c.at = at
	c.p00, c.p01, c.p11 = stampNoise*stampNoise, 0, clockPrior*clockPrior
	c.noise, c.heard = stampNoise*stampNoise, noiseFirst
}

// restart keeps the rate, which is the device's, and forgets the rest.
func (c *clock) restart(at float64) {
	c.at, c.off = at, 0
	c.p00, c.p01 = c.noise, 0
}

func (c *clock) predict() {
	const dt = blockSeconds
	c.at += dt * (1 + c.rate)
	c.p00 += 2*dt*c.p01 + dt*dt*c.p11 + clockShake*clockShake*dt
	c.p01 += dt * c.p11
	c.p11 += clockWander * clockWander * dt
}

func (c *clock) correct(off float64) {
	// A thread that wakes up late is a fact about the thread: what is beyond
	// three times the usual is believed no more than three times the usual.
	most := 3 * math.Sqrt(c.noise)
	off = max(-most, min(off, most))
	c.heard = min(c.heard+1, noiseMemory)
	c.noise += (max(off*off, stampQuiet*stampQuiet) - c.noise) / c.heard
	s := c.p00 + c.noise
	k0, k1 := c.p00/s, c.p01/s
	c.at += k0 * off
	c.rate += k1 * off
	c.p11 -= k1 * c.p01
	c.p00, c.p01 = (1-k0)*c.p00, (1-k0)*c.p01
}

// sampleAt is the number of the sample, with its fraction, that is in the air
// at the time t.
func (c *clock) sampleAt(t float64) float64 {
	return float64(c.samples) + (t-c.at)/(1+c.rate)*audio.Rate
}

// epoch turns time stamps into seconds.
type epoch struct {
	begun bool
	zero  time.Time
}

func (e *epoch) seconds(at time.Time) float64 {
	if !e.begun {
		e.begun, e.zero = true, at
	}
	return at.Sub(e.zero).Seconds()
}
