package portaudio

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"teahouse/internal/audio"
)

// device is what microphones and speakers have in common: a name that was
// asked for, and the stream that serves it just now.
type device struct {
	// Constant.
	sys     *System
	capture bool
	done    chan struct{}

	// Guarded by sys.lib.
	name     string    // that was asked for; "" is the default
	down     error     // why there is no stream; nil while there is one
	attempts attempts  // at opening it again
	buffers  buffers   // which size
	opened   time.Time // the stream, or when the one before was

	closed atomic.Bool
	// use is held by who uses the stream; who wants to take it away
	// interrupts it first (take).
	use sync.Mutex
	cur atomic.Pointer[stream] // nil while there is none

	// Owned by the reader or writer.
	timer    *time.Timer
	pressure pressure
}

func (s *System) newDevice(name string, capture bool) (*device, error) {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	d := &device{sys: s, capture: capture, name: name, done: make(chan struct{}), timer: timer}
	d.buffers = newBuffers(s.config.Safe)
	s.lib.Lock()
	defer s.lib.Unlock()
	if s.closed.Load() {
		return nil, audio.ErrClosed
	}
	st, err := d.open(name)
	if err != nil {
		return nil, err
	}
	d.serve(st)
	s.devices[d] = struct{}{}
	return d, nil
}

// open opens a stream at the device called name, "" for the default. Under
// sys.lib.
func (d *device) open(name string) (*stream, error) {
	info, err := find(name, d.capture)
	if err != nil {
		return nil, err
	}
	size := steps[d.buffers.step]
	st, err := d.sys.openStream(info, d.capture, !d.capture || d.sys.config.Stereo, size)
	if err != nil {
		return nil, err
	}
	st.asked, st.calm, st.grace = name == d.name, d.buffers.calm(), d.attempts.grace()
	d.sys.log.Debug("sound device opened", "device", st.name, "microphone", d.capture,
		"rate", st.rate, "channels", st.channels, "period", size.period)
	return st, nil
}

// reopen opens the device again, or in its stead the default one. Under
// sys.lib, and without a stream.
func (d *device) reopen() error {
	st, err := d.open(d.name)
	if err != nil && d.name != "" {
		var errDefault error
		if st, errDefault = d.open(""); errDefault == nil {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	d.serve(st)
	return nil
}

// retake goes over to the device that was asked for, from one in its stead or
// from one chosen before, if it opens. Under sys.lib.
func (d *device) retake() error {
	st, err := d.open(d.name)
	if err != nil {
		return err
	}
	if old := d.take(); old != nil {
		if err := old.close(); err != nil {
			d.sys.log.Debug("close the device before", "error", err)
		}
	}
	d.serve(st)
	return nil
}

// Choose is for audio.Chooser. It waits for the sound system, and where that
// does not list the device yet, interrupts the others for a moment.
func (d *device) Choose(name string) error {
	d.sys.lib.Lock()
	defer d.sys.lib.Unlock()
	if d.closed.Load() {
		return audio.ErrClosed
	}
	if _, err := find(name, d.capture); errors.Is(err, audio.ErrNoDevice) {
		if err := d.sys.rescan(); err != nil {
			return err
		}
	}
	was := d.name
	d.name = name
	err := d.retake()
	if err != nil && d.cur.Load() != nil && !errors.Is(err, audio.ErrNoDevice) && !errors.Is(err, errStuck) {
		// It may be the same device by another name, which opens once.
		if old := d.take(); old != nil {
			_ = old.close() // it is in the way
		}
		err = d.retake()
	}
	if err != nil {
		d.name = was
		if d.cur.Load() == nil && d.down == nil {
			d.down = d.reopen()
		}
	} else {
		d.attempts = attempts{}
		d.sys.keeper.back(d, nil)
	}
	d.sys.keeper.poke() // there are events, or more to do
	return err
}

// serve makes st the stream. Under sys.lib, and without a stream.
func (d *device) serve(st *stream) {
	d.down, d.opened = nil, st.opened
	d.cur.Store(st)
}

// take ends a wait on the stream and takes it away; nil if there is none.
// Under sys.lib.
func (d *device) take() *stream {
	if st := d.cur.Load(); st != nil {
		st.interrupt()
	}
	d.use.Lock()
	defer d.use.Unlock()
	return d.cur.Swap(nil)
}

// lose hands the stream to the keeper. The caller holds use.
func (d *device) lose(st *stream, why error) {
	if d.cur.CompareAndSwap(st, nil) {
		d.sys.keeper.report(report{device: d, stream: st, why: why})
	}
}

func (d *device) close() error {
	if d.closed.Swap(true) {
		return nil
	}
	close(d.done)
	return bounded(func() error {
		d.sys.lib.Lock()
		defer d.sys.lib.Unlock()
		delete(d.sys.devices, d)
		if st := d.take(); st != nil {
			if err := st.close(); err != nil {
				return fmt.Errorf("close %q: %w", st.name, err)
			}
		}
		return nil
	})
}

// closeLimit is how long a Close waits for a sound server that hangs.
const closeLimit = 2 * time.Second

// bounded runs f and waits for it, but no longer than closeLimit: PortAudio
// waits for a sound server as long as that hangs, and nothing can end it, but
// a program must be able to. What is given up so ends when the server goes on
// or the program ends.
func bounded(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	limit := time.NewTimer(closeLimit)
	defer limit.Stop()
	select {
	case err := <-done:
		return err
	case <-limit.C:
		return errors.New("close sound devices: the sound server does not answer")
	}
}

// idle passes the time until t while there is no stream.
func (d *device) idle(t time.Time) error {
	d.timer.Reset(time.Until(t))
	select {
	case <-d.timer.C:
		return nil
	case <-d.done:
		d.timer.Stop()
		return audio.ErrClosed
	}
}
