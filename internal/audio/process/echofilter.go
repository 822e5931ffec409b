package process

import "teahouse/internal/audio"

const (
	// The way from the speaker to the microphone is taken to be 200 ms long,
	// lead, devices' errors and reverberation included: echoParts pieces of a
	// block each.
	echoParts = 20
	// echoSize is the transform: a block and the one before it, rounded up.
	echoSize = 1024
	// echoBins is how much of the spectrum is filtered: to 12 kHz. Above it,
	// speech has little and small speakers have less; see residual.go.
	echoBins = 256

	// How fast the filter learns; tuned on talk of other voices and rooms than
	// those of the tests. echoStay is A²: what is still true of the way after
	// a block, in power; 1 for a way that never changes.
	echoStay = 0.998
	// echoTrust weighs the filter's own uncertainty in the gain, and
	// echoLearnt how much of it a block of far sound takes away: 480/1024
	// both, if bins were independent of each other. They are not, as blocks
	// are windowed; and the uncertainty is worth keeping where clocks drift.
	echoTrust, echoLearnt = 1, 0.2
	// echoSmooth is how fast the spectrum of the near sound is followed, a
	// share for each block.
	echoSmooth = 0.2
	// echoQuiet is the least that the near sound is taken for, a power
	// spectrum: -60 dBFS of white noise.
	echoQuiet = 1e-6 * echoSize
	// echoUnknown is the variance of the way's spectrum, over all its pieces,
	// before anything was heard of it: as loud as what is played.
	echoUnknown = 1
	// echoConstrained of the pieces, in turn, are made short again in each
	// block.
	echoConstrained = 2
)

// echoRow is one number for each bin, 47 Hz apart.
type echoRow [echoBins]float32

type echoSpectrum struct{ re, im echoRow }

// echoPart is what is known of one piece of the way from speaker to
// microphone: its transfer function, and the variance of that.
type echoPart struct {
	way      echoSpectrum
	variance echoRow
}

// echoFilter is an adaptive filter that finds in what the microphone hears
// what the speaker has played: linear, in the frequency domain (overlap-save,
// J. J. Shynk, "Frequency-domain and multirate adaptive filtering", 1992), in
// pieces (J.-S. Soo and K. K. Pang, "Multidelay block frequency domain
// adaptive filter", 1990). Each bin of each piece is a Kalman filter, whose
// gain says by itself when there is something to be learnt: little while
// someone near speaks, much after silence (G. Enzner and P. Vary,
// "Frequency-domain adaptive Kalman filter for acoustic echo control in
// hands-free telephones", Signal Processing 86, 2006; in pieces, with
// variances alone: F. Kuech, E. Mabande and G. Enzner, "State-space
// architecture of the partitioned-block-based acoustic echo controller",
// ICASSP 2014). With X the far spectra, W the way, P its variance, E the
// spectrum of what is left and Ψ that of the near sound, for each piece p:
//
//	K_p = P_p X_p* / (R Σ_q P_q |X_q|² + Ψ)
//	W_p ← W_p + K_p E
//	P_p ← A² (1 - S K_p X_p) P_p + (1 - A²) |W_p|²
//
// where R is echoTrust, S echoLearnt and A² echoStay. Ψ is the smoothed power
// of E, which has the echo's rest in it: that errs to the side of learning
// less (S. Malik and G. Enzner, "Online maximum-likelihood learning of
// time-varying dynamical models in block-frequency-domain", ICASSP 2010, find
// both).
type echoFilter struct {
	fourier *fourier
	history [echoSize]float32 // far sound
	far     [echoParts]echoSpectrum
	newest  int // of far; the others follow, older and older
	parts   [echoParts]echoPart
	turn    int // the piece that was constrained last
	near    echoRow

	// What a block is worked on with.
	sum    echoSpectrum
	power  echoRow
	re, im [echoSize/2 + 1]float32
	time   [echoSize]float32
}

func newEchoFilter() *echoFilter {
	f := &echoFilter{fourier: newFourier(echoSize)}
	f.forget()
	return f
}

