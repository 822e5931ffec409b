//go:build linux

package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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

// Sink is a null sink of a [Pulse].
type Sink struct {
	Name     string
	Speaker  bool // else what is played into it is a microphone
	Rate     int  // Hz; 0 for 48 kHz
	Channels int  // 0 for two of a speaker, one of a microphone
	// Named: programs also see an ALSA device of that name, which plays into
	// the sink, or captures what is played into it.
	Named bool
}

// StartPulse starts a server with these null sinks (48 kHz) in dir. Programs
// that run with Env see an ALSA default device that plays to the sink speaker
// and captures what is played to the sink mic.
func StartPulse(ctx context.Context, dir, mic, speaker string) (*Pulse, error) {
	return StartPulseOf(ctx, dir, Sink{Name: mic}, Sink{Name: speaker, Speaker: true})
}

// StartPulseOf is StartPulse with sinks of any kind: the default microphone,
// the default speaker, and others.
func StartPulseOf(ctx context.Context, dir string, mic, speaker Sink, others ...Sink) (*Pulse, error) {
	for _, tool := range []string{"pulseaudio", "pactl", "parec", "paplay"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, errors.Join(ErrNoPulse, err)
		}
	}
	p := &Pulse{dir: dir}
	config := filepath.Join(dir, "home", ".config", "pulse")
	for _, d := range []string{filepath.Join(dir, "run"), config, filepath.Join(dir, "state")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	var script, asound strings.Builder
	asound.WriteString("pcm.!default { type pulse }\nctl.!default { type pulse }\n")
	fmt.Fprintf(&script, "load-module module-native-protocol-unix auth-anonymous=1 socket=%s\n", p.socket())
	for _, sink := range append([]Sink{mic, speaker}, others...) {
		fmt.Fprintf(&script, "load-module %s\n", strings.Join(sink.module(), " "))
		place := sink.Name
		if !sink.Speaker {
			place += ".monitor"
		}
		if sink.Named {
			fmt.Fprintf(&asound, "pcm.%s { type pulse device %q }\n", sink.Name, place)
		}
	}
	fmt.Fprintf(&script, "set-default-source %s.monitor\nset-default-sink %s\n", mic.Name, speaker.Name)
	for path, text := range map[string]string{
		filepath.Join(dir, "home", ".asoundrc"): asound.String(),
		// An idle sink takes the rate of its first stream, mostly 48 kHz, if that is the alternate one.
		filepath.Join(config, "daemon.conf"): "alternate-sample-rate = 44100\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
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
		if err == nil && strings.Contains(string(out), "Default Sink: "+speaker.Name) {
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

// Plug adds a null sink (48 kHz), as putting in a headset does: a speaker, or
// what is played to as a microphone. What loses its sink goes on to a speaker
// rather than into a microphone.
func (p *Pulse) Plug(ctx context.Context, sink string, speaker bool) error {
	return run(p.command(ctx, "pactl", append([]string{"load-module"}, Sink{Name: sink, Speaker: speaker}.module()...)...))
}

// module is the module of a sink and its arguments. The server prefers what
// has a device class.
func (s Sink) module() []string {
	rate, channels := cmp.Or(s.Rate, Rate), 1
	if s.Speaker {
		channels = 2
	}
	args := []string{
		"module-null-sink", "sink_name=" + s.Name,
		fmt.Sprintf("rate=%d", rate), fmt.Sprintf("channels=%d", cmp.Or(s.Channels, channels)),
	}
	if s.Speaker {
		args = append(args, "sink_properties=device.class=sound")
	}
	return args
}

// Unplug removes a null sink with all that plays into it or records from it.
func (p *Pulse) Unplug(ctx context.Context, sink string) error {
	out, err := p.command(ctx, "pactl", "list", "short", "modules").Output()
	if err != nil {
		return fmt.Errorf("unplug %s: %w", sink, err)
	}
	for line := range strings.Lines(string(out)) {
		number, module, _ := strings.Cut(line, "\t")
		if slices.Contains(strings.Fields(module), "sink_name="+sink) {
			return run(p.command(ctx, "pactl", "unload-module", number))
		}
	}
	return fmt.Errorf("unplug %s: there is no such sink", sink)
}

// SetDefault chooses the sink that is played to and the sink whose monitor is
// recorded from by whoever does not choose; "" leaves one as it is.
func (p *Pulse) SetDefault(ctx context.Context, speaker, mic string) error {
	if speaker != "" {
		if err := run(p.command(ctx, "pactl", "set-default-sink", speaker)); err != nil {
			return err
		}
	}
	if mic == "" {
		return nil
	}
	return run(p.command(ctx, "pactl", "set-default-source", mic+".monitor"))
}

// Echo plays what comes out of a speaker into a microphone too, as a room does,
// d later. (A null sink's own monitor would not do: it gives a sound up to 10 ms
// before the server says that it is played, which no room can.)
func (p *Pulse) Echo(ctx context.Context, speaker, mic string, d time.Duration) error {
	// Its rate is not adjusted: the two have one clock.
	return run(p.command(ctx, "pactl", "load-module", "module-loopback", "source="+speaker+".monitor", "sink="+mic,
		fmt.Sprintf("latency_msec=%d", d.Milliseconds()), "adjust_time=0"))
}

// InUse tells whether something plays into a sink, or records from a source
// ("mic.monitor"), now.
func (p *Pulse) InUse(ctx context.Context, place string) (bool, error) {
	places, streams := "sinks", "sink-inputs"
	if strings.HasSuffix(place, ".monitor") {
		places, streams = "sources", "source-outputs"
	}
	there, err := p.command(ctx, "pactl", "list", "short", places).Output()
	if err != nil {
		return false, fmt.Errorf("list %s: %w", places, err)
	}
	using, err := p.command(ctx, "pactl", "list", "short", streams).Output()
	if err != nil {
		return false, fmt.Errorf("list %s: %w", streams, err)
	}
	for line := range strings.Lines(string(there)) {
		f := strings.Fields(line)
		if len(f) < 2 || f[1] != place {
			continue
		}
		for stream := range strings.Lines(string(using)) {
			if g := strings.Fields(stream); len(g) > 1 && g[1] == f[0] {
				return true, nil
			}
		}
	}
	return false, nil
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
