package home

import (
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// maxDerived is how many cached derivations are kept; the least recently
// written goes first.
const maxDerived = 64

// Derived answers derive(), whose 32-byte result depends on subject alone
// (e.g. Argon2id of a topic, 64 MiB), from the cache if it can.
//
// On disk lies the result sealed under HMAC-SHA256(local key, subject), in a
// file named by another HMAC of it: who takes the disk finds neither subject
// nor result, and has to guess the subject to open an entry. Guessing against
// the cache is cheap where guessing against Argon2id is not, which is the
// price of not waiting at every join; without the seal there would be nothing
// to guess. A damaged entry is set aside and derived anew.
func (h *Home) Derived(subject string, derive func() [32]byte) ([32]byte, error) {
	local, err := h.localKey()
	if err != nil {
		return [32]byte{}, err
	}
	name := nameOf(local, "derived", subject)
	path := filepath.Join(h.State, "derived", name)
	box, err := boxFor(local, subject)
	if err != nil {
		return [32]byte{}, err
	}
	sealed, err := readFile(path)
	if err == nil {
		plain, err := box.Open(nil, nil, sealed, []byte(name))
		if err == nil && len(plain) == 32 {
			return [32]byte(plain), nil
		}
		h.log.Warn("a damaged cache entry is set aside")
		if err := os.Rename(path, path+".damaged"); err != nil {
			h.log.Warn("cache entry not set aside", "err", err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		h.log.Warn("cache entry not read", "err", err)
	}
	result := derive()
	// A cache that cannot be written costs time, not the talk.
	if err := writeFile(path, box.Seal(nil, nil, result[:], []byte(name))); err != nil {
		h.log.Warn("cache entry not written", "err", err)
	}
	h.trimDerived()
	return result, nil
}

// boxFor seals with AES-256-GCM and random nonces (made inside the cipher,
// stored in front of the ciphertext). One key seals a handful of times.
func boxFor(local []byte, subject string) (cipher.AEAD, error) {
	block, err := aes.NewCipher(mac(local, "teahouse derived key 1", subject))
	if err != nil {
		return nil, fmt.Errorf("cache seal: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func (h *Home) trimDerived() {
	dir := filepath.Join(h.State, "derived")
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) <= maxDerived {
		return
	}
	var files []fs.FileInfo
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			files = append(files, info)
		}
	}
	slices.SortFunc(files, func(a, b fs.FileInfo) int {
		return cmp.Or(a.ModTime().Compare(b.ModTime()), cmp.Compare(a.Name(), b.Name()))
	})
	for _, f := range files[:max(0, len(files)-maxDerived)] {
		if err := os.Remove(filepath.Join(dir, f.Name())); err != nil {
			h.log.Warn("old cache entry not removed", "err", err)
		}
	}
}
