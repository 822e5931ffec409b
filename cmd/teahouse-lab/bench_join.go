package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"teahouse/internal/audio"
)

// benchJoin measures how long it takes from starting a node to hearing
// somebody who talks, with that somebody as the known peer, and with only a
// bootstrap node known, so that they meet through the DHT.
func benchJoin(ctx context.Context, b *bench) (figures []figure, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	where, err := newPlace()
	if err != nil {
		return nil, err
	}
	bootstrap, err := where.node(ctx, true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, bootstrap.Close()) }()
	bootstrapAddress, err := addressOf(bootstrap)
	if err != nil {
		return nil, err
	}

	var there crowd
	defer func() { err = errors.Join(err, there.close()) }()
	talking, err := where.node(ctx, false, bootstrapAddress)
	if err != nil {
		return nil, err
	}
	if _, err := there.join(ctx, memberConfig{
		Network: talking, Secret: where.secret, Nick: "Mei", Microphone: audio.NewTone(440),
	}); err != nil {
		return nil, err
	}
	talkingAddress, err := addressOf(talking)
	if err != nil {
		return nil, err
	}
	// Somebody who has been in the room for a while: the record is in the DHT.
	if err := pause(ctx, b.lasting(5*time.Second)); err != nil {
		return nil, err
	}

	rounds := 7
	if b.short {
		rounds = 3
	}
	for _, way := range []struct {
		name, what, peer string
		budget           float64
	}{
		{"known-peer", "joining to first audio, the other one known", talkingAddress, 300},
		{"dht", "joining to first audio, through the DHT of a bootstrap node", bootstrapAddress, 1500},
	} {
		var took []time.Duration
		for range rounds {
			d, err := joinOnce(ctx, where, way.peer)
			if err != nil {
				return figures, fmt.Errorf("%s: %w", way.name, err)
			}
			took = append(took, d)
			b.progress("join: %s %v", way.name, d.Round(time.Millisecond))
		}
		figures = append(figures, figure{Name: way.name, What: way.what, Value: milliseconds(median(took)), Unit: "ms"}.atMost(way.budget))
	}
	return figures, nil
}

// joinOnce starts a node that knows one peer, enters the room, and waits for
// the first sound.
func joinOnce(ctx context.Context, where place, peer string) (took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	started := time.Now()
	ear := newEarSpeaker(started, false)
	n, err := where.node(ctx, false, peer)
	if err != nil {
		return 0, err
	}
	m, err := join(ctx, memberConfig{Network: n, Secret: where.secret, Nick: "Lin", Microphone: audio.NewSilence(), Speaker: ear})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, m.close()) }()
	select {
	case <-ear.sound:
		return time.Duration(ear.firstSound.Load()), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("heard nothing: %w", ctx.Err())
	}
}
