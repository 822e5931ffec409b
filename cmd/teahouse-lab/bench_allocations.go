package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"time"

	"teahouse/codec"
	"teahouse/internal/audio"
)

// benchAllocations counts what one frame costs in allocations on its whole
// way: microphone, encoder, room, socket, the other node's socket, room,
// decoder, speaker. Two nodes talk to each other in this process; what they
// allocate muted (gossip, reports, keep-alives) is counted first and taken
// off. The collector rests meanwhile, since it empties the pools of quic-go.
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
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	var differences, background []float64
	rounds := 5
	if b.short {
		rounds = 3 // shorter rounds would drown in the background
	}
	for range rounds {
		talking, frames, err := allocationsDuring(ctx, allocationRound, members, false)
		if err != nil {
			return nil, err
		}
		muted, still, err := allocationsDuring(ctx, allocationRound, members, true)
		if err != nil {
			return nil, err
		}
		if frames < 50 || still > 2 {
			return nil, fmt.Errorf("%d frames came through talking, %d muted", frames, still)
		}
		b.progress("allocations: %d with %d frames, %d muted", talking, frames, muted)
		differences = append(differences, (float64(talking)-float64(muted))/float64(frames))
		background = append(background, float64(muted)/allocationRound.Seconds())
	}
	perFrame := median(differences)
	return []figure{
		// What each frame allocates is a whole number, and shows as at least 1. What is below a half is the background, which is not
		// the same in two stretches of time; it is shown beside.
		figure{
			Name: "frame", What: "allocations per frame, from device to socket and from socket to device",
			Value: max(0, math.Round(perFrame)), Unit: "allocations",
		}.atMost(0).anywhere(),
		{Name: "difference", What: "talking less muted, per frame: what the figure above was rounded from", Value: perFrame, Unit: "allocations"},
		{Name: "background", What: "two nodes in a room, muted: allocations a second", Value: median(background), Unit: "allocations/s"},
	}, nil
}

// allocationRound is how long they talk, and how long they are muted, in turns:
// so what the background does slowly is in both.
const allocationRound = 6 * time.Second

// allocationsDuring counts allocations of the process and frames that came
// through during d, with everybody muted or nobody.
func allocationsDuring(ctx context.Context, d time.Duration, members crowd, muted bool) (allocations, frames uint64, err error) {
	for _, m := range members {
		if err := m.seat.SetMuted(muted); err != nil {
			return 0, 0, fmt.Errorf("mute: %w", err)
		}
	}
	opened := func() (n uint64) {
		for _, m := range members {
			n += m.room.Stats().FramesOpened
		}
		return n
	}
	if err := pause(ctx, time.Second); err != nil { // what has just begun has settled
		return 0, 0, err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	already := opened()
	if err := pause(ctx, d); err != nil {
		return 0, 0, err
	}
	runtime.ReadMemStats(&after)
	return after.Mallocs - before.Mallocs, opened() - already, nil
}
