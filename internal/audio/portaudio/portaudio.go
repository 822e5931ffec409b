// Package portaudio is the sound cards of this machine, through PortAudio. It
// is the only importer of PortAudio.
//
// Sound goes
//
//	device -> C callback -> C ring -> [Microphone.Read] (caller's goroutine)
//	[Speaker.Write] (caller's goroutine) -> C ring -> C callback -> device
//
// The callbacks run on PortAudio's threads, copy, and wake the Go side through
// an eventfd when, and only when, it waits for what they have done (stream.c).
// Listing, opening and closing go under one lock, since PortAudio is not safe
// for concurrent use. One goroutine, the keeper, opens again what has died; an
// opening has a goroutine of its own, because PortAudio may hang in it.
package portaudio

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pa "github.com/gordonklaus/portaudio"

	"teahouse/internal/audio"
)

// Config is how sound cards are used. The zero value is fine.
type Config struct {
	// Stereo opens microphones with two channels where they have them;
	// otherwise they are mono.
	Stereo bool
	// Safe begins with the larger buffers that underruns lead to otherwise.
	Safe bool
	// Notify, if set, is told when a device is lost, when one is there again
	// or another in its stead, and when its buffers change. It is called from
	// the keeper's goroutine and must not block.
	Notify func(Event)
	Log    *slog.Logger // nil discards

	rates func(device string) []int // tests: the rates to open a device at, in Hz
}

// Event is a change of a device in use.
type Event struct {
	Microphone bool
	// Device is the name of the device that is in use now; empty while there
	// is none: then a microphone gives silence and a speaker plays nothing.
	Device string
	// Replaced: Device is the default one in the stead of the one that was
	// asked for, which is taken again as soon as it is there.
	Replaced bool
	// Period is the time between callbacks that was asked for; 0 while there
	// is no device.
	Period time.Duration
	// Err is why there is no device, or why the one before was lost; nil if
	// that was only given up for other buffers, or for the one asked for.
	Err error
}

// Device is one sound card, as [System.Devices] lists it.
type Device struct {
	Name    string
	HostAPI string
	// Inputs and Outputs are how many channels it has.
	Inputs, Outputs int
	Rate            float64 // Hz, what it does by default
	DefaultInput    bool
	DefaultOutput   bool
}

// inUse: PortAudio, a C library, has one state for the whole process, and
// lists devices anew only after its last user has left.
var inUse atomic.Bool

// System is PortAudio, initialised. Safe for concurrent use.
type System struct {
	config Config
	log    *slog.Logger
	keeper keeper

	lib     sync.Mutex // calls of PortAudio but those of callbacks; devices, up
	devices map[*device]struct{}
	up      bool // initialised
	stuck   int  // openings that were left behind
	closed  atomic.Bool
	opening sync.WaitGroup // openings that have not come back
}

var _ audio.Hardware = (*System)(nil)

// Open initialises PortAudio, which lists the devices: some 50 ms, some
// seconds with odd drivers. There is one System at a time in a process.
//
// PULSE_LATENCY_MSEC is left as the environment has it: with 10, a PulseAudio
// stream that ran empty is held back until a buffer is full that ALSA's side
// may never fill; on a busy machine nearly half the time passed so
// (docs/measurements.md).
func Open(config Config) (*System, error) {
	if !inUse.CompareAndSwap(false, true) {
		return nil, errors.New("open sound system: PortAudio is in use in this process already")
	}
	s := &System{config: config, log: config.Log, devices: map[*device]struct{}{}}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	quiet()
	if err := initialize(); err != nil {
		loud()
		inUse.Store(false)
		return nil, fmt.Errorf("open sound system: %w", err)
	}
	s.up = true
	s.keeper.start(s)
	return s, nil
}

// Close closes every device and PortAudio. It is idempotent. A sound server
// that hangs is left behind after 2 s, with an error.
func (s *System) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	return bounded(func() error {
		s.keeper.stop()
		s.lib.Lock()
		open := slices.Collect(maps.Keys(s.devices))
		s.lib.Unlock()
		var errs []error
		for _, d := range open {
			errs = append(errs, d.close())
		}
		s.opening.Wait() // those left behind, if they ever come back
		s.lib.Lock()
		defer s.lib.Unlock()
		s.keeper.collect(time.Now()) // lost since the keeper's end
		if s.up {
			errs = append(errs, pa.Terminate())
			s.up = false
		}
		loud()
		inUse.Store(false)
		return errors.Join(errs...)
	})
}

// Devices lists the sound cards as they were when the System was opened or
// last rescanned.
func (s *System) Devices() ([]Device, error) {
	s.lib.Lock()
	defer s.lib.Unlock()
	if s.closed.Load() {
		return nil, audio.ErrClosed
	}
	all, err := pa.Devices()
	if err != nil {
		return nil, fmt.Errorf("list sound devices: %w", err)
	}
	in, out := defaults()
	list := make([]Device, len(all))
	for i, d := range all {
		list[i] = Device{
			Name: d.Name, HostAPI: d.HostApi.Name,
			Inputs: d.MaxInputChannels, Outputs: d.MaxOutputChannels, Rate: d.DefaultSampleRate,
			DefaultInput: in != nil && in.Index == i, DefaultOutput: out != nil && out.Index == i,
		}
	}
	return list, nil
}

// Rescan lists the devices anew, which interrupts the ones in use for a moment
// (some 100 ms).
func (s *System) Rescan() error {
	s.lib.Lock()
	defer s.lib.Unlock()
	if s.closed.Load() {
		return audio.ErrClosed
	}
	err := s.rescan()
	s.keeper.poke() // what is still down, and who is to be told
	return err
}

// defaults are the devices that the system would take, nil for none.
func defaults() (in, out *pa.DeviceInfo) {
	in, err := pa.DefaultInputDevice()
	if err != nil {
		in = nil
	}
	out, err = pa.DefaultOutputDevice()
	if err != nil {
		out = nil
	}
	return in, out
}

// find is the device called name, or the default for an empty one: the exact
// name, else the only one that contains it, whatever the case.
func find(name string, capture bool) (*pa.DeviceInfo, error) {
	kind := "speaker"
	if capture {
		kind = "microphone"
	}
	if name == "" {
		in, out := defaults()
		d := out
		if capture {
			d = in
		}
		if d == nil {
			return nil, fmt.Errorf("default %s: %w", kind, audio.ErrNoDevice)
		}
		return d, nil
	}
	all, err := pa.Devices()
	if err != nil {
		return nil, fmt.Errorf("list sound devices: %w", err)
	}
	all = slices.DeleteFunc(slices.Clone(all), func(d *pa.DeviceInfo) bool {
		return capture && d.MaxInputChannels == 0 || !capture && d.MaxOutputChannels == 0
	})
	var like []*pa.DeviceInfo
	for _, d := range all {
		if d.Name == name {
			return d, nil
		}
		if strings.Contains(strings.ToLower(d.Name), strings.ToLower(name)) {
			like = append(like, d)
		}
	}
	switch len(like) {
	case 1:
		return like[0], nil
	case 0:
		return nil, fmt.Errorf("%s %q: %w: teahouse devices lists them", kind, name, audio.ErrNoDevice)
	}
	slices.SortFunc(like, func(a, b *pa.DeviceInfo) int { return cmp.Compare(a.Name, b.Name) })
	return nil, fmt.Errorf("%s %q: %w: it could be %q or %q", kind, name, audio.ErrNoDevice, like[0].Name, like[1].Name)
}
