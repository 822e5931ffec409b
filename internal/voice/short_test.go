package voice

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"teahouse/internal/audio"
	"teahouse/internal/mesh"
	"teahouse/internal/mesh/meshtest"
	"teahouse/room"
)

// TestShortness: short frames come only where all that they need is there, and
// not before it has been there for a while.
func TestShortness(t *testing.T) {
	good := room.Flows{Base: 1, Short: true}
	for name, c := range map[string]struct {
		flows room.Flows
		want  bool
	}{
		"one link":       {good, true},
		"three":          {room.Flows{Base: 3, Short: true}, true},
		"four":           {room.Flows{Base: 4, Short: true}, false},
		"not short":      {room.Flows{Base: 1}, false},
		"repaired":       {room.Flows{Base: 1, Short: true, Depth: 1}, false},
		"a thin one too": {room.Flows{Base: 1, Thin: 1, Short: true}, false},
		"nobody":         {room.Flows{}, false},
	} {
		var s shortness
		media := uint32(1<<32 - audio.Rate) // wraps meanwhile
		for at := time.Duration(0); at < 10*time.Second; at += 20 * time.Millisecond {
			if got := s.step(c.flows, media); got && at < shortAfter || got != c.want && at > shortAfter+time.Second {
				t.Errorf("%s: %v after %v", name, got, at)
				break
			}
			media += 960
		}
		if s.on && s.step(room.Flows{Base: 1}, media) {
			t.Errorf("%s: short where a link is not", name)
		}
	}
}

// TestShortnessDoesNotFlap: a link that is good and bad by turns, however long
// each takes, makes few changes in an hour; and one bad moment after a good
// while is forgotten.
func TestShortnessDoesNotFlap(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, longest := range []time.Duration{10 * time.Second, 30 * time.Second, time.Minute} {
		var s shortness
		var media uint32
		changes, worth := 0, false
		left := time.Duration(0)
		for at := time.Duration(0); at < time.Hour; at += 10 * time.Millisecond {
			if left -= 10 * time.Millisecond; left <= 0 {
				worth, left = !worth, time.Duration(rng.Float64()*float64(longest))
			}
			before := s.on
			if s.step(room.Flows{Base: 1, Short: worth}, media) != before {
				changes++
			}
			media += 480
		}
		t.Logf("good and bad for up to %v by turns: %d changes in an hour", longest, changes)
		if changes > 40 {
			t.Errorf("good and bad for up to %v by turns: %d changes in an hour", longest, changes)
		}
	}
	s := shortness{on: true, since: 2 * shortKeeps, after: shortMost}
	s.step(room.Flows{Base: 1}, 0)
	if s.after != shortAfter {
		t.Errorf("one bad moment after %v: %v until the next try", 2*shortKeeps, s.after)
	}
}

// shape is what of a voice is seen on the wire within a second: packets, and the
// length of each, 0 if they differ.
func (p *pair) shape() (packets, length int) {
	from := time.Now()
	time.Sleep(time.Second)
	synctest.Wait()
	for _, o := range p.watch.since(from) {
		if !o.packet || o.kind != 1 {
			continue
		}
		if packets++; packets == 1 {
			length = o.size
		} else if o.size != length {
			length = 0
		}
	}
	return packets, length
}

// TestShortFrames: on a short and clean path frames become 10 ms long, in the
// modes that have them, and 20 again when the path gets worse, however much is
// said; the listener hears either change as one joint at most.
func TestShortFrames(t *testing.T) {
	for m, most := range map[Mode]int{Standard: 100, Studio: 100, Shielded: 50, Thrifty: 25} {
		t.Run(m.String(), func(t *testing.T) {
			meshtest.Bubble(t, func(t *testing.T) {
				near, far := mesh.Wire{Latency: time.Millisecond}, mesh.Wire{Latency: 12 * time.Millisecond}
				p := newPair(t, Config{Microphone: newTalker(always), Mode: m}, newSink(), near)
				p.voice.Start()
				time.Sleep(4 * time.Second)
				before, length := p.shape()
				lag := p.ear.Stats()[0].Delay
				time.Sleep(20 * time.Second)
				after, short := p.shape()
				st := p.ear.Stats()[0]
				t.Logf("%d packets of %d bytes a second, then %d of %d; delay %v, then %v; made up %v", before, length, after, short, lag, st.Delay, st.ConcealedDuration)
				rate := func(n, want int) bool { return n >= want && n <= want+1 } // both ends of the second
				if !rate(before, min(most, 50)) || !rate(after, most) || length == 0 || short == 0 {
					t.Errorf("%d packets of %d bytes a second, then %d of %d", before, length, after, short)
				}
				if st.Concealed != 0 || st.Skipped != 0 || st.Resets != 0 || st.Delay > 8*time.Millisecond {
					t.Errorf("on a clean path: %+v", st)
				}
				for _, way := range [][2]mesh.PeerID{{p.watch.Self().ID, p.other}, {p.other, p.watch.Self().ID}} {
					p.memory.SetWire(way[0], way[1], far)
				}
				time.Sleep(6 * time.Second) // a report, and 2 s without a pause
				again, long := p.shape()
				if !rate(again, min(most, 50)) || long != length {
					t.Errorf("%d packets of %d bytes a second where the path is long, before %d of %d", again, long, before, length)
				}
				end := p.ear.Stats()[0]
				t.Logf("then %d of %d; made up %v, late %d, delay %v", again, long, end.ConcealedDuration, end.Late, end.Delay)
				if end.Concealed > 4 || end.Skipped != 0 || end.Resets != 0 || end.ConcealedDuration > 60*time.Millisecond {
					t.Errorf("after the path got longer: %+v", end)
				}
				p.close()
			})
		})
	}
}
