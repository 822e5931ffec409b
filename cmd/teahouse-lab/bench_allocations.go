package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"time"

	"teahouse/codec"
	"teahouse/internal/audio"
)

// benchAllocations counts what one frame costs in allocations on its whole
// way: microphone, encoder, room, socket, the other node's socket, room,
// decoder, speaker. Two nodes talk to each other in this process, and every
// allocation is recorded with its stack: those below the goroutines of voice
// and the handling of a packet from the socket are the frame's. All others
// (gossip, reports, path checks, QUIC) are shown beside. What has to do with
// packets but not with frames, an answer to a path check say, is a few in a
// second, and a frame comes 200 times.
func benchAllocations(ctx context.Context, b *bench) (figures []figure, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	where, err := newPlace()
	if err != nil {
		return nil, err
	}
	var members crowd
	defer func() { err = errors.Join(err, members.close()) }()
	var peers []string
	for _, nick := range []string{"Mei", "Lin"} {
		n, err := where.node(ctx, false, peers...)
		if err != nil {
			return nil, err
		}
		if _, err := members.join(ctx, memberConfig{
			Network: n, Secret: where.secret, Nick: nick, Microphone: audio.NewTone(440), Speaker: audio.NewNoSpeaker(),
			Encoder: codec.EncoderConfig{FrameSamples: 480}, // the most frames a second
		}); err != nil {
			return nil, err
		}
		address, err := addressOf(n)
		if err != nil {
			return nil, err
		}
		peers = []string{address}
	}
	for _, m := range members {
		if err := m.hears(ctx, 1); err != nil {
			return nil, err
		}
	}
	defer func(rate int) { runtime.MemProfileRate = rate }(runtime.MemProfileRate)
	runtime.MemProfileRate = 1
	if err := pause(ctx, time.Second); err != nil { // what has just begun has settled
		return nil, err
	}
	round := b.lasting(allocationRound)
	before, already := recorded(), opened(members)
	if err := pause(ctx, round); err != nil {
		return nil, err
	}
	frames := opened(members) - already
	after := recorded()
	if frames < 50 {
		return nil, fmt.Errorf("only %d frames came through", frames)
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for _, pipeline := range framePath[:2] { // a name that is not the program's would count nothing, and be content
		if !bytes.Contains(stacks, []byte(pipeline+"(")) {
			return nil, fmt.Errorf("no goroutine runs %s", pipeline)
		}
	}
	ofFrames := after.ofFrames - before.ofFrames
	b.progress("allocations: %d of %d frames, %d of everything else", ofFrames, frames, after.others-before.others)
	perFrame := float64(ofFrames) / float64(frames)
	return []figure{
		// What each frame allocates is a whole number, and shows as at least 1.
		figure{
			Name: "frame", What: "allocations per frame, from device to socket and from socket to device",
			Value: math.Round(perFrame), Unit: "allocations",
		}.atMost(0).anywhere(),
		{Name: "unrounded", What: "the same before it was rounded", Value: perFrame, Unit: "allocations"},
		{Name: "others", What: "two nodes that talk: all other allocations a second", Value: float64(after.others-before.others) / round.Seconds(), Unit: "allocations/s"},
	}, nil
}

// allocationRound is how long they talk while it is counted.
const allocationRound = 20 * time.Second

// opened is how many frames have come through to the members.
func opened(members crowd) (n uint64) {
	for _, m := range members {
		n += m.room.Stats().FramesOpened
	}
	return n
}

// framePath are the functions below which a frame is handled: the two pipelines
// of a voice, and a packet that comes from the socket.
var framePath = []string{
	"teahouse/internal/voice.(*capture).run",
	"teahouse/internal/voice.(*playout).run",
	"teahouse/node.(*link).receive",
	"teahouse/node.(*link).receiveStream",
}

// allocated counts allocations since the process began to record them.
type allocated struct{ ofFrames, others int64 }

// recorded reads the memory profile, whose figures are those of the last
// complete collection.
func recorded() (sum allocated) {
	runtime.GC()
	runtime.GC()
	records := make([]runtime.MemProfileRecord, 4096)
	for {
		n, ok := runtime.MemProfile(records, true)
		if ok {
			records = records[:n]
			break
		}
		records = make([]runtime.MemProfileRecord, n+1024)
	}
	for i := range records {
		if onFramePath(records[i].Stack()) {
			sum.ofFrames += records[i].AllocObjects
		} else {
			sum.others += records[i].AllocObjects
		}
	}
	return sum
}

func onFramePath(stack []uintptr) bool {
	frames := runtime.CallersFrames(stack)
	for {
		f, more := frames.Next()
		if slices.Contains(framePath, f.Function) {
			return true
		}
		if !more {
			return false
		}
	}
}