// forget forgets the way, not what was played.
func (f *echoFilter) forget() {
	for i := range f.parts {
		part := &f.parts[i]
		part.way = echoSpectrum{}
		for k := range part.variance {
			part.variance[k] = float32(echoUnknown) / echoParts
		}
	}
	clear(f.near[:])
}

// process fills echo with what of near is far's echo, and learns from it. All
// samples are finite and within -1..1; echo is finite, unless the filter has
// gone astray.
func (f *echoFilter) process(far, near, echo *block) {
	const fresh = echoSize - audio.BlockFrames
	copy(f.history[:], f.history[audio.BlockFrames:])
	copy(f.history[fresh:], far[:])
	f.newest = (f.newest + echoParts - 1) % echoParts
	f.fourier.forward(f.re[:], f.im[:], f.history[:])
	newest := &f.far[f.newest]
	copy(newest.re[:], f.re[:])
	copy(newest.im[:], f.im[:])

	f.predict()
	f.toTime(&f.sum)
	copy(echo[:], f.time[fresh:])

	clear(f.time[:fresh])
	for i, y := range echo {
		f.time[fresh+i] = near[i] - y
	}
	f.fourier.forward(f.re[:], f.im[:], f.time[:])
	f.learn()
	for range echoConstrained {
		f.turn = (f.turn + 1) % echoParts
		f.constrain(&f.parts[f.turn].way)
	}
}

// predict gives the echo's spectrum, in sum, and the variance of that, in
// power.
func (f *echoFilter) predict() {
	sum, power := &f.sum, &f.power
	*sum, *power = echoSpectrum{}, echoRow{}
	for i := range f.parts {
		part, x := &f.parts[i], &f.far[(f.newest+i)%echoParts]
		for k := range echoBins {
			xr, xi, wr, wi := x.re[k], x.im[k], part.way.re[k], part.way.im[k]
			sum.re[k] += xr*wr - xi*wi
			sum.im[k] += xr*wi + xi*wr
			power[k] += part.variance[k] * (xr*xr + xi*xi)
		}
	}
}

// learn moves the way by what is left, whose spectrum is in re and im.
func (f *echoFilter) learn() {
	e, scale := &f.sum, &f.power // from here on: E and 1 over the gain's denominator
	for k := range echoBins {
		er, ei := f.re[k], f.im[k]
		f.near[k] += echoSmooth * (er*er + ei*ei - f.near[k])
		scale[k] = 1 / (echoTrust*f.power[k] + f.near[k] + echoQuiet)
		e.re[k], e.im[k] = er*scale[k], ei*scale[k]
	}
	for i := range f.parts {
		part, x := &f.parts[i], &f.far[(f.newest+i)%echoParts]
		for k := range echoBins {
			xr, xi, p := x.re[k], x.im[k], part.variance[k]
			wr := part.way.re[k] + p*(xr*e.re[k]+xi*e.im[k])
			wi := part.way.im[k] + p*(xr*e.im[k]-xi*e.re[k])
			part.way.re[k], part.way.im[k] = wr, wi
			learnt := echoLearnt * scale[k] * p * (xr*xr + xi*xi)
			part.variance[k] = echoStay*(1-learnt)*p + (1-echoStay)*(wr*wr+wi*wi) + 1e-9
		}
	}
}

// constrain makes a piece of the way a block long again: what is longer wraps
// around, and would be the echo of sound that is yet to come. One of twenty is
// enough to hold it (Soo and Pang alternate as well).
func (f *echoFilter) constrain(way *echoSpectrum) {
	f.toTime(way)
	clear(f.time[audio.BlockFrames:])
	f.fourier.forward(f.re[:], f.im[:], f.time[:])
	copy(way.re[:], f.re[:])
	copy(way.im[:], f.im[:])
}

func (f *echoFilter) toTime(s *echoSpectrum) {
	copy(f.re[:], s.re[:])
	copy(f.im[:], s.im[:])
	clear(f.re[echoBins:])
	clear(f.im[echoBins:])
	f.fourier.backward(f.time[:], f.re[:], f.im[:])
}
