package home

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
)

// A network's root key lies as a record, or, under a passphrase, as a record
// that age has encrypted (scrypt, ChaCha20-Poly1305; armoured): the age program
// opens it too.

// RootSeed is the seed of an Ed25519 root key (RFC 8032).
type RootSeed [32]byte

// ErrPassphrase: the root key does not open with this passphrase.
var ErrPassphrase = errors.New("the passphrase is wrong")

const rootKind = "root-key"

func (n *Networks) rootOf(name string) (RootKey, error) {
	text, err := readFile(n.file(name, rootSuffix))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return NoRoot, nil
	case err != nil:
		return NoRoot, fmt.Errorf("root key: %w", err)
	case strings.HasPrefix(string(text), armor.Header):
		return LockedRoot, nil
	}
	return PlainRoot, nil
}

// RootFile is where the root key of a network lies, if this home has it.
func (n *Networks) RootFile(name string) string { return n.file(name, rootSuffix) }

// RootSeedOf reads the root key of a network; passphrase is asked only if it
// lies under one. A wrong one is ErrPassphrase, a damaged file ErrCorrupt, none
// fs.ErrNotExist.
func (n *Networks) RootSeedOf(name string, passphrase func() (string, error)) (RootSeed, error) {
	path := n.file(name, rootSuffix)
	text, err := readFile(path)
	if err != nil {
		return RootSeed{}, fmt.Errorf("root key: %w", err)
	}
	if strings.HasPrefix(string(text), armor.Header) {
		phrase, err := passphrase()
		if err != nil {
			return RootSeed{}, err
		}
		if text, err = unlockRoot(text, phrase); err != nil {
			return RootSeed{}, fmt.Errorf("root key %s: %w", path, err)
		}
	}
	seed, err := decodeRecord(rootKind, text, len(RootSeed{}))
	if err != nil {
		return RootSeed{}, fmt.Errorf("root key %s is %w", path, err)
	}
	return RootSeed(seed), nil
}

func unlockRoot(text []byte, passphrase string) ([]byte, error) {
	identity, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, ErrPassphrase // an empty one
	}
	plain, err := age.Decrypt(armor.NewReader(bytes.NewReader(text)), identity)
	if _, wrong := errors.AsType[*age.NoIdentityMatchError](err); wrong {
		return nil, ErrPassphrase
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	out, err := io.ReadAll(io.LimitReader(plain, maxFile))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return out, nil
}

// LockRoot puts the root key of a network, which [Networks.RootSeedOf] has
// given, under another passphrase, or under none if that is empty.
func (n *Networks) LockRoot(name string, root RootSeed, passphrase string) error {
	text, err := n.encodeRoot(root, passphrase)
	if err != nil {
		return err
	}
	unlock, err := n.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := writeFile(n.file(name, rootSuffix), text); err != nil {
		return fmt.Errorf("root key: %w", err)
	}
	return nil
}

// encodeRoot is the file of a root key. Under a passphrase it takes a second.
func (n *Networks) encodeRoot(root RootSeed, passphrase string) ([]byte, error) {
	record := encodeRecord(rootKind, root[:])
	if passphrase == "" {
		return record, nil
	}
	recipient, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, fmt.Errorf("passphrase: %w", err)
	}
	if n.work > 0 {
		recipient.SetWorkFactor(n.work)
	}
	var out bytes.Buffer
	armoured := armor.NewWriter(&out)
	w, err := age.Encrypt(armoured, recipient)
	if err != nil {
		return nil, fmt.Errorf("passphrase: %w", err)
	}
	if _, err := w.Write(record); err != nil {
		return nil, fmt.Errorf("passphrase: %w", err)
	}
	if err := errors.Join(w.Close(), armoured.Close()); err != nil {
		return nil, fmt.Errorf("passphrase: %w", err)
	}
	return out.Bytes(), nil
}
