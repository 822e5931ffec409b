//go:build linux

package lab

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// shim carries the packets of lines that delay: the kernel here has no netem.
//
//	site's TUN ── read ─▶ shaper: lost, or when it leaves ─▶ heap ── when it is time, write ─▶ internet's TUN
//	          ◀─ write ── heap ◀─────────────────── shaper ◀─ read ──
//
// One thread serves all lines of a network, so that a packet costs no wake-up
// of another: it sleeps in ppoll until something comes or must leave. It runs
// before other programs where the kernel allows that. IP packets alone pass,
// whole: the kernel has cut and summed them before it hands them to a TUN
// device, so no offload has to be switched off anywhere.
type shim struct {
	lines []*line
	begun time.Time
	wake  int // an eventfd that is readable once stop is called
	tid   atomic.Int64
	used  int64         // nanoseconds of CPU that the thread had used before; set before tid
	done  chan struct{} // closed when the thread has ended; nil before start
}

// line is one site's, with a TUN device at either end.
type line struct {
	name string
	ways [2]*way // up, to the internet, and down
}

// way is one direction of a line. The shim's thread owns all but the counters.
type way struct {
	from, to int // descriptors of TUN devices
	shaper   *shaper
	held     held
	number   uint64
	passed   atomic.Uint64
	lost     atomic.Uint64 // in bursts
	refused  atomic.Uint64 // for want of room, or by the kernel
}

const (
	// tunMTU is the most bytes of a packet.
	tunMTU = 1500
	// maxHeld is how many packets may be on their way in one direction: 300 ms
	// of 300 Mbit/s. What comes beyond is dropped.
	maxHeld = 8192
	// atOnce is how many packets are read of one way before others have a turn.
	atOnce = 64
)

// LineStats are the counts of one direction of a line.
type LineStats struct {
	Passed  uint64 // has left, or is on its way
	Lost    uint64 // in bursts
	Refused uint64 // dropped because too much was on its way
}

// newShim makes a shim without lines.
func newShim() (*shim, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make a shim: %w", err)
	}
	return &shim{wake: wake, begun: time.Now()}, nil
}

// add makes the two devices of a line. It is called before start. The devices
// live until stop.
func (s *shim) add(name string, shape Shape, seed uint64, site *Host, siteDev string, core *Host, coreDev string) error {
	inside, err := site.tun(siteDev)
	if err != nil {
		return err
	}
	outside, err := core.tun(coreDev)
	if err != nil {
		return errors.Join(err, unix.Close(inside))
	}
	s.lines = append(s.lines, &line{name: name, ways: [2]*way{
		{from: inside, to: outside, shaper: newShaper(shape, seed, name+" up")},
		{from: outside, to: inside, shaper: newShaper(shape, seed, name+" down")},
	}})
	return nil
}

// tun makes a TUN device in the host's namespace. The device goes when the
// descriptor is closed, in any way.
func (h *Host) tun(dev string) (fd int, err error) {
	err = h.Do(func() error {
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
			return err
		}
		request, err := unix.NewIfreq(dev)
		if err == nil {
			request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
		}
		if err != nil {
			return errors.Join(err, unix.Close(fd))
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("make a TUN device %s in %s: %w", dev, h.ns, err)
	}
	return fd, nil
}

// start begins to carry.
func (s *shim) start() {
	if len(s.lines) == 0 {
		return
	}
	s.done = make(chan struct{})
	go func() {
		defer close(s.done)
		// The thread is given back as it was, and must not end (see Do).
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var used unix.Timespec
		if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &used) == nil {
			s.used = used.Nano()
		}
		s.tid.Store(int64(unix.Gettid()))
		// Before sound, which runs at 1 (Spec.Urgent); where it may not, it is
		// late by what the machine is late.
		if schedule(unix.SCHED_RR, 2) == nil {
			defer func() { _ = schedule(unix.SCHED_NORMAL, 0) }() // which anybody may
		}
		s.run()
	}()
}

