package node

import (
	"encoding/binary"
	"errors"
	"sync"

	"teahouse/internal/mesh"
	"teahouse/internal/seal"
)

// A voice datagram (docs/protocol.md section 4):
//
//	0      1                5              13
//	+------+----------------+--------------+---------------------------+
//	| type | receiver index | counter u64  | sealed payload and tag 16 |
//	+------+----------------+--------------+---------------------------+
//
// type is 0x21 for a packet of the room, 0x22 for a path check; both lie
// below 0x40, which the first byte of a QUIC packet never does (RFC 9443).
// The payload is sealed under the hop key with nonce 0^4 | counter and the 13
// bytes before it as associated data. Both types share the counter.
const (
	typePacket = 0x21
	typeCheck  = 0x22
	quicFrom   = 0x40 // first bytes from here on are QUIC's

	headerLen      = 1 + 4 + 8
	datagramLen    = headerLen + mesh.MaxPacket + seal.Overhead
	minDatagramLen = headerLen + seal.Overhead

	// maxCounter is how many packets one session seals: then it gives way to
	// a new one (docs/protocol.md section 3).
	maxCounter = 1 << 40
)

var (
	errReplayed = errors.New("replayed")
	errWornOut  = errors.New("the session has sealed its last packet")
)

// sealer turns packets into datagrams. The buffers live here, on the heap,
// because what passes through cipher.AEAD escapes: one allocation a packet.
type sealer struct {
	mu      sync.Mutex
	key     *seal.Key
	index   uint32 // the receiver's
	counter uint64 // of the next packet; starts at 0, never repeats
	nonce   [seal.NonceSize]byte
	buf     [datagramLen]byte
}

// seal gives the datagram for payload, valid until the next call. mu must be
// held until it has been sent.
func (s *sealer) seal(kind byte, payload []byte) ([]byte, error) {
	if s.counter >= maxCounter {
		return nil, errWornOut
	}
	header := s.buf[:headerLen]
	header[0] = kind
	binary.BigEndian.PutUint32(header[1:], s.index)
	binary.BigEndian.PutUint64(header[5:], s.counter)
	binary.BigEndian.PutUint64(s.nonce[4:], s.counter)
	s.counter++
	return s.key.Seal(header, s.nonce[:], payload, header), nil
}

// opener turns datagrams back into packets.
type opener struct {
	mu    sync.Mutex
	key   *seal.Key
	nonce [seal.NonceSize]byte
	seen  replayWindow
	count uint64 // authentic, each once
}

// tally is what has come so far. mu must be held.
func (o *opener) tally() tally { return tally{uint32(o.count), uint32(o.seen.next)} }

// open opens datagram in place. Only an authentic datagram touches the replay
// window. mu must be held.
func (o *opener) open(datagram []byte) ([]byte, error) {
	counter := binary.BigEndian.Uint64(datagram[5:])
	if !o.seen.fresh(counter) {
		return nil, errReplayed // cheaper than opening, and says nothing new
	}
	binary.BigEndian.PutUint64(o.nonce[4:], counter)
	packet, err := o.key.Open(datagram[headerLen:headerLen], o.nonce[:], datagram[headerLen:], datagram[:headerLen])
	if err != nil {
		return nil, err
	}
	o.seen.mark(counter)
	o.count++
	return packet, nil
}

// datagramIndex is the receiver index of a datagram, or ok is false if it
// cannot be one of ours.
func datagramIndex(b []byte) (index uint32, ok bool) {
	if len(b) < minDatagramLen || len(b) > datagramLen || b[0] != typePacket && b[0] != typeCheck {
		return 0, false
	}
	return binary.BigEndian.Uint32(b[1:]), true
}

// replayWindow remembers which of the last replayWidth counters were seen
// (RFC 6479 has the idea: a ring of words, so that moving on clears whole
// words and shifts nothing).
type replayWindow struct {
	next  uint64 // one above the highest seen
	words [replayWords]uint64
}

const (
	replayWidth = 1024
	// One word more than the width, since the newest word is only partly used.
	replayWords = replayWidth/64 + 1
)

// fresh tells whether counter is neither seen nor too old to tell.
func (w *replayWindow) fresh(counter uint64) bool {
	if counter >= w.next {
		return true
	}
	if w.next-counter > replayWidth {
		return false
	}
	return w.words[counter/64%replayWords]>>(counter%64)&1 == 0
}

// mark notes a fresh counter as seen.
func (w *replayWindow) mark(counter uint64) {
	word := counter / 64
	if counter >= w.next {
		first := uint64(0)
		if w.next > 0 {
			first = (w.next-1)/64 + 1
		}
		if word >= first {
			for i := range min(word-first+1, replayWords) {
				w.words[(word-i)%replayWords] = 0
			}
		}
		w.next = counter + 1
	}
	w.words[word%replayWords] |= 1 << (counter % 64)
}
