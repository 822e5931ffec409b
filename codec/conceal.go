package codec

import "math"

const (
	concealFull = MaxFrame          // samples made up at full strength: 60 ms
	concealMost = Rate / 10         // after 100 ms only noise is left
	noiseTail   = Rate              // comfort noise fades over 1 s in a dry stream
	noiseMost   = 0.003             // RMS, -50 dBFS
	quietMost   = 0.003             // RMS below which sound may be cut freely
	quietBelow  = 0.03              // of the speech level: -30 dB
	quietEver   = 0.01              // RMS above which nothing is quiet
	sampleMost  = 1.5               // nothing louder than this leaves
	plcStep     = Rate * 25 / 10000 // libopus makes up multiples of 2.5 ms,
	plcLeast    = Rate / 100        // and does so best from 10 ms on
)

// voiceLevel follows how loud the voice and the silence between words are.
type voiceLevel struct {
	speech   float64 // RMS of loud frames, slowly forgotten
	floor    float64 // RMS of the quietest frames, slowly forgotten
	quietRun int     // samples of quiet in a row, up to the end of the tape
	seed     uint32
	noise    float32 // the noise generator's low-pass
}

func (v *voiceLevel) init() { v.floor, v.seed = noiseMost, 1 }

// hear takes one real frame (stereo).
func (v *voiceLevel) hear(pcm []float32) {
	rms := math.Sqrt(meanSquare(pcm))
	samples := len(pcm) / 2
	seconds := float64(samples) / Rate
	v.speech = max(rms, v.speech*(1-seconds/5))
	v.floor = min(max(rms, 1e-6), v.floor*(1+seconds/5)+1e-7, noiseMost)
	if rms < quietMost || rms < min(v.speech*quietBelow, quietEver) {
		v.quietRun += samples
	} else {
		v.quietRun = 0
	}
}

// addNoise adds comfort noise as loud as the silence was, its gain going
// evenly between two values.
func (v *voiceLevel) addNoise(pcm []float32, from, to float32) {
	n := len(pcm) / 2
	loud := float32(v.floor) * 3 // RMS of what the low-pass leaves: 1/3
	for i := range n {
		v.seed = v.seed*1664525 + 1013904223 // Numerical Recipes, section 7.1
		white := float32(int32(v.seed)) / (1 << 31)
		v.noise += 0.5 * (white - v.noise)
		s := v.noise * loud * (from + (to-from)*float32(i)/float32(n))
		pcm[2*i] += s
		pcm[2*i+1] += s
	}
}

// conceal puts n samples onto the tape that might have followed: by Opus for
// 60 ms, then fading to comfort noise. n is at most MaxFrame.
func (r *Receiver) conceal(n int) {
	if r.unheard {
		r.concealed += n
		r.pass(r.work[:2*n])
		return
	}
	out := r.work[:2*n]
	before := r.gain
	after := concealGain(r.concealed + n)
	if before > 0 && r.plc(n) {
		for i := range n {
			g := before + (after-before)*float32(i)/float32(n)
			out[2*i] *= g
			out[2*i+1] *= g
		}
	} else {
		clear(out)
	}
	r.voice.addNoise(out, 1-before, 1-after)
	r.tape.write(out)
	r.gain = after
	r.concealed += n
	r.concealedNs += nanoseconds(int64(n))
	r.voice.quietRun = 0
	r.voiced, r.active = true, true
}

// plc fills work with n samples of Opus' own concealment. SILK makes 10 ms of it
// whatever it is asked for, so what is left of them is kept for what follows.
func (r *Receiver) plc(n int) bool {
	have := copy(r.work[:2*n], r.ahead) / 2
	r.ahead = r.ahead[:copy(r.ahead, r.ahead[2*have:])]
	if have == n {
		return true
	}
	whole := max((n-have+plcStep-1)/plcStep*plcStep, plcLeast)
	made := r.work[2*have : 2*(have+whole)]
	if r.dec.DecodePLC(made) != nil {
		return false
	}
	sanitise(made)
	r.ahead = append(r.ahead[:0], r.work[2*n:2*(have+whole)]...)
	return true
}

