package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"teahouse/codec"
	"teahouse/internal/audio"
)

// pathFrame is the frame of the software path's budget, 10 ms in samples.
const pathFrame = 480

// benchPath measures the software path: from the moment a frame of 10 ms is
// complete at the microphone to the moment its sound is handed to the speaker,
// between two nodes on loopback. Device buffers are outside of both moments;
// the codec's look-ahead (6.5 ms), playout delay and the wait for the next
// block of the speaker are inside.
func benchPath(ctx context.Context, b *bench) (figures []figure, err error) {
	var medians, all []float64
	for _, phase := range []time.Duration{0, 2500 * time.Microsecond, 5 * time.Millisecond, 7500 * time.Microsecond} {
		delays, err := pathDelays(ctx, b, phase)
		if err != nil {
			return nil, fmt.Errorf("phase %v: %w", phase, err)
		}
		b.progress("path: devices %v apart: median %.1f ms of %d chirps", phase, median(delays), len(delays))
		medians = append(medians, median(delays))
		all = append(all, delays...)
	}
	slices.Sort(all)
	return []figure{
		figure{Name: "software", What: "software path, frame complete to playout, 10 ms frames, median", Value: median(all), Unit: "ms"}.atMost(25),
		{Name: "software-p95", What: "the same, 95 of 100", Value: all[len(all)*95/100], Unit: "ms"},
		{Name: "software-phase", What: "the same, median at the worst phase between the devices", Value: slices.Max(medians), Unit: "ms"},
	}, nil
}

// pathDelays gives the delay of each chirp in ms, with the speaker's clock a
// phase behind the microphone's.
func pathDelays(ctx context.Context, b *bench, phase time.Duration) (delays []float64, err error) {
	listen := b.lasting(15 * time.Second)
	ctx, cancel := context.WithTimeout(ctx, listen+30*time.Second)
	defer cancel()
	where, err := newPlace()
	if err != nil {
		return nil, err
	}
	var members crowd
	defer func() { err = errors.Join(err, members.close()) }()
	from, err := where.node(ctx, false)
	if err != nil {
		return nil, err
	}
	address, err := addressOf(from)
	if err != nil {
		return nil, errors.Join(err, from.Close())
	}
	start := time.Now().Add(20 * time.Millisecond)
	talker, err := members.join(ctx, memberConfig{
		Network: from, Secret: where.secret, Nick: "Mei", Microphone: newChirpMicrophone(start),
		Encoder: codec.EncoderConfig{FrameSamples: pathFrame},
	})
	if err != nil {
		return nil, err
	}
	to, err := where.node(ctx, false, address)
	if err != nil {
		return nil, err
	}
	ear := newEarSpeaker(start.Add(phase), true)
	if _, err := members.join(ctx, memberConfig{
		Network: to, Secret: where.secret, Nick: "Lin", Speaker: ear, Encoder: codec.EncoderConfig{FrameSamples: pathFrame},
	}); err != nil {
		return nil, err
	}
	if err := talker.hears(ctx, 1); err != nil {
		return nil, err
	}
	if err := pause(ctx, 2*time.Second); err != nil { // playout has settled on its target
		return nil, err
	}
	since := time.Since(start)
	if err := pause(ctx, listen); err != nil {
		return nil, err
	}
	left, times := ear.heard()
	return chirpDelays(left, times, phase, since)
}

// chirpDelays finds the chirps that were captured after since and tells how
// long each was on its way. times are those of the blocks, on a clock that
// runs phase behind the microphone's.
func chirpDelays(left []float32, times []time.Duration, phase, since time.Duration) ([]float64, error) {
	pattern := chirp()
	var delays []float64
	for n := 0; ; n += chirpEvery {
		captured := samplesLast(n) // of the chirp's first sample, on the microphone's clock
		if captured < since {
			continue
		}
		// Look from its capture to 0.3 s later, which is before the next one.
		first, last := blockAt(times, captured-phase), blockAt(times, captured-phase+300*time.Millisecond)
		if last >= len(times) {
			break
		}
		at, fit := find(left[first*audio.PlayFrames:last*audio.PlayFrames], pattern)
		if fit < 0.6 {
			continue // broken by a loss: not a delay
		}
		at += first * audio.PlayFrames
		played := times[at/audio.PlayFrames] + samplesLast(at%audio.PlayFrames) + phase
		delays = append(delays, milliseconds(played-captured)-1000*float64(pathFrame)/audio.Rate)
	}
	if len(delays) < 5 {
		return nil, fmt.Errorf("only %d chirps came through", len(delays))
	}
	for _, d := range delays {
		if d <= 0 || math.IsNaN(d) {
			return nil, fmt.Errorf("a chirp was heard %.1f ms before its frame was complete", -d)
		}
	}
	return delays, nil
}

// blockAt is the first half of a block that was wanted at t or later.
func blockAt(times []time.Duration, t time.Duration) int {
	i, _ := slices.BinarySearch(times, t)
	return i
}
