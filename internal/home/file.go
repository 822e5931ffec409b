package home

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// asidePrefix marks files that are being written; [Open] removes stale ones.
const asidePrefix = ".aside-"

// maxFile bounds every file that is read here; the largest is config.toml.
const maxFile = 64 << 10

// disk is what writing needs of a file system: the seam at which tests cut the
// power, fill the disk, and look at what is left.
type disk interface {
	// mkdir makes one directory, 0700; one that is there is fs.ErrExist.
	mkdir(path string) error
	// create makes a file that must not be there, 0600.
	create(path string) (asideFile, error)
	rename(from, to string) error
	remove(path string) error
	// syncDir makes the entries of a directory last.
	syncDir(path string) error
}

// asideFile is a file that is being written.
type asideFile interface {
	io.WriteCloser
	Sync() error
}

// systemDisk is the disk of this machine.
type systemDisk struct{}

func (systemDisk) mkdir(path string) error { return os.Mkdir(path, 0o700) }

func (systemDisk) create(path string) (asideFile, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
}

func (systemDisk) rename(from, to string) error { return os.Rename(from, to) }

func (systemDisk) remove(path string) error { return os.Remove(path) }

func (systemDisk) syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// writeFile replaces path by data on the disk of this machine.
func writeFile(path string, data []byte) error { return replaceFile(systemDisk{}, path, data) }

// replaceFile replaces path by data so that a reader, a power cut or a full
// disk sees the old file whole or the new one whole, and once it has returned
// nil the new one: written aside, synced, renamed, directory synced.
func replaceFile(d disk, path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	if err := makeDir(d, dir); err != nil {
		return err
	}
	aside := filepath.Join(dir, asidePrefix+rand.Text())
	f, err := d.create(aside)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = d.remove(aside) // what stays, the next Open sweeps away
		}
	}()
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := d.rename(aside, path); err != nil {
		return err
	}
	return d.syncDir(dir)
}

// makeDir makes one directory whose parent exists, and syncs the parent.
func makeDir(d disk, dir string) error {
	err := d.mkdir(dir)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return d.syncDir(filepath.Dir(dir))
}

// makeDirs is makeDir for a path of which several directories may be missing.
func makeDirs(d disk, path string) error {
	err := makeDir(d, path)
	if !errors.Is(err, os.ErrNotExist) || filepath.Dir(path) == path {
		return err
	}
	if err := makeDirs(d, filepath.Dir(path)); err != nil {
		return err
	}
	return makeDir(d, path)
}

// readFile reads a file of at most maxFile bytes.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s is %w: longer than %d bytes", path, ErrCorrupt, maxFile)
	}
	return data, nil
}

// A record is how a key or a number lies on disk: one line
//
//	teahouse-<kind>-1 <hex of the value> <hex of the first 8 bytes of its SHA-256>
//
// The checksum, over "<kind> <hex>", is against damage and mixed-up files, not
// against an attacker: without it a flipped bit would be another valid key.
func encodeRecord(kind string, value []byte) []byte {
	body := hex.EncodeToString(value)
	return []byte(fmt.Sprintf("teahouse-%s-1 %s %s\n", kind, body, checksum(kind, body)))
}

// decodeRecord answers ErrCorrupt unless data is a record of kind with length
// bytes of value.
func decodeRecord(kind string, data []byte, length int) ([]byte, error) {
	text, ok := strings.CutPrefix(string(data), "teahouse-"+kind+"-1 ")
	if !ok {
		return nil, ErrCorrupt
	}
	body, sum, ok := strings.Cut(strings.TrimSuffix(text, "\n"), " ")
	if !ok || sum != checksum(kind, body) {
		return nil, ErrCorrupt
	}
	value, err := hex.DecodeString(body)
	if err != nil || len(value) != length {
		return nil, ErrCorrupt
	}
	if !bytes.Equal(encodeRecord(kind, value), data) {
		return nil, ErrCorrupt
	}
	return value, nil
}

func checksum(kind, body string) string {
	sum := sha256.Sum256([]byte(kind + " " + body))
	return hex.EncodeToString(sum[:8])
}

// readRecord reads a record, with the path in the error of a damaged one. A
// missing file is fs.ErrNotExist.
func readRecord(path, kind string, length int) ([]byte, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	value, err := decodeRecord(kind, data, length)
	if err != nil {
		return nil, fmt.Errorf("%s is %w", path, err)
	}
	return value, nil
}

func writeRecord(path, kind string, value []byte) error {
	if err := writeFile(path, encodeRecord(kind, value)); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
