package portaudio

import (
	"errors"
	"sync"
	"time"

	pa "github.com/gordonklaus/portaudio"

	"teahouse/internal/audio"
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

	// Guarded by sys.lib.
	events []Event // to be told
	search search
	cards  string // what the kernel knew when PortAudio listed the devices
}

func (k *keeper) start(s *System) {
	k.sys, k.kick, k.done = s, make(chan struct{}, 1), make(chan struct{})
	k.cards = cards()
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
	for {
		select {
		case <-k.done:
			return
		case <-k.kick:
		case <-retry.C:
		}
		events, again := k.repair()
		for _, e := range events {
			k.tell(e)
		}
		if again {
			retry.Reset(retryEvery)
		}
	}
}

// repair closes what was reported and opens what is down: as it is listed now,
// or after a rescan when one is due. again: not everything is as it was asked
// for.
func (k *keeper) repair() (events []Event, again bool) {
	s := k.sys
	s.lib.Lock()
	defer s.lib.Unlock()
	now := time.Now()
	k.collect(now)
	unlisted := k.reopen(now)
	down, standing := k.amiss()
	switch {
	case down == 0 && standing == 0:
	case cards() != k.cards, // something was plugged in or out
		down > 0 && k.search.due(now, unlisted, down < len(s.devices)):
		if err := s.rescan(); err != nil {
			s.log.Debug("rescan of sound devices", "error", err)
		}
		down, standing = k.amiss()
	}
	events, k.events = k.events, nil
	return events, down+standing > 0
}

// reopen tries what is down or replaced and may be tried. unlisted: something
// is not among the devices listed. Under lib.
func (k *keeper) reopen(now time.Time) (unlisted bool) {
	for d := range k.sys.devices {
		st := d.cur.Load()
		if d.down == nil && (st == nil || st.asked) || !d.attempts.due(now) {
			continue
		}
		why, err := d.down, error(nil)
		if why != nil {
			err = d.reopen()
		} else {
			err = d.retake()
		}
		if err != nil {
			k.sys.log.Debug("sound device does not open", "microphone", d.capture, "error", err)
			unlisted = unlisted || why != nil && errors.Is(err, audio.ErrNoDevice)
			d.attempts.failed(now)
			continue
		}
		k.back(d, why)
	}
	return unlisted
}

// amiss counts the devices without a stream, and those replaced by the
// default. Under lib.
func (k *keeper) amiss() (down, standing int) {
	for d := range k.sys.devices {
		switch st := d.cur.Load(); {
		case d.down != nil:
			down++
		case st != nil && !st.asked:
			standing++
		}
	}
	return down, standing
}

// back notes that a device has a stream again. Under lib.
func (k *keeper) back(d *device, why error) {
	k.search.changed(time.Now())
	e := Event{Microphone: d.capture, Err: why}
	if resized(why) {
		e.Err = nil
	}
	if st := d.cur.Load(); st != nil {
		e.Device, e.Replaced = st.name, !st.asked
		e.Period = time.Duration(steps[d.buffers.step].period) * time.Second / audio.Rate
	}
	k.events = append(k.events, e)
}

// resized tells whether a stream was given up only for other buffers.
func resized(why error) bool { return errors.Is(why, errTooSmall) || errors.Is(why, errTooLarge) }

// collect closes the streams that were reported and marks their devices. Under
// lib.
func (k *keeper) collect(now time.Time) {
	k.mu.Lock()
	reports := k.reports
	k.reports = nil
	k.mu.Unlock()
	for _, r := range reports {
		if err := r.stream.close(); err != nil {
			k.sys.log.Debug("close a lost sound device", "error", err)
		}
		r.device.down = r.why
		if resized(r.why) {
			r.device.buffers.follow(r.why, now)
			continue
		}
		if errors.Is(r.why, errStill) {
			r.device.attempts.stood(now)
		} else {
			r.device.attempts.died(now, now.Sub(r.device.opened))
		}
		k.search.changed(now)
		k.events = append(k.events, Event{Microphone: r.device.capture, Err: r.why})
	}
}

func (k *keeper) tell(e Event) {
	k.sys.log.Info("sound device", "microphone", e.Microphone, "device", e.Device, "replaced", e.Replaced, "period", e.Period, "error", e.Err)
	if k.sys.config.Notify != nil {
		k.sys.config.Notify(e)
	}
}

// rescan closes every stream, lists the devices anew and opens them again.
// Under lib.
func (s *System) rescan() error {
	if s.stuck > 0 {
		return errStuck // Terminate would free what hangs
	}
	s.keeper.collect(time.Now()) // Terminate would free their streams a first time
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
	s.keeper.cards = cards()
	err := initialize()
	s.up = err == nil
	for d := range s.devices {
		was, why := d.down, err
		if why == nil {
			why = d.reopen()
		}
		switch {
		case why == nil && was != nil:
			s.keeper.back(d, was)
		case why != nil && was == nil:
			d.down = why
			s.keeper.events = append(s.keeper.events, Event{Microphone: d.capture, Err: why})
		}
		if why != nil {
			d.attempts.failed(time.Now())
		}
	}
	return err
}
