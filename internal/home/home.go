// Package home is what one node keeps on disk: keys, the numbers that must
// never go back, a cache of slow derivations, its ports, its settings and the
// place of its control socket.
//
//	config   config.toml                 settings, written by people
//	data     local.key                   32 random bytes; names and seals the files below
//	         host.key                    kept identity (bootstrap, --keep-identity)
//	         members/<room>              member key of one room, last instance number
//	         networks/                   descriptors, and root keys of founders
//	state    lock                        held while a node runs
//	         ports                       the default listening port
//	         derived/<name>              cached Argon2id results, sealed
//	         peers/<name>                peers met of one network, sealed
//	runtime  ctl.sock                    control socket of the running node
//
// The four directories are those of the XDG base directory specification, or
// the folders of the same names (runtime: run) in one directory.
//
// <room> and <name> are HMAC-SHA256 under local.key: a listing of the
// directory or a look into a backup's index tells neither topic nor room.
// Nothing here stores a topic.
//
// Every file is written aside, synced, renamed, and the directory synced, so
// that a power cut leaves the old or the new one whole. A key file that does
// not read back is refused ([ErrCorrupt]), never replaced.
package home

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Errors that callers branch on.
var (
	// ErrLocked: another node runs on this home.
	ErrLocked = errors.New("another node runs on this home")
	// ErrCorrupt: a key file does not read back as it was written.
	ErrCorrupt = errors.New("damaged")
)

// Dirs are the four directories of one home.
type Dirs struct {
	Config, Data, State, Runtime string
}

// Locate names the directories without touching them. root is one directory
// for everything, or empty for the XDG directories, which getenv tells. The
// XDG specification has relative paths ignored.
func Locate(root string, getenv func(string) string) (Dirs, error) {
	if root != "" {
		abs, err := filepath.Abs(root)
		if err != nil {
			return Dirs{}, fmt.Errorf("home %s: %w", root, err)
		}
		return Dirs{
			Config:  filepath.Join(abs, "config"),
			Data:    filepath.Join(abs, "data"),
			State:   filepath.Join(abs, "state"),
			Runtime: filepath.Join(abs, "run"),
		}, nil
	}
	user := getenv("HOME")
	base := func(variable string, fallback ...string) (string, error) {
		if dir := getenv(variable); filepath.IsAbs(dir) {
			return filepath.Join(dir, "teahouse"), nil
		}
		if !filepath.IsAbs(user) {
			return "", fmt.Errorf("neither %s nor HOME names a directory", variable)
		}
		return filepath.Join(append([]string{user}, append(fallback, "teahouse")...)...), nil
	}
	var d Dirs
	var err error
	if d.Config, err = base("XDG_CONFIG_HOME", ".config"); err != nil {
		return Dirs{}, err
	}
	if d.Data, err = base("XDG_DATA_HOME", ".local", "share"); err != nil {
		return Dirs{}, err
	}
	if d.State, err = base("XDG_STATE_HOME", ".local", "state"); err != nil {
		return Dirs{}, err
	}
	if dir := getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		d.Runtime = filepath.Join(dir, "teahouse")
	} else {
		d.Runtime = filepath.Join(d.State, "run")
	}
	return d, nil
}

// Home is an open home: this process alone may change it. Its methods may be
// called from several goroutines.
type Home struct {
	Dirs

	log  *slog.Logger
	lock *os.File

	mu    sync.Mutex
	local []byte // guarded by mu; nil until localKey has read it
}

// Open makes the directories where they are missing (0700) and takes the
// lock, or answers ErrLocked. log nil discards.
func Open(dirs Dirs, log *slog.Logger) (*Home, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	for _, dir := range []string{dirs.Config, dirs.Data, dirs.State, dirs.Runtime} {
		if err := ownDir(dir); err != nil {
			return nil, err
		}
	}
	lock, err := takeLock(filepath.Join(dirs.State, "lock"))
	if err != nil {
		return nil, err
	}
	h := &Home{Dirs: dirs, log: log, lock: lock}
	h.sweep()
	return h, nil
}

// Close gives the lock back. It is idempotent.
func (h *Home) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lock == nil {
		return nil
	}
	err := h.lock.Close() // the kernel ends a flock with its descriptor
	h.lock = nil
	return err
}

// takeLock holds path by flock for the life of the descriptor: a killed
// process leaves no stale lock. The pid inside is for people only.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock of the home: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if pid := holder(f); pid > 0 {
			return nil, fmt.Errorf("%w (process %d)", ErrLocked, pid)
		}
		return nil, ErrLocked
	}
	if err := errors.Join(f.Truncate(0), writeAt(f, fmt.Sprintf("%d\n", os.Getpid()))); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

// holder reads the pid of who holds the lock, 0 if it is not to be read.
func holder(f *os.File) int {
	text, err := io.ReadAll(io.NewSectionReader(f, 0, 20))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return pid
}

// ownDir makes dir for this user alone, and refuses one that is somebody
// else's: whoever owns it could swap the keys.
func ownDir(dir string) error {
	if err := makeDirs(systemDisk{}, dir); err != nil {
		return fmt.Errorf("directory %s: %w", dir, err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("directory %s: %w", dir, err)
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() && os.Geteuid() != 0 {
		return fmt.Errorf("directory %s belongs to another user", dir)
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(dir, 0o700); err != nil {
			return fmt.Errorf("directory %s: %w", dir, err)
		}
	}
	return nil
}

// sweep removes what a crash between writing aside and renaming left behind.
func (h *Home) sweep() {
	for _, dir := range []string{h.Data, h.State, filepath.Join(h.Data, "members"), filepath.Join(h.State, "derived"), filepath.Join(h.State, "peers")} {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			h.log.Warn("leftovers not swept", "err", err)
			continue
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), asidePrefix) {
				if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
					h.log.Warn("leftover not removed", "err", err)
				}
			}
		}
	}
}
