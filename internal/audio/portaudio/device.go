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
	name    string // "" is the default
	done    chan struct{}

	// Guarded by sys.lib.
	step int // of steps
	down error

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
	if s.config.Safe {
		d.step = len(steps) - 1
	}
	s.lib.Lock()
	defer s.lib.Unlock()
	if s.closed.Load() {
		return nil, audio.ErrClosed
	}
	st, err := d.open()
	if err != nil {
		return nil, err
	}
	d.cur.Store(st)
	s.devices[d] = struct{}{}
	return d, nil
}

// open opens a stream for the device. Under sys.lib.
func (d *device) open() (*stream, error) {
	info, err := find(d.name, d.capture)
	if err != nil {
		return nil, err
	}
	st, err := openStream(info, d.capture, !d.capture || d.sys.config.Stereo, steps[d.step], d.sys.config.rates)
	if err != nil {
		return nil, err
	}
	d.sys.log.Debug("sound device opened", "device", st.name, "microphone", d.capture,
		"rate", st.rate, "channels", st.channels, "period", steps[d.step].period)
	return st, nil
}

// reopen opens the device again, or the default one if it has gone. Under
// sys.lib, and without a stream.
func (d *device) reopen() error {
	st, err := d.open()
	if errors.Is(err, audio.ErrNoDevice) && d.name != "" {
		name := d.name
		d.name = ""
		var errDefault error
		if st, errDefault = d.open(); errDefault == nil {
			err = nil
		}
		d.name = name
	}
	if err != nil {
		return err
	}
	d.cur.Store(st)
	return nil
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

// pressure decides, block by block, when a stream needs larger buffers.
type pressure struct {
	blocks int
	base   uint64 // underruns at the beginning of the window
}

const (
	// pressureWindow is 5 s; pressureLimit underruns within it are too many.
	pressureWindow = 5 * time.Second / audio.BlockDuration
	pressureLimit  = 3
	// pressureGrace is what follows on opening, whose underruns tell nothing.
	pressureGrace = startLimit / audio.BlockDuration
)

// high takes the underruns of the stream so far, once a block.
func (p *pressure) high(underruns uint64) bool {
	p.blocks++
	if p.blocks <= int(pressureGrace) || p.blocks%int(pressureWindow) == 0 {
		p.base = underruns
	}
	return underruns >= p.base+pressureLimit
}

// relieve moves to larger buffers if there are any and underruns call for it.
// The caller holds use.
func (d *device) relieve(st *stream, underruns uint64) {
	if st.last || !d.pressure.high(underruns) {
		return
	}
	d.lose(st, errTooSmall)
}
