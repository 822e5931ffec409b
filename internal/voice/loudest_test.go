package voice

import (
	"math"
	"strconv"
	"testing"
	"time"

	"teahouse/codec"
	"teahouse/internal/audio"
	"teahouse/room"
)

// choir is a number of voices, each a tone of its own, that are heard in one
// seat, block by block, with no clock but this one.
type choir struct {
	voice  *Voice
	seat   *Seat
	at     time.Time
	frames int // pushed of each
	all    []*chorister
	sound  []float32 // stereo, since it was last emptied
}

type chorister struct {
	member room.Member
	hz     float64
	level  func(frame int) float64 // amplitude
	claim  func(level uint8) uint8
	enc    *codec.Encoder
	opus   [codec.MaxOpus]byte
	frame  room.Frame
	pcm    []float32
}

func newChoir(t testing.TB, levels ...func(int) float64) *choir {
	t.Helper()
	v, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	c := &choir{voice: v, seat: v.Sit(room.ID{1}, true), at: time.Now()}
	for i, level := range levels {
		enc, err := codec.NewEncoder(codec.EncoderConfig{Complexity: 1})
		if err != nil {
			t.Fatal(err)
		}
		c.all = append(c.all, &chorister{
			member: room.Member{byte(i + 1)}, hz: 300 + 50*float64(i), level: level, enc: enc,
			claim: func(l uint8) uint8 { return l }, pcm: make([]float32, 960),
		})
	}
	return c
}

// step is 20 ms: a frame of everybody, and four halves of blocks.
func (c *choir) step(t testing.TB) {
	for _, m := range c.all {
		loud := float32(m.level(c.frames))
		for i := range m.pcm {
			m.pcm[i] = loud * float32(math.Sin(2*math.Pi*m.hz*float64(c.frames*960+i)/audio.Rate))
		}
		n, err := m.enc.Encode(m.opus[:], m.pcm)
		if err != nil {
			t.Fatal(err)
		}
		m.frame = room.Frame{
			Counter: uint32(c.frames), MediaTime: uint32(c.frames * 960), SpurtStart: c.frames == 0,
			Level: m.claim(audio.Level(m.pcm)), Opus: m.opus[:n],
		}
		c.seat.Heard(m.member, &m.frame, c.at)
	}
	c.frames++
	for range 4 {
		c.sound = append(c.sound, c.voice.playout.mix(c.at)...)
		c.at = c.at.Add(audio.BlockDuration / 2)
	}
}

func (c *choir) run(t testing.TB, d time.Duration) {
	c.sound = c.sound[:0]
	for range int(d / (20 * time.Millisecond)) {
		c.step(t)
	}
}

// decoded is who has a place.
func (c *choir) decoded() (places int, has []bool) {
	for _, m := range c.all {
		p := (*c.seat.heard.Load())[m.member]
		has = append(has, !p.passed)
		if !p.passed {
			places++
		}
	}
	return places, has
}

func steady(decibels float64) func(int) float64 {
	return func(int) float64 { return float64(audio.Decibels(decibels)) }
}

// The eight loudest are heard and nobody else; somebody who becomes louder is
// heard a moment later, in the place of the one who was least loud, and the
// figures of those who are passed over go on as if they were heard.
func TestLoudestAreHeard(t *testing.T) {
	// Eight that differ by less than the hysteresis, and three that are fainter
	// by more: whoever came first, these eight have the places in the end.
	decibels := []float64{-14, -15, -16, -17, -18, -19, -20, -22, -27, -28}
	var levels []func(int) float64
	for _, db := range append(decibels, 0) {
		levels = append(levels, steady(db))
	}
	const rises = 100
	levels[10] = func(frame int) float64 {
		if frame < rises {
			return float64(audio.Decibels(-35))
		}
		return float64(audio.Decibels(-12))
	}
	c := newChoir(t, levels...)
	c.run(t, 2*time.Second)
	sound := second(c.sound, time.Second)
	places, has := c.decoded()
	if places != mostDecoded {
		t.Errorf("%d are decoded", places)
	}
	for i := range c.all {
		part, rms := power(sound, c.all[i].hz)
		if heard := math.Sqrt(part) * rms; has[i] != (i < 8) || (heard > 0.001) != (i < 8) {
			t.Errorf("voice %d: decoded %v, heard at %.4f", i, has[i], heard)
		}
		if p := (*c.seat.heard.Load())[c.all[i].member]; !p.speaks.on {
			t.Errorf("voice %d is not shown to speak", i)
		} else if i < len(decibels) && math.Abs(float64(p.level.Load())+decibels[i]-3) > 2 {
			t.Errorf("voice %d is shown at -%d dBov, not at %.0f", i, p.level.Load(), decibels[i]-3)
		}
	}
	c.run(t, 100*time.Millisecond)
	if _, has := c.decoded(); !has[10] || has[7] {
		t.Errorf("100 ms after voice 10 has become the loudest: %v", has)
	}
	c.run(t, 2*time.Second)
	if part, rms := power(second(c.sound, time.Second), c.all[10].hz); math.Sqrt(part)*rms < 0.1 {
		t.Errorf("voice 10 is heard at %.4f", math.Sqrt(part)*rms)
	}
	for _, s := range c.seat.Stats() {
		if s.Lost > 0 || s.Skipped > 0 || s.OnTime+2 < s.Sent {
			t.Errorf("%+v", s)
		}
		// As all come at once, some lose a moment until their levels are known.
		if i := s.Member[0] - 1; (s.Unheard > 5) != (i >= 7) {
			t.Errorf("voice %d: %d frames unheard", i, s.Unheard)
		}
	}
}

