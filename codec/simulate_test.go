package codec

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// simulation is one voice over one path in virtual time.
type simulation struct {
	encoder EncoderConfig
	voice   []float32 // mono
	// path gives the delays after which copies of a frame arrive, none if it
	// is lost. The second and further ones are copies sent again; lostCopy
	// stands for one that did not come.
	path func(i int, sent time.Duration) []time.Duration
	// wake is how late the n-th Pull comes.
	wake func(n int) time.Duration
	// frame may change a frame before it is sent, or stop it (false).
	frame       func(i int, f *Frame) bool
	block       int     // samples of a Pull; 0 means 240, as in the program
	drift       float64 // ppm that the sender's clock is slow
	phase       time.Duration
	start       time.Duration // of this simulation, where one receiver has several
	tail        time.Duration // pulled after the last frame was sent
	counter     uint32        // of the first frame
	media       uint32
	receiver    *Receiver
	each        func(at time.Duration, block []float32, p Pulled)
	eachArrival func(at time.Duration)
}

const lostCopy time.Duration = -1

type arrival struct {
	frame Frame
	at    time.Duration
}

var simulated = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// run plays the simulation and gives the sound pulled, left channel.
func (s simulation) run(t testing.TB) ([]float32, Stats) {
	t.Helper()
	if s.receiver == nil {
		s.receiver = NewReceiver(ReceiverConfig{})
	}
	if s.block == 0 {
		s.block = 240
	}
	if s.encoder.FrameSamples == 0 {
		s.encoder.FrameSamples = 960
	}
	length := s.encoder.FrameSamples
	packets := encodeAll(t, s.encoder, s.voice)
	var arrivals []arrival
	for i, p := range packets {
		f := Frame{
			Counter: s.counter + uint32(i), MediaTime: s.media + uint32(i*length), Opus: p,
			SpurtStart: i == 0, SpurtEnd: i == len(packets)-1, Level: 30,
		}
		if s.frame != nil && !s.frame(i, &f) {
			continue
		}
		samples := int64(int32(f.MediaTime-s.media)) + int64(length)
		sent := time.Duration(float64(samples) * 1e9 / Rate * (1 + s.drift*1e-6))
		copies := []time.Duration{0}
		if s.path != nil {
			copies = s.path(i, sent)
		}
		for k, d := range copies {
			if d == lostCopy {
				continue
			}
			g := f
			g.Repaired = k > 0
			arrivals = append(arrivals, arrival{g, sent + d})
		}
	}
	slices.SortStableFunc(arrivals, func(a, b arrival) int { return int(a.at - b.at) })

	var out []float32
	pcm := make([]float32, 2*s.block)
	if s.tail == 0 {
		s.tail = 500 * time.Millisecond
	}
	end := s.tail
	if len(arrivals) > 0 {
		end += arrivals[len(arrivals)-1].at
	}
	for n := 0; ; n++ {
		at := s.phase + time.Duration(float64(n*s.block)*1e9/Rate)
		if at > end {
			break
		}
		if s.wake != nil {
			at += s.wake(n)
		}
		for len(arrivals) > 0 && arrivals[0].at <= at {
			f := arrivals[0].frame
			s.receiver.Push(&f, simulated.Add(s.start+arrivals[0].at))
			if s.eachArrival != nil {
				s.eachArrival(arrivals[0].at)
			}
			arrivals = arrivals[1:]
		}
		p := s.receiver.Pull(pcm, simulated.Add(s.start+at))
		for i := range s.block {
			l, r := pcm[2*i], pcm[2*i+1]
			if !(math.Abs(float64(l)) <= sampleMost) || !(math.Abs(float64(r)) <= sampleMost) {
				t.Fatalf("at %v: sample %v, %v", at, l, r)
			}
			out = append(out, l)
		}
		if s.each != nil {
			s.each(at, pcm, p)
		}
	}
	stats := s.receiver.Stats()
	checkStats(t, stats, s.receiver.intake.waiting)
	return out, stats
}

// checkStats holds the sums that api.go promises.
func checkStats(t testing.TB, s Stats, waiting int) {
	t.Helper()
	if s.Lost != s.FEC+s.Concealed {
		t.Fatalf("lost %d, but FEC %d + concealed %d: %+v", s.Lost, s.FEC, s.Concealed, s)
	}
	if s.Received != s.OnTime+s.Repaired+s.Late+s.Undecodable+s.Skipped+uint64(waiting) {
		t.Fatalf("received %d, but the outcomes add up to something else (%d waiting): %+v", s.Received, waiting, s)
	}
	if s.Late+s.Undecodable > s.Lost {
		t.Fatalf("more causes than losses: %+v", s)
	}
}

// throughOpus is voice after Opus alone.
func throughOpus(t testing.TB, c EncoderConfig, voice []float32) []float32 {
	d, err := NewDecoder(1)
	if err != nil {
		t.Fatal(err)
	}
	var out []float32
	pcm := make([]float32, MaxFrame)
	for _, p := range encodeAll(t, c, voice) {
		n, err := d.Decode(pcm, p)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, pcm[:n]...)
	}
	return out
}

// likeness compares what came out with the reference as the acceptance test
// does: per window of 500 ms, shifted by up to 30 ms around where it should be.
// Windows in which the reference is silent are left out. shift is where ref
// stands in out, to about a millisecond.
func likeness(ref, out []float32) (median, worst float64, shift int) {
	const window = Rate / 2
	_, shift = correlation(down(ref[:min(len(ref), 4*Rate)]), down(out[:min(len(out), 5*Rate)]), Rate/8/4)
	shift *= 8
	var all []float64
	for at := 0; at+window <= len(ref); at += window {
		x := ref[at : at+window]
		if rms(x) < 0.003 {
			continue
		}
		from, to := max(0, at+shift-1440), min(len(out), at+shift+window+1440)
		if to-from < window {
			continue
		}
		c, lag := correlation(down(x), down(out[from:to]), 3000/8)
		fine := from + 8*lag
		for d := fine - 12; d <= fine+12; d++ {
			if d >= 0 && d+window <= len(out) {
				a, _ := correlation(x, out[d:d+window], 0)
				c = max(c, a)
			}
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return 0, 0, 0
	}
	slices.Sort(all)
	return all[len(all)/2], all[0], shift
}

// down is a crude eighth of the rate, for coarse search.
func down(x []float32) []float32 {
	out := make([]float32, len(x)/8)
	for i := range out {
		for k := range 8 {
			out[i] += x[8*i+k] / 8
		}
	}
	return out
}

// gaps is the longest run in which out is silent though ref is not, both
// aligned by shift, in samples, in blocks of 5 ms.
func gaps(ref, out []float32, shift int) int {
	longest, run := 0, 0
	for at := 0; at+240 <= len(ref) && at+shift+240 <= len(out); at += 240 {
		if rms(ref[at:at+240]) > 0.003 && rms(out[max(0, at+shift):at+shift+240]) < 1e-5 {
			run += 240
			longest = max(longest, run)
		} else {
			run = 0
		}
	}
	return longest
}

// Paths.

func jittered(rng *rand.Rand, loss float64, jitter time.Duration) func(int, time.Duration) []time.Duration {
	return func(int, time.Duration) []time.Duration {
		if rng.Float64() < loss {
			return nil
		}
		return []time.Duration{20*time.Millisecond + time.Duration(rng.Float64()*float64(jitter))}
	}
}
