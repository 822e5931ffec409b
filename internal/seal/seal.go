// Package seal is the one place where Teahouse encrypts with a key and a
// nonce of its own making (ChaCha20-Poly1305, RFC 8439, and the 24-byte nonce
// form XChaCha20-Poly1305). Everything else that is encrypted is inside libp2p.
//
// Because a repeated nonce under one key would give the plain text away, every
// seal passes [Key.Seal]; a build with the tag noncelog writes a hash of the
// key and the nonce of each to the file named by TEAHOUSE_NONCE_LOG, and the
// lifecycle tests fail on a repeat.
package seal

import (
	"crypto/cipher"
	"errors"

	"golang.org/x/crypto/chacha20poly1305"
)

// Sizes in bytes.
const (
	KeySize    = chacha20poly1305.KeySize
	NonceSize  = chacha20poly1305.NonceSize
	NonceSizeX = chacha20poly1305.NonceSizeX
	Overhead   = chacha20poly1305.Overhead
)

// ErrOpen: a sealed box was made under another key or nonce, or changed.
var ErrOpen = errors.New("not authentic")

// Key seals and opens. It may be used from several goroutines at once.
type Key struct {
	aead cipher.AEAD
	id   keyID
}

// New makes a key whose nonces have NonceSize bytes: for counters.
func New(key *[KeySize]byte) *Key {
	aead, err := chacha20poly1305.New(key[:])
	if err != nil {
		panic(err) // only a wrong length is an error, and the type forbids it
	}
	return &Key{aead: aead, id: idOf(key)}
}

// NewX makes a key whose nonces have NonceSizeX bytes: for random ones.
func NewX(key *[KeySize]byte) *Key {
	aead, err := chacha20poly1305.NewX(key[:])
	if err != nil {
		panic(err) // as above
	}
	return &Key{aead: aead, id: idOf(key)}
}

// Seal appends the sealed plaintext, len(plaintext)+Overhead bytes, to dst.
// The caller must never use one nonce twice with one key; it keeps nonce on
// the heap (in its own struct), or each call allocates.
func (k *Key) Seal(dst, nonce, plaintext, ad []byte) []byte {
	record(k.id, nonce)
	return k.aead.Seal(dst, nonce, plaintext, ad)
}

// Open appends the plain text to dst, or answers ErrOpen.
func (k *Key) Open(dst, nonce, sealed, ad []byte) ([]byte, error) {
	out, err := k.aead.Open(dst, nonce, sealed, ad)
	if err != nil {
		return dst, ErrOpen
	}
	return out, nil
}
