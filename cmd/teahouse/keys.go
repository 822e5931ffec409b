package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// keyboard gives single keys from a terminal. Only line editing and echo are
// switched off: Ctrl-C and Ctrl-Z stay signals, and output needs no care.
type keyboard struct {
	fd     int
	before *term.State

	mu    sync.Mutex
	raw   bool
	given bool // back: never to be taken again
}

// openKeyboard is nil where standard input is no terminal.
func openKeyboard() *keyboard {
	fd := int(os.Stdin.Fd())
	if !term.IsTerminal(fd) {
		return nil
	}
	before, err := term.GetState(fd)
	if err != nil {
		return nil
	}
	k := &keyboard{fd: fd, before: before}
	if !k.set() {
		return nil
	}
	return k
}

func (k *keyboard) set() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.given {
		return false
	}
	t, err := unix.IoctlGetTermios(k.fd, getTermios)
	if err != nil {
		return false
	}
	t.Lflag &^= unix.ICANON | unix.ECHO
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	k.raw = unix.IoctlSetTermios(k.fd, setTermios, t) == nil
	return k.raw
}

// restore gives the terminal back as it was. It is idempotent and may be
// called from anywhere, also while everything falls apart. On nil it does
// nothing.
func (k *keyboard) restore() {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.given = true
	if k.raw {
		k.raw = false
		_ = term.Restore(k.fd, k.before) // nothing is left to try
	}
}

// read calls key for each key until ctx ends or standard input does. The
// goroutine that reads cannot be woken and ends with the process.
func (k *keyboard) read(ctx context.Context, key func(byte)) {
	keys := make(chan byte)
	go func() {
		defer close(keys)
		var b [1]byte
		for {
			n, err := os.Stdin.Read(b[:])
			if err != nil {
				return
			}
			if n == 1 {
				select {
				case keys <- b[0]:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	// After Ctrl-Z and fg the shell has set the terminal its own way.
	resumed := make(chan os.Signal, 1)
	signal.Notify(resumed, syscall.SIGCONT)
	defer signal.Stop(resumed)
	for {
		select {
		case <-ctx.Done():
			return
		case <-resumed:
			k.set()
		case b, ok := <-keys:
			if !ok {
				return
			}
			key(b)
		}
	}
}
