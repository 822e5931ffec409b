package home

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// model is a disk in memory that tells what may be left of it after a power
// cut. It promises no more than POSIX: a file's bytes last from its Sync on, a
// name from the Sync of its directory on; what was not synced may be there or
// not, in any combination, and of bytes any part.
type model struct {
	now, lasting names
	pending      []change
	stopAt       int   // the call that does not happen any more, counted from 0; -1: none
	fault        error // what that call answers
	cut          bool  // and so do all after it
	calls        int
}

// names is what lies under each path; directories are files without bytes.
type names map[string]*inode

type inode struct {
	data   []byte
	synced int // bytes that last
	dir    bool
}

// change is one change of names that is not synced: to disappears, or becomes
// what was called from.
type change struct {
	from, to string
	node     *inode
}

var errCut = errors.New("the power is gone")

func newModel(dirs ...string) *model {
	m := &model{now: names{}, stopAt: -1}
	for _, d := range dirs {
		m.now[d] = &inode{dir: true}
	}
	m.lasting = maps.Clone(m.now)
	return m
}

// call counts a call and tells whether it happens.
func (m *model) call() error {
	n := m.calls
	m.calls++
	if m.stopAt >= 0 && (n == m.stopAt || m.cut && n > m.stopAt) {
		return m.fault
	}
	return nil
}

func (m *model) make(path string, node *inode) error {
	if err := m.call(); err != nil {
		return err
	}
	if m.now[path] != nil {
		return fs.ErrExist
	}
	if parent := m.now[filepath.Dir(path)]; parent == nil || !parent.dir {
		return fs.ErrNotExist
	}
	m.now[path] = node
	m.pending = append(m.pending, change{to: path, node: node})
	return nil
}

func (m *model) mkdir(path string) error { return m.make(path, &inode{dir: true}) }

func (m *model) create(path string) (asideFile, error) {
	node := &inode{}
	return &modelFile{m, node}, m.make(path, node)
}

func (m *model) rename(from, to string) error {
	if err := m.call(); err != nil {
		return err
	}
	if m.now[from] == nil {
		return fs.ErrNotExist
	}
	m.pending = append(m.pending, change{from, to, m.now[from]})
	m.now[to] = m.now[from]
	delete(m.now, from)
	return nil
}

func (m *model) remove(path string) error {
	if err := m.call(); err != nil {
		return err
	}
	delete(m.now, path)
	m.pending = append(m.pending, change{to: path})
	return nil
}

func (m *model) syncDir(path string) error {
	if err := m.call(); err != nil {
		return err
	}
	m.pending = slices.DeleteFunc(m.pending, func(c change) bool {
		if filepath.Dir(c.to) != path {
			return false
		}
		c.apply(m.lasting)
		return true
	})
	return nil
}

func (c change) apply(n names) {
	delete(n, c.from)
	if c.node == nil {
		delete(n, c.to)
		return
	}
	n[c.to] = c.node
}

type modelFile struct {
	m    *model
	node *inode
}

// Write that fails has written half.
func (f *modelFile) Write(b []byte) (int, error) {
	n, err := len(b), f.m.call()
	if err != nil {
		n /= 2
	}
	f.node.data = append(f.node.data, b[:n]...)
	return n, err
}

func (f *modelFile) Sync() error {
	err := f.m.call()
	if err == nil {
		f.node.synced = len(f.node.data)
	}
	return err
}

func (f *modelFile) Close() error { return f.m.call() }

// read is what path holds in n; absent without it or one of its directories.
func (n names) read(path string) (data []byte, synced int, ok bool) {
	for dir := filepath.Dir(path); dir != "/"; dir = filepath.Dir(dir) {
		if n[dir] == nil {
			return nil, 0, false
		}
	}
	if n[path] == nil {
		return nil, 0, false
	}
	return n[path].data, n[path].synced, true
}

const absent = "(not there)"

// after is all that path may hold once the power is back.
func (m *model) after(path string) []string {
	found := map[string]bool{}
	for subset := range 1 << len(m.pending) {
		left := maps.Clone(m.lasting)
		for i, c := range m.pending {
			if subset&(1<<i) != 0 {
				c.apply(left)
			}
		}
		data, synced, ok := left.read(path)
		if !ok {
			found[absent] = true
			continue
		}
		for n := synced; n <= len(data); n++ {
			found[string(data[:n])] = true
			found[string(data[:n])+strings.Repeat("\x00", len(data)-n)] = true // length first, then bytes
		}
	}
	return slices.Sorted(maps.Keys(found))
}

const (
	modelDir  = "/home/members"
	modelPath = "/home/members/file"
)

// writer is a way to replace a file.
type writer func(d disk, path string, data []byte) error

