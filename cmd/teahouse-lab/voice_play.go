package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	"teahouse/codec"
	"teahouse/internal/audio"
)

// voiceSystem is a way to speak over a path: Teahouse's own, and what others
// do, for comparison.
type voiceSystem struct {
	name    string
	what    string
	encoder codec.EncoderConfig
	// buffer is the fixed delay of playout beyond the path; 0: Teahouse's
	// receiver, and repair by frames sent again.
	buffer time.Duration
}

// voiceSystems are Teahouse and the two baselines.
func voiceSystems() []voiceSystem {
	return []voiceSystem{
		{name: "teahouse", what: "frames sent again, adaptive playout", encoder: codec.EncoderConfig{}},
		{name: "opus", what: "plain Opus, fixed buffer of 60 ms", encoder: codec.EncoderConfig{}, buffer: 60 * time.Millisecond},
		{name: "fec", what: "Opus with in-band FEC for 10 %, fixed buffer of 60 ms", encoder: codec.EncoderConfig{FEC: true, ExpectedLossPercent: 10}, buffer: 60 * time.Millisecond},
	}
}

// played is what a listener hears, mono, from the moment when capture began,
// and how it came about.
type played struct {
	sound []float32
	stats codec.Stats // after voiceSettled
	wire  carried
}

// voiceSettled is for how long frames are not counted: the first reports have
// to come before a link knows what it loses.
const voiceSettled = 5 * time.Second

// encodeVoice is a voice as one spurt of packets.
func encodeVoice(voice []float32, config codec.EncoderConfig) (packets [][]byte, length time.Duration, err error) {
	encoder, err := codec.NewEncoder(config)
	if err != nil {
		return nil, 0, err
	}
	step := encoder.Config().FrameSamples
	buf := make([]byte, codec.MaxOpus)
	for ; len(voice) >= step; voice = voice[step:] {
		n, err := encoder.Encode(buf, voice[:step])
		if err != nil {
			return nil, 0, err
		}
		packets = append(packets, append([]byte(nil), buf[:n]...))
	}
	return packets, time.Duration(step) * time.Second / codec.Rate, nil
}

// play carries packets over a path and plays them as the system does.
func (s voiceSystem) play(packets [][]byte, length time.Duration, path voicePath) (played, error) {
	if s.buffer > 0 {
		path.Depth = 0
	}
	p := played{wire: path.carry(packets, length)}
	total := time.Duration(len(packets))*length + path.Path + path.Jitter + time.Second
	if s.buffer > 0 {
		return p, s.playFixed(&p, packets, length, path)
	}
	p.receive(total, path)
	return p, nil
}

// receive plays by codec.Receiver, from which a device takes 5 ms at a time, as
// the program does, at a phase that the seed decides.
func (p *played) receive(total time.Duration, path voicePath) {
	const block, period = audio.PlayFrames, 5 * time.Millisecond
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	phase := time.Duration(rand.New(rand.NewPCG(path.Seed, 0x7ec)).Float64() * float64(period))
	r := codec.NewReceiver(codec.ReceiverConfig{})
	p.sound = make([]float32, int(phase*codec.Rate/time.Second), int(total*codec.Rate/time.Second)+block)
	pcm := make([]float32, 2*block)
	arrivals := p.wire.arrivals
	var before codec.Stats
	for at := phase; at < total; at += period {
		for len(arrivals) > 0 && arrivals[0].at <= at {
			r.Push(&arrivals[0].frame, begin.Add(arrivals[0].at))
			arrivals = arrivals[1:]
		}
		if at < voiceSettled {
			before = r.Stats()
		}
		r.Pull(pcm, begin.Add(at))
		for i := range block {
			p.sound = append(p.sound, pcm[2*i])
		}
	}
	p.stats = since(r.Stats(), before)
}

// since is what of the counts has come since before.
func since(now, before codec.Stats) codec.Stats {
	now.OnTime -= before.OnTime
	now.Repaired -= before.Repaired
	now.FEC -= before.FEC
	now.Concealed -= before.Concealed
	now.Late -= before.Late
	now.StretchedDuration -= before.StretchedDuration
	return now
}

// playFixed plays each frame at a fixed time after it was complete, from the
// next frame's in-band FEC, if that is there, where it is missing, else by
// Opus' concealment.
func (s voiceSystem) playFixed(p *played, packets [][]byte, length time.Duration, path voicePath) error {
	decoder, err := codec.NewDecoder(1)
	if err != nil {
		return err
	}
	came := make([]time.Duration, len(packets)+1)
	for _, a := range p.wire.arrivals {
		came[a.frame.Counter] = a.at
	}
	step := int(length * codec.Rate / time.Second)
	pcm := make([]float32, codec.MaxFrame)
	start := length + path.Path + s.buffer
	p.sound = make([]float32, int(start*codec.Rate/time.Second))
	for i := range packets {
		due := start + time.Duration(i)*length // by the listener's clock
		var count codec.Stats
		there := func(i int) bool { return came[i] > 0 && came[i] <= due }
		switch {
		case there(i):
			_, err = decoder.Decode(pcm, packets[i])
			count.OnTime++
		case s.encoder.FEC && there(i+1):
			err = decoder.DecodeFEC(pcm[:step], packets[i+1])
			count.FEC++
		default:
			err = decoder.DecodePLC(pcm[:step])
			count.Concealed++
		}
		if err != nil {
			return fmt.Errorf("play frame %d: %w", i, err)
		}
		if due >= voiceSettled {
			p.stats.OnTime += count.OnTime
			p.stats.FEC += count.FEC
			p.stats.Concealed += count.Concealed
		}
		p.sound = append(p.sound, pcm[:step]...)
	}
	p.sound = append(p.sound, make([]float32, codec.Rate)...)
	return nil
}
