//go:build linux

package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// ErrNoSpeech: no recorded speech is installed, or nothing to read it with.
var ErrNoSpeech = errors.New("recorded speech needs the packages asterisk-core-sounds-en-g722 and ffmpeg")

// speechDirs are where Debian puts the prompts, 16 kHz G.722 of one real
// voice.
var speechDirs = []string{"/usr/share/asterisk/sounds/en_US_f_Allison", "/usr/share/asterisk/sounds/en"}

// Speech is d of the recorded prompt name (for example "demo-congrats", 30 s;
// "demo-instruct", 73 s), from offset on, at 48 kHz.
func Speech(ctx context.Context, name string, offset, d time.Duration) ([]float32, error) {
	pcm, err := Prompt(ctx, name)
	if err != nil {
		return nil, err
	}
	from, to := samples(offset), samples(offset+d)
	if to > len(pcm) {
		return nil, fmt.Errorf("the prompt %s has %v, not %v", name, duration(len(pcm)), offset+d)
	}
	return pcm[from:to], nil
}

// Prompt is a recorded prompt (for example "digits/7") as a whole, at 48 kHz.
func Prompt(ctx context.Context, name string) ([]float32, error) {
	for _, dir := range speechDirs {
		file := filepath.Join(dir, name+".g722")
		if _, err := os.Stat(file); err == nil {
			return decode(ctx, "-f", "g722", "-i", file)
		}
	}
	return nil, fmt.Errorf("prompt %s: %w", name, ErrNoSpeech)
}

// AlsaSpeech is one of the words of alsa-utils ("Front_Center"), recorded at
// 48 kHz.
func AlsaSpeech(ctx context.Context, name string) ([]float32, error) {
	return decode(ctx, "-i", filepath.Join("/usr/share/sounds/alsa", name+".wav"))
}

func decode(ctx context.Context, input ...string) ([]float32, error) {
	args := append([]string{"-v", "error", "-nostdin"}, input...)
	cmd := command(ctx, "ffmpeg", append(args, "-f", "s16le", "-ar", "48000", "-ac", "1", "-")...)
	b, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("decode %v: %w", input, errors.Join(err, ErrNoSpeech))
	}
	pcm := make([]float32, len(b)/2)
	for i := range pcm {
		pcm[i] = float32(int16(binary.LittleEndian.Uint16(b[2*i:]))) / 32768
	}
	return pcm, nil
}
