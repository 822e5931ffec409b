package main

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"teahouse/internal/audio"
)

// chirpEvery and chirpSamples shape what the chirp microphone hears: 20 ms of
// a sweep over the speech band, two and a half times a second, silence between.
const (
	chirpEvery   = audio.Rate * 2 / 5
	chirpSamples = audio.Rate / 50
)

// chirp is one sweep from 300 to 3,000 Hz under a raised cosine.
func chirp() []float32 {
	pcm := make([]float32, chirpSamples)
	for i := range pcm {
		t := float64(i) / audio.Rate
		length := float64(chirpSamples) / audio.Rate
		phase := 2 * math.Pi * (300*t + (3000-300)/(2*length)*t*t)
		window := 0.5 - 0.5*math.Cos(2*math.Pi*float64(i)/chirpSamples)
		pcm[i] = float32(0.6 * window * math.Sin(phase))
	}
	return pcm
}

// chirpMicrophone captures a chirp every 0.4 s on a clock that is known: sample
// n at start + n/48,000 s.
type chirpMicrophone struct {
	start  time.Time
	chirp  []float32
	n      int // samples given
	closed chan struct{}
	once   sync.Once
}

func newChirpMicrophone(start time.Time) *chirpMicrophone {
	return &chirpMicrophone{start: start, chirp: chirp(), closed: make(chan struct{})}
}

func (m *chirpMicrophone) Read(block []float32) (time.Time, error) {
	at := m.start.Add(samplesLast(m.n))
	for i := range block {
		block[i] = 0
		if k := (m.n + i) % chirpEvery; k < chirpSamples {
			block[i] = m.chirp[k]
		}
	}
	m.n += len(block)
	return at, waitUntil(m.start.Add(samplesLast(m.n)), m.closed)
}

func (*chirpMicrophone) Channels() int          { return 1 }
func (*chirpMicrophone) Latency() time.Duration { return 0 }

func (m *chirpMicrophone) Close() error {
	m.once.Do(func() { close(m.closed) })
	return nil
}

// earSpeaker is a speaker that remembers what it was given, and when.
type earSpeaker struct {
	start  time.Time // of its clock: half a block n is wanted at start + n × 5 ms
	keep   bool
	closed chan struct{}
	once   sync.Once

	// sound is closed when the first block that is no silence has come.
	sound      chan struct{}
	firstSound atomic.Int64 // when, in nanoseconds since start

	n int // halves of blocks taken; owned by the writer

	mu    sync.Mutex
	left  []float32       // the left channel so far, if keep
	times []time.Duration // for each half of a block when Write was called, since start
}

func newEarSpeaker(start time.Time, keep bool) *earSpeaker {
	return &earSpeaker{start: start, keep: keep, closed: make(chan struct{}), sound: make(chan struct{})}
}

// audible is what counts as sound: well above the noise of a decoder, -46 dBFS.
const audible = 0.005

func (s *earSpeaker) Write(block []float32) error {
	now := time.Since(s.start)
	if s.firstSound.Load() == 0 {
		for _, v := range block {
			if v > audible || v < -audible {
				s.firstSound.Store(int64(now))
				close(s.sound)
				break
			}
		}
	}
	if s.keep {
		s.mu.Lock()
		for i := 0; i < len(block); i += 2 {
			s.left = append(s.left, block[i])
		}
		s.times = append(s.times, now)
		s.mu.Unlock()
	}
	s.n += len(block) / (2 * audio.PlayFrames)
	return waitUntil(s.start.Add(samplesLast(s.n*audio.PlayFrames)), s.closed)
}

func (*earSpeaker) Latency() time.Duration { return 0 }
func (*earSpeaker) Underruns() uint64      { return 0 }

func (s *earSpeaker) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// heard is what was played so far.
func (s *earSpeaker) heard() (left []float32, times []time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]float32(nil), s.left...), append([]time.Duration(nil), s.times...)
}

// samplesLast is how long n samples last.
func samplesLast(n int) time.Duration { return time.Duration(n) * time.Second / audio.Rate }

// waitUntil waits for a point in time, or answers audio.ErrClosed.
func waitUntil(t time.Time, closed <-chan struct{}) error {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-closed:
		return audio.ErrClosed
	}
}

// find gives where in pcm the pattern fits best, and how well: the normalised
// correlation, 1 for the pattern itself.
func find(pcm, pattern []float32) (at int, fit float64) {
	var power float64
	for _, v := range pattern {
		power += float64(v) * float64(v)
	}
	for i := 0; i+len(pattern) <= len(pcm); i++ {
		var dot, here float64
		for k, p := range pattern {
			v := float64(pcm[i+k])
			dot += v * float64(p)
			here += v * v
		}
		if here > 0 {
			if c := dot / math.Sqrt(power*here); c > fit {
				at, fit = i, c
			}
		}
	}
	return at, fit
}
