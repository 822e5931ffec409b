//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"time"
)

// Capture is a running tcpdump.
type Capture struct {
	File string
	proc *Process
}

// Capture records everything that passes the host's interfaces, except what
// it says to itself, into a pcap file, and returns once it listens. On the
// core that is all that the hosts send each other, each packet twice: as it
// comes and as it goes.
func (h *Host) Capture(ctx context.Context, file string) (*Capture, error) {
	dev := h.dev
	if h == h.net.core {
		dev = "any"
	}
	// -Z root: as its own user tcpdump could not write to our directory.
	// -B: 32 MiB of buffer, because a dropped packet hides what it held.
	p, err := Start(Spec{Host: h, Path: "tcpdump", Args: []string{
		"-i", dev, "-nn", "-U", "-s", "0", "-B", "32768", "-Z", "root", "-w", file,
	}})
	if err != nil {
		return nil, err
	}
	if err := p.WaitStderr(ctx, "listening on"); err != nil {
		p.Kill()
		return nil, err
	}
	return &Capture{File: file, proc: p}, nil
}

var dropped = regexp.MustCompile(`(\d+) packets? dropped by kernel`)

// Stop ends the capture after what is on its way has been written. It is an
// error if packets were missed.
func (c *Capture) Stop() error {
	// What tcpdump has not read when it is told to end is lost, uncounted, and
	// the kernel hands it a block that is not full only after a second: wait
	// for one in which the file has hardly grown.
	for last := int64(-1 << 20); ; time.Sleep(1200 * time.Millisecond) {
		info, err := os.Stat(c.File)
		if err != nil {
			return fmt.Errorf("capture: %w", err)
		}
		if info.Size()-last < 4096 {
			break
		}
		last = info.Size()
	}
	if code := c.proc.Stop(10 * time.Second); code != 0 {
		return fmt.Errorf("capture: tcpdump ended with %d: %s", code, c.proc.Stderr())
	}
	m := dropped.FindStringSubmatch(c.proc.Stderr())
	if m == nil {
		return errors.New("capture: tcpdump gave no count")
	}
	if m[1] != "0" {
		return fmt.Errorf("capture: %s packets were missed", m[1])
	}
	return nil
}
