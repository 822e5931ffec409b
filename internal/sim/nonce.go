package sim

import (
	"encoding/binary"
	"hash/maphash"
	"sync"
)

// nonceWatch sees everything sealed that leaves anybody, and tells where two
// different things were sealed under one key with one nonce. Keys it knows by
// what names them on the wire:
//
//	sealed frame: epoch tag, sender tag     nonce: flow, counter (docs/protocol.md section 6)
//	voice datagram: receiver, index         nonce: counter (section 4)
//	gossip: epoch tag or topic              nonce: 24 random bytes (section 2)
//
// A frame that is sent again is the same bytes under the same nonce.
type nonceWatch struct {
	violated func(format string, args ...any)
	hash     maphash.Seed

	mu       sync.Mutex
	counting map[countingKey]*counting
	random   map[[24]byte]uint64 // nonce of a broadcast: its bytes
	sealed   int
}

type countingKey struct {
	tags [8]byte // or receiver and index
	flow uint8   // or datagramFlow
}

// datagramFlow is no flow of frames: those are 0 and 1.
const datagramFlow = 0xff

// counting is one key whose nonces count.
type counting struct {
	begun  bool
	newest uint64
	ring   [64]uint64 // hashes of the newest frames, by counter: repair goes back 3
}

func newNonceWatch(violated func(format string, args ...any)) *nonceWatch {
	return &nonceWatch{
		violated: violated, hash: maphash.MakeSeed(),
		counting: make(map[countingKey]*counting), random: make(map[[24]byte]uint64),
	}
}

// voice reads a voice packet, kind byte included.
func (n *nonceWatch) voice(packet []byte) {
	groups(packet, func(head []byte, counter uint32, frame []byte) {
		n.frame(countingKey{tags: [8]byte(head), flow: head[8]}, uint64(counter), frame)
	})
}

func (n *nonceWatch) frame(key countingKey, counter uint64, sealed []byte) {
	sum := maphash.Bytes(n.hash, sealed) | 1 // never 0
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.of(key)
	slot := &c.ring[counter%uint64(len(c.ring))]
	switch {
	case !c.begun || counter > c.newest:
		// What was between is not known to have been sealed.
		for old := c.newest + 1; c.begun && old < counter && old < c.newest+uint64(len(c.ring)); old++ {
			c.ring[old%uint64(len(c.ring))] = 0
		}
		n.sealed++
		c.begun, c.newest, *slot = true, counter, sum
	case c.newest-counter >= uint64(len(c.ring)):
		n.violated("frame %d of key %x under a counter that is %d behind", counter, key.tags, c.newest-counter)
	case *slot == 0:
		*slot = sum // sealed for others, and seen here only when sent again
		n.sealed++
	case *slot != sum:
		n.violated("two frames sealed as number %d of flow %d under key %x", counter, key.flow, key.tags)
	}
}

// datagram reads what leaves a socket; QUIC's it leaves alone.
func (n *nonceWatch) datagram(to int, b []byte) {
	if len(b) < 13 || b[0] >= 0x40 {
		return
	}
	key := countingKey{flow: datagramFlow} // packets and path checks share the counter
	binary.BigEndian.PutUint32(key.tags[:], uint32(to))
	copy(key.tags[4:], b[1:5])
	counter := binary.BigEndian.Uint64(b[5:])
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.of(key)
	if c.begun && counter <= c.newest {
		n.violated("datagram %d to %d sealed twice under index %x", counter, to, b[1:5])
	}
	c.begun, c.newest = true, max(c.newest, counter)
	n.sealed++
}

// broadcast reads a beacon or a sealed roster.
func (n *nonceWatch) broadcast(data []byte) {
	at := 1
	if len(data) > 0 && data[0] == 2 {
		at = 5
	}
	if len(data) < at+24 {
		n.violated("a broadcast of %d bytes", len(data))
		return
	}
	sum := maphash.Bytes(n.hash, data)
	n.mu.Lock()
	defer n.mu.Unlock()
	nonce := [24]byte(data[at:])
	if old, ok := n.random[nonce]; ok && old != sum {
		n.violated("two broadcasts sealed with the nonce %x", nonce)
	}
	n.random[nonce] = sum
	n.sealed++
}

func (n *nonceWatch) of(key countingKey) *counting {
	c := n.counting[key]
	if c == nil {
		c = &counting{}
		n.counting[key] = c
	}
	return c
}

func (n *nonceWatch) totals() (sealed, keys int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sealed, len(n.counting)
}

// groups calls each for every sealed frame of a voice packet: head is epoch
// tag 4, sender tag 4, flow 1. What is malformed it leaves alone: that is for
// room's own tests.
func groups(packet []byte, each func(head []byte, counter uint32, frame []byte)) {
	if len(packet) < 2 || packet[0] != packetVoice {
		return
	}
	b := packet[2:]
	for range packet[1] {
		if len(b) < 14 {
			return
		}
		head, newest, count := b[:9], binary.BigEndian.Uint32(b[9:]), b[13]
		b = b[14:]
		for back := range uint32(count) {
			if len(b) < 2 {
				return
			}
			size := int(binary.BigEndian.Uint16(b))
			if len(b) < 2+size {
				return
			}
			each(head, newest-back, b[2:2+size])
			b = b[2+size:]
		}
	}
}
