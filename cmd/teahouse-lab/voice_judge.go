package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"teahouse/codec"
	"teahouse/internal/lab"
)

// voiceFigures is how a voice came through one path by one system.
type voiceFigures struct {
	System string    `json:"system"`
	Path   voicePath `json:"path"`
	// Delay is from a sound at the microphone to the same sound at the
	// speaker, devices excluded, less Path, by cross-correlation: the median
	// over half seconds.
	Delay     time.Duration `json:"delay"`
	Concealed float64       `json:"concealed"` // part of frames
	Late      float64       `json:"late"`      // part of frames: of these, came after their turn
	Repaired  float64       `json:"repaired"`  // part of frames, from a copy sent again
	FEC       float64       `json:"fec"`       // part of frames, from in-band FEC
	Stretched float64       `json:"stretched"` // part of the time
	STOI      float64       `json:"stoi"`
	Right     int           `json:"right"` // words recognised
	Words     int           `json:"words"` // words said; 0: not tried
	Wire      float64       `json:"wire"`  // kbit/s with internet headers
	Depth     float64       `json:"depth"` // mean
}

// voiceMaterial is what is said: half a minute of speech, then digits.
type voiceMaterial struct {
	pcm    []float32
	speech int // samples of pcm that are speech
	words  []voiceWord
	coded  map[codec.EncoderConfig]codedVoice // of every system
}

type voiceWord struct{ digit, from, to int } // samples of pcm

type codedVoice struct {
	packets [][]byte
	length  time.Duration
}

const (
	voiceSpeech = 30 * time.Second
	voiceRounds = 5 // of ten digits
	wordMargin  = 3 * lab.Rate / 10
)

// newVoiceMaterial reads the recordings. The digits come in another order each
// round, 600 ms apart.
func newVoiceMaterial(ctx context.Context) (*voiceMaterial, error) {
	speech, err := lab.Speech(ctx, "demo-congrats", 0, voiceSpeech)
	if err != nil {
		return nil, err
	}
	m := &voiceMaterial{pcm: speech, speech: len(speech), coded: make(map[codec.EncoderConfig]codedVoice)}
	gap := make([]float32, 2*wordMargin)
	m.pcm = append(m.pcm, gap...)
	rng := rand.New(rand.NewPCG(10, 10))
	for range voiceRounds {
		for _, n := range rng.Perm(len(lab.Digits)) {
			pcm, err := lab.Prompt(ctx, fmt.Sprintf("digits/%d", n))
			if err != nil {
				return nil, err
			}
			from := len(m.pcm)
			m.pcm = append(append(m.pcm, pcm...), gap...)
			m.words = append(m.words, voiceWord{n, from, from + len(pcm)})
		}
	}
	for _, s := range voiceSystems() {
		if _, ok := m.coded[s.encoder]; ok {
			continue
		}
		var c codedVoice
		if c.packets, c.length, err = encodeVoice(m.pcm, s.encoder); err != nil {
			return nil, err
		}
		m.coded[s.encoder] = c
	}
	return m, nil
}

// judge plays the material over the path and measures. words: have a machine
// listen too. It may be called from several goroutines.
func (m *voiceMaterial) judge(ctx context.Context, s voiceSystem, path voicePath, words bool) (f voiceFigures, err error) {
	coded := m.coded[s.encoder]
	p, err := s.play(coded.packets, coded.length, path)
	if err != nil {
		return f, err
	}
	f = voiceFigures{System: s.name, Path: path, Depth: p.wire.depth}
	talked := time.Duration(len(coded.packets)) * coded.length
	if frames := float64(p.stats.Played()); frames > 0 {
		f.Concealed = float64(p.stats.Concealed) / frames
		f.Late = float64(p.stats.Late) / frames
		f.Repaired = float64(p.stats.Repaired) / frames
		f.FEC = float64(p.stats.FEC) / frames
	}
	f.Stretched = p.stats.StretchedDuration.Seconds() / (talked - voiceSettled).Seconds()
	f.Wire = float64(p.wire.bytes) * 8 / 1000 / talked.Seconds()

	const moves = 150 * time.Millisecond // how far the delay may move
	heard := p.sound[:min(len(p.sound), m.speech+2*lab.Rate)]
	c, err := lab.CompareWithin(m.pcm[:m.speech], heard, moves)
	if err != nil {
		return f, err
	}
	f.Delay = c.Delay + c.Lag - path.Path
	if f.STOI, err = c.Intelligibility(m.pcm[:m.speech], heard); err != nil {
		return f, err
	}
	if !words {
		return f, nil
	}
	delay := int((c.Delay + c.Lag) * lab.Rate / time.Second)
	var sounds [][]float32
	for _, w := range m.words {
		from := max(0, w.from+delay-wordMargin)
		to := min(len(p.sound), w.to+delay+wordMargin)
		sounds = append(sounds, p.sound[min(from, to):to])
	}
	said, err := lab.Recognise(ctx, sounds)
	if errors.Is(err, lab.ErrNoRecogniser) {
		return f, nil
	}
	if err != nil {
		return f, err
	}
	f.Words = len(m.words)
	for i, w := range m.words {
		if said[i] == lab.Digits[w.digit] {
			f.Right++
		}
	}
	return f, nil
}
