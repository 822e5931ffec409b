//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// baseTags are on every build: libopusfile is not needed (LIBRARIES).
const baseTags = "nolibopusfile"

// Builds holds the binaries of one test run, each built once. Its methods may
// be called from any goroutine.
type Builds struct {
	dir string // where the binaries go
	mod string // the module's root

	mu   sync.Mutex
	done map[string]*build
}

type build struct {
	once sync.Once
	path string
	err  error
}

// NewBuilds makes binaries into dir, of the module that holds the working
// directory.
func NewBuilds(dir string) (*Builds, error) {
	at, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	for mod := at; ; mod = filepath.Dir(mod) {
		if _, err := os.Stat(filepath.Join(mod, "go.mod")); err == nil {
			return &Builds{dir: dir, mod: mod, done: make(map[string]*build)}, nil
		}
		if mod == filepath.Dir(mod) {
			return nil, errors.New("build teahouse: no go.mod above " + at)
		}
	}
}

// Teahouse is the path of cmd/teahouse built with these tags.
func (b *Builds) Teahouse(ctx context.Context, tags ...string) (path string, err error) {
	all := strings.Join(append([]string{baseTags}, tags...), ",")
	b.mu.Lock()
	one := b.done[all]
	if one == nil {
		one = &build{}
		b.done[all] = one
	}
	b.mu.Unlock()
	one.once.Do(func() {
		one.path = filepath.Join(b.dir, "teahouse-"+strings.ReplaceAll(all, ",", "-"))
		cmd := command(ctx, "go", "build", "-buildvcs=false", "-tags="+all, "-o", one.path, "./cmd/teahouse")
		cmd.Dir = b.mod
		cmd.Env = append(os.Environ(), "GOFLAGS=") // tags there would replace ours
		if one.err = run(cmd); one.err != nil {
			one.err = fmt.Errorf("build teahouse: %w", one.err)
		}
	})
	return one.path, one.err
}
