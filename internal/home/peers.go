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

// Peers is where a node keeps what it remembers of the peers of one network.
// Its methods are for one goroutine at a time.
//
// On disk lies `01 ‖ nonce 24 ‖ XChaCha20-Poly1305(key, nonce, content, AD =
// the file's name)`. Key and name are HMACs of the network's id under the
// local key, so neither the directory nor a copy of the file tells whom this
// node knows, or which networks.
type Peers struct {
	log  *slog.Logger
	path string
	name string
	key  *seal.Key
}

const (
	peersVersion  = 1
	peersOverhead = 1 + seal.NonceSizeX + seal.Overhead
)

// Peers opens the memory of one network.
func (h *Home) Peers(network string) (*Peers, error) {
	local, err := h.localKey()
	if err != nil {
		return nil, err
	}
	name := nameOf(local, "peers", network)
	key := [seal.KeySize]byte(mac(local, "teahouse peers key 1", network))
	return &Peers{log: h.log, path: filepath.Join(h.State, "peers", name), name: name, key: seal.NewX(&key)}, nil
}

// Load answers what was stored last, nil for nothing. A damaged file is set
// aside with one line in the log, and is nothing: who it named will be met
// again.
func (p *Peers) Load() ([]byte, error) {
	sealed, err := readFile(p.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, ErrCorrupt):
		p.setAside()
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("remembered peers: %w", err)
	}
	if len(sealed) >= peersOverhead && sealed[0] == peersVersion {
		nonce, box := sealed[1:1+seal.NonceSizeX], sealed[1+seal.NonceSizeX:]
		if content, err := p.key.Open(nil, nonce, box, []byte(p.name)); err == nil {
			return content, nil
		}
	}
	p.setAside()
	return nil, nil
}

func (p *Peers) setAside() {
	if err := os.Rename(p.path, p.path+".corrupt"); err != nil {
		p.log.Warn("the remembered peers are damaged and could not be set aside", "err", err)
		return
	}
	p.log.Warn("the remembered peers were damaged: set aside, going on without", "file", p.path+".corrupt")
}

// Store replaces the content, whole or not at all.
func (p *Peers) Store(content []byte) error {
	if len(content) > maxFile-peersOverhead {
		return fmt.Errorf("remember peers: %d bytes are too many", len(content))
	}
	out := make([]byte, 1+seal.NonceSizeX, peersOverhead+len(content))
	out[0] = peersVersion
	nonce := out[1:]
	rand.Read(nonce) // never fails, since Go 1.24
	if err := writeFile(p.path, p.key.Seal(out, nonce, content, []byte(p.name))); err != nil {
		return fmt.Errorf("remember peers: %w", err)
	}
	return nil
}
