package voice

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"teahouse/codec"
	"teahouse/internal/audio"
	"teahouse/internal/mesh/meshtest"
	"teahouse/room"
)

// cleaner is a Processor that notes what it is given, and turns all sound up.
type cleaner struct {
	mu       sync.Mutex
	played   []time.Time
	captured []time.Time
	loudest  float32
	closed   int
}

func (c *cleaner) Play(stereo []float32, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.played = append(c.played, at)
	c.loudest = max(c.loudest, audio.Peak(stereo))
}

func (c *cleaner) Process(mono []float32, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.captured = append(c.captured, at)
	for i := range mono {
		mono[i] *= 4
	}
}

func (c *cleaner) Delay() time.Duration { return 7 * time.Millisecond }

func (c *cleaner) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed++
	return nil
}

// TestProcessor: what is captured goes through the processor, with its time;
// what is played goes to it after the mix, in step with time; it is closed once.
func TestProcessor(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		microphone := audio.NewTone(440)
		c := &cleaner{}
		plain, cleaned := &wire{from: room.Member{1}, hearers: 1}, &wire{from: room.Member{2}, hearers: 1}
		other := audio.NewTone(440)
		a := start(t, Config{Microphone: other})
		b := start(t, Config{Microphone: microphone, Processor: c})
		seatA, seatB := a.Sit(room.ID{1}, false), b.Sit(room.ID{1}, false)
		plain.to = []*Seat{seatB} // b hears a
		seatA.Attach(plain)
		seatB.Attach(cleaned)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		was := b.MouthToEar(MemberStats{}, 0)
		closeAll(t, a, b)
		closeAll(t, b)

		c.mu.Lock()
		defer c.mu.Unlock()
		if c.closed != 1 {
			t.Errorf("the processor is closed %d times", c.closed)
		}
		for name, times := range map[string][]time.Time{"played": c.played, "captured": c.captured} {
			if len(times) < 150 {
				t.Fatalf("%d blocks %s in 2 s", len(times), name)
			}
			for i := 1; i < len(times); i++ {
				if d := times[i].Sub(times[i-1]); d < 9*time.Millisecond || d > 11*time.Millisecond {
					t.Fatalf("%s: %v from one block to the next", name, d)
				}
			}
		}
		if c.loudest < 0.05 {
			t.Errorf("of a tone that is played the processor hears a peak of %v", c.loudest)
		}
		if was < c.Delay() {
			t.Errorf("from mouth to ear it is said to be %v, less than the processing alone", was)
		}
		loud, quiet := cleaned.heard(), plain.heard()
		if d := int(quiet[10].level) - int(loud[10].level); d < 10 || d > 14 {
			t.Errorf("sound that the processor turns up by 12 dB is sent %d dB louder", d)
		}
	})
}

// TestPushToTalkSends: nothing leaves while the key is up; a press sends what
// was said just before too, as a spurt of its own, and no media time twice.
func TestPushToTalkSends(t *testing.T) {
	for _, samples := range []int{480, 960, 2880} {
		meshtest.Bubble(t, func(t *testing.T) {
			microphone := audio.NewTone(440)
			w := &wire{hearers: 1}
			v := start(t, Config{
				Microphone: microphone, Gate: audio.GatePTT,
				Encoder: codec.EncoderConfig{FrameSamples: samples},
			})
			v.Sit(room.ID{1}, false).Attach(w)
			frame := time.Duration(samples) * time.Second / audio.Rate
			time.Sleep(time.Second)
			if n := len(w.heard()); n != 0 {
				t.Fatalf("%d frames are sent with the key up", n)
			}
			for range 3 {
				before := len(w.heard())
				v.Press(true)
				time.Sleep(300 * time.Millisecond)
				v.Press(false)
				time.Sleep(700 * time.Millisecond)
				synctest.Wait()
				spurt := w.heard()[before:]
				if len(spurt) < 2 || !spurt[0].start || !spurt[len(spurt)-1].end {
					t.Fatalf("a press sends %d frames: %+v", len(spurt), spurt)
				}
				for i, f := range spurt {
					if i > 0 && (f.start || f.media != spurt[i-1].media+uint32(samples)) {
						t.Fatalf("frame %d after %+v is %+v", i, spurt[i-1], f)
					}
				}
				length := time.Duration(len(spurt)-1) * frame
				least := 300*time.Millisecond + audio.GateTail
				if length < least || length > least+audio.GatePreRoll+2*frame {
					t.Errorf("a press of 300 ms sends %v", length)
				}
			}
			all := w.heard()
			for i := 1; i < len(all); i++ {
				// The end of a spurt has the media time after it.
				if int32(all[i].media-all[i-1].media) < 0 {
					t.Errorf("frame %d goes back in time: %+v after %+v", i, all[i], all[i-1])
				}
			}
			closeAll(t, v)
		})
	}
}

