package home

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"teahouse/internal/seal"
)

// Sealed is what a node remembers of one subject, in one file. Its methods are
// for one goroutine at a time.
//
// On disk lies `01 ‖ nonce 24 ‖ XChaCha20-Poly1305(key, nonce, content, AD =
// the file's name)`. Key and name are HMACs of the subject under the local
// key, so neither the directory nor a copy of the file tells whom this node
// knows, or which networks and rooms.
type Sealed struct {
	log  *slog.Logger
	what string // in words
	path string
	name string
	key  *seal.Key
}

const (
	sealedVersion  = 1
	sealedOverhead = 1 + seal.NonceSizeX + seal.Overhead
)

// Peers is where a node keeps what it remembers of the peers of one network.
func (h *Home) Peers(network string) (*Sealed, error) {
	return h.sealed("peers", "remembered peers", network)
}

// sealed opens the memory of one subject. dir is a directory of the state, and
// what people call its content.
func (h *Home) sealed(dir, what, subject string) (*Sealed, error) {
	local, err := h.localKey()
	if err != nil {
		return nil, err
	}
	name := nameOf(local, dir, subject)
	key := [seal.KeySize]byte(mac(local, "teahouse "+dir+" key 1", subject))
	return &Sealed{log: h.log, what: what, path: filepath.Join(h.State, dir, name), name: name, key: seal.NewX(&key)}, nil
}

// Load answers what was stored last, nil for nothing. A damaged file is set
// aside with one line in the log, and is nothing.
func (p *Sealed) Load() ([]byte, error) {
	sealed, err := readFile(p.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, ErrCorrupt):
		p.setAside()
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%s: %w", p.what, err)
	}
	if len(sealed) >= sealedOverhead && sealed[0] == sealedVersion {
		nonce, box := sealed[1:1+seal.NonceSizeX], sealed[1+seal.NonceSizeX:]
		if content, err := p.key.Open(nil, nonce, box, []byte(p.name)); err == nil {
			return content, nil
		}
	}
	p.setAside()
	return nil, nil
}

func (p *Sealed) setAside() {
	if err := os.Rename(p.path, p.path+".corrupt"); err != nil {
		p.log.Warn("the "+p.what+" are damaged and could not be set aside", "err", err)
		return
	}
	p.log.Warn("the "+p.what+" were damaged: set aside, going on without", "file", p.path+".corrupt")
}

// Store replaces the content, whole or not at all.
func (p *Sealed) Store(content []byte) error {
	if len(content) > maxFile-sealedOverhead {
		return fmt.Errorf("%s: %d bytes are too many", p.what, len(content))
	}
	out := make([]byte, 1+seal.NonceSizeX, sealedOverhead+len(content))
	out[0] = sealedVersion
	nonce := out[1:]
	rand.Read(nonce) // never fails, since Go 1.24
	if err := writeFile(p.path, p.key.Seal(out, nonce, content, []byte(p.name))); err != nil {
		return fmt.Errorf("%s: %w", p.what, err)
	}
	return nil
}
