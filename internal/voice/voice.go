// Package voice is the two pipelines between the sound devices and the rooms.
//
//	From the microphone to the rooms, on the capture goroutine:
//
//	 1  Microphone.Read     10 ms blocks, paced by the device        capture.go
//	 2  media time          samples since the start, gaps included
//	 3  mono, Processor     high-pass, echo, noise, gain; whether we speak, or
//	                        clip; the gate; re-blocking to the Opus frame,
//	                        20 ms, or 10 while links allow it        short.go
//	 4  level               RFC 6464
//	 5  Encoder.Encode      once, if any room is unmuted, for each of at most
//	                        two encodings: what links want, and the mode,
//	                        decide which                              mode.go
//	 6  Room.Speak          for each unmuted room, marked as the start of a
//	                        talk spurt where it is: seals the frame and hands
//	                        packets to the sockets, all inline       seat.go
//
//	From the rooms to the speaker:
//
//	 7  Seat.Heard          on the goroutine that read the packet from its
//	                        socket: one short lock, Receiver.Push    person.go
//	 8  Receiver.Pull       5 ms of each person, on the playout goroutine,
//	                        which also does the rest; of more than eight
//	                        only the loudest are decoded  playout.go, loudest.go
//	 9  speaking            by what is heard, not by what is claimed speaking.go
//	10  gain, consent, mix  per person, ramped; all rooms together; limiter;
//	                        nothing while deaf
//	11  Speaker.Write       paces the playout goroutine; what it takes is the
//	                        reference of the echo canceller
//
// Steps 2 to 10 allocate nothing and wait for nothing but their locks. The
// capture goroutine waits on the microphone alone, the playout goroutine on
// the speaker alone. Both belong to [Voice], whose Close ends them and waits.
package voice

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"teahouse/codec"
	"teahouse/internal/audio"
	"teahouse/room"
)

// Config is what the pipelines need. Both devices belong to the Voice from
// New on, even where New fails.
type Config struct {
	Microphone audio.Microphone // nil: nothing is captured
	Speaker    audio.Speaker    // nil: played to nobody
	// Recorder tells that Speaker keeps what it is given: voices of those who
	// do not allow it are left out.
	Recorder bool

	// HoldFor is how many others must be able to hear before a file or
	// synthetic microphone (audio.Starter) starts; 0 starts it at once.
	HoldFor int

	// Processor cleans what is captured; nil leaves it as it is. It belongs to
	// the Voice as the devices do.
	Processor Processor
	// Gate says what of it is let through; see Voice.Press.
	Gate audio.GateMode

	// Mode is what to begin with; see Voice.SetMode.
	Mode Mode
	// LongFrames keeps standard and studio from taking frames of 10 ms while
	// there are few links, all of them short and clean.
	LongFrames bool
	// Encoder, where its frames, bit rate or FEC are set, is what the base
	// encoding is, mono whatever it says. Else mode and links decide.
	Encoder codec.EncoderConfig

	// OnSpeaking tells who begins and ends to speak. It is called from the
	// playout goroutine and must not block.
	OnSpeaking func(id room.ID, member room.Member, on bool)
	// OnOwnSpeaking tells when we begin and end to speak, muted or not, by the
	// same rule. It is called from the capture goroutine and must not block.
	OnOwnSpeaking func(on bool)
	// OnClipping tells that the microphone is so loud that it distorts, at most
	// once in 30 s; as OnOwnSpeaking.
	OnClipping func()
	// OnMode tells that another mode is in force: what leaves from here on is of
	// that mode. It is called from the capture goroutine and must not block.
	OnMode func(m Mode)
	// OnMicrophoneEnd is called once, from the capture goroutine, when a file
	// has been sent to its end (nil) or the microphone has failed for good.
	OnMicrophoneEnd func(err error)
	// OnSpeakerFailed is called once, from the playout goroutine, when the
	// speaker has failed for good. Playout goes on, to nobody.
	OnSpeakerFailed func(err error)

	Log *slog.Logger // nil discards
}

// Processor takes echo and noise out of a microphone and levels it;
// *process.Processor is one. Play is called on the playout goroutine, Process
// on the capture goroutine, Close after both.
type Processor interface {
	// Play takes a stereo block that will be heard at the time at.
	Play(stereo []float32, at time.Time)
	// Process changes a mono block in place that was captured at the time at.
	Process(mono []float32, at time.Time)
	// Delay is by how much what it gives is late.
	Delay() time.Duration
	Close() error
}

// Voice is the sound of one node: one microphone and one speaker for the
// rooms it sits in. All methods may be called from any goroutine.
type Voice struct {
	// Constant after New.
	cfg     Config
	log     *slog.Logger
	capture *capture
	playout *playout
	latency latencies

	pressed  atomic.Bool // the key of push to talk
	mode     atomic.Int32
	awaiting sync.Mutex // one AwaitMode at a time

	// Copy on write: read by both goroutines, replaced under mu.
	seats atomic.Pointer[[]*Seat]

	mu      sync.Mutex
	started bool
	closed  bool
	done    sync.WaitGroup
}

// latencies are what the devices add, for estimates.
type latencies struct {
	microphone func() time.Duration
	speaker    func() time.Duration
	frame      func() time.Duration
}

