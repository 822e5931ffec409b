package voice

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"teahouse/internal/audio"
	"teahouse/room"
)

// LoopConfig is the simulated link of a [Loop]. The zero value loses nothing
// and takes no time.
type LoopConfig struct {
	Path   time.Duration // one way
	Jitter time.Duration // up to so much more, evenly spread; packets overtake
	Loss   float64       // of packets, 0 to 1, at random
	Depth  int           // each frame goes again with so many that follow, 0 to 3
	Seed   uint64        // of what is random
}

// What each frame and each packet have beside Opus on the wire, in bytes
// (docs/protocol.md section 6), and IPv4 and UDP (28).
const (
	frameOver  = 24
	packetOver = 35 + 28
)

// loopMost packets are on their way at once; 2 s of 10 ms frames.
const loopMost = 200

// Loop is a [Room] in which one hears oneself, as others would: encoded, over a
// link with its faults, repaired, and played. Nothing leaves the machine.
type Loop struct {
	// Constant.
	cfg    LoopConfig
	seat   *Seat
	member room.Member
	wake   chan struct{}
	quit   chan struct{}
	done   sync.WaitGroup
	once   sync.Once

	mu      sync.Mutex // what follows
	rng     *rand.Rand
	counter uint32
	bytes   uint64
	recent  []room.Frame // the last ones, newest first, at most 1 + Depth
	flying  []loopPacket // by due
}

type loopPacket struct {
	due    time.Time
	frames []room.Frame
}

// NewLoop makes seat hear what it says; Attach it to the same seat. Close ends
// its goroutine.
func NewLoop(seat *Seat, c LoopConfig) *Loop {
	l := &Loop{
		cfg: c, seat: seat, member: room.Member{1},
		wake: make(chan struct{}, 1), quit: make(chan struct{}),
		rng: rand.New(rand.NewPCG(c.Seed, 1)),
	}
	seat.Update(room.MemberInfo{Member: l.member, AllowRecording: true})
	l.done.Go(l.run)
	return l
}

// Close drops what is on its way and waits for the goroutine. It is idempotent.
func (l *Loop) Close() {
	l.once.Do(func() { close(l.quit) })
	l.done.Wait()
}

// Speak sends one packet: f, and what is sent again.
func (l *Loop) Speak(f *room.Frame) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counter++
	g := *f
	g.Counter, g.Instance, g.Opus = l.counter, 1, slices.Clone(f.Opus)
	l.recent = slices.Insert(l.recent, 0, g)
	l.recent = l.recent[:min(len(l.recent), 1+l.cfg.Depth)]
	l.bytes += packetOver
	for i := range l.recent {
		l.bytes += frameOver + uint64(len(l.recent[i].Opus))
	}
	lost, late := l.rng.Float64() < l.cfg.Loss, time.Duration(l.rng.Float64()*float64(l.cfg.Jitter))
	if lost || len(l.flying) >= loopMost {
		return nil
	}
	p := loopPacket{time.Now().Add(l.cfg.Path + late), slices.Clone(l.recent)}
	for i := range p.frames {
		p.frames[i].Repaired = i > 0
	}
	at, _ := slices.BinarySearchFunc(l.flying, p, func(a, b loopPacket) int { return cmp.Or(a.due.Compare(b.due), -1) })
	l.flying = slices.Insert(l.flying, at, p)
	select {
	case l.wake <- struct{}{}:
	default: // it is awake already
	}
	return nil
}

// Bytes is what has been sent, as it would be on the wire of one link.
func (l *Loop) Bytes() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes
}

// SetMuted does nothing: the seat keeps quiet by itself.
func (l *Loop) SetMuted(bool) error { return nil }

// Hearers is 1: oneself.
func (l *Loop) Hearers() int { return 1 }

// Flows wants the base encoding, as a link of that depth does.
func (l *Loop) Flows() room.Flows { return room.Flows{Base: 1, Depth: l.cfg.Depth} }

// SwitchFlows does nothing: there is one flow.
func (l *Loop) SwitchFlows() {}

func (l *Loop) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(l.deliver())
		select {
		case <-timer.C:
		case <-l.wake:
		case <-l.quit:
			return
		}
	}
}

// deliver hands over what has arrived, and tells when the next packet will.
func (l *Loop) deliver() (next time.Duration) {
	now := time.Now()
	l.mu.Lock()
	n := 0
	for n < len(l.flying) && !l.flying[n].due.After(now) {
		n++
	}
	arrived := slices.Clone(l.flying[:n])
	l.flying = slices.Delete(l.flying, 0, n)
	next = time.Hour
	if len(l.flying) > 0 {
		next = l.flying[0].due.Sub(now)
	}
	l.mu.Unlock()
	for _, p := range arrived {
		for i := range p.frames {
			l.seat.Heard(l.member, &p.frames[i], p.due)
		}
	}
	return next
}

// Through plays what a microphone captures, block by block, with nothing
// between the two devices, until one of them ends: nil at the end of a file and
// after Close of either. level is told how loud each block is, -dBov.
func Through(mic audio.Microphone, speaker audio.Speaker, level func(uint8)) error {
	channels := mic.Channels()
	block, stereo := make([]float32, channels*audio.BlockFrames), make([]float32, 2*audio.BlockFrames)
	for {
		if _, err := mic.Read(block); err != nil {
			return endOf(err, "microphone")
		}
		level(audio.Level(block))
		for i := range audio.BlockFrames {
			stereo[2*i], stereo[2*i+1] = block[channels*i], block[channels*i+channels-1]
		}
		if err := speaker.Write(stereo); err != nil {
			return endOf(err, "speaker")
		}
	}
}

func endOf(err error, device string) error {
	if errors.Is(err, io.EOF) || errors.Is(err, audio.ErrClosed) {
		return nil
	}
	return fmt.Errorf("%s: %w", device, err)
}
