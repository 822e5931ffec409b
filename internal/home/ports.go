package home

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// Port is the number that this home listens on by default, UDP and TCP alike:
// chosen at the first call by choose, then kept, so that a port forwarded in
// a router stays right and peers find a node again where it was.
func (h *Home) Port(choose func() (int, error)) (int, error) {
	path := filepath.Join(h.State, "ports")
	value, err := readRecord(path, "port", 2)
	if err == nil {
		if port := int(binary.BigEndian.Uint16(value)); port >= 1024 {
			return port, nil
		}
		err = ErrCorrupt
	}
	if !errors.Is(err, fs.ErrNotExist) {
		// A port is no secret and no identity: another one does.
		h.log.Warn("the kept port was not readable, choosing another", "err", err)
	}
	port, err := choose()
	if err != nil {
		return 0, fmt.Errorf("choose a port: %w", err)
	}
	if port < 1024 || port > 65535 {
		return 0, fmt.Errorf("choose a port: %d is out of range", port)
	}
	return port, writeRecord(path, "port", binary.BigEndian.AppendUint16(nil, uint16(port)))
}
