package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"time"
)

// Rate is the sample rate of all sound in the lab, in Hz.
const Rate = 48000

// The lab reads and writes WAV by itself, in the one form that Teahouse
// writes (16-bit PCM), so that a mistake in internal/audio is not made twice.

// ReadWAV reads a 48 kHz 16-bit WAV and gives each channel, -1 to 1. A file
// whose header says more than there is (its writer was killed) is an error.
func ReadWAV(file string) (channels [][]float32, err error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	channels, err = parseWAV(b)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return channels, nil
}

func parseWAV(b []byte) (channels [][]float32, err error) {
	if len(b) < 12 || string(b[:4]) != "RIFF" || string(b[8:12]) != "WAVE" {
		return nil, errors.New("not a WAV file")
	}
	n := 0
	for b = b[12:]; len(b) >= 8; {
		name, size := string(b[:4]), binary.LittleEndian.Uint32(b[4:])
		b = b[8:]
		if uint64(size) > uint64(len(b)) {
			return nil, fmt.Errorf("chunk %q of %d bytes has %d", name, size, len(b))
		}
		body := b[:size]
		b = b[min(len(b), int(size+size%2)):]
		switch name {
		case "fmt ":
			if size < 16 || binary.LittleEndian.Uint32(body[4:]) != Rate || binary.LittleEndian.Uint16(body[14:]) != 16 {
				return nil, fmt.Errorf("not 48 kHz and 16 bits: % x", body)
			}
			n = int(binary.LittleEndian.Uint16(body[2:]))
		case "data":
			if n < 1 || n > 8 {
				return nil, fmt.Errorf("%d channels", n)
			}
			channels = make([][]float32, n)
			for i := 0; i+1 < len(body); i += 2 {
				s := float32(int16(binary.LittleEndian.Uint16(body[i:]))) / 32768
				channels[i/2%n] = append(channels[i/2%n], s)
			}
			return channels, nil
		}
	}
	return nil, errors.New("no data chunk")
}

// ReadMono is ReadWAV with its channels averaged.
func ReadMono(file string) ([]float32, error) {
	channels, err := ReadWAV(file)
	if err != nil {
		return nil, err
	}
	mono := make([]float32, len(channels[0]))
	for i := range mono {
		var sum float32
		for _, c := range channels {
			if i < len(c) {
				sum += c[i]
			}
		}
		mono[i] = sum / float32(len(channels))
	}
	return mono, nil
}

// WriteWAV writes a 48 kHz 16-bit WAV of channels of one length.
func WriteWAV(file string, channels ...[]float32) error {
	frames, frame := len(channels[0]), 2*len(channels)
	size := frames * frame
	data := make([]byte, 0, 44+size)
	data = append(data, "RIFF"...)
	data = binary.LittleEndian.AppendUint32(data, uint32(36+size))
	data = append(data, "WAVEfmt "...)
	data = binary.LittleEndian.AppendUint32(data, 16)
	data = binary.LittleEndian.AppendUint16(data, 1) // PCM
	data = binary.LittleEndian.AppendUint16(data, uint16(len(channels)))
	data = binary.LittleEndian.AppendUint32(data, Rate)
	data = binary.LittleEndian.AppendUint32(data, uint32(frame)*Rate)
	data = binary.LittleEndian.AppendUint16(data, uint16(frame))
	data = binary.LittleEndian.AppendUint16(data, 16)
	data = append(data, "data"...)
	data = binary.LittleEndian.AppendUint32(data, uint32(size))
	for i := range frames {
		for _, c := range channels {
			v := math.Round(float64(c[i]) * 32767)
			data = binary.LittleEndian.AppendUint16(data, uint16(int16(max(-32768, min(32767, v)))))
		}
	}
	return os.WriteFile(file, data, 0o600)
}

func samples(d time.Duration) int { return int(d * Rate / time.Second) }

func duration(samples int) time.Duration { return time.Duration(samples) * time.Second / Rate }
