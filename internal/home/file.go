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

// writeFile replaces path by data so that a reader, a crash or a full disk
// sees the old file whole or the new one whole: written aside, synced,
// renamed, directory synced. The file is 0600, its directory 0700.
func writeFile(path string, data []byte) (err error) {
	dir := filepath.Dir(path)
	if err := makeDir(dir); err != nil {
		return err
	}
	aside := filepath.Join(dir, asidePrefix+rand.Text())
	f, err := os.OpenFile(aside, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(aside)
		}
	}()
	if _, err := f.Write(data); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(aside, path); err != nil {
		return err
	}
	return syncDir(dir)
}

// makeDir makes one directory whose parent exists, and syncs the parent.
func makeDir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
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
