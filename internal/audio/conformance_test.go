package audio_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"

	"teahouse/internal/audio"
	"teahouse/internal/audio/audiotest"
)

func TestMicrophones(t *testing.T) {
	virtual := audiotest.Config{Virtual: true}
	mono := writeWAV(t, 48000, 1, 20*480-100) // 20 blocks, the last one not full
	stereo := writeWAV(t, 44100, 2, 44100/2)  // 50 blocks
	for _, test := range []struct {
		spec   string
		blocks int
		mute   bool
	}{
		{spec: "tone:440"},
		{spec: "silence"},
		{spec: "none", mute: true},
		{spec: "file:" + mono, blocks: 20},
		{spec: "file:" + stereo, blocks: 50},
		{spec: "loop:" + mono},
		{spec: "loop:" + stereo},
	} {
		spec, err := audio.ParseSpec(test.spec)
		if err != nil {
			t.Fatal(err)
		}
		config := virtual
		config.Blocks, config.Mute = test.blocks, test.mute
		t.Run(filepath.Base(test.spec), func(t *testing.T) {
			audiotest.Microphone(t, config, func(t *testing.T) audio.Microphone {
				m, err := audio.OpenMicrophone(spec, nil)
				if err != nil {
					t.Fatal(err)
				}
				return m
			})
		})
	}
}

func TestSpeakers(t *testing.T) {
	for _, words := range []string{"none", "file:" + filepath.Join(t.TempDir(), "out.wav")} {
		spec, err := audio.ParseSpec(words)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(filepath.Base(words), func(t *testing.T) {
			audiotest.Speaker(t, audiotest.Config{Virtual: true}, func(t *testing.T) audio.Speaker {
				s, err := audio.OpenSpeaker(spec, nil)
				if err != nil {
					t.Fatal(err)
				}
				return s
			})
		})
	}
}

// TestRealTime holds two of the devices to the real clock too, with room for a
// machine that is busy.
func TestRealTime(t *testing.T) {
	real := audiotest.Config{Slack: 500 * time.Millisecond, Spacing: 500 * time.Millisecond}
	t.Run("tone", func(t *testing.T) {
		t.Parallel()
		audiotest.Microphone(t, real, func(*testing.T) audio.Microphone { return audio.NewTone(440) })
	})
	t.Run("file", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "out.wav")
		audiotest.Speaker(t, real, func(t *testing.T) audio.Speaker {
			s, err := audio.CreateWAV(path)
			if err != nil {
				t.Fatal(err)
			}
			return s
		})
	})
}

// writeWAV makes a 16-bit WAV of frames that count up in each channel.
func writeWAV(t *testing.T, rate, channels, frames int) string {
	t.Helper()
	var b bytes.Buffer
	b.WriteString("RIFF\x00\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00")
	for _, v := range []any{
		uint16(channels), uint32(rate), uint32(rate * channels * 2), uint16(channels * 2), uint16(16),
		[]byte("data"), uint32(frames * channels * 2),
	} {
		if err := binary.Write(&b, binary.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	for i := range frames * channels {
		b.Write(binary.LittleEndian.AppendUint16(nil, uint16(i%1000)))
	}
	path := filepath.Join(t.TempDir(), "in.wav")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