// Eight are all decoded however silent some are, and all at once: nobody's
// first word waits for a place.
func TestEightAreAllHeard(t *testing.T) {
	var levels []func(int) float64
	for range 7 {
		levels = append(levels, steady(-20))
	}
	levels = append(levels, func(frame int) float64 { return float64(frame/100) * 0.1 })
	c := newChoir(t, levels...)
	c.run(t, 4*time.Second)
	if places, has := c.decoded(); places != 8 {
		t.Errorf("%v", has)
	}
	for _, s := range c.seat.Stats() {
		if s.Unheard > 0 {
			t.Errorf("%d frames of %d were passed over", s.Unheard, s.Member[0])
		}
	}
}

// Voices that are nearly alike do not take turns, and whoever has got a place
// keeps it for half a second at least.
func TestPlacesAreKept(t *testing.T) {
	var levels []func(int) float64
	for range 7 {
		levels = append(levels, steady(-15))
	}
	for i := range 2 { // by turns 2 dB louder than the other
		levels = append(levels, func(frame int) float64 {
			return float64(audio.Decibels(-30 + 2*float64((frame/15+i)%2)))
		})
	}
	c := newChoir(t, levels...)
	c.run(t, time.Second)
	changes := func(d time.Duration) (n int) {
		_, before := c.decoded()
		for range int(d / (20 * time.Millisecond)) {
			c.step(t)
			if _, now := c.decoded(); now[7] != before[7] {
				n++
				before = now
			}
		}
		return n
	}
	if n := changes(5 * time.Second); n != 0 {
		t.Errorf("a place has changed hands %d times for 2 dB", n)
	}
	for i := range 2 { // and now by 20 dB, every 200 ms
		c.all[7+i].level = func(frame int) float64 {
			return float64(audio.Decibels(-40 + 20*float64((frame/10+i)%2)))
		}
	}
	if n := changes(5 * time.Second); n < 1 || n > 10 {
		t.Errorf("a place has changed hands %d times in 5 s", n)
	}
}

// Who claims to be loud and is not has a place for a moment, and then no more.
func TestClaimsAreChecked(t *testing.T) {
	var levels []func(int) float64
	for range 8 {
		levels = append(levels, steady(-30))
	}
	c := newChoir(t, append(levels, func(int) float64 { return 0 })...)
	liar := c.all[8]
	liar.claim = func(uint8) uint8 { return 3 }
	c.run(t, 3*time.Second)
	if _, has := c.decoded(); has[8] {
		t.Error("the liar has a place after 3 s")
	}
	held := 0
	for range 500 {
		c.step(t)
		if _, has := c.decoded(); has[8] {
			held++
		}
	}
	if held > 0 {
		t.Errorf("the liar had a place for %d of 500 frames", held)
	}
}

// Many voices cost no allocation either, whoever is decoded.
func TestManyVoicesAllocateNothing(t *testing.T) {
	var levels []func(int) float64
	for i := range 12 {
		levels = append(levels, func(frame int) float64 { return 0.01 + 0.2*float64((frame/40+i)%3) })
	}
	c := newChoir(t, levels...)
	c.sound = make([]float32, 0, 1<<22)
	c.run(t, 2*time.Second)
	if n := testing.AllocsPerRun(300, func() { c.step(t) }); n != 0 {
		t.Errorf("%v allocations per frame of twelve voices", n)
	}
	unheard, on := uint64(0), uint64(0)
	for _, s := range c.seat.Stats() {
		unheard, on = unheard+s.Unheard, on+s.OnTime
	}
	if unheard == 0 || unheard > on/2 {
		t.Errorf("%d of %d frames unheard", unheard, on)
	}
}

// What it costs to hear seven, eight and sixteen who all talk, each 20 ms: a
// frame of everybody taken in, two blocks made.
func BenchmarkHear(b *testing.B) {
	for _, n := range []int{1, 7, 8, 16} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			var levels []func(int) float64
			for i := range n {
				levels = append(levels, steady(-15-float64(i)))
			}
			c := newChoir(b, levels...)
			c.sound = make([]float32, 0, 1<<20)
			c.run(b, time.Second) // everybody has a frame, which is said again
			frame := uint32(c.frames)
			b.ReportAllocs()
			for b.Loop() {
				for _, m := range c.all {
					m.frame.Counter, m.frame.MediaTime, m.frame.SpurtStart = frame, frame*960, false
					c.seat.Heard(m.member, &m.frame, c.at)
				}
				frame++
				for range 4 {
					c.voice.playout.mix(c.at)
					c.at = c.at.Add(audio.BlockDuration / 2)
				}
			}
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/20e6*100, "%core")
		})
	}
}