// cutEverywhere writes a file anew, with the power going before each call of
// the disk in turn, and gives what is wrong with what may be left.
func cutEverywhere(write writer, old string) (wrong []string) {
	for stop := 0; ; stop++ {
		m := newModel("/home")
		if old != absent {
			if err := errors.Join(m.mkdir(modelDir), m.syncDir("/home"), replaceFile(m, modelPath, []byte(old))); err != nil {
				return []string{err.Error()}
			}
		}
		m.calls, m.stopAt, m.fault, m.cut = 0, stop, errCut, true
		err := write(m, modelPath, []byte("new"))
		for _, left := range m.after(modelPath) {
			switch {
			case left == "new":
			case left == old && err != nil:
			case err == nil:
				wrong = append(wrong, fmt.Sprintf("reported as written, but %q may be left", left))
			default:
				wrong = append(wrong, fmt.Sprintf("cut before call %d, %q may be left", stop, left))
			}
		}
		if m.calls <= stop {
			return wrong // it was not cut any more
		}
	}
}

// DESIGN section 8: whenever the power goes, the old file is whole or the new
// one is; and once a write was reported as done it is the new one.
func TestPowerCutAtEachStep(t *testing.T) {
	for _, old := range []string{absent, "the old one"} {
		for _, wrong := range cutEverywhere(replaceFile, old) {
			t.Errorf("over %s: %s", old, wrong)
		}
	}
}

// The model finds what is wrong with each shorter way.
func TestPowerCutFindsMistakes(t *testing.T) {
	inSteps := func(syncFile, rename, syncDir bool) writer {
		return func(d disk, path string, data []byte) error {
			aside := path
			if rename {
				aside += ".aside"
			} else if err := d.remove(path); err != nil {
				return err
			}
			f, err := d.create(aside)
			if err != nil {
				return err
			}
			_, err = f.Write(data)
			if err == nil && syncFile {
				err = f.Sync()
			}
			if err == nil {
				err = f.Close()
			}
			if err == nil && rename {
				err = d.rename(aside, path)
			}
			if err == nil && syncDir {
				err = d.syncDir(filepath.Dir(path))
			}
			return err
		}
	}
	for _, c := range []struct {
		name  string
		write writer
		bad   bool
	}{
		{"in place", inSteps(true, false, true), true},
		{"file not synced", inSteps(false, true, true), true},
		{"directory not synced", inSteps(true, true, false), true},
		{"all steps", inSteps(true, true, true), false},
	} {
		if wrong := cutEverywhere(c.write, "the old one"); (len(wrong) > 0) != c.bad {
			t.Errorf("%s: found %q", c.name, wrong)
		}
	}
	// A new directory of which nobody made sure.
	loose := func(d disk, path string, data []byte) error {
		if err := d.mkdir(filepath.Dir(path)); err != nil {
			return err
		}
		return inSteps(true, true, true)(d, path, data)
	}
	if wrong := cutEverywhere(loose, absent); len(wrong) == 0 {
		t.Error("parent directory not synced: not found")
	}
}

func TestNewDirectoriesLast(t *testing.T) {
	m := newModel("/home")
	path := "/home/a/b/c"
	if err := makeDirs(m, path); err != nil {
		t.Fatal(err)
	}
	if left := m.after(path); !slices.Equal(left, []string{""}) {
		t.Errorf("may be left: %q", left)
	}
	if err := makeDirs(m, path); err != nil {
		t.Errorf("again: %v", err)
	}
}

// DESIGN section 8: a disk that is full at any step leaves the old file as it
// was (or the new one, where only the last sync failed), nothing else, and an
// error that says so.
func TestDiskFullAtEachStep(t *testing.T) {
	for stop := 0; ; stop++ {
		m := newModel("/home", modelDir)
		if err := replaceFile(m, modelPath, []byte("the old one")); err != nil {
			t.Fatal(err)
		}
		m.calls, m.stopAt, m.fault = 0, stop, syscall.ENOSPC
		err := replaceFile(m, modelPath, []byte("new"))
		if m.calls <= stop {
			if err != nil {
				t.Fatal(err)
			}
			return
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("full at call %d: %v", stop, err)
		}
		data, _, ok := m.now.read(modelPath)
		renamed := bytes.Equal(data, []byte("new"))
		if !ok || !renamed && !bytes.Equal(data, []byte("the old one")) || renamed && stop != m.calls-2 {
			t.Errorf("full at call %d of %d: %q is left", stop, m.calls, data)
		}
		for path := range m.now {
			if strings.Contains(path, asidePrefix) {
				t.Errorf("full at call %d: %s is left behind", stop, path)
			}
		}
	}
}
