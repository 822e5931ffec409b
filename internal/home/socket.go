package home

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
)

// maxSocketPath is the longest path of a unix socket, without its final zero:
// 108 bytes on Linux, 104 on the BSDs and macOS; the lesser holds everywhere.
const maxSocketPath = 103

// ControlSocket is where the control socket of this home is: ctl.sock in the
// runtime directory, or, where that path is too long for a unix socket, a
// directory of this user's own in the system's temporary directory, under a
// name that both sides compute from the runtime directory.
func (d Dirs) ControlSocket() string {
	path := filepath.Join(d.Runtime, "ctl.sock")
	if len(path) <= maxSocketPath {
		return path
	}
	sum := sha256.Sum256([]byte(d.Runtime))
	return filepath.Join(os.TempDir(), fmt.Sprintf("teahouse-%d", os.Geteuid()), hex.EncodeToString(sum[:12])+".sock")
}

// PrepareControlSocket makes the directory of the control socket for this
// user alone and removes a socket that a crash left; the lock on the home
// makes sure that nobody listens there.
func (h *Home) PrepareControlSocket() (string, error) {
	path := h.ControlSocket()
	if err := ownDir(filepath.Dir(path)); err != nil {
		return "", err
	}
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return "", fmt.Errorf("old control socket: %w", err)
	}
	return path, nil
}
