package room

import (
	"crypto/ed25519"

	"teahouse/internal/mesh"
)

// A bundle is up to 60 ms of one voice's sealed frames, signed by the speaker
// and forwarded byte for byte:
//
//	kind 03 ‖ stream id u32 ‖ epoch tag 4 ‖ sender tag 4 ‖ flow u8 ‖ first counter u32
//	‖ u8 count, 1 to 6 ‖ count × L(sealed frame), oldest first ‖ signature 64
//
// The signature, by the voice key of the speaker's entry, covers room id ‖
// all bytes before it, the kind included. Nothing may follow it.
const (
	maxBundleFrames = 6
	bundleHeadLen   = 1 + 4 + 4 + 4 + 1 + 4 + 1
)

// bundle is a decoded bundle. It is accepted only on links that were granted
// forwarding, and says nothing until a bundleVerifier has passed it.
type bundle struct {
	Stream        uint32
	Epoch, Sender tag
	Flow          uint8
	First         uint32 // counter of Frames[0]; the one at i has First + i
	Count         uint8
	Frames        [maxBundleFrames][]byte // part of the packet after decoding
}

// header is that of Frames[i].
func (b *bundle) header(i int) frameHeader {
	return frameHeader{b.Epoch, b.Sender, b.Flow, b.First + uint32(i)}
}

// decode fills b from a packet of kind bundle; it does not verify. It copies
// and allocates nothing. After an error b is empty.
func (b *bundle) decode(data []byte) error {
	b.Count = 0
	r := reader{b: data}
	kind := r.u8()
	b.Stream = r.u32()
	r.into(b.Epoch[:])
	r.into(b.Sender[:])
	b.Flow = r.u8()
	b.First = r.u32()
	count := r.u8()
	if len(data) > mesh.MaxPacket || kind != packetBundle || count == 0 || count > maxBundleFrames {
		return errMalformed
	}
	for i := range b.Frames {
		b.Frames[i] = nil
		if i < int(count) {
			b.Frames[i] = r.lp(minSealed, maxSealed)
		}
	}
	if r.take(ed25519.SignatureSize); r.bad || len(r.b) != 0 {
		return errMalformed
	}
	b.Count = count
	return nil
}

// bundleSigner appends signed bundles. For one goroutine at a time.
type bundleSigner struct {
	key  ed25519.PrivateKey
	body []byte // room id ‖ bundle
}

func newBundleSigner(room ID, key ed25519.PrivateKey) *bundleSigner {
	return &bundleSigner{key, append(make([]byte, 0, len(room)+mesh.MaxPacket), room[:]...)}
}

// append appends b, signed, to dst, or answers errTooLarge and leaves dst as
// it was.
func (s *bundleSigner) append(dst []byte, b *bundle) ([]byte, error) {
	size := bundleHeadLen + ed25519.SignatureSize
	if b.Count == 0 || b.Count > maxBundleFrames {
		return dst, errTooLarge
	}
	for _, frame := range b.Frames[:b.Count] {
		if len(frame) < minSealed || len(frame) > maxSealed {
			return dst, errTooLarge
		}
		size += 2 + len(frame)
	}
	if size > mesh.MaxPacket {
		return dst, errTooLarge
	}
	body := append(s.body[:len(ID{})], packetBundle)
	body = be.AppendUint32(body, b.Stream)
	body = append(body, b.Epoch[:]...)
	body = append(body, b.Sender[:]...)
	body = append(body, b.Flow)
	body = be.AppendUint32(body, b.First)
	body = append(body, b.Count)
	for _, frame := range b.Frames[:b.Count] {
		body = appendLP(body, frame)
	}
	sig := sign(s.key, contextBundle, body)
	s.body = body
	dst = append(dst, body[len(ID{}):]...)
	return append(dst, sig[:]...), nil
}

// bundleVerifier checks signatures of bundles of one room. For one goroutine
// at a time.
type bundleVerifier struct{ body []byte }

func newBundleVerifier(room ID) *bundleVerifier {
	return &bundleVerifier{append(make([]byte, 0, len(room)+mesh.MaxPacket), room[:]...)}
}

// verify checks the signature of the packet data, which b.decode has taken,
// by the voice key of the entry of the member whose frames it claims to bear
// and whose VoiceEpoch is the epoch it claims. All zeros is no key.
func (v *bundleVerifier) verify(data []byte, voiceKey *[ed25519.PublicKeySize]byte) error {
	end := len(data) - ed25519.SignatureSize
	if end < bundleHeadLen || len(data) > mesh.MaxPacket || zeros(voiceKey[:]) {
		return errMalformed
	}
	v.body = append(v.body[:len(ID{})], data[:end]...)
	if !verify(voiceKey, contextBundle, v.body, (*signature)(data[end:])) {
		return errSignature
	}
	return nil
}
