package process

import (
	"math"

	"teahouse/internal/audio"
)

const (
	// residualHop is how much of the sound is worked on at once, 5 ms; what is
	// looked at is a block. residualDelay is what overlapping costs.
	residualHop   = audio.BlockFrames / 2
	residualDelay = audio.BlockDuration / 2
	residualSize  = 512
	residualBins  = residualSize/2 + 1 // 94 Hz apart
	// residualTop is where the echo filter ends, 12 kHz. Above it everything
	// is lowered as the octave below is.
	residualTop = 128
	// Presence of a near voice is judged between 300 Hz and 6 kHz.
	voiceLow, voiceTop = 3, 64

	// Tuned for digits and STOI in double-talk, on other voices and rooms than
	// those of the tests.

	// echoHeard is the least echo that is an echo: the power of a bin of white
	// noise at -77 dBFS.
	echoHeard = 1e-8 * residualSize
	// powerSmooth is how fast powers are followed, a share for each hop;
	// echoDecay is how a room rings on, 60 dB in 0.3 s; echoSpread is what a
	// loud speaker's distortion makes of its mean power, in other bins.
	powerSmooth = 0.5
	echoDecay   = 0.8
	echoSpread  = 0.001
	// leakStep is how far a leak moves in a hop, in octaves of power, so that
	// leakRank of what is seen lies below it; while a near voice is there, it
	// rises by leakHold less. leakLeast and leakMost bound it.
	leakStep            = 0.03
	leakRank            = 0.6
	leakHold            = 0.9
	leakLeast, leakMost = -12, 3
	// A near voice is not there where there is less than voiceNone more than
	// the expected rest of the echo, in octaves of power, and there where
	// there is more than voiceSure. voiceFade is how fast it is forgotten, a
	// share for each hop; it is seen at once.
	voiceNone, voiceSure = 1.5, 4
	voiceFade            = 0.1
	// oversubtract is by how much more than expected is taken away, in power.
	oversubtract = 8
	// What is taken away at most, as a factor: little from a voice that might
	// be hurt, all that matters where there is none.
	leastVoice, leastEcho = 0.5, 0.001
	// gainDown and gainUp are how fast factors follow, a share for each hop.
	gainDown, gainUp = 0.7, 0.9
)

type (
	residualRow   [residualBins]float32
	residualFrame [audio.BlockFrames]float32
)

// residual lowers what the echo filter leaves: what the filter has not learnt
// yet, the room's ringing beyond its end, and what a speaker distorts. It is a
// Wiener filter by short-time spectra (as E. Hänsler and G. Schmidt, "Acoustic
// Echo and Noise Control", 2004, chapter 10), whose estimate of the echo's rest
// in each bin is the filter's echo, held while a room rings, times a leak. The
// leak is not computed from the filter's state, which knows nothing of
// distortion and drift, but is a running quantile of what is left in that bin
// beside its echo (by steps as H. Robbins and S. Monro, "A stochastic
// approximation method", 1951): near voices raise a bin now and then, the
// echo's rest is always there.
//
// Where everything is explained by echo, it is taken away altogether; where a
// near voice is there as well, hardly anything is, as words that are lost are
// worse than an echo below a voice.
type residual struct {
	fourier *fourier
	window  residualFrame // a half sine: its square overlaps to 1

	left, echo residualFrame // the newest block of what the filter leaves and finds
	tail       [residualHop]float32
	time       [residualSize]float32

	leftR, leftI, echoR, echoI residualRow

	// Powers, smoothed: of what is left, of the echo, of both together, and of
	// the echo as it rings on.
	leftPower, echoPower, bothPower, ringing residualRow

	leak  residualRow // in octaves of power
	gain  residualRow
	voice float32 // 0 to 1: how surely a near voice is there
}

func newResidual() *residual {
	r := &residual{fourier: newFourier(residualSize), voice: 1}
	for i := range r.window {
		r.window[i] = float32(math.Sin(math.Pi * (float64(i) + 0.5) / audio.BlockFrames))
	}
	for k := range r.gain {
		r.gain[k] = 1
	}
	return r
}

// forget takes the echo filter for one that knows nothing.
func (r *residual) forget() { clear(r.leak[:]) }

