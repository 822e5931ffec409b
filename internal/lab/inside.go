//go:build linux

package lab

import (
	"fmt"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// netnsRun is where iproute2 keeps the names of namespaces.
const netnsRun = "/run/netns"

// Do calls f on a thread of this process that is in the host's namespace: the
// sockets that f opens are the host's, wherever they are used later. f starts
// no goroutine that opens more, and no process. An end of its goroutine
// (t.Fatal) in f is an error.
func (h *Host) Do(f func() error) error {
	err := fmt.Errorf("in %s: what was to be done there did not come to its end", h.ns)
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The thread is given back as it was. It must not end: it may have
		// started processes before, which would die with it (command).
		runtime.LockOSThread()
		back, openErr := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if openErr != nil {
			err = fmt.Errorf("enter %s: %w", h.ns, openErr)
			return
		}
		defer unix.Close(back)
		fd, openErr := unix.Open(filepath.Join(netnsRun, h.ns), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if openErr != nil {
			err = fmt.Errorf("enter %s: %w", h.ns, openErr)
			return
		}
		defer unix.Close(fd)
		if setErr := unix.Setns(fd, unix.CLONE_NEWNET); setErr != nil {
			err = fmt.Errorf("enter %s: %w", h.ns, setErr)
			return
		}
		defer func() {
			if unix.Setns(back, unix.CLONE_NEWNET) == nil {
				runtime.UnlockOSThread()
			}
		}()
		err = f()
	}()
	<-done
	return err
}
