package room

import "teahouse/internal/mesh"

// What a link carries, inside the hop seal or the voice stream: at most
// mesh.MaxPacket bytes, of which the first is the kind.
//
//	1 voice   kind 01 ‖ u8 number of groups, 1 to 8 ‖ groups ‖ zeros to the step of the mode
//	2 report  report.go
//	3 bundle  bundle.go
//
// A group is the newest sealed frame of one voice and up to three older ones
// again, which repairs what was lost:
//
//	 0             4              8      9                13      14
//	+-------------+--------------+------+----------------+-------+---------------------------+
//	| epoch tag 4 | sender tag 4 | flow | newest counter | count | count × L(sealed frame)   |
//	|             |              | u8   | u32            | 1–4   | newest first              |
//	+-------------+--------------+------+----------------+-------+---------------------------+
//
// The counters of the older frames are newest-1, newest-2, … modulo 2^32. A
// frame's header is not sent: it is rebuilt from the group (frame.go). Only
// zeros may follow the last group, so one packet has one encoding.
const (
	packetVoice  = 1
	packetReport = 2
	packetBundle = 3

	maxGroups      = 8
	maxGroupFrames = 4 // a repair depth of 3
	groupHeadLen   = 4 + 4 + 1 + 4 + 1
	voiceHeadLen   = 1 + 1
)

// group is one voice's frames within a packet.
type group struct {
	Epoch, Sender tag
	Flow          uint8
	Newest        uint32 // counter of Frames[0]
	Count         uint8
	// Frames are sealed frames; the one at i has the counter Newest - i. After
	// decoding they are part of the packet that was decoded.
	Frames [maxGroupFrames][]byte
}

// header is that of Frames[i].
func (g *group) header(i int) frameHeader {
	return frameHeader{g.Epoch, g.Sender, g.Flow, g.Newest - uint32(i)}
}

// voicePacket is a decoded packet of kind voice. It is meant to be kept and
// filled again, not made anew for each packet.
type voicePacket struct {
	Count  uint8
	Groups [maxGroups]group
}

// size is the length of p on the wire without padding.
func (p *voicePacket) size() int {
	n := voiceHeadLen
	for i := range p.Groups[:p.Count] {
		n += groupHeadLen
		for _, frame := range p.Groups[i].Frames[:p.Groups[i].Count] {
			n += 2 + len(frame)
		}
	}
	return n
}

// append appends p to dst, padded so that its length is a multiple of step (0
// and 1: no padding), though never over mesh.MaxPacket. It answers errTooLarge
// and leaves dst as it was if p does not fit.
func (p *voicePacket) append(dst []byte, step int) ([]byte, error) {
	if !p.valid() {
		return dst, errTooLarge
	}
	size := p.size()
	if size > mesh.MaxPacket {
		return dst, errTooLarge
	}
	dst = append(dst, packetVoice, p.Count)
	for i := range p.Groups[:p.Count] {
		g := &p.Groups[i]
		dst = append(dst, g.Epoch[:]...)
		dst = append(dst, g.Sender[:]...)
		dst = append(dst, g.Flow)
		dst = be.AppendUint32(dst, g.Newest)
		dst = append(dst, g.Count)
		for _, frame := range g.Frames[:g.Count] {
			dst = appendLP(dst, frame)
		}
	}
	for range padding(size, step) {
		dst = append(dst, 0)
	}
	return dst, nil
}

// valid tells whether every count and length of p is within its bounds.
func (p *voicePacket) valid() bool {
	if p.Count == 0 || p.Count > maxGroups {
		return false
	}
	for i := range p.Groups[:p.Count] {
		g := &p.Groups[i]
		if g.Count == 0 || g.Count > maxGroupFrames {
			return false
		}
		for _, frame := range g.Frames[:g.Count] {
			if len(frame) < minSealed || len(frame) > maxSealed {
				return false
			}
		}
	}
	return true
}

// padding is how many zeros follow a packet of size bytes.
func padding(size, step int) int {
	if step <= 1 {
		return 0
	}
	return min((size+step-1)/step*step, mesh.MaxPacket) - size
}

// decode fills p from a packet of kind voice. It copies and allocates nothing:
// the frames stay part of data. After an error p is empty.
func (p *voicePacket) decode(data []byte) error {
	p.Count = 0
	r := reader{b: data}
	kind, count := r.u8(), r.u8()
	if len(data) > mesh.MaxPacket || kind != packetVoice || count == 0 || count > maxGroups {
		return errMalformed
	}
	for i := range p.Groups[:count] {
		g := &p.Groups[i]
		r.into(g.Epoch[:])
		r.into(g.Sender[:])
		g.Flow = r.u8()
		g.Newest = r.u32()
		g.Count = r.u8()
		if g.Count == 0 || g.Count > maxGroupFrames {
			return errMalformed
		}
		for j := range g.Frames {
			g.Frames[j] = nil
			if j < int(g.Count) {
				g.Frames[j] = r.lp(minSealed, maxSealed)
			}
		}
	}
	if r.bad || !zeros(r.b) {
		return errMalformed
	}
	p.Count = count
	return nil
}
