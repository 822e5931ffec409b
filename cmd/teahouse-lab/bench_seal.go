package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"time"

	"teahouse/internal/seal"
)

// benchSeal measures one seal and one open of what voice seals: a frame of 80
// bytes (32 kbit/s, 20 ms), and a packet of 300 with repair in it.
func benchSeal(_ context.Context, b *bench) ([]figure, error) {
	var secret [seal.KeySize]byte
	if _, err := rand.Read(secret[:]); err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	key := seal.New(&secret)
	nonce, ad := make([]byte, seal.NonceSize), make([]byte, 13)
	var figures []figure
	for _, size := range []int{80, 300} {
		plain := make([]byte, size)
		box := make([]byte, 0, size+seal.Overhead)
		var counter uint64
		sealing := costOf(b.lasting(time.Second), func() {
			counter++
			binary.BigEndian.PutUint64(nonce[4:], counter)
			box = key.Seal(box[:0], nonce, plain, ad)
		})
		var failed error
		opening := costOf(b.lasting(time.Second), func() {
			if _, err := key.Open(plain[:0], nonce, box, ad); err != nil {
				failed = err
			}
		})
		if failed != nil {
			return figures, failed
		}
		figures = append(figures,
			figure{Name: fmt.Sprintf("seal-%d", size), What: fmt.Sprintf("ChaCha20-Poly1305, sealing %d bytes", size), Value: microseconds(sealing.time), Unit: "µs"},
			figure{Name: fmt.Sprintf("open-%d", size), What: fmt.Sprintf("ChaCha20-Poly1305, opening %d bytes", size), Value: microseconds(opening.time), Unit: "µs"},
			figure{
				Name: fmt.Sprintf("allocations-%d", size), What: fmt.Sprintf("allocations to seal and open %d bytes", size),
				Value: sealing.allocs + opening.allocs, Unit: "allocations",
			}.atMost(0).anywhere(),
		)
	}
	return figures, nil
}
