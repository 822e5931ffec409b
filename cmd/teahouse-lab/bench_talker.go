package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"teahouse/internal/audio"
)

// table is a room whose members all talk.
type table struct {
	others int
	frames float64       // that each sends to each in a second
	settle time.Duration // until frames are that long
}

// benchTalker measures the CPU time of one process that talks in a room with
// seven others who all talk, and with three, where frames are short. Its
// microphone is cleaned as a sound card's is by default.
func benchTalker(ctx context.Context, b *bench) ([]figure, error) {
	seven, _, err := talkAt(ctx, b, table{others: 7, frames: 50, settle: 3 * time.Second})
	if err != nil {
		return nil, err
	}
	// Links must be short and clean for 5 s, and be worth it for 5 s more (internal/voice/short.go).
	three, packets, err := talkAt(ctx, b, table{others: 3, frames: 100, settle: 15 * time.Second})
	if err != nil {
		return nil, err
	}
	return []figure{
		figure{Name: "cpu", What: "one talker hearing seven, 20 ms frames, echo, noise and gain on", Value: seven.percent, Unit: "% of a core"}.atMost(15),
		{Name: "memory", What: "the same, memory", Value: seven.megabytes, Unit: "MB"},
		{Name: "short-cpu", What: "one talker hearing three, 10 ms frames, echo, noise and gain on", Value: three.percent, Unit: "% of a core"},
		{Name: "short-packets", What: "the same, packets of a voice to each", Value: packets, Unit: "a second"},
	}, nil
}

// talkAt sits down at a table: what the one process takes, and how many packets
// a second come from each to each of the others. The others are in this process.
func talkAt(ctx context.Context, b *bench, at table) (took load, packets float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	home, err := os.MkdirTemp("", "teahouse-lab-")
	if err != nil {
		return took, 0, fmt.Errorf("make a home: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(home)) }()
	sound := filepath.Join(home, "speech.wav")
	if err := writeWAV(sound, speech(10*audio.Rate)); err != nil {
		return took, 0, err
	}
	where, err := newPlace()
	if err != nil {
		return took, 0, err
	}
	bootstrap, err := where.node(ctx, true)
	if err != nil {
		return took, 0, err
	}
	defer func() { err = errors.Join(err, bootstrap.Close()) }()
	address, err := addressOf(bootstrap)
	if err != nil {
		return took, 0, err
	}

	var there crowd
	defer func() { err = errors.Join(err, there.close()) }()
	for i := range at.others {
		n, err := where.node(ctx, false, address)
		if err != nil {
			return took, 0, err
		}
		microphone, err := audio.OpenWAV(sound, true)
		if err != nil {
			return took, 0, errors.Join(err, n.Close())
		}
		// They hear no one: their playout would take the time of the one that is measured.
		if _, err := there.join(ctx, memberConfig{
			Network: n, Secret: where.secret, Nick: fmt.Sprintf("guest %d", i+1), Microphone: microphone, Deaf: true,
		}); err != nil {
			return took, 0, err
		}
	}
	var running group
	defer func() { err = errors.Join(err, running.stop()) }()
	one, err := running.start(ctx, "the talker", b.teahouse, "join", where.topic, "--json", "--network", where.name,
		"--home", filepath.Join(home, "node"), "--listen", loopback, "--peer", address, "--mic", "loop:"+sound, "--process", "echo,noise,gain", "--speaker", "none")
	if err != nil {
		return took, 0, err
	}
	for range at.others {
		if _, err := one.wait(ctx, "link", "up"); err != nil {
			return took, 0, err
		}
	}
	if err := pause(ctx, at.settle); err != nil {
		return took, 0, err
	}
	heard := func() (n uint64) {
		for _, m := range there {
			for _, l := range m.room.Links() {
				n += l.Received
			}
		}
		return n
	}
	before, lasting := heard(), b.lasting(20*time.Second)
	loads, err := usesDuring(ctx, lasting, one)
	if err != nil {
		return took, 0, err
	}
	links := float64(at.others * at.others) // from all of them but oneself, at each of the others
	packets = float64(heard()-before) / lasting.Seconds() / links
	if packets < 0.8*at.frames {
		return took, 0, fmt.Errorf("not everybody talked: %.0f packets a second over each link, not %.0f", packets, at.frames)
	}
	return loads[0], packets, nil
}

// writeWAV writes mono sound at 48 kHz as 16-bit PCM: a RIFF header of 44
// bytes (Microsoft, Multimedia Programming Interface, 1991), then the samples.
func writeWAV(name string, pcm []float32) error {
	le := binary.LittleEndian
	b := append(le.AppendUint32([]byte("RIFF"), uint32(36+2*len(pcm))), "WAVEfmt "...)
	b = le.AppendUint32(b, 16)
	b = le.AppendUint16(b, 1) // PCM
	b = le.AppendUint16(b, 1) // channels
	b = le.AppendUint32(b, audio.Rate)
	b = le.AppendUint32(b, 2*audio.Rate) // bytes a second
	b = le.AppendUint16(b, 2)            // bytes of a sample
	b = le.AppendUint16(b, 16)           // bits of a sample
	b = le.AppendUint32(append(b, "data"...), uint32(2*len(pcm)))
	for _, v := range pcm {
		b = le.AppendUint16(b, uint16(int16(32767*max(-1, min(1, v)))))
	}
	if err := os.WriteFile(name, b, 0o600); err != nil {
		return fmt.Errorf("make a sound file: %w", err)
	}
	return nil
}
