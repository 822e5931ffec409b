package room

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"teahouse/internal/mesh"
	"teahouse/internal/seal"
)

// Everything that is named or locked by a room_secret is HKDF-Expand of it
// (RFC 5869) with one of these labels: docs/protocol.md section 2.
const (
	labelID      = "teahouse room id 1"
	labelDHT     = "teahouse dht 1"     // ‖ hour u64
	labelTopic   = "teahouse topic 1"   // ‖ day u64
	labelBeacon  = "teahouse beacon 1"  // XChaCha20-Poly1305
	labelSession = "teahouse session 1" // the door K
)

// Argon2id (RFC 9106) with these costs about 0.2 s and makes each guess at a
// topic cost as much.
const (
	argonPasses = 3
	argonMemory = 64 << 10 // KiB
	argonLanes  = 1
)

// ID is the room id: it stands first in everything that is signed, and in the
// events of the program. It never travels in clear.
type ID [16]byte

// String is lower-case base32 without padding, 26 characters.
func (id ID) String() string { return base32Lower.EncodeToString(id[:]) }

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// OpenSecret is the room_secret of the open room that topic names within the
// network of networkSecret. Topics that read alike give the same room: see
// NormaliseTopic. It takes 64 MiB and some tenths of a second; callers keep
// what they got.
func OpenSecret(topic string, networkSecret [32]byte) (Secret, error) {
	name, err := NormaliseTopic(topic)
	if err != nil {
		return Secret{}, err
	}
	return Secret(argon2.IDKey([]byte(name), networkSecret[:], argonPasses, argonMemory, argonLanes, 32)), nil
}

// ID is the room's id.
func (s *Secret) ID() (id ID) {
	copy(id[:], s.expand(labelID, len(id)))
	return id
}

// dhtKey is where the room's members announce themselves in one hour.
func (s *Secret) dhtKey(hour uint64) [32]byte { return [32]byte(s.expandPeriod(labelDHT, hour)) }

// gossipTopic is the topic of one day, 52 characters.
func (s *Secret) gossipTopic(day uint64) string {
	return base32Lower.EncodeToString(s.expandPeriod(labelTopic, day))
}

// beaconKey seals beacons.
func (s *Secret) beaconKey() *seal.Key {
	key := [seal.KeySize]byte(s.expand(labelBeacon, seal.KeySize))
	return seal.NewX(&key)
}

// door is the session key K.
func (s *Secret) door() mesh.Door { return mesh.Door(s.expand(labelSession, 32)) }

// DHT keys change by the hour and topics by the day (docs/protocol.md
// section 2), in UTC. Both overlap, so that clocks may differ by an hour.
const topicOverlap = 2 * time.Hour

// dhtKeyAt gives the key to provide under at a time.
func (s *Secret) dhtKeyAt(at time.Time) [32]byte { return s.dhtKey(dhtHour(at)) }

// dhtKeysAround gives the keys to look up at a time: that of its hour and of
// reach hours to each side.
func (s *Secret) dhtKeysAround(at time.Time, reach int) (keys [][32]byte) {
	for off := -reach; off <= reach; off++ {
		keys = append(keys, s.dhtKey(dhtHour(at)+uint64(off)))
	}
	return keys
}

func dhtHour(at time.Time) uint64 { return uint64(max(0, at.Unix())) / 3600 }

// gossipTopics gives the topic to publish on at a time, and those to be
// subscribed to, the published one first: also yesterday's in the first two
// hours of a day, tomorrow's in the last two.
func (s *Secret) gossipTopics(at time.Time) (publish string, subscribe []string) {
	now := time.Duration(max(0, at.Unix())) * time.Second
	const day = 24 * time.Hour
	today := uint64(now / day)
	publish = s.gossipTopic(today)
	subscribe = []string{publish}
	if since := now % day; since < topicOverlap {
		subscribe = append(subscribe, s.gossipTopic(today-1))
	} else if since >= day-topicOverlap {
		subscribe = append(subscribe, s.gossipTopic(today+1))
	}
	return publish, subscribe
}

func (s *Secret) expandPeriod(label string, period uint64) []byte {
	return s.expand(string(be.AppendUint64([]byte(label), period)), 32)
}

func (s *Secret) expand(info string, n int) []byte { return expand(s[:], info, n) }

// expand is HKDF-Expand with SHA-256 of a uniformly random 32-byte key.
func expand(key []byte, info string, n int) []byte {
	out, err := hkdf.Expand(sha256.New, key, info, n)
	if err != nil {
		panic(err) // only lengths over 8,160 bytes are an error
	}
	return out
}

// Format prints a placeholder whatever the verb, so that a secret does not
// stand in a log or an error by accident.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("(room secret)")) }

// LogValue is a placeholder, as Format.
func (s Secret) LogValue() slog.Value { return slog.StringValue("(room secret)") }

// maxTopic is the longest topic as typed, in bytes.
const maxTopic = 256

// NormaliseTopic gives the spelling that all spellings of one topic share:
// Unicode's NFKC_Casefold (which drops invisible characters), with white space
// trimmed and folded to one space. It refuses topics that are empty, over 256
// bytes, not UTF-8, or that have control characters.
func NormaliseTopic(topic string) (string, error) {
	switch {
	case len(topic) > maxTopic:
		return "", fmt.Errorf("topic is longer than %d bytes", maxTopic)
	case !utf8.ValidString(topic):
		return "", errors.New("topic is not valid UTF-8")
	}
	return normalise(topic)
}
