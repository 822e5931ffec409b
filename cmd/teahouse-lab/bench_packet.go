package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"teahouse/codec"
	"teahouse/internal/mesh"
	"teahouse/internal/seal"
	"teahouse/room"
)

// benchPacket measures framing and cryptography of one packet with one frame
// of 20 ms at 32 kbit/s, without socket and codec: a room's Speak and its
// opening at the other side, and the hop seal that node puts around it.
func benchPacket(ctx context.Context, b *bench) (figures []figure, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var secret room.Secret
	if _, err := rand.Read(secret[:]); err != nil {
		return nil, fmt.Errorf("make a room secret: %w", err)
	}
	network := mesh.NewMemory(mesh.MemoryConfig{})
	defer network.Close()
	var members crowd
	defer func() { err = errors.Join(err, members.close()) }()

	mei, lin := &tap{Network: network.Node(nil)}, &tap{Network: network.Node(nil)}
	var heard atomic.Uint64
	speaker, err := members.join(ctx, memberConfig{
		Network: mei, Secret: secret, Nick: "Mei",
		Heard: func(room.Member, *room.Frame, time.Time) {},
	})
	if err != nil {
		return nil, err
	}
	if _, err := members.join(ctx, memberConfig{
		Network: lin, Secret: secret, Nick: "Lin",
		Heard: func(room.Member, *room.Frame, time.Time) { heard.Add(1) },
	}); err != nil {
		return nil, err
	}
	if err := speaker.hears(ctx, 1); err != nil {
		return nil, err
	}
	if introduce(mei, lin) == 0 {
		return nil, errors.New("the two members have no session that both know")
	}

	encoder, err := codec.NewEncoder(codec.EncoderConfig{})
	if err != nil {
		return nil, err
	}
	opus := make([]byte, codec.MaxOpus)
	n, err := encoder.Encode(opus, speech(encoder.Config().FrameSamples))
	if err != nil {
		return nil, err
	}
	frame := room.Frame{Opus: opus[:n], Level: 30}
	var failed error
	speak := func() {
		frame.MediaTime += 960
		if err := speaker.room.Speak(&frame); err != nil {
			failed = err
		}
	}
	mei.mode.Store(tapDrop)
	sending := costOf(b.lasting(time.Second), speak)
	mei.mode.Store(tapCall)
	before := heard.Load()
	both := costOf(b.lasting(time.Second), speak)
	mei.mode.Store(tapPass)
	if failed != nil {
		return nil, failed
	}
	if heard.Load()-before < 100 {
		return nil, fmt.Errorf("only %d frames were opened at the other side", heard.Load()-before)
	}
	hopSeal, hopOpen, err := hopCost(b, n)
	if err != nil {
		return nil, err
	}
	return []figure{
		figure{Name: "send", What: "a frame sealed, put into a packet, and the packet hop-sealed", Value: microseconds(sending.time + hopSeal), Unit: "µs"}.atMost(2),
		figure{Name: "receive", What: "a packet hop-opened, split, its frame opened", Value: microseconds(both.time - sending.time + hopOpen), Unit: "µs"}.atMost(2),
		figure{Name: "allocations", What: "allocations of a room to send and to receive a frame", Value: both.allocs, Unit: "allocations"}.atMost(0).anywhere(),
	}, nil
}

// hopCost is what one link's seal costs around a packet with n bytes of Opus:
// 24 bytes a frame and 6 of the group are around them.
func hopCost(b *bench, n int) (sealing, opening time.Duration, err error) {
	var secret [seal.KeySize]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return 0, 0, fmt.Errorf("make a key: %w", err)
	}
	key := seal.New(&secret)
	nonce, header := make([]byte, seal.NonceSize), make([]byte, 13)
	plain := make([]byte, n+40)
	box := make([]byte, 0, len(plain)+seal.Overhead)
	var counter uint64
	sealCost := costOf(b.lasting(time.Second), func() {
		counter++
		binary.BigEndian.PutUint64(nonce[4:], counter)
		box = key.Seal(box[:0], nonce, plain, header)
	})
	openCost := costOf(b.lasting(time.Second), func() {
		if _, openErr := key.Open(plain[:0], nonce, box, header); openErr != nil {
			err = openErr
		}
	})
	return sealCost.time, openCost.time, err
}
