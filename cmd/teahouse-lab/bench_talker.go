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

// benchTalker measures the CPU time of one process that talks in a room with
// seven others who all talk. The seven are in this process.
func benchTalker(ctx context.Context, b *bench) (figures []figure, err error) {
	const others = 7
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	home, err := os.MkdirTemp("", "teahouse-lab-")
	if err != nil {
		return nil, fmt.Errorf("make a home: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(home)) }()
	sound := filepath.Join(home, "speech.wav")
	if err := writeWAV(sound, speech(10*audio.Rate)); err != nil {
		return nil, err
	}
	where, err := newPlace()
	if err != nil {
		return nil, err
	}
	bootstrap, err := where.node(ctx, true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, bootstrap.Close()) }()
	address, err := addressOf(bootstrap)
	if err != nil {
		return nil, err
	}

	var there crowd
	defer func() { err = errors.Join(err, there.close()) }()
	for i := range others {
		n, err := where.node(ctx, false, address)
		if err != nil {
			return nil, err
		}
		microphone, err := audio.OpenWAV(sound, true)
		if err != nil {
			return nil, errors.Join(err, n.Close())
		}
		// They hear no one: their playout would take the time of the one that is measured.
		if _, err := there.join(ctx, memberConfig{
			Network: n, Secret: where.secret, Nick: fmt.Sprintf("guest %d", i+1), Microphone: microphone, Deaf: true,
		}); err != nil {
			return nil, err
		}
	}
	var running group
	defer func() { err = errors.Join(err, running.stop()) }()
	one, err := running.start(ctx, "the talker", b.teahouse, "join", where.topic, "--json", "--network", where.name,
		"--home", filepath.Join(home, "node"), "--listen", loopback, "--peer", address, "--mic", "loop:"+sound, "--speaker", "none")
	if err != nil {
		return nil, err
	}
	for range others {
		if _, err := one.wait(ctx, "link", "up"); err != nil {
			return nil, err
		}
	}
	if err := pause(ctx, 3*time.Second); err != nil {
		return nil, err
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
		return nil, err
	}
	// Each of the eight sends 50 frames a second to seven.
	want := lasting.Seconds() * 50 * others * others
	if got := float64(heard() - before); got < 0.8*want {
		return nil, fmt.Errorf("not everybody talked: %.0f frames arrived at the seven, not %.0f", got, want)
	}
	return []figure{
		figure{Name: "cpu", What: "one talker hearing seven, 20 ms frames, without audio processing", Value: loads[0].percent, Unit: "% of a core"}.atMost(15),
		{Name: "memory", What: "the same, memory", Value: loads[0].megabytes, Unit: "MB"},
	}, nil
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
