package main

import (
	"context"
	"fmt"
	"time"

	"teahouse/codec"
)

// benchOpus measures the codec at what a member in a room runs: VoIP, mono in,
// stereo out, constant bit rate of 32 kbit/s.
func benchOpus(_ context.Context, b *bench) ([]figure, error) {
	var figures []figure
	for _, samples := range []int{480, 960} {
		encoder, err := codec.NewEncoder(codec.EncoderConfig{FrameSamples: samples, Bitrate: 32000})
		if err != nil {
			return figures, err
		}
		decoder, err := codec.NewDecoder(2)
		if err != nil {
			return figures, err
		}
		pcm := speech(5 * speechRate)
		var packets [][]byte
		dst := make([]byte, codec.MaxOpus)
		for at := 0; at+samples <= len(pcm); at += samples {
			n, err := encoder.Encode(dst, pcm[at:at+samples])
			if err != nil {
				return figures, err
			}
			packets = append(packets, append([]byte(nil), dst[:n]...))
		}

		var failed error
		i, heard := 0, make([]float32, 2*codec.MaxFrame)
		encode := costOf(b.lasting(2*time.Second), func() {
			at := i * samples % (len(pcm) - samples)
			i++
			if _, err := encoder.Encode(dst, pcm[at:at+samples]); err != nil {
				failed = err
			}
		})
		decode := costOf(b.lasting(time.Second), func() {
			i++
			if _, err := decoder.Decode(heard, packets[i%len(packets)]); err != nil {
				failed = err
			}
		})
		if failed != nil {
			return figures, failed
		}
		ms := samples / 48
		figures = append(figures,
			figure{
				Name: fmt.Sprintf("encode-%dms", ms), What: fmt.Sprintf("Opus, encoding %d ms at 32 kbit/s, complexity %d", ms, encoder.Config().Complexity),
				Value: microseconds(encode.time), Unit: "µs",
			},
			figure{
				Name: fmt.Sprintf("decode-%dms", ms), What: fmt.Sprintf("Opus, decoding %d ms to stereo", ms),
				Value: microseconds(decode.time), Unit: "µs",
			},
			figure{
				Name: fmt.Sprintf("allocations-%dms", ms), What: fmt.Sprintf("Opus, allocations to encode and decode %d ms", ms),
				Value: encode.allocs + decode.allocs, Unit: "allocations",
			}.atMost(0).anywhere(),
		)
	}
	return figures, nil
}
