package voice

import "teahouse/codec"

// stream makes one stream of counters out of a voice that comes now in one
// flow, now in the other, each counted by itself: the sender changes where a
// frame of the one ends and a frame of the other begins, so media time tells
// how they stand to each other. Without it a change would look like a restart.
// The zero value has seen nothing.
type stream struct {
	known   [2]bool   // which flows have come
	flow    uint8     // that of the newest frame
	offset  [2]uint32 // what is added to the counters of a flow
	newest  [2]uint32 // the highest counter of each flow, as it came
	counter uint32    // of the newest frame, in the one stream
	end     uint32    // media time after it
	samples int       // its length
}

const (
	// A frame of the flow that was left is still taken up to lateFrames after
	// the newest that came in time. Beyond that it is one that was sent again
	// on a link that took the other flow then.
	lateFrames = 16
	// A hole at a change that is longer is a pause, not frames that were lost.
	longestHole = codec.Rate / 4
)

// place is the counter of a frame in the one stream. ok is false where it has
// no place there, because the other flow had its time.
func (s *stream) place(flow uint8, counter, media uint32, opus []byte) (place uint32, ok bool) {
	flow &= 1
	samples, err := codec.Samples(opus)
	if err != nil {
		return counter + s.offset[flow], true // it will be refused, and counted
	}
	switch hole := int32(media - s.end); {
	case s.known == [2]bool{}:
		s.flow, s.counter = flow, counter
	case flow == s.flow:
	case hole < 0:
		if !s.known[flow] || int32(counter-s.newest[flow]) > lateFrames {
			return 0, false
		}
	default:
		s.flow = flow
		s.counter++
		if hole <= longestHole {
			s.counter += uint32(hole) / uint32(min(samples, s.samples)) // of whichever flow they were
		}
		s.offset[flow] = s.counter - counter
	}
	place = counter + s.offset[flow]
	if flow == s.flow && int32(place-s.counter) >= 0 {
		s.counter, s.newest[flow], s.end, s.samples = place, counter, media+uint32(samples), samples
		s.known[flow] = true
	}
	return place, true
}
