package room

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"

	"teahouse/internal/mesh"
	"teahouse/internal/seal"
)

// Labels of what is derived from an epoch secret: docs/protocol.md sections 5
// and 6.
const (
	labelRatchet    = "teahouse ratchet 1"
	labelEpochTag   = "teahouse epoch tag 1"
	labelEpochID    = "teahouse epoch id 1"
	labelRoster     = "teahouse roster 1"
	labelFrame      = "teahouse frame 1" // ‖ room id ‖ member key ‖ L(peer id) ‖ salt
	labelCommitment = "teahouse epoch commitment 1"
)

// maxRatchets is how often a fresh epoch secret may be ratcheted on.
const maxRatchets = 1024

// Small fixed things of the wire.
type (
	tag        [4]byte  // of an epoch or a sender: a hint, never a proof
	epochID    [16]byte // names one epoch secret; not secret itself
	salt       [16]byte // of one instance, random per join
	commitment [32]byte // to the fresh secret of an epoch's origin
)

// epochSecret is what voice of one epoch is locked with.
type epochSecret [32]byte

// newEpochSecret is a fresh one.
func newEpochSecret() (s epochSecret) {
	_, _ = rand.Read(s[:]) // never fails: crypto/rand
	return s
}

// ratchet gives the next secret; there is no way back from it.
func (s *epochSecret) ratchet() epochSecret { return epochSecret(expand(s[:], labelRatchet, 32)) }

// ratchetBy is ratchet, steps times; ok is false if steps is over maxRatchets.
func (s *epochSecret) ratchetBy(steps uint32) (next epochSecret, ok bool) {
	if steps > maxRatchets {
		return next, false
	}
	next = *s
	for range steps {
		next = next.ratchet()
	}
	return next, true
}

// tag marks what is sealed in this epoch.
func (s *epochSecret) tag() tag { return tag(expand(s[:], labelEpochTag, 4)) }

// id names the secret, so that two members can see that they hold the same.
func (s *epochSecret) id() epochID { return epochID(expand(s[:], labelEpochID, 16)) }

// commitment is what the origin of a fresh epoch says about its secret.
func (s *epochSecret) commitment(room ID, number uint32) commitment {
	b := append([]byte(labelCommitment), room[:]...)
	b = be.AppendUint32(b, number)
	return sha256.Sum256(append(b, s[:]...))
}

// rosterKey seals roster entries for gossip.
func (s *epochSecret) rosterKey() *seal.Key {
	key := [seal.KeySize]byte(expand(s[:], labelRoster, seal.KeySize))
	return seal.NewX(&key)
}

// frameKey is the key and sender tag of one instance of one member.
func (s *epochSecret) frameKey(room ID, member Member, peer mesh.PeerID, salt salt) (*seal.Key, tag) {
	info := append([]byte(labelFrame), room[:]...)
	info = append(info, member[:]...)
	info = appendLP(info, string(peer))
	info = append(info, salt[:]...)
	out := expand(s[:], string(info), seal.KeySize+4)
	key := [seal.KeySize]byte(out)
	return seal.New(&key), tag(out[seal.KeySize:])
}

// Format and LogValue keep the secret out of logs and errors.
func (s epochSecret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("(epoch secret)")) }

// LogValue is a placeholder, as Format.
func (s epochSecret) LogValue() slog.Value { return slog.StringValue("(epoch secret)") }

// flows is how many flows one voice has: base and thin.
const flows = 2

// Errors of sealer and opener.
var (
	errNonceSpent = errors.New("frame counter was used before")
	errFlow       = errors.New("unknown flow")
)

// sealer seals the frames of this instance in one epoch. There must be one
// sealer for each epoch and no more, because it is what makes sure that no
// nonce is used twice. For one goroutine at a time.
type sealer struct {
	epoch, sender tag
	key           *seal.Key
	used          [flows]spent
	nonce         [seal.NonceSize]byte // here, not on the stack: seal.Key.Seal
	ad            [frameADLen]byte
	body          [maxFrameBody]byte
}

// newSealer is for the instance that member, peer and salt name.
func newSealer(s *epochSecret, room ID, member Member, peer mesh.PeerID, salt salt) *sealer {
	k := &sealer{epoch: s.tag()}
	k.key, k.sender = s.frameKey(room, member, peer, salt)
	return k
}

// opener opens the frames of one instance of one member in one epoch. For one
// goroutine at a time.
type opener struct {
	epoch, sender tag
	key           *seal.Key
	nonce         [seal.NonceSize]byte
	ad            [frameADLen]byte
	body          [maxFrameBody]byte
}

// newOpener is for the instance that member, peer and salt name.
func newOpener(s *epochSecret, room ID, member Member, peer mesh.PeerID, salt salt) *opener {
	k := &opener{epoch: s.tag()}
	k.key, k.sender = s.frameKey(room, member, peer, salt)
	return k
}

// spent remembers which counters of one flow a sealer has used.
type spent struct {
	begun   bool
	last    uint32
	advance uint64 // from the first counter to last, without wrapping
}

// spend takes counter, which must follow the last one and must not come round
// to where the sealer began.
func (s *spent) spend(counter uint32) bool {
	if !nonceGuard {
		return true
	}
	if !s.begun {
		s.begun, s.last = true, counter
		return true
	}
	step := counter - s.last
	if step == 0 || step >= 1<<31 || s.advance+uint64(step) >= 1<<32 {
		return false
	}
	s.last, s.advance = counter, s.advance+uint64(step)
	return true
}
