package portaudio

/*
#cgo pkg-config: portaudio-2.0
#cgo CFLAGS: -std=c11 -O2 -Wall
#include <stdlib.h>
#include "stream.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"math"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	pa "github.com/gordonklaus/portaudio"

	"teahouse/internal/audio"
)

func quiet() { C.th_quiet() }
func loud()  { C.th_loud() }

// errUnconfigured: initialising PortAudio would end the process.
var errUnconfigured = errors.New("ALSA knows no devices at all: its configuration is missing or empty (usually /usr/share/alsa/alsa.conf)")

// initialize is PortAudio's, where it is safe to call.
func initialize() error {
	if C.th_configured() == 0 {
		return errUnconfigured
	}
	return pa.Initialize()
}

// Errors of a stream that its device acts on.
var (
	errDead        = errors.New("no callback came for 500 ms")
	errStill       = errors.New("no callback came since it was opened")
	errEnded       = errors.New("it is not there any more")
	errInterrupted = errors.New("interrupted")
	errLate        = errors.New("not ready in time")
)

// silenceLimit is how long a stream may go without a callback before it is
// taken for dead.
const silenceLimit = 500 * time.Millisecond

// startLimit is for how long after its opening a stream may take its time: a
// PulseAudio sink that was idle may stand still for its whole buffer, 2 s, and
// so may a headset without wires.
const startLimit = 3 * time.Second

// step is one size of buffers. Underruns lead from one to the next.
type step struct {
	period int // samples at 48 kHz between callbacks
	ring   int // samples at 48 kHz that the speaker's ring takes: what is given at a time and what is left when the next is due
	// latency is what the device is asked for.
	latency time.Duration
}

var steps = []step{
	{period: 240, ring: audio.PlayFrames + 240 + rounding, latency: 10 * time.Millisecond},
	{period: 480, ring: 2 * audio.BlockFrames, latency: 20 * time.Millisecond},
}

// rounding is what halves of blocks and periods may differ by at other rates.
const rounding = 8

// captureRing is how much a microphone keeps for a reader that is late, in
// seconds; what comes beyond it is lost.
const captureRing = 0.2

// stream is an open PortAudio stream: the C side and its wake-up. One
// goroutine reads or writes; interrupt may come from any.
type stream struct {
	c           *C.th_stream
	wake        *os.File // what the callback wakes
	wakeFD      C.int    // what it writes to
	wakeEnd     *os.File // the write end of a pipe, else nil
	interrupted atomic.Bool
	token       [8]byte
	stats       C.th_stats // scratch
	at, now     C.int64_t  // scratch: a local would escape to C and be allocated

	capture  bool
	channels int
	rate     int
	opened   time.Time
	name     string
	asked    bool          // it is the device that was asked for, not one in its stead
	grace    time.Duration // for its first callback, at least startLimit
	// Of its buffers: whether there are larger ones, and after how many blocks
	// without an underrun smaller ones are tried, 0 for never.
	largest bool
	calm    int
}

// openStream opens d, mono or stereo as it can, at the first of the rates that it
// does: 48 kHz, else its own, else 44.1 kHz. Under lib.
func (sys *System) openStream(d *pa.DeviceInfo, capture, stereo bool, st step) (*stream, error) {
	channels, most := []int{1, 2}, d.MaxInputChannels
	if stereo {
		channels = []int{2, 1}
	}
	if !capture {
		most = d.MaxOutputChannels
	}
	var first error
	rates := []int{audio.Rate, int(d.DefaultSampleRate), 44100}
	if sys.config.rates != nil {
		rates = sys.config.rates(d.Name)
	}
	for _, rate := range rates {
		if rate < audio.MinRate || rate > audio.MaxRate {
			continue
		}
		for _, ch := range channels {
			if ch > most {
				continue
			}
			s, err := sys.openStreamAs(d, capture, ch, rate, st)
			if err == nil {
				return s, nil
			}
			if errors.Is(err, errStuck) {
				return nil, fmt.Errorf("open %q: %w", d.Name, err)
			}
			if first == nil {
				first = err
			}
		}
	}
	if first == nil {
		first = audio.ErrNoDevice // of that direction
	}
	return nil, fmt.Errorf("open %q: %w", d.Name, first)
}

func (sys *System) openStreamAs(d *pa.DeviceInfo, capture bool, channels, rate int, st step) (*stream, error) {
	var from, to C.int
	if errno := C.th_wake_open(&from, &to); errno != 0 {
		return nil, syscall.Errno(errno)
	}
	s := &stream{
		wake: os.NewFile(uintptr(from), "wake"), wakeFD: to,
		capture: capture, channels: channels, rate: rate, name: d.Name, opened: time.Now(),
		largest: st == steps[len(steps)-1],
	}
	if to != from {
		s.wakeEnd = os.NewFile(uintptr(to), "wake")
	}
	config := C.th_config{
		device: C.int(d.Index), channels: C.int(channels), rate: C.int(rate), wake: to,
		period: C.int(st.period * rate / audio.Rate), latency: C.double(st.latency.Seconds()),
		ring: C.int(math.Ceil(float64(st.ring*rate) / audio.Rate)),
	}
	if capture {
		config.capture = 1
		config.ring = C.int(captureRing * float64(rate))
	}
	if err := sys.start(s, alsaName(d), config); err != nil {
		return nil, err
	}
	return s, nil
}

// errStuck: PortAudio does not come back from opening a device.
var errStuck = errors.New("the sound system hangs")

// openLimit is how long it may take to open a device: a server may take its
// time, one that stands still takes for ever, and so does PortAudio 19.6 with a
// device that fails while it is started (its callback thread ends with a lock
// held that the starter needs; openable.c makes that rare).
const openLimit = 4 * time.Second

// mostStuck is how many times that may happen before no device is opened any
// more.
const mostStuck = 4

// openable asks ALSA for its device of that name, if it is not empty.
func openable(alsa string, config *C.th_config) error {
	if alsa == "" {
		return nil
	}
	name := C.CString(alsa)
	defer C.free(unsafe.Pointer(name))
	if code := C.th_openable(name, config); code != C.paNoError {
		return pa.Error(code)
	}
	return nil
}

// start opens and starts s, at ALSA's device of that name if it is not empty.
// What does not come back is left behind: until it does, devices cannot be
// listed anew. Under lib.
func (sys *System) start(s *stream, alsa string, config C.th_config) error {
	if sys.stuck >= mostStuck {
		s.closeWake()
		return errStuck
	}
	// left is held by whoever comes first: the opening that comes back, or the limit.
	var left atomic.Bool
	done := make(chan error, 1)
	sys.opening.Go(func() {
		var err error
		if err = openable(alsa, &config); err == nil {
			var c *C.th_stream
			if code := C.th_open(&config, &c); code != C.paNoError {
				err = pa.Error(code)
			}
			s.c = c
		}
		if left.CompareAndSwap(false, true) {
			done <- err
			return
		}
		sys.lib.Lock()
		defer sys.lib.Unlock()
		sys.stuck--
		if err == nil {
			_ = s.close() // nobody waits for it
		} else {
			s.closeWake()
		}
	})
	limit := time.NewTimer(openLimit)
	defer limit.Stop()
	var err error
	select {
	case err = <-done:
	case <-limit.C:
		if left.CompareAndSwap(false, true) {
			sys.stuck++
			return errStuck
		}
		err = <-done
	}
	if err != nil {
		s.closeWake()
	}
	return err
}

// close must not run while another goroutine is in a method of s.
func (s *stream) close() error {
	err := C.th_close(s.c) // first: the callback writes to wakeFD until then
	s.c = nil
	s.closeWake()
	if err != C.paNoError {
		return pa.Error(err)
	}
	return nil
}

func (s *stream) closeWake() {
	_ = s.wake.Close()
	if s.wakeEnd != nil {
		_ = s.wakeEnd.Close()
	}
}

// interrupt makes a wait that runs, or else the next one, give errInterrupted.
func (s *stream) interrupt() {
	s.interrupted.Store(true)
	C.th_wake(s.wakeFD)
}

// wait waits until frames can be read or written: nil, errInterrupted,
// errLate if they cannot within patience, errEnded when the device has failed,
// or what dead says.
func (s *stream) wait(frames int, patience time.Duration) error {
	var deadline time.Time
	for {
		if s.interrupted.Load() {
			return errInterrupted
		}
		if C.th_ready(s.c, C.int(frames)) != 0 {
			return nil
		}
		if C.th_ended(s.c) != 0 {
			return errEnded
		}
		if deadline.IsZero() {
			deadline = time.Now().Add(patience)
			if err := s.wake.SetReadDeadline(deadline); err != nil {
				return fmt.Errorf("wait for %q: %w", s.name, err)
			}
		}
		// A wake-up that is left over from before costs one more turn.
		if _, err := s.wake.Read(s.token[:]); err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				return fmt.Errorf("wait for %q: %w", s.name, err)
			}
			if err := s.dead(); err != nil {
				return err
			}
			return errLate
		}
	}
}

// dead is errDead or errStill if the device has stopped calling, or has never
// begun, else nil.
func (s *stream) dead() error {
	age := time.Since(s.opened)
	if age < startLimit {
		return nil
	}
	C.th_get_stats(s.c, &s.stats)
	switch {
	case s.stats.beat == 0 && age >= s.grace:
		return errStill
	case s.stats.beat != 0 && time.Duration(C.th_now()-s.stats.beat) > silenceLimit:
		return errDead
	}
	return nil
}

// read fills frames, interleaved in the stream's channels, which wait has
// found. at is when the frame of that index (in frames since the stream was
// opened, which may lie between two) was at the microphone.
func (s *stream) read(frames []float32, index float64) (at time.Time) {
	C.th_read(s.c, (*C.float)(&frames[0]), C.int(len(frames)/s.channels), C.double(index), &s.at, &s.now)
	return time.Now().Add(time.Duration(s.at - s.now))
}

// write gives the device frames, for which wait has found room.
func (s *stream) write(frames []float32) {
	C.th_write(s.c, (*C.float)(&frames[0]), C.int(len(frames)/s.channels))
}

// state is, as of now, the time to the air for what would be written next, and
// how often the device or the ring had nothing to play, or the device lost what
// it heard.
func (s *stream) state() (buffered time.Duration, underruns uint64) {
	C.th_get_stats(s.c, &s.stats)
	since := time.Duration(C.th_now() - s.stats.beat)
	fill := time.Duration(C.th_fill(s.c)) * time.Second / time.Duration(s.rate)
	return max(0, fill+time.Duration(s.stats.host)-since), uint64(s.stats.xruns + s.stats.starved)
}
