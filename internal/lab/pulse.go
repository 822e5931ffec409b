//go:build linux

package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ErrNoPulse: PulseAudio is not installed.
var ErrNoPulse = errors.New("the sound lab needs the packages pulseaudio, pulseaudio-utils and libasound2-plugins")

// Pulse is a PulseAudio server of its own without a sound card: its sinks
// play into nothing, and what they play can be recorded from their monitors.
type Pulse struct {
	dir    string
	server *Process
}

// StartPulse starts a server with these null sinks (48 kHz) in dir. Programs
// that run with Env see an ALSA default device that plays to the sink speaker
// and captures what is played to the sink mic.
func StartPulse(ctx context.Context, dir, mic, speaker string) (*Pulse, error) {
	for _, tool := range []string{"pulseaudio", "pactl", "parec", "paplay"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, errors.Join(ErrNoPulse, err)
		}
	}
	p := &Pulse{dir: dir}
	for _, d := range []string{"run", "home", "state"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, err
		}
	}
	asound := "pcm.!default { type pulse }\nctl.!default { type pulse }\n"
	if err := os.WriteFile(filepath.Join(dir, "home", ".asoundrc"), []byte(asound), 0o600); err != nil {
		return nil, err
	}
	var script strings.Builder
	fmt.Fprintf(&script, "load-module module-native-protocol-unix auth-anonymous=1 socket=%s\n", p.socket())
	fmt.Fprintf(&script, "load-module module-null-sink sink_name=%s rate=48000 channels=1\n", mic)
	fmt.Fprintf(&script, "load-module module-null-sink sink_name=%s rate=48000 channels=2\n", speaker)
	fmt.Fprintf(&script, "set-default-source %s.monitor\nset-default-sink %s\n", mic, speaker)
	file := filepath.Join(dir, "lab.pa")
	if err := os.WriteFile(file, []byte(script.String()), 0o600); err != nil {
		return nil, err
	}
	// -n: nothing but our script; no dbus, no hardware.
	server, err := Start(Spec{Path: "pulseaudio", Env: p.Env(), Dir: dir, Args: []string{
		"-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1", "--disallow-exit",
		"--realtime=no", "--high-priority=no", "--log-target=stderr", "--file=" + file,
	}})
	if err != nil {
		return nil, err
	}
	p.server = server
	for {
		cmd := p.command(ctx, "pactl", "info")
		out, err := cmd.Output()
		if err == nil && strings.Contains(string(out), "Default Sink: "+speaker) {
			p.hurry(ctx)
			return p, nil
		}
		if server.Ended() || ctx.Err() != nil {
			server.Kill()
			return nil, fmt.Errorf("start PulseAudio: %w: %s", errors.Join(ctx.Err(), err), server.Stderr())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// hurry makes the server's threads urgent, see Spec.Urgent, afterwards: it
// gives up whatever priority it was started with.
func (p *Pulse) hurry(ctx context.Context) {
	// Without root it stays as it is.
	_ = command(ctx, "chrt", "--all-tasks", "--rr", "--pid", "1", strconv.Itoa(p.server.Pid())).Run()
}

func (p *Pulse) socket() string { return filepath.Join(p.dir, "native") }

// Env is what a program needs to find this server: by PulseAudio, and by
// ALSA's pulse plugin.
func (p *Pulse) Env() []string {
	return []string{
		"XDG_RUNTIME_DIR=" + filepath.Join(p.dir, "run"),
		"HOME=" + filepath.Join(p.dir, "home"),
		"PULSE_RUNTIME_PATH=" + filepath.Join(p.dir, "run"),
		"PULSE_STATE_PATH=" + filepath.Join(p.dir, "state"),
		"PULSE_SERVER=unix:" + p.socket(),
		"DBUS_SESSION_BUS_ADDRESS=none", "DISPLAY=",
	}
}

func (p *Pulse) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	spec := Spec{Path: name, Args: args, Urgent: true}.urgent()
	cmd := command(ctx, spec.Path, spec.Args...)
	cmd.Env = append(os.Environ(), p.Env()...)
	return cmd
}

// Play plays a file into a sink and returns when it has been played.
func (p *Pulse) Play(ctx context.Context, sink, file string) error {
	return run(p.command(ctx, "paplay", "--device="+sink, "--latency-msec=20", file))
}

// Streams counts what plays and what records at the server now.
func (p *Pulse) Streams(ctx context.Context) (playing, recording int, err error) {
	for _, c := range []struct {
		kind string
		n    *int
	}{{"sink-inputs", &playing}, {"source-outputs", &recording}} {
		out, err := p.command(ctx, "pactl", "list", "short", c.kind).Output()
		if err != nil {
			return 0, 0, fmt.Errorf("pactl list %s: %w", c.kind, err)
		}
		*c.n = strings.Count(string(out), "\n")
	}
	return playing, recording, nil
}

// Close ends the server.
func (p *Pulse) Close() {
	p.server.Kill()
}

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
	life, cancel := context.WithCancel(context.WithoutCancel(ctx)) // Stop ends it
	r := &Recording{cancel: cancel, ready: make(chan struct{})}
	r.cmd = p.command(life, "parec", "--device="+source, "--rate=48000", "--channels=1",
		"--format=s16le", "--raw", "--latency-msec=5")
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
