package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"teahouse/codec"
	"teahouse/internal/audio"
	"teahouse/internal/mesh"
	"teahouse/internal/voice"
	"teahouse/room"
)

// member is one person in a room, in this process: a network, a room, and the
// voice pipelines if there are devices.
type member struct {
	net   mesh.Network
	room  *room.Room
	voice *voice.Voice // nil without devices
	seat  *voice.Seat
}

// memberConfig is how a member comes. Network and Secret are required.
type memberConfig struct {
	Network    mesh.Network // closed with the member
	Secret     room.Secret
	Nick       string
	Microphone audio.Microphone // nil: none
	Speaker    audio.Speaker    // nil: none, but played all the same where there is a microphone
	Encoder    codec.EncoderConfig
	// Deaf leaves what is heard unplayed: it costs nothing here.
	Deaf bool
	// Heard, instead of voice pipelines, is given each frame.
	Heard func(from room.Member, f *room.Frame, arrival time.Time)
}

// join enters the room. On an error nothing is left running, cfg.Network
// included.
func join(ctx context.Context, cfg memberConfig) (m *member, err error) {
	m = &member{net: cfg.Network}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("join as %s: %w", cfg.Nick, err), m.close())
			m = nil
		}
	}()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return m, err
	}
	heard := cfg.Heard
	if heard == nil {
		m.voice, err = voice.New(voice.Config{Microphone: cfg.Microphone, Speaker: cfg.Speaker, Encoder: cfg.Encoder})
		if err != nil {
			return m, err
		}
		m.seat = m.voice.Sit(cfg.Secret.ID(), false)
		heard = m.seat.Heard
		if cfg.Deaf {
			heard = func(room.Member, *room.Frame, time.Time) {}
		}
	}
	m.room, err = room.Join(ctx, room.Config{
		Network: cfg.Network, Secret: cfg.Secret, Key: key, Instance: 1,
		Nick: cfg.Nick, AllowRecording: true, Heard: heard,
	})
	if err != nil {
		return m, err
	}
	if m.voice != nil {
		m.seat.Attach(m.room)
		m.voice.Start()
	}
	return m, nil
}

// hears waits until n others hear what m says.
func (m *member) hears(ctx context.Context, n int) error {
	for m.room.Hearers() < n {
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return fmt.Errorf("heard by %d of %d: %w", m.room.Hearers(), n, err)
		}
	}
	return nil
}

// close leaves the room, and ends the pipelines and the network.
func (m *member) close() error {
	var err error
	if m.seat != nil {
		m.seat.Leave()
	}
	if m.room != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		err = m.room.Leave(ctx)
	}
	if m.voice != nil {
		err = errors.Join(err, m.voice.Close())
	}
	return errors.Join(err, m.net.Close())
}

// crowd is members that leave together.
type crowd []*member

func (c *crowd) join(ctx context.Context, cfg memberConfig) (*member, error) {
	m, err := join(ctx, cfg)
	if err == nil {
		*c = append(*c, m)
	}
	return m, err
}

func (c *crowd) close() error {
	var err error
	for _, m := range *c {
		err = errors.Join(err, m.close())
	}
	*c = nil
	return err
}
