//go:build linux

package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"sync"
	"time"
)

// Recording is what a source gave, with the time of each of its samples.
type Recording struct {
	cmd    *exec.Cmd
	cancel context.CancelFunc
	wg     sync.WaitGroup
	ready  chan struct{} // closed at the first samples

	mu     sync.Mutex
	pcm    []float32
	chunks []chunk
}

type chunk struct {
	end int // samples so far
	at  time.Time
}

// Record records a source ("mic.monitor") in mono until Stop, and returns
// when the first samples have come.
func (p *Pulse) Record(ctx context.Context, source string) (*Recording, error) {
	return p.record(ctx, source)
}

// RecordChannel is Record of one channel ("front-left") of a source alone.
func (p *Pulse) RecordChannel(ctx context.Context, source, channel string) (*Recording, error) {
	return p.record(ctx, source, "--no-remix", "--channel-map="+channel)
}

func (p *Pulse) record(ctx context.Context, source string, how ...string) (*Recording, error) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx)) // Stop ends it
	r := &Recording{cancel: cancel, ready: make(chan struct{})}
	r.cmd = p.command(life, "parec", append([]string{
		"--device=" + source, "--rate=48000", "--channels=1",
		"--format=s16le", "--raw", "--latency-msec=5",
	}, how...)...)
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		cancel()
		return nil, err
	}
	if err := r.cmd.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("record %s: %w", source, err)
	}
	r.wg.Go(func() {
		buf, odd := make([]byte, 1<<16), 0
		for {
			n, err := out.Read(buf[odd:])
			whole := odd + n
			r.take(buf[:whole], time.Now())
			if odd = whole % 2; odd == 1 { // half a sample
				buf[0] = buf[whole-1]
			}
			if err != nil {
				_ = r.cmd.Wait() // it was killed
				return
			}
		}
	})
	select {
	case <-r.ready:
		return r, nil
	case <-ctx.Done():
		r.Stop()
		return nil, fmt.Errorf("record %s: %w", source, ctx.Err())
	}
}

func (r *Recording) take(b []byte, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := len(r.pcm) == 0
	for i := 0; i+1 < len(b); i += 2 {
		r.pcm = append(r.pcm, float32(int16(binary.LittleEndian.Uint16(b[i:])))/32768)
	}
	if len(r.pcm) > 0 {
		r.chunks = append(r.chunks, chunk{len(r.pcm), now})
		if first {
			close(r.ready)
		}
	}
}

// Stop ends the recording. It may be called again.
func (r *Recording) Stop() {
	r.cancel()
	r.wg.Wait()
}

// Samples is what was recorded, once stopped. begin is when its first sample
// was played, by the monotonic clock, as the chunks tell that came with the
// least delay: those of its first and last fifth are not asked, as a stream
// hurries when it starts.
func (r *Recording) Samples() (pcm []float32, begin time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	part := r.chunks[len(r.chunks)/5 : max(len(r.chunks)*4/5, len(r.chunks)/5+1)]
	begins := make([]time.Time, len(part))
	for i, c := range part {
		begins[i] = c.at.Add(-duration(c.end))
	}
	slices.SortFunc(begins, time.Time.Compare)
	return r.pcm, begins[len(begins)/50]
}

// PlayedAfter is how much later the speech was played at one recorded place
// than at another, by sound and the monotonic clock (the median of all half
// seconds), and how well what came out agrees with what went in. The first warmUp of the speech is left out.
func PlayedAfter(in, out *Recording, warmUp time.Duration) (time.Duration, Comparison, error) {
	a, beginA := in.Samples()
	b, beginB := out.Samples()
	from, to := speaks(a)
	from += samples(warmUp)
	if to-from < window {
		return 0, Comparison{}, errors.New("nothing was said at the microphone")
	}
	// Playout follows the sound server's moods.
	c, err := CompareWithin(a[from:to], b, 100*time.Millisecond)
	if err != nil {
		return 0, c, err
	}
	// Sample i of a was played at beginA + i, of b at beginB + i.
	return beginB.Sub(beginA) + c.Delay + c.Lag - duration(from), c, nil
}

// speaks is the part of pcm from its first to its last loud millisecond.
func speaks(pcm []float32) (from, to int) {
	const block = Rate / 1000
	from = len(pcm)
	for i := 0; i+block <= len(pcm); i += block {
		if rms(pcm[i:i+block]) > 0.003 {
			from, to = min(from, i), i+block
		}
	}
	return min(from, to), to
}