// process lowers what is left of echo in near, from which echo has not been
// taken yet; what comes out is residualDelay late.
func (r *residual) process(near, echo *block) {
	const hop = residualHop
	for at := 0; at < audio.BlockFrames; at += hop {
		copy(r.left[:], r.left[hop:])
		copy(r.echo[:], r.echo[hop:])
		copy(r.echo[hop:], echo[at:at+hop])
		for i := range hop {
			r.left[hop+i] = near[at+i] - echo[at+i]
		}
		r.spectrum(&r.leftR, &r.leftI, &r.left)
		r.spectrum(&r.echoR, &r.echoI, &r.echo)
		r.measure()
		r.listen()
		r.decide()
		for k, g := range r.gain {
			r.leftR[k] *= g
			r.leftI[k] *= g
		}
		r.fourier.backward(r.time[:], r.leftR[:], r.leftI[:])
		for i := range hop {
			near[at+i] = r.tail[i] + r.window[i]*r.time[i]
			r.tail[i] = r.window[hop+i] * r.time[hop+i]
		}
	}
}

func (r *residual) spectrum(re, im *residualRow, x *residualFrame) {
	for i := range x {
		r.time[i] = x[i] * r.window[i]
	}
	clear(r.time[audio.BlockFrames:])
	r.fourier.forward(re[:], im[:], r.time[:])
}

// measure follows the powers.
func (r *residual) measure() {
	// What decays for ever ends in denormal numbers, which are slow.
	const nothing = 1e-20
	var sum float32
	for k := range residualTop {
		lr, li, er, ei := r.leftR[k], r.leftI[k], r.echoR[k], r.echoI[k]
		r.leftPower[k] += powerSmooth*(lr*lr+li*li-r.leftPower[k]) + nothing
		r.echoPower[k] += powerSmooth*(er*er+ei*ei-r.echoPower[k]) + nothing
		r.bothPower[k] += powerSmooth*((lr+er)*(lr+er)+(li+ei)*(li+ei)-r.bothPower[k]) + nothing
		sum += r.echoPower[k]
	}
	spread := echoSpread * sum / residualTop
	for k := range residualTop {
		r.ringing[k] = max(r.echoPower[k]+spread, echoDecay*r.ringing[k])
	}
}

// listen moves the leaks, and judges whether a near voice is there.
func (r *residual) listen() {
	var sum, weights float64
	for k := range residualTop {
		if r.ringing[k] <= echoHeard {
			continue
		}
		echo := math.Log2(float64(r.ringing[k]))
		more := math.Log2(float64(r.leftPower[k])) - echo
		if leak := float64(r.leak[k]); more > leak {
			r.leak[k] += leakStep * leakRank * (1 - leakHold*r.voice)
		} else {
			r.leak[k] -= leakStep * (1 - leakRank)
		}
		r.leak[k] = max(leakLeast, min(r.leak[k], leakMost))
		if k >= voiceLow && k < voiceTop {
			weight := echo - math.Log2(echoHeard)
			sum += weight * min(8, more-float64(r.leak[k]))
			weights += weight
		}
	}
	voice := float32(1) // where there is no echo, all that is heard is near
	if weights > 0 {
		voice = float32(max(0, min((sum/weights-voiceNone)/(voiceSure-voiceNone), 1)))
	}
	r.voice = max(voice, r.voice+voiceFade*(voice-r.voice))
}

// decide moves the gains.
func (r *residual) decide() {
	least := float32(leastEcho * math.Pow(leastVoice/leastEcho, float64(r.voice)))
	var top float32
	for k := range residualTop {
		want := float32(1)
		if r.ringing[k] > echoHeard {
			expected := r.ringing[k] * float32(math.Exp2(float64(r.leak[k])))
			share := expected / r.leftPower[k]
			want = max(0, 1-oversubtract*share)
			want *= 1 - (1-r.voice)*min(1, 10*oversubtract*share)
			want = max(least, want)
		}
		// A filter that is wrong adds to the sound; that is never let through.
		if r.leftPower[k] > r.bothPower[k] {
			want *= float32(math.Sqrt(float64(r.bothPower[k] / r.leftPower[k])))
		}
		follow := float32(gainUp)
		if want < r.gain[k] {
			follow = gainDown
		}
		r.gain[k] += follow * (want - r.gain[k])
		if k >= residualTop/2 {
			top += r.gain[k] / (residualTop / 2)
		}
	}
	for k := residualTop; k < residualBins; k++ {
		r.gain[k] = top
	}
}
