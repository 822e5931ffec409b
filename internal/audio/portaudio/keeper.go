package portaudio

import (
	"errors"
	"sync"
	"time"

	pa "github.com/gordonklaus/portaudio"
)

// errTooSmall: a stream works but underruns too often.
var errTooSmall = errors.New("buffers too small")

const (
	// retryEvery is how often a lost device is looked for. PortAudio sees
	// new ones only after a rescan, which interrupts the others: as long as
	// there are others, the pauses double up to retryMost.
	retryEvery = time.Second
	retryMost  = 32 * time.Second
)

// report is a stream that its user gave up.
type report struct {
	device *device
	stream *stream
	why    error
}

// keeper is the goroutine that closes what has died and opens it again.
type keeper struct {
	sys  *System
	kick chan struct{} // of 1: there are reports
	done chan struct{}
	wg   sync.WaitGroup

	mu      sync.Mutex
	reports []report

	events []Event // to be told; guarded by sys.lib
}

func (k *keeper) start(s *System) {
	k.sys, k.kick, k.done = s, make(chan struct{}, 1), make(chan struct{})
	k.wg.Go(k.run)
}

// stop ends the goroutine.
func (k *keeper) stop() {
	close(k.done)
	k.wg.Wait()
}

func (k *keeper) report(r report) {
	k.mu.Lock()
	k.reports = append(k.reports, r)
	k.mu.Unlock()
	k.poke()
}

// poke makes the keeper look now.
func (k *keeper) poke() {
	select {
	case k.kick <- struct{}{}:
	default:
	}
}

func (k *keeper) run() {
	retry := time.NewTimer(time.Hour)
	retry.Stop()
	defer retry.Stop()
	pause := retryEvery
	for {
		select {
		case <-k.done:
			return
		case <-k.kick:
			pause = retryEvery
		case <-retry.C:
		}
		events, missing, others := k.repair()
		for _, e := range events {
			k.tell(e)
		}
		if missing {
			retry.Reset(pause)
			if others {
				pause = min(2*pause, retryMost)
			}
		}
	}
}

// repair closes what was reported and opens what is down: as it is listed
// now, else after a rescan. missing: some are down still; others: some are not.
func (k *keeper) repair() (events []Event, missing, others bool) {
	s := k.sys
	s.lib.Lock()
	defer s.lib.Unlock()
	k.collect()
	down := func() (list []*device) {
		for d := range s.devices {
			if d.down != nil {
				list = append(list, d)
			}
		}
		return list
	}
	rescan := false
	for _, d := range down() {
		why := d.down
		if err := d.reopen(); err != nil {
			s.log.Debug("sound device does not open again", "error", err)
			rescan = true
			continue
		}
		d.down = nil
		k.back(d, why)
	}
	if rescan {
		if err := s.rescan(); err != nil {
			s.log.Debug("rescan of sound devices", "error", err)
		}
	}
	events, k.events = k.events, nil
	left := len(down())
	return events, left > 0, left < len(s.devices)
}

// back notes that a device has a stream again. Under lib.
func (k *keeper) back(d *device, why error) {
	e := Event{Microphone: d.capture, Err: why}
	if st := d.cur.Load(); st != nil {
		e.Device = st.name
	}
	if errors.Is(why, errTooSmall) {
		e.Err = nil
	}
	k.events = append(k.events, e)
}

// collect closes the streams that were reported and marks their devices. Under
// lib.
func (k *keeper) collect() {
	k.mu.Lock()
	reports := k.reports
	k.reports = nil
	k.mu.Unlock()
	for _, r := range reports {
		if err := r.stream.close(); err != nil {
			k.sys.log.Debug("close a lost sound device", "error", err)
		}
		r.device.down = r.why
		if !errors.Is(r.why, errTooSmall) {
			k.events = append(k.events, Event{Microphone: r.device.capture, Err: r.why})
			continue
		}
		r.device.step = min(r.device.step+1, len(steps)-1)
	}
}

func (k *keeper) tell(e Event) {
	k.sys.log.Info("sound device", "microphone", e.Microphone, "device", e.Device, "error", e.Err)
	if k.sys.config.Notify != nil {
		k.sys.config.Notify(e)
	}
}

// rescan closes every stream, lists the devices anew and opens them again.
// Under lib.
func (s *System) rescan() error {
	s.keeper.collect() // Terminate would free their streams a first time
	for d := range s.devices {
		if st := d.take(); st != nil {
			if err := st.close(); err != nil {
				s.log.Debug("close for a rescan", "error", err)
			}
		}
	}
	if s.up {
		if err := pa.Terminate(); err != nil {
			s.log.Debug("terminate for a rescan", "error", err)
		}
		s.up = false
	}
	if err := initialize(); err != nil {
		for d := range s.devices {
			if d.down == nil {
				s.keeper.events = append(s.keeper.events, Event{Microphone: d.capture, Err: err})
			}
			d.down = err
		}
		return err
	}
	s.up = true
	for d := range s.devices {
		was := d.down
		d.down = d.reopen()
		switch {
		case was != nil && d.down == nil:
			s.keeper.back(d, was)
		case was == nil && d.down != nil:
			s.keeper.events = append(s.keeper.events, Event{Microphone: d.capture, Err: d.down})
		}
	}
	return nil
}