// TestVoiceGateSends: the packets go on while the gate is closed, and hold
// silence.
func TestVoiceGateSends(t *testing.T) {
	meshtest.Bubble(t, func(t *testing.T) {
		w := &wire{hearers: 1}
		v := start(t, Config{Microphone: &murmur{Microphone: audio.NewSilence()}, Gate: audio.GateVoice})
		v.Sit(room.ID{1}, false).Attach(w)
		time.Sleep(6 * time.Second)
		synctest.Wait()
		sent := w.heard()
		if len(sent) < 290 {
			t.Errorf("%d frames in 6 s", len(sent))
		}
		for i, f := range sent[10:] {
			if f.level != audio.SilentLevel {
				t.Fatalf("frame %d of a room where nobody speaks has the level %d", i+10, f.level)
			}
		}
		closeAll(t, v)
	})
}

// murmur is a microphone in a room with a noise of about -60 dBFS.
type murmur struct {
	audio.Microphone
	x uint32
}

func (m *murmur) Read(block []float32) (time.Time, error) {
	at, err := m.Microphone.Read(block)
	for i := range block {
		block[i] = m.next()
	}
	return at, err
}

func (m *murmur) next() float32 {
	m.x = m.x*1664525 + 1013904223
	return (float32(m.x>>8)/(1<<24) - 0.5) * 0.0035
}

// TestPushToTalkEverywhere: in each mode that has a key a press sends what was
// said just before it and just after it too.
func TestPushToTalkEverywhere(t *testing.T) {
	for _, m := range []Mode{Standard, Thrifty, Shielded} {
		meshtest.Bubble(t, func(t *testing.T) {
			const down, up = 1000 * time.Millisecond, 1300 * time.Millisecond
			// A word that begins 30 ms before the key goes down, and one that
			// ends 150 ms after it went up; another one much later.
			microphone := newTalker(func(at time.Duration) bool {
				return at >= down-30*time.Millisecond && at < down+50*time.Millisecond ||
					at >= up-50*time.Millisecond && at < up+150*time.Millisecond || at > 2*time.Second
			})
			w := &wire{hearers: 1}
			v := start(t, Config{Microphone: microphone, Mode: m, Gate: audio.GatePTT})
			v.Sit(room.ID{1}, false).Attach(w)
			time.Sleep(down)
			v.Press(true)
			time.Sleep(up - down)
			v.Press(false)
			time.Sleep(2 * time.Second)
			synctest.Wait()
			begins, ends := time.Duration(0), time.Duration(0)
			for _, f := range w.heard() {
				at := time.Duration(f.media) * time.Second / audio.Rate
				if m == Shielded {
					at -= audio.GatePreRoll // it is said later
				}
				if f.level > 30 {
					continue
				}
				if begins == 0 {
					begins = at
				}
				ends = at
			}
			// Frames are up to 40 ms long.
			if begins > down-20*time.Millisecond || begins < down-audio.GatePreRoll-30*time.Millisecond {
				t.Errorf("%v: heard from %v on, the key went down at %v", m, begins, down)
			}
			if ends < up+100*time.Millisecond || ends > up+audio.GateTail {
				t.Errorf("%v: heard until %v, the key went up at %v", m, ends, up)
			}
			closeAll(t, v)
		})
	}
}
