package room

// report is what each side of a link tells the other every 500 ms, talking or
// not: it keeps the path open, measures the round trip, and says how the other
// side's voice arrives. 64 bytes:
//
//	 0 kind 02              1 sent at u32          5 echo u32             9 held u32
//	13 sequence u32        17 acknowledged u32    21 flags u8            22 depth u8
//	23 flow u8             24 zero                25 highest counter u32 29 received u32
//	33 lost u32            37 lost before repair  41 late u32            45 jitter u32
//	49 longest burst u16   51 mean burst u16      53 epoch tag 4         57 zeros to 64
type report struct {
	SentAt uint32 // µs of the sender's monotonic clock, modulo 2^32
	Echo   uint32 // SentAt of the latest report that came; 0 before the first
	Held   uint32 // µs from that one's arrival to SentAt; 0 before the first

	Sequence     uint32 // of this report, from 1
	Acknowledged uint32 // Sequence of the latest report that came; 0 before the first
	Flags        uint8
	Depth        uint8 // repair depth that the sender uses on this link, 0 to 3
	Flow         uint8 // that the numbers below are of

	// Of what the sender of the report has received, in frames, cumulative
	// modulo 2^32.
	Highest          uint32 // highest counter
	Received         uint32 // distinct frames
	Lost             uint32 // no copy came
	LostBeforeRepair uint32 // the first copy did not come
	Late             uint32
	Jitter           uint32 // µs, RFC 3550 appendix A.8
	LongestBurst     uint16 // frames lost in a row since the last report
	MeanBurst        uint16 // in 1/16 frames

	Epoch tag // that the sender sends voice in; zeros for none
}

// tally is what the report says for [Repair].
func (p *report) tally() Tally {
	return Tally{Received: p.Received, Lost: p.Lost, Unaided: p.LostBeforeRepair, MeanBurst: p.MeanBurst}
}

// reportHears: the sender holds the epoch whose tag stood in the latest report
// that it got, so it hears us.
const reportHears = 1

const reportLen = 64

// append appends the packet, kind byte included.
func (p *report) append(dst []byte) []byte {
	dst = append(dst, packetReport)
	dst = be.AppendUint32(dst, p.SentAt)
	dst = be.AppendUint32(dst, p.Echo)
	dst = be.AppendUint32(dst, p.Held)
	dst = be.AppendUint32(dst, p.Sequence)
	dst = be.AppendUint32(dst, p.Acknowledged)
	dst = append(dst, p.Flags, p.Depth, p.Flow, 0)
	dst = be.AppendUint32(dst, p.Highest)
	dst = be.AppendUint32(dst, p.Received)
	dst = be.AppendUint32(dst, p.Lost)
	dst = be.AppendUint32(dst, p.LostBeforeRepair)
	dst = be.AppendUint32(dst, p.Late)
	dst = be.AppendUint32(dst, p.Jitter)
	dst = be.AppendUint16(dst, p.LongestBurst)
	dst = be.AppendUint16(dst, p.MeanBurst)
	dst = append(dst, p.Epoch[:]...)
	return append(dst, 0, 0, 0, 0, 0, 0, 0)
}

// decode fills p from a packet of kind report; after an error p is empty.
func (p *report) decode(data []byte) error {
	*p = report{}
	if len(data) != reportLen || data[0] != packetReport || data[24] != 0 || !zeros(data[57:]) || data[22] >= maxGroupFrames {
		return errMalformed
	}
	r := reader{b: data[1:]}
	p.SentAt, p.Echo, p.Held = r.u32(), r.u32(), r.u32()
	p.Sequence, p.Acknowledged = r.u32(), r.u32()
	p.Flags, p.Depth, p.Flow, _ = r.u8(), r.u8(), r.u8(), r.u8()
	p.Highest, p.Received, p.Lost = r.u32(), r.u32(), r.u32()
	p.LostBeforeRepair, p.Late, p.Jitter = r.u32(), r.u32(), r.u32()
	p.LongestBurst, p.MeanBurst = r.u16(), r.u16()
	r.into(p.Epoch[:])
	return nil
}
