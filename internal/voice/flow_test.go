package voice

import (
	"math/rand/v2"
	"testing"

	"teahouse/codec"
)

// packets are empty Opus packets of SILK: 10, 20, 40 and 60 ms (RFC 6716,
// section 3.1: configurations 8 to 11).
var packets = map[int][]byte{480: {8 << 3, 0}, 960: {9 << 3, 0}, 1920: {10 << 3, 0}, 2880: {11 << 3, 0}}

func TestPackets(t *testing.T) {
	for want, p := range packets {
		if got, err := codec.Samples(p); err != nil || got != want {
			t.Errorf("%v: %d samples, %v", p, got, err)
		}
	}
}

type sentFrame struct {
	flow           uint8
	counter, media uint32
	samples        int
}

// flowSender numbers frames of two flows as a room does, and changes the flow
// where frames of both end.
type flowSender struct {
	flow     uint8
	counters [2]uint32
	media    uint32
}

func (s *flowSender) next(samples int) sentFrame {
	f := sentFrame{s.flow, s.counters[s.flow], s.media, samples}
	s.counters[s.flow]++
	s.media += uint32(samples)
	return f
}

func (s *flowSender) change() {
	s.flow = 1 - s.flow
	s.counters[s.flow] += 1000 // what others were sent meanwhile
}

func (s *stream) put(f sentFrame) (uint32, bool) {
	return s.place(f.flow, f.counter, f.media, packets[f.samples])
}

// TestOneStream: frames that come in order, none lost, stand in a row however
// often the flow changes, near the ends of counters and media time too.
func TestOneStream(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		var s stream
		from := flowSender{counters: [2]uint32{random.Uint32(), 1<<32 - 3}, media: 1<<32 - 5000, flow: uint8(random.IntN(2))}
		var last uint32
		for i := range 500 {
			if random.IntN(20) == 0 {
				from.change()
			}
			f := from.next([]int{480, 960, 1920, 2880}[random.IntN(4)])
			place, ok := s.put(f)
			if !ok || i > 0 && place != last+1 {
				t.Fatalf("frame %d, %+v: %d, %v after %d", i, f, place, ok, last)
			}
			last = place
			if again, ok := s.put(f); !ok || again != place {
				t.Fatalf("the same frame again is at %d", again)
			}
		}
	}
}

// TestStreamUnderLoss: frames are lost, and overtaken by as much as 40 ms; what
// is given a place stands in the order of media time, nothing twice, and almost
// all is.
func TestStreamUnderLoss(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	placed, refused, doubled := 0, 0, 0
	for range 100 {
		var s stream
		from := flowSender{counters: [2]uint32{7, 900}}
		at := map[uint32]sentFrame{}
		lengths := [2]int{960, 1920}
		var waiting []sentFrame
		for range 400 {
			if random.IntN(40) == 0 {
				from.change()
			}
			waiting = append(waiting, from.next(lengths[from.flow]))
			if len(waiting) < 2 {
				continue
			}
			i := random.IntN(2)
			f := waiting[i]
			waiting = append(waiting[:i], waiting[i+1:]...)
			if random.IntN(5) == 0 {
				continue
			}
			place, ok := s.put(f)
			if !ok {
				refused++
				continue
			}
			placed++
			if _, taken := at[place]; taken {
				doubled++
			}
			at[place] = f
		}
		for place, f := range at {
			for back := uint32(1); back < 5; back++ {
				if before, ok := at[place-back]; ok && int32(f.media-before.media) <= 0 {
					t.Fatalf("%+v stands %d after %+v", f, back, before)
				}
			}
		}
	}
	t.Logf("%d placed, %d refused, %d twice", placed, refused, doubled)
	if refused > placed/1000 || doubled > 0 {
		t.Errorf("of %d frames %d were refused and %d share a place", placed, refused, doubled)
	}
}

// TestSentAgainInTheOtherFlow: the copy of a frame from before the change, of
// which the other flow had its time, is left out; a pause is not a hole.
func TestSentAgainInTheOtherFlow(t *testing.T) {
	var s stream
	for i := range uint32(10) {
		s.place(0, i, i*960, packets[960])
	}
	if _, ok := s.place(1, 500, 8*960, packets[1920]); ok {
		t.Error("what has been heard in base is taken in thin as well")
	}
	if place, ok := s.place(1, 501, 10*960, packets[1920]); !ok || place != 10 {
		t.Errorf("the first of thin is at %d, %v", place, ok)
	}
	if place, ok := s.place(0, 8, 8*960, packets[960]); !ok || place != 8 {
		t.Errorf("a late one of base is at %d, %v", place, ok)
	}
	if place, ok := s.place(0, 2000, 1<<20, packets[960]); !ok || place != 11 {
		t.Errorf("after a pause base goes on at %d, %v", place, ok)
	}
	if _, ok := s.place(1, 502, 0, []byte{}); !ok {
		t.Error("a packet that is none is to be counted by the receiver")
	}
}

// FuzzStream: whatever a sender says, frames of one flow in a row stay in a row.
func FuzzStream(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 1, 1, 2, 9, 0, 3})
	f.Fuzz(func(t *testing.T, data []byte) {
		var s stream
		lengths := [4]int{480, 960, 1920, 2880}
		for len(data) >= 5 {
			flow, counter, media := data[0]&1, uint32(data[1])<<24|uint32(data[2]), uint32(data[3])<<23|uint32(data[4])
			samples := lengths[data[0]>>1&3]
			data = data[5:]
			a, ok := s.place(flow, counter, media, packets[samples])
			current := s.flow == flow
			b, then := s.place(flow, counter+1, media+uint32(samples), packets[samples])
			if ok && current && (!then || b != a+1) {
				t.Fatalf("%d is at %d, the next at %d, %v", counter, a, b, then)
			}
		}
	})
}