// concealGain is how much of Opus' concealment is left after n samples of it.
func concealGain(n int) float32 {
	return 1 - float32(min(max(n-concealFull, 0), concealMost-concealFull))/(concealMost-concealFull)
}

// fadeAway ends sound that breaks off: 5 ms of concealment, fading.
func (r *Receiver) fadeAway() {
	if r.gain == 0 {
		return
	}
	if !r.plc(joinLength) {
		return
	}
	joint := r.tape.write(r.work[:2*joinLength])
	r.tape.ramp(joint, r.gain, 0)
	r.gain = 0
}

// breakOff ends a stream at once: 5 ms of what stands on the tape, or might have
// followed, fade beneath whatever comes next, so that another stream need not
// wait for its end.
func (r *Receiver) breakOff() {
	have := min(r.tape.pending(), joinLength)
	if have == 0 && r.gain == 0 {
		return // silence; or this very ending
	}
	r.ending = r.ending[:2*joinLength]
	clear(r.ending)
	if have < joinLength && r.gain > 0 && r.plc(joinLength) {
		for i, s := range r.work[:2*(joinLength-have)] {
			r.ending[2*have+i] = r.gain * s
		}
	}
	copy(r.ending, r.tape.buf[2*r.tape.head:2*(r.tape.head+have)])
	for i := range r.ending {
		r.ending[i] *= 1 - rise(i/2, joinLength)
	}
	r.tape.tail = r.tape.head
	r.gain = 0
	r.glideBy(0, glideSlow)
}

// blend adds what is left of a stream that broke off to the sound after the
// joint.
func (r *Receiver) blend(joint int) {
	n := min(len(r.ending), 2*(r.tape.tail-joint))
	for i, s := range r.ending[:n] {
		r.tape.buf[2*joint+i] += s
	}
	r.ending = r.ending[:copy(r.ending, r.ending[n:])]
}

// rest puts n samples of pause onto the tape: silence, or in a stream that has
// dried up comfort noise that goes.
func (r *Receiver) rest(n int) {
	n = min(n, MaxFrame)
	out := r.work[:2*n]
	clear(out)
	if left := noiseTail - r.concealed; r.concealed > 0 && left > 0 && !r.unheard {
		r.voice.addNoise(out, float32(left)/noiseTail, float32(max(left-n, 0))/noiseTail)
		r.concealed += n
	}
	r.blend(r.tape.write(out))
	r.tape.phase, r.glide = 0, 0 // nothing is heard of a glide's end
	r.voice.quietRun += n
	r.voiced, r.claim = false, silence
}

// pass puts silence onto the tape in the place of what is not decoded.
func (r *Receiver) pass(out []float32) (joint int) {
	if r.gain > 0 {
		r.breakOff()
	}
	clear(out)
	joint = r.tape.write(out)
	r.blend(joint)
	r.voice.quietRun += len(out) / 2
	r.stale, r.voiced = true, false
	return joint
}

// freshen has the decoder take what was passed over for lost, so that it does
// not go on from a sound that is long over.
func (r *Receiver) freshen() {
	if r.stale {
		r.plc(MaxFrame / 3)
		r.stale = false
	}
	if len(r.ahead) > 0 {
		r.breakOff() // the decoder goes on where that ends
		r.ahead = r.ahead[:0]
	}
}

// sanitise makes sound safe to mix, whatever was decoded: finite and bounded.
func sanitise(pcm []float32) {
	for i, s := range pcm {
		if !(s <= sampleMost && s >= -sampleMost) { // NaN too
			switch {
			case s > 0:
				pcm[i] = sampleMost
			case s < 0:
				pcm[i] = -sampleMost
			default:
				pcm[i] = 0
			}
		}
	}
}

func meanSquare(pcm []float32) float64 {
	var sum float64
	for _, s := range pcm {
		sum += float64(s) * float64(s)
	}
	return sum / float64(max(1, len(pcm)))
}
