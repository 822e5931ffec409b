package home

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// localKey is the random key that names and seals files of this home.
func (h *Home) localKey() ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.local != nil {
		return h.local, nil
	}
	path := filepath.Join(h.Data, "local.key")
	key, err := readRecord(path, "local-key", 32)
	if errors.Is(err, fs.ErrNotExist) {
		// A home that has files named under a local key and no local key is
		// damaged: a new one would silently give its owner new member keys.
		if entries, err := os.ReadDir(filepath.Join(h.Data, "members")); err == nil && len(entries) > 0 {
			return nil, fmt.Errorf("%s is missing, so the member keys beside it cannot be named: %w", path, ErrCorrupt)
		}
		key = make([]byte, 32)
		rand.Read(key) // never fails, since Go 1.24
		err = writeRecord(path, "local-key", key)
	}
	if err != nil {
		return nil, err
	}
	h.local = key
	return key, nil
}

// nameOf is what a file about subject is called, by kind.
func nameOf(local []byte, kind, subject string) string {
	return hex.EncodeToString(mac(local, "teahouse "+kind+" file 1", subject)[:16])
}

func mac(key []byte, label, subject string) []byte {
	m := hmac.New(sha256.New, key)
	fmt.Fprintf(m, "%s\x00%s", label, subject)
	return m.Sum(nil)
}

// FreshKey is a random key: as a host key for one run, never stored, it is
// what people have unless they ask to keep one.
func FreshKey() ed25519.PrivateKey {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		panic(err) // crypto/rand never fails since Go 1.24
	}
	return key
}

// HostKey is the kept host key, made at the first call. A damaged one is
// ErrCorrupt.
func (h *Home) HostKey() (ed25519.PrivateKey, error) {
	return keptKey(filepath.Join(h.Data, "host.key"), "host-key")
}

// StoredHostKey is the kept host key of a home that need not be open, or
// fs.ErrNotExist.
func StoredHostKey(d Dirs) (ed25519.PrivateKey, error) {
	return storedKey(filepath.Join(d.Data, "host.key"), "host-key")
}

func storedKey(path, kind string) (ed25519.PrivateKey, error) {
	seed, err := readRecord(path, kind, ed25519.SeedSize)
	if err != nil {
		return nil, err
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

func keptKey(path, kind string) (ed25519.PrivateKey, error) {
	key, err := storedKey(path, kind)
	if errors.Is(err, fs.ErrNotExist) {
		key = FreshKey()
		err = writeRecord(path, kind, key.Seed())
	}
	if err != nil {
		return nil, err
	}
	return key, nil
}

// Member is what this home is in one room.
type Member struct {
	Key ed25519.PrivateKey
	// Instance is the number of this join, on disk before Enter returned.
	Instance uint64

	path string
}

// instanceStep bounds the random part of the step from one instance number to
// the next. Two copies of one home continue from the same number; with steps
// of 1 both would be the same instance of the same member, and which of them
// is the newer could not be told.
const instanceStep = 1 << 24

// Enter gives the member key of the room, made at the first call, and an
// instance number that is higher than any before it and synced to disk. A
// damaged file is ErrCorrupt. Key and number lie in one file, so that neither
// can be lost without the other.
func (h *Home) Enter(room [16]byte) (*Member, error) {
	local, err := h.localKey()
	if err != nil {
		return nil, err
	}
	m := &Member{path: filepath.Join(h.Data, "members", nameOf(local, "member", string(room[:])))}
	value, err := readRecord(m.path, "member", ed25519.SeedSize+8)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		m.Key = FreshKey()
	case err != nil:
		return nil, err
	default:
		m.Key = ed25519.NewKeyFromSeed(value[:ed25519.SeedSize])
		m.Instance = binary.BigEndian.Uint64(value[ed25519.SeedSize:])
	}
	var random [4]byte
	rand.Read(random[:]) // never fails since Go 1.24
	step := 1 + uint64(binary.BigEndian.Uint32(random[:])%instanceStep)
	if err := m.store(m.Instance + step); err != nil {
		return nil, err
	}
	return m, nil
}

// Raise stores an instance number of at least n before it returns, for
// [room.Config.RaiseInstance].
func (m *Member) Raise(n uint64) error {
	if n <= m.Instance {
		return nil
	}
	return m.store(n)
}

func (m *Member) store(n uint64) error {
	if n > 1<<63 {
		return fmt.Errorf("instance number %d is out of range", n)
	}
	if err := writeRecord(m.path, "member", binary.BigEndian.AppendUint64(m.Key.Seed(), n)); err != nil {
		return err
	}
	m.Instance = n
	return nil
}
