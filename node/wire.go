package node

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"teahouse/internal/mesh"
	"teahouse/internal/seal"
)

// The bytes of sessions (docs/protocol.md section 3). Opening a session, the
// initiator I sends in clear
//
//	random 16 | tag 32
//
// then libp2p's Noise XX runs with prologue door | tag, and inside it both
// send HELLO as the first message, a u16 length before it:
//
//	lowest version u8 | highest version u8 | feature bits u32 |
//	receiver index u32 | secret 32
//
// Every later message is u16 length and bytes; length 0 is a keep-alive.
const (
	roomProtocol  = "/teahouse/room/1"
	voiceProtocol = "/teahouse/voice/1"

	openingLen = 16 + 32
	helloLen   = 1 + 1 + 4 + 4 + 32
	// maxHelloLen bounds what later versions may append.
	maxHelloLen = 1024

	version = 1
)

// Feature bits of HELLO: what this side refuses as carrier of voice, so that
// both sides fail closed. The rest is reserved, sent as zero and ignored.
const (
	refusesDatagram = 1 << iota
	refusesQUIC
	refusesTCP
	refusesRelay
)

var (
	errHello   = errors.New("malformed hello")
	errVersion = errors.New("no common version of the session protocol")
)

// appendL appends b with its length before it as u16: L(b) of the protocol.
func appendL[T ~string | ~[]byte](dst []byte, b T) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(b)))
	return append(dst, b...)
}

// sessionTag shows to who knows the door, and to nobody else, that the sender
// knows it too.
func sessionTag(door *mesh.Door, initiator, responder mesh.PeerID, random []byte) [32]byte {
	var body []byte
	body = appendL(body, initiator)
	body = appendL(body, responder)
	body = append(body, random...)
	mac := hmac.New(sha256.New, door[:])
	mac.Write(body)
	return [32]byte(mac.Sum(nil))
}

// noisePrologue binds the Noise handshake of a session to its door and tag.
func noisePrologue(door *mesh.Door, tag *[32]byte) []byte {
	return append(append(make([]byte, 0, 64), door[:]...), tag[:]...)
}

// hello is the first message of each side inside Noise.
type hello struct {
	lowest, highest uint8
	features        uint32
	index           uint32 // how the other side names this session's packets; not 0
	secret          [32]byte
}

func (h *hello) marshal() []byte {
	b := make([]byte, 0, helloLen)
	b = append(b, h.lowest, h.highest)
	b = binary.BigEndian.AppendUint32(b, h.features)
	b = binary.BigEndian.AppendUint32(b, h.index)
	return append(b, h.secret[:]...)
}

// parseHello reads a HELLO of this or, with bytes appended, a later version.
func parseHello(b []byte) (hello, error) {
	if len(b) < helloLen || len(b) > maxHelloLen {
		return hello{}, errHello
	}
	h := hello{
		lowest:   b[0],
		highest:  b[1],
		features: binary.BigEndian.Uint32(b[2:]),
		index:    binary.BigEndian.Uint32(b[6:]),
		secret:   [32]byte(b[10:42]),
	}
	if h.index == 0 || h.lowest > h.highest {
		return hello{}, errHello
	}
	return h, nil
}

// commonVersion is the highest that both sides know.
func commonVersion(a, b *hello) (uint8, error) {
	v := min(a.highest, b.highest)
	if v < max(a.lowest, b.lowest) {
		return 0, errVersion
	}
	return v, nil
}

// bindingOf is a hash over all that both sides said.
func bindingOf(tag *[32]byte, initiator, responder mesh.PeerID, helloI, helloR []byte) [32]byte {
	b := []byte("teahouse session 1")
	b = appendL(b, tag[:])
	b = appendL(b, initiator)
	b = appendL(b, responder)
	b = appendL(b, helloI)
	b = appendL(b, helloR)
	return sha256.Sum256(b)
}

// hopKeys seal the packets from initiator to responder and back.
func hopKeys(secretI, secretR, binding *[32]byte) (ir, ri [seal.KeySize]byte) {
	prk, err := hkdf.Extract(sha256.New, append(secretI[:len(secretI):len(secretI)], secretR[:]...), binding[:])
	if err != nil {
		panic(err) // SHA-256 is always there
	}
	copy(ir[:], expand(prk, "I>R", seal.KeySize))
	copy(ri[:], expand(prk, "R>I", seal.KeySize))
	return ir, ri
}

// voicePrologue binds the Noise handshake of a voice stream to its session.
func voicePrologue(binding *[32]byte) []byte {
	return append([]byte("teahouse voice 1"), binding[:]...)
}
