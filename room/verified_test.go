package room

import (
	"crypto/sha256"
	"errors"
	"testing"
)

// TestVerifiedEntries: what was verified is not verified again, in this room
// alone; nothing else passes, and what is remembered is bounded.
func TestVerifiedEntries(t *testing.T) {
	right := *goldEntry(t)
	var shared VerifiedEntries
	a, b := &Room{id: goldRoom()}, &Room{id: goldRoom()}
	other := &Room{id: ID{1}}
	for _, r := range []*Room{a, b, other} {
		r.cfg.Verified = &shared
	}
	if err := a.verify(&right); err != nil {
		t.Fatal(err)
	}
	if err := b.verify(&right); err != nil || len(shared.seen) != 1 {
		t.Errorf("%v, %d remembered", err, len(shared.seen))
	}
	if err := other.verify(&right); !errors.Is(err, errSignature) {
		t.Errorf("another room: %v", err)
	}
	for _, change := range []func(e *entry){
		func(e *entry) { e.Sequence++ }, func(e *entry) { e.MemberSig[0] ^= 1 }, func(e *entry) { e.HostSig[0] ^= 1 },
	} {
		wrong := right
		change(&wrong)
		for range 2 {
			if err := b.verify(&wrong); !errors.Is(err, errSignature) {
				t.Errorf("%+v: %v", wrong, err)
			}
		}
	}
	for i := range 3 * len(shared.ring) {
		shared.add(sha256.Sum256([]byte{byte(i), byte(i >> 8)}))
		shared.add(sha256.Sum256([]byte{byte(i), byte(i >> 8)}))
	}
	if len(shared.seen) != len(shared.ring) {
		t.Errorf("%d remembered", len(shared.seen))
	}
}
