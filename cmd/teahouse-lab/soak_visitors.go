package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"

	"teahouse/internal/audio"
	"teahouse/room"
)

// joining are the arguments of a process that comes with a home.
func (s *soak) joining(home string) []string {
	return []string{
		"join", s.where.topic, "--json", "--network", s.where.name, "--home", filepath.Join(s.dir, home), "--nick", home,
		"--listen", loopback, "--listen", "/ip4/127.0.0.1/tcp/0", "--peer", s.address, "--mic", "tone:440", "--speaker", "none",
	}
}

// member lets somebody in this process come, who talks.
func (s *soak) member(ctx context.Context, nick string) (*member, error) {
	n, err := s.where.node(ctx, false, s.address)
	if err != nil {
		return nil, err
	}
	m, err := join(ctx, memberConfig{
		Network: n, Secret: s.where.secret, Nick: nick, Microphone: audio.NewTone(550), Speaker: audio.NewNoSpeaker(),
	})
	if err != nil {
		return nil, err
	}
	// Who leaves is to be forgotten by the voice too.
	events := m.room.Subscribe()
	go func() { // ends with the room: EventLeft is the last
		defer events.Close()
		for {
			e, err := events.Next(context.Background())
			switch {
			case err != nil:
				return
			case e.Kind != room.EventMember:
			case e.State == "out":
				m.seat.Gone(e.Member)
			default:
				m.seat.Update(e.Info)
			}
		}
	}()
	return m, nil
}

// visitor is one who comes and goes, over and over. Leaving rudely is without a
// goodbye.
type visitor struct {
	name  string
	enter func(context.Context) error
	leave func(rudely bool) error
}

// churn lets them come and go for soakChurn; at its end all are gone.
func (s *soak) churn(ctx context.Context) error {
	end := time.Now().Add(soakChurn)
	visitors := []visitor{s.inside("one"), s.inside("two"), s.inside("three"), s.process("four"), s.process("five")}
	gone := make(chan error, len(visitors))
	for _, v := range visitors {
		// Each has dice of its own, so that the order of goroutines does not matter.
		random := rand.New(rand.NewPCG(s.random.Uint64(), 0))
		go func() { gone <- s.visit(ctx, v, random, end) }() // waited for below
	}
	var all error
	for range visitors {
		all = errors.Join(all, <-gone)
	}
	return all
}

func (s *soak) visit(ctx context.Context, v visitor, random *rand.Rand, end time.Time) error {
	upTo := func(d time.Duration) time.Duration { return time.Duration(random.Int64N(int64(d))) }
	for {
		if err := pause(ctx, upTo(soakAway)); err != nil {
			return err
		}
		if time.Until(end) < soakStay/2 {
			return nil
		}
		if err := v.enter(ctx); err != nil {
			return fmt.Errorf("%s comes: %w", v.name, err)
		}
		s.joined.Add(1)
		err := pause(ctx, min(upTo(soakStay), time.Until(end)))
		if err := errors.Join(err, v.leave(random.IntN(2) == 0)); err != nil {
			return fmt.Errorf("%s leaves: %w", v.name, err)
		}
	}
}

// inside is a visitor in this process.
func (s *soak) inside(nick string) visitor {
	var m *member
	return visitor{nick, func(ctx context.Context) (err error) {
		m, err = s.member(ctx, nick)
		return err
	}, func(rudely bool) error {
		if !rudely {
			s.left.Add(1)
			return m.close()
		}
		s.vanished.Add(1)
		err := m.net.Close()
		_ = m.close() // the goodbye reaches nobody, which is an error and the point
		return err
	}}
}

// process is a visitor that is a process, with one home for all its visits.
func (s *soak) process(home string) visitor {
	var p *program
	return visitor{home, func(ctx context.Context) (err error) {
		if p, err = start(ctx, home, s.teahouse, s.joining(home)...); err != nil {
			return err
		}
		within, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		_, err = p.wait(within, "joined", "")
		return err
	}, func(rudely bool) error {
		if !rudely {
			s.left.Add(1)
			return p.stop()
		}
		s.killed.Add(1)
		err := p.cmd.Process.Kill()
		for range p.events { // its writer must not wait for us
		}
		_ = p.cmd.Wait() // it was killed
		return err
	}}
}
