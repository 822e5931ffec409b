package codec

// packetInfo is what the first bytes of an Opus packet tell about it.
type packetInfo struct {
	samples int  // length at 48 kHz, per channel
	celt    bool // coded by CELT alone, which has no in-band FEC
	fec     bool // bears a rough copy (LBRR) of the packet before it
}

// parsePacket reads the headers of a packet (RFC 6716 sections 3.1, 3.2 and
// 4.2.3-4.2.4) as far as the receiver needs them, without C. ErrPacket:
// malformed, longer than MaxOpus, or not a multiple of 10 ms up to 60 ms.
func parsePacket(p []byte) (packetInfo, error) {
	var info packetInfo
	if len(p) == 0 || len(p) > MaxOpus {
		return info, ErrPacket
	}
	config, stereo := p[0]>>3, p[0]&4 != 0
	frame := frameSamples(config)
	info.celt = config >= 16

	frames, first, ok := splitFrames(p)
	if !ok {
		return info, ErrPacket
	}
	info.samples = frame * frames
	if info.samples%480 != 0 || info.samples > MaxFrame {
		return info, ErrPacket
	}
	if info.celt || first >= len(p) {
		return info, nil
	}
	// The SILK header is one voice activity bit per 20 ms and then the LBRR
	// bit, first for the middle channel, then for the side. They are coded
	// with even odds, so they are the topmost bits as they stand.
	silk := max(1, frame/960)
	header := p[first]
	info.fec = header>>(7-silk)&1 != 0
	if stereo {
		info.fec = info.fec || header>>(6-2*silk)&1 != 0
	}
	return info, nil
}

// frameSamples is the length of each frame of a packet in samples at 48 kHz
// (RFC 6716 table 2).
func frameSamples(config byte) int {
	switch {
	case config < 12: // SILK: 10, 20, 40, 60 ms
		return []int{480, 960, 1920, 2880}[config&3]
	case config < 16: // hybrid: 10, 20 ms
		return 480 << (config & 1)
	default: // CELT: 2.5, 5, 10, 20 ms
		return 120 << (config & 3)
	}
}

// splitFrames tells how many frames a packet has and where the first begins
// (RFC 6716 section 3.2).
func splitFrames(p []byte) (frames, first int, ok bool) {
	switch p[0] & 3 {
	case 0:
		return 1, 1, true
	case 1:
		return 2, 1, len(p)%2 == 1
	case 2:
		n := lengthBytes(p[1:])
		return 2, 1 + n, n > 0
	}
	if len(p) < 2 {
		return 0, 0, false
	}
	frames, at := int(p[1]&63), 2
	if p[1]&64 != 0 { // padding: its length in bytes of 254 and a last one
		for more := true; more; at++ {
			if at >= len(p) {
				return 0, 0, false
			}
			more = p[at] == 255
		}
	}
	if p[1]&128 != 0 { // frames of different lengths
		for range frames - 1 {
			if at >= len(p) {
				return 0, 0, false
			}
			at += lengthBytes(p[at:])
		}
	}
	return frames, at, frames > 0
}

// lengthBytes is how many bytes a frame length takes, 0 if it is cut off.
func lengthBytes(p []byte) int {
	switch {
	case len(p) == 0:
		return 0
	case p[0] < 252:
		return 1
	case len(p) < 2:
		return 0
	default:
		return 2
	}
}
