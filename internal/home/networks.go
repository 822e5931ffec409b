package home

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Networks are the networks that a home knows by their descriptors. A home's
// node and its commands use them side by side, so each change is made under a
// lock of their own, and what is read is whole.
//
//	data/networks   lock
//	                <random>.net    a network's descriptor, as text
//	                <random>.root   its root key, on the founder's home (rootkey.go)
//
// The names of the files are random: a listing tells no network.
type Networks struct {
	dirs Dirs
	work int // work factor of a passphrase, as a power of two; 0: age's own
}

// StoredNetwork is one of them.
type StoredNetwork struct {
	// Name tells it from the others of this home.
	Name string
	// File is where it lies.
	File string
	// Text is the descriptor: a link, in a file.
	Text string
	Root RootKey
}

// RootKey says how a network's root key lies here.
type RootKey int

// The ways.
const (
	NoRoot     RootKey = iota
	PlainRoot          // for whoever reads the file
	LockedRoot         // under a passphrase
)

// MaxNetworks is how many networks one home keeps.
const MaxNetworks = 64

// ErrTooMany: MaxNetworks are there.
var ErrTooMany = errors.New("the home keeps as many networks as it can")

const (
	networkSuffix = ".net"
	rootSuffix    = ".root"
)

// NetworksOf are the networks of a home that need not be open. Nothing is
// touched yet.
func NetworksOf(d Dirs) *Networks { return &Networks{dirs: d} }

func (n *Networks) dir() string { return filepath.Join(n.dirs.Data, "networks") }

func (n *Networks) file(name, suffix string) string { return filepath.Join(n.dir(), name+suffix) }

// List reads all, in the order of their names.
func (n *Networks) List() ([]StoredNetwork, error) {
	entries, err := os.ReadDir(n.dir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("networks of the home: %w", err)
	}
	var all []StoredNetwork
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), networkSuffix)
		if !ok || strings.HasPrefix(name, ".") {
			continue
		}
		if len(all) == MaxNetworks {
			return nil, fmt.Errorf("%s: %w", n.dir(), ErrTooMany)
		}
		s, err := n.Read(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // forgotten meanwhile
		}
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// Read reads one.
func (n *Networks) Read(name string) (StoredNetwork, error) {
	s := StoredNetwork{Name: name, File: n.file(name, networkSuffix)}
	text, err := readFile(s.File)
	if err != nil {
		return s, fmt.Errorf("network: %w", err)
	}
	s.Text = string(text)
	s.Root, err = n.rootOf(name)
	return s, err
}

// Stat is the state of the file of one: when it differs from before, the
// network may have changed.
func (n *Networks) Stat(name string) (fs.FileInfo, error) {
	return os.Stat(n.file(name, networkSuffix))
}

// Change lets decide see what there is, and writes what it answers: text for
// the network called name, which is a new one if name is empty. Nobody else
// changes anything meanwhile. An error of decide is that of Change, and
// nothing is written; nor is it where text is empty. It answers the name.
func (n *Networks) Change(decide func(all []StoredNetwork) (name, text string, err error)) (string, error) {
	unlock, err := n.lock()
	if err != nil {
		return "", err
	}
	defer unlock()
	all, err := n.List()
	if err != nil {
		return "", err
	}
	name, text, err := decide(all)
	switch {
	case err != nil || text == "":
		return name, err
	case name == "":
		if len(all) == MaxNetworks {
			return "", ErrTooMany
		}
		name = newNetworkName()
	case !slices.ContainsFunc(all, func(s StoredNetwork) bool { return s.Name == name }):
		return "", fmt.Errorf("network %s: %w", name, fs.ErrNotExist)
	}
	return name, n.write(name, text)
}

// Create stores a network with its root key, under a passphrase unless that is
// empty. decide may refuse, as in Change.
func (n *Networks) Create(text string, root RootSeed, passphrase string, decide func(all []StoredNetwork) error) (string, error) {
	locked, err := n.encodeRoot(root, passphrase) // slow
	if err != nil {
		return "", err
	}
	unlock, err := n.lock()
	if err != nil {
		return "", err
	}
	defer unlock()
	all, err := n.List()
	if err != nil {
		return "", err
	}
	if err := decide(all); err != nil {
		return "", err
	}
	if len(all) == MaxNetworks {
		return "", ErrTooMany
	}
	name := newNetworkName()
	// The key first: without the descriptor it is a file that nobody looks at,
	// and the other way round the network would have lost its root.
	if err := writeFile(n.file(name, rootSuffix), locked); err != nil {
		return "", fmt.Errorf("root key: %w", err)
	}
	return name, n.write(name, text)
}

func newNetworkName() string { return strings.ToLower(rand.Text()[:16]) }

func (n *Networks) write(name, text string) error {
	if len(text) > maxFile {
		return fmt.Errorf("network: %d bytes are too many", len(text))
	}
	if err := writeFile(n.file(name, networkSuffix), []byte(text)); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	return nil
}

// lock makes the directory and waits until nobody else changes what is in it;
// what a crash left half-written is removed.
func (n *Networks) lock() (unlock func(), err error) {
	for _, dir := range []string{n.dirs.Data, n.dir()} {
		if err := ownDir(dir); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(filepath.Join(n.dir(), "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("networks of the home: %w", err)
	}
	for {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX); !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("networks of the home: %w", err), f.Close())
	}
	left, _ := filepath.Glob(filepath.Join(n.dir(), asidePrefix+"*")) // the pattern is a constant
	for _, path := range left {
		_ = os.Remove(path) // what stays, the next one removes
	}
	return func() { _ = f.Close() }, nil // the kernel ends a flock with its descriptor
}