// schedule says when this thread runs; threads that it makes are as others.
func schedule(policy, priority uint32) error {
	return unix.SchedSetAttr(0, &unix.SchedAttr{
		Size: unix.SizeofSchedAttr, Policy: policy, Priority: priority, Flags: unix.SCHED_FLAG_RESET_ON_FORK,
	}, 0)
}

// stop ends the thread and removes the devices. It is called once.
func (s *shim) stop() error {
	one := [8]byte{1} // any number but 0, in any byte order
	_, err := unix.Write(s.wake, one[:])
	if s.done != nil && err == nil {
		<-s.done
	}
	err = errors.Join(err, unix.Close(s.wake))
	for _, l := range s.lines {
		err = errors.Join(err, unix.Close(l.ways[0].from), unix.Close(l.ways[0].to))
	}
	return err
}

// run reads, holds and writes until stop.
func (s *shim) run() {
	var ways []*way
	polled := []unix.PollFd{{Fd: int32(s.wake), Events: unix.POLLIN}}
	for _, l := range s.lines {
		for _, w := range l.ways {
			ways = append(ways, w)
			polled = append(polled, unix.PollFd{Fd: int32(w.from), Events: unix.POLLIN})
		}
	}
	free := &buffers{}
	for {
		now := time.Since(s.begun)
		next := time.Hour
		for _, w := range ways {
			w.flush(now, free)
			if len(w.held) > 0 {
				next = min(next, w.held[0].leaves-now)
			}
		}
		// What was due when now was taken has left; what has become due
		// meanwhile has waited for one write or two.
		timeout := unix.NsecToTimespec(max(0, int64(next)))
		if _, err := unix.Ppoll(polled, &timeout, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return // a descriptor is none: there is nothing to carry any more
		}
		if polled[0].Revents != 0 {
			return
		}
		now = time.Since(s.begun)
		for i, w := range ways {
			switch got := polled[i+1].Revents; {
			case got&unix.POLLIN != 0:
				w.fill(now, free)
			case got != 0: // the device went with its namespace
				polled[i+1].Fd = -1
			}
		}
	}
}

// fill takes in what has come.
func (w *way) fill(now time.Duration, free *buffers) {
	for range atOnce {
		b := free.get()
		n, err := unix.Read(w.from, b)
		if err != nil || n == 0 {
			free.put(b)
			return
		}
		leaves, lost := w.shaper.pass(now)
		switch {
		case lost:
			w.lost.Add(1)
		case len(w.held) >= maxHeld:
			w.refused.Add(1)
		default:
			w.passed.Add(1)
			w.held.push(heldPacket{leaves: leaves, number: w.number, bytes: b[:n]})
			w.number++
			continue
		}
		free.put(b)
	}
}

// flush lets go what is due.
func (w *way) flush(now time.Duration, free *buffers) {
	for len(w.held) > 0 && w.held[0].leaves <= now {
		p := w.held.pop()
		if _, err := unix.Write(w.to, p.bytes); err != nil { // the device is down, or its namespace on its way out
			w.refused.Add(1)
			w.passed.Add(^uint64(0))
		}
		free.put(p.bytes[:cap(p.bytes)])
	}
}

// buffers are those that no packet is in. As many are made as packets were
// once on their way, which maxHeld bounds.
type buffers struct{ free [][]byte }

func (b *buffers) get() []byte {
	last := len(b.free) - 1
	if last < 0 {
		return make([]byte, tunMTU)
	}
	one := b.free[last]
	b.free = b.free[:last]
	return one
}

func (b *buffers) put(one []byte) { b.free = append(b.free, one) }

// stats are the counts of a line, up and down.
func (l *line) stats() (up, down LineStats) {
	of := func(w *way) LineStats {
		return LineStats{Passed: w.passed.Load(), Lost: w.lost.Load(), Refused: w.refused.Load()}
	}
	return of(l.ways[0]), of(l.ways[1])
}
