package node

import (
	"cmp"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"teahouse/internal/mesh"
)

// What a node remembers of one network, before the home seals it (integers
// big-endian, L is a u16 length before):
//
//	u8 1 | u8 n (at most 64) | n * peer
//	peer = u64 last seen, Unix seconds | L(peer id) | u8 m (1-4) | m * L(multiaddr)
//
// Nothing follows. Peers stand in the order in which they were last seen, the
// latest first.

const (
	maxRemembered     = 64
	rememberFor       = 7 * 24 * time.Hour
	maxRememberedAddr = 200 // bytes of text
	// maxRememberedAddrs of a peer: both transports on both families.
	maxRememberedAddrs = 4
	rememberVersion    = 1
	// maxMemoryPeer is the longest peer: id and addresses of the largest size.
	maxMemoryPeer = 8 + 2 + 64 + 1 + maxRememberedAddrs*(2+maxRememberedAddr)
	// MaxMemory bounds what a node asks a [Memory] to store.
	MaxMemory = 2 + maxRemembered*maxMemoryPeer
)

var errMemory = errors.New("damaged memory of peers")

// memoryEntry is one peer that we were connected to.
type memoryEntry struct {
	seen  time.Time // whole seconds
	addrs []ma.Multiaddr
}

// memory is the table: pure state, it reads no clock.
type memory map[peer.ID]memoryEntry

// note remembers id as seen now. It tells whether that is worth writing down:
// somebody new, other addresses, or an hour gone by.
func (m memory) note(now time.Time, id peer.ID, addrs []ma.Multiaddr) bool {
	addrs = slices.DeleteFunc(slices.Clone(addrs), func(a ma.Multiaddr) bool { return len(a.String()) > maxRememberedAddr })
	addrs = addrs[:min(len(addrs), maxRememberedAddrs)]
	if len(addrs) == 0 || !validPeer(id) {
		return false
	}
	now = time.Unix(now.Unix(), 0)
	old, known := m[id]
	if !known {
		m.forget(now)
		if len(m) >= maxRemembered {
			delete(m, m.order()[len(m)-1])
		}
	}
	m[id] = memoryEntry{now, addrs}
	return !known || !sameAddrs(old.addrs, addrs) || now.Sub(old.seen) >= time.Hour
}

// forget drops who was not seen for a week.
func (m memory) forget(now time.Time) {
	maps.DeleteFunc(m, func(_ peer.ID, e memoryEntry) bool { return now.Sub(e.seen) > rememberFor })
}

// order are the peers, the latest seen first.
func (m memory) order() []peer.ID {
	return slices.SortedFunc(maps.Keys(m), func(a, b peer.ID) int {
		return cmp.Or(m[b].seen.Compare(m[a].seen), cmp.Compare(a, b))
	})
}

// marshal writes the table.
func (m memory) marshal() []byte {
	b := []byte{rememberVersion, byte(len(m))}
	for _, id := range m.order() {
		e := m[id]
		b = binary.BigEndian.AppendUint64(b, uint64(e.seen.Unix()))
		b = appendL(b, []byte(id))
		b = append(b, byte(len(e.addrs)))
		for _, a := range e.addrs {
			b = appendL(b, []byte(a.String()))
		}
	}
	return b
}

// parseMemory reads what marshal wrote. A peer seen later than now, by a clock
// that was wrong, was seen now.
func parseMemory(b []byte, now time.Time) (memory, error) {
	if len(b) < 2 || len(b) > MaxMemory || b[0] != rememberVersion || b[1] > maxRemembered {
		return nil, errMemory
	}
	m := make(memory, b[1])
	count, r := int(b[1]), memoryReader{b: b[2:]}
	for range count {
		seen := int64(binary.BigEndian.Uint64(r.take(8)))
		id, err := mesh.ParsePeerID(r.takeL(64))
		n := int(r.take(1)[0])
		if r.bad || err != nil || n == 0 || n > maxRememberedAddrs || seen < 0 || seen > 1<<40 {
			return nil, errMemory
		}
		e := memoryEntry{seen: time.Unix(min(seen, now.Unix()), 0)}
		for range n {
			a, err := parseAddr(string(r.takeL(maxRememberedAddr)))
			if err != nil || kindOf(a) == 0 {
				return nil, errMemory
			}
			e.addrs = append(e.addrs, a)
		}
		m[peer.ID(id)] = e
	}
	if r.bad || len(r.b) != 0 || len(m) != count {
		return nil, errMemory
	}
	m.forget(now)
	return m, nil
}

// memoryReader takes bytes from the front; at the end it gives zeros and bad.
type memoryReader struct {
	b   []byte
	bad bool
}

func (r *memoryReader) take(n int) []byte {
	if n > len(r.b) {
		r.bad, r.b = true, nil
		return make([]byte, n)
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *memoryReader) takeL(most int) []byte {
	n := int(binary.BigEndian.Uint16(r.take(2)))
	if n > most {
		r.bad = true
		return nil
	}
	return r.take(n)
}
