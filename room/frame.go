package room

import "teahouse/internal/seal"

// A sealed frame is one Opus frame of one voice, sealed once, end to end:
//
//	ChaCha20-Poly1305(frame key, nonce, body, associated data)
//
//	nonce            0^7 ‖ flow u8 ‖ counter u32
//	associated data  epoch tag 4 ‖ sender tag 4 ‖ flow u8 ‖ counter u32
//	body             media time u32 ‖ flags u8 ‖ level u8 ‖ Opus packet, 1 to 1,000 bytes
//
// Neither nonce nor associated data travel with the frame: they are rebuilt
// from the group or bundle that bears it (packet.go, bundle.go).
const (
	frameADLen    = 4 + 4 + 1 + 4
	frameHeadLen  = 4 + 1 + 1
	maxFrameBody  = frameHeadLen + MaxOpus
	minSealed     = frameHeadLen + 1 + seal.Overhead
	maxSealed     = maxFrameBody + seal.Overhead
	maxLevel      = 127 // RFC 6464
	flagStart     = 1
	flagEnd       = 2
	frameFlagMask = flagStart | flagEnd
)

// seal appends the sealed f, len(f.Opus) + 22 bytes, to dst. Of f it takes
// Flow, Counter, MediaTime, SpurtStart, SpurtEnd, Level and Opus. A counter
// that is not after all counters that were sealed in this flow is refused.
func (k *sealer) seal(dst []byte, f *Frame) ([]byte, error) {
	switch {
	case f.Flow >= flows:
		return dst, errFlow
	case len(f.Opus) == 0 || len(f.Opus) > MaxOpus || f.Level > maxLevel:
		return dst, errTooLarge
	case !k.used[f.Flow].spend(f.Counter):
		return dst, errNonceSpent
	}
	var flags uint8
	if f.SpurtStart {
		flags |= flagStart
	}
	if f.SpurtEnd {
		flags |= flagEnd
	}
	be.PutUint32(k.body[:], f.MediaTime)
	k.body[4], k.body[5] = flags, f.Level
	n := frameHeadLen + copy(k.body[frameHeadLen:], f.Opus)

	frameNonce(&k.nonce, f.Flow, f.Counter)
	frameAD(&k.ad, k.epoch, k.sender, f.Flow, f.Counter)
	return k.key.Seal(dst, k.nonce[:], k.body[:n], k.ad[:]), nil
}

// frameHeader is what a group or bundle says about one of its frames, and what
// the frame was sealed with.
type frameHeader struct {
	Epoch, Sender tag
	Flow          uint8
	Counter       uint32
}

// opens tells whether k is the key that h asks for. Tags are hints: two keys
// may answer to one header.
func (k *opener) opens(h frameHeader) bool { return h.Epoch == k.epoch && h.Sender == k.sender }

// open fills f from a sealed frame, or answers an error and leaves f as it
// was. f.Opus is valid until the next open. Instance and Repaired are the
// caller's to set.
func (k *opener) open(f *Frame, h frameHeader, sealed []byte) error {
	switch {
	case h.Flow >= flows:
		return errFlow
	case len(sealed) < minSealed || len(sealed) > maxSealed:
		return errMalformed
	case !k.opens(h):
		return seal.ErrOpen
	}
	frameNonce(&k.nonce, h.Flow, h.Counter)
	frameAD(&k.ad, k.epoch, k.sender, h.Flow, h.Counter)
	body, err := k.key.Open(k.body[:0], k.nonce[:], sealed, k.ad[:])
	if err != nil {
		return err
	}
	flags, level := body[4], body[5]
	if flags&^frameFlagMask != 0 || level > maxLevel {
		return errMalformed
	}
	f.Flow, f.Counter = h.Flow, h.Counter
	f.MediaTime = be.Uint32(body)
	f.SpurtStart, f.SpurtEnd = flags&flagStart != 0, flags&flagEnd != 0
	f.Level = level
	f.Opus = body[frameHeadLen:]
	return nil
}

func frameNonce(nonce *[seal.NonceSize]byte, flow uint8, counter uint32) {
	nonce[7] = flow
	be.PutUint32(nonce[8:], counter)
}

func frameAD(ad *[frameADLen]byte, epoch, sender tag, flow uint8, counter uint32) {
	copy(ad[0:], epoch[:])
	copy(ad[4:], sender[:])
	ad[8] = flow
	be.PutUint32(ad[9:], counter)
}
