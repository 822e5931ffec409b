package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"time"

	"teahouse/internal/audio"
)

// benchAllocations counts what one frame costs in allocations on its whole
// way: microphone, encoder, room, socket, the other node's socket, room,
// decoder, speaker. Two nodes talk to each other in this process; what they
// allocate muted (gossip, reports, keep-alives) is counted first and taken
// off. The collector rests meanwhile, since it empties the pools of quic-go.
func benchAllocations(ctx context.Context, b *bench) (figures []figure, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
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
	count := func() (allocations, frames uint64, err error) {
		var before, after runtime.MemStats
		sent := func() (n uint64) {
			for _, m := range members {
				n += m.room.Stats().FramesOpened
			}
			return n
		}
		if err := pause(ctx, 3*time.Second); err != nil { // what has just begun has settled
			return 0, 0, err
		}
		runtime.ReadMemStats(&before)
		already := sent()
		if err := pause(ctx, b.lasting(20*time.Second)); err != nil {
			return 0, 0, err
		}
		runtime.ReadMemStats(&after)
		return after.Mallocs - before.Mallocs, sent() - already, nil
	}
	talking, frames, err := count()
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if err := m.seat.SetMuted(true); err != nil {
			return nil, fmt.Errorf("mute: %w", err)
		}
	}
	muted, still, err := count()
	if err != nil {
		return nil, err
	}
	if frames < 50 || still > 2 {
		return nil, fmt.Errorf("%d frames came through talking, %d muted", frames, still)
	}
	b.progress("allocations: %d with %d frames, %d muted", talking, frames, muted)
	perFrame := max(0, (float64(talking)-float64(muted))/float64(frames))
	return []figure{
		// The background is not the same in two stretches of time: under a tenth
		// per frame is none.
		figure{
			Name: "frame", What: "allocations per frame, from device to socket and from socket to device",
			Value: math.Round(perFrame*10) / 10, Unit: "allocations",
		}.atMost(0).anywhere(),
		{Name: "background", What: "two nodes in a room, muted: allocations a second", Value: float64(muted) / b.lasting(20*time.Second).Seconds(), Unit: "allocations/s"},
	}, nil
}
