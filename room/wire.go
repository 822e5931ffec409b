package room

import (
	"encoding/binary"
	"errors"
)

// Errors of this package's decoders. They are plain values, made once, because
// they are met on the voice path, which does not allocate, and because whoever
// sends rubbish shall not choose what we log.
var (
	// errMalformed: bytes that no correct implementation sends.
	errMalformed = errors.New("malformed")
	// errSignature: a signature that does not belong to what it stands under.
	errSignature = errors.New("wrong signature")
	// errTooLarge: what was to be sent does not fit its format.
	errTooLarge = errors.New("too large")
)

// be is the byte order of everything on the wire.
var be = binary.BigEndian

// appendLP appends L(x): the length of x as u16, then x. Callers have bounded x.
func appendLP[T string | []byte](dst []byte, x T) []byte {
	dst = be.AppendUint16(dst, uint16(len(x)))
	return append(dst, x...)
}

// reader takes fields off the front of b. After the first field that does not
// fit it answers zeros and stays bad, so that callers may check once, at the
// end. It never copies and never allocates.
type reader struct {
	b   []byte
	bad bool
}

// take gives the next n bytes, still part of the input.
func (r *reader) take(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

// into fills dst from the next len(dst) bytes.
func (r *reader) into(dst []byte) { copy(dst, r.take(len(dst))) }

func (r *reader) u8() uint8 {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.take(2); b != nil {
		return be.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return be.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return be.Uint64(b)
	}
	return 0
}

// lp takes L(x) with least ≤ len(x) ≤ most.
func (r *reader) lp(least, most int) []byte {
	n := int(r.u16())
	if n < least || n > most {
		r.bad, r.b = true, nil
		return nil
	}
	return r.take(n)
}

// zeros tells whether every byte of b is zero.
func zeros(b []byte) bool {
	var or byte
	for _, x := range b {
		or |= x
	}
	return or == 0
}
