package room

import (
	"crypto/sha256"
	"sync"
)

// VerifiedEntries remembers roster entries whose signatures were right, by
// hash: each entry comes by several ways. Nothing gets in that was not
// verified. The zero value is ready for use, from several goroutines at once,
// and by several rooms: what one has verified another need not verify again.
type VerifiedEntries struct {
	mu   sync.Mutex
	seen map[[sha256.Size]byte]struct{}
	ring [2 * MaxMembers][sha256.Size]byte
	next int
}

// verify checks an entry of this room.
func (r *Room) verify(e *entry) error {
	b := append(make([]byte, 0, len(r.id)+maxEntry), r.id[:]...)
	sum := sha256.Sum256(e.append(b))
	v := r.cfg.Verified
	if v.has(sum) {
		return nil
	}
	if err := e.verify(r.id); err != nil {
		r.count.entriesRefused.Add(1)
		return err
	}
	v.add(sum)
	return nil
}

func (v *VerifiedEntries) has(sum [sha256.Size]byte) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, ok := v.seen[sum]
	return ok
}

func (v *VerifiedEntries) add(sum [sha256.Size]byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.seen == nil {
		v.seen = make(map[[sha256.Size]byte]struct{}, len(v.ring))
	}
	if _, ok := v.seen[sum]; ok {
		return // two have verified it at once
	}
	delete(v.seen, v.ring[v.next])
	v.ring[v.next] = sum
	v.seen[sum] = struct{}{}
	v.next = (v.next + 1) % len(v.ring)
}