// New prepares the pipelines; nothing moves before Start.
func New(cfg Config) (*Voice, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Microphone == nil {
		cfg.Microphone = audio.NewNoMicrophone()
	}
	if cfg.Speaker == nil {
		cfg.Speaker = audio.NewNoSpeaker()
	}
	if cfg.OnSpeaking == nil {
		cfg.OnSpeaking = func(room.ID, room.Member, bool) {}
	}
	if cfg.OnOwnSpeaking == nil {
		cfg.OnOwnSpeaking = func(bool) {}
	}
	if cfg.OnClipping == nil {
		cfg.OnClipping = func() {}
	}
	if cfg.OnMode == nil {
		cfg.OnMode = func(Mode) {}
	}
	if cfg.OnMicrophoneEnd == nil {
		cfg.OnMicrophoneEnd = func(error) {}
	}
	if cfg.OnSpeakerFailed == nil {
		cfg.OnSpeakerFailed = func(error) {}
	}
	v := &Voice{cfg: cfg, log: cfg.Log}
	v.seats.Store(new([]*Seat))
	v.mode.Store(int32(cfg.Mode))
	var err error
	if v.capture, err = newCapture(v); err != nil {
		return nil, errors.Join(err, cfg.Microphone.Close(), cfg.Speaker.Close(), v.closeProcessor())
	}
	v.playout = newPlayout(v)
	v.latency = latencies{
		microphone: v.microphoneLatency,
		speaker:    cfg.Speaker.Latency,
		frame:      func() time.Duration { return time.Duration(v.capture.frame.Load()) },
	}
	return v, nil
}

// Start begins capture and playout. A file speaker is continuous from here.
func (v *Voice) Start() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.started || v.closed {
		return
	}
	v.started = true
	v.done.Go(v.capture.run)
	v.done.Go(v.playout.run)
}

// Close ends both pipelines, waits for them, and closes the devices. It is
// idempotent. It must not be called from a callback of Config.
func (v *Voice) Close() error {
	v.mu.Lock()
	if v.closed {
		v.mu.Unlock()
		v.done.Wait()
		return nil
	}
	v.closed = true
	v.mu.Unlock()
	err := v.cfg.Microphone.Close()
	if e := v.cfg.Speaker.Close(); e != nil {
		err = errors.Join(err, fmt.Errorf("close the speaker: %w", e))
	}
	v.playout.close()
	v.capture.close()
	v.done.Wait()
	return errors.Join(err, v.closeProcessor())
}

func (v *Voice) closeProcessor() error {
	if v.cfg.Processor == nil {
		return nil
	}
	return v.cfg.Processor.Close()
}

// microphoneLatency is what microphone and processing add.
func (v *Voice) microphoneLatency() time.Duration {
	d := v.cfg.Microphone.Latency()
	if v.cfg.Processor != nil {
		d += v.cfg.Processor.Delay()
	}
	return d
}

// Press tells whether the key of push to talk is down. With another gate it
// means nothing.
func (v *Voice) Press(down bool) { v.pressed.Store(down) }

// Pressed is what Press was told.
func (v *Voice) Pressed() bool { return v.pressed.Load() }

// Gate is the gate of the microphone, as it works in the present mode.
func (v *Voice) Gate() audio.GateMode { return v.Mode().gate(v.cfg.Gate) }

// SetMode changes the mode in all rooms, within a frame or two; see AwaitMode.
// What Shielded hides is hidden from the moment at which SetMode(Shielded) has
// begun, and until the change away from it is in force: a mute in between is
// covered. While no microphone gives sound nothing changes.
func (v *Voice) SetMode(m Mode) { v.mode.Store(int32(m)) }

// Mode is what SetMode has set.
func (v *Voice) Mode() Mode { return Mode(v.mode.Load()) }

// ModeInForce is the mode of what leaves now.
func (v *Voice) ModeInForce() Mode { return Mode(v.capture.inForce.Load()) }

// AwaitMode waits until what SetMode has set is in force, or ctx ends.
func (v *Voice) AwaitMode(ctx context.Context) error {
	v.awaiting.Lock()
	defer v.awaiting.Unlock()
	for v.ModeInForce() != v.Mode() {
		select {
		case <-v.capture.applied:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// shields tells whether who sees the packets must not see who is muted.
func (v *Voice) shields() bool { return v.Mode() == Shielded || v.ModeInForce() == Shielded }

// Underruns is how often the speaker had nothing to play.
func (v *Voice) Underruns() uint64 { return v.cfg.Speaker.Underruns() }

// Level is how loud the microphone was in the last frame, -dBov, muted or not.
func (v *Voice) Level() uint8 { return uint8(v.capture.level.Load()) }

// SetDeaf plays nothing, or everything again; it fades over 10 ms. Who speaks
// stays known.
func (v *Voice) SetDeaf(deaf bool) {
	if deaf {
		v.playout.ears.Set(0)
		return
	}
	v.playout.ears.Set(1)
}

// Deaf tells what SetDeaf has set.
func (v *Voice) Deaf() bool { return v.playout.ears.Target() == 0 }

// editSeats replaces the list of seats by a changed copy.
func (v *Voice) editSeats(edit func([]*Seat) []*Seat) {
	v.mu.Lock()
	defer v.mu.Unlock()
	next := edit(append([]*Seat(nil), *v.seats.Load()...))
	v.seats.Store(&next)
}
