package audiotest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Pulse is a PulseAudio server of one test, with null sinks in place of sound
// cards, its own home and its own socket. What is played into a sink comes out
// of its monitor, which is a microphone.
//
// ALSA's default device leads to it, and so does PortAudio's. A sink is also a
// device of its name, and its monitor one of its name and _mic.
type Pulse struct {
	dir    string
	script string
	cmd    *exec.Cmd
	log    *os.File
}

// NewPulse starts a server with null sinks of the given names (48 kHz,
// stereo). The first is the default speaker; the monitor of the last is the
// default microphone: with one name the two make a loop. It is stopped when
// the test ends. Without pulseaudio and ALSA's pulse plugin the test is
// skipped, unless TEAHOUSE_LAB is set.
func NewPulse(t testing.TB, sinks ...string) *Pulse {
	t.Helper()
	all := make([]Sink, len(sinks))
	for i, name := range sinks {
		all[i] = Sink{Name: name, Rate: 48000}
	}
	return NewPulseOf(t, all...)
}

// Sink is a null sink.
type Sink struct {
	Name string
	Rate int // Hz
}

// NewPulseOf is NewPulse with sinks of any rate.
func NewPulseOf(t testing.TB, sinks ...Sink) *Pulse {
	t.Helper()
	for _, tool := range []string{"pulseaudio", "pactl"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("TEAHOUSE_LAB") != "" {
				t.Fatalf("%v: apt-get install pulseaudio pulseaudio-utils libasound2-plugins", err)
			}
			t.Skipf("%v", err)
		}
	}
	// A socket's path may have 107 bytes: not t.TempDir, which is longer.
	dir, err := os.MkdirTemp("", "pulse")
	if err != nil {
		t.Fatal(err)
	}
	p := &Pulse{dir: dir}
	t.Cleanup(func() {
		p.Stop(t)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	var script strings.Builder
	script.WriteString("load-module module-native-protocol-unix auth-anonymous=1\n")
	for _, sink := range sinks {
		fmt.Fprintf(&script, "load-module %s\n", strings.Join(nullSink(sink), " "))
	}
	fmt.Fprintf(&script, "set-default-sink %s\nset-default-source %s.monitor\n", sinks[0].Name, sinks[len(sinks)-1].Name)
	p.script = filepath.Join(dir, "default.pa")
	p.put(t, "default.pa", script.String())
	var devices strings.Builder
	devices.WriteString("pcm.!default { type pulse }\nctl.!default { type pulse }\n")
	for _, sink := range sinks {
		name := sink.Name
		fmt.Fprintf(&devices, "pcm.%s { type pulse device %q }\npcm.%s_mic { type pulse device %q }\n", name, name, name, name+".monitor")
	}
	p.put(t, ".asoundrc", devices.String())
	p.put(t, ".config/pulse/client.conf", "autospawn = no\n")
	// An idle sink takes the rate of its first stream if that is the alternate
	// one; all of ours are of 48 kHz, or else would not stay what they are.
	alternate := 48000
	if slices.ContainsFunc(sinks, func(s Sink) bool { return s.Rate != 48000 }) {
		alternate = 44100
	}
	p.put(t, ".config/pulse/daemon.conf", fmt.Sprintf("alternate-sample-rate = %d\n", alternate))
	if err := os.MkdirAll(filepath.Join(dir, "run"), 0o700); err != nil {
		t.Fatal(err)
	}
	p.Start(t)
	return p
}

func (p *Pulse) put(t testing.TB, name, text string) {
	t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// vars is what leads a process to the server.
func (p *Pulse) vars() map[string]string {
	return map[string]string{
		"HOME":               p.dir,
		"XDG_CONFIG_HOME":    filepath.Join(p.dir, ".config"),
		"XDG_RUNTIME_DIR":    filepath.Join(p.dir, "run"),
		"PULSE_RUNTIME_PATH": filepath.Join(p.dir, "run", "pulse"),
		"PULSE_SERVER":       "unix:" + filepath.Join(p.dir, "run", "pulse", "native"),
	}
}

// Env is the environment of a process that is to use the server.
func (p *Pulse) Env() []string {
	env := os.Environ()
	for name, value := range p.vars() {
		env = append(env, name+"="+value)
	}
	return env
}

// Setenv leads this process to the server, until the test ends.
func (p *Pulse) Setenv(t testing.TB) {
	for name, value := range p.vars() {
		t.Setenv(name, value)
	}
}

// Start starts the server, after Stop again.
func (p *Pulse) Start(t testing.TB) {
	t.Helper()
	log, err := os.OpenFile(filepath.Join(p.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	p.log = log
	p.cmd = exec.Command("pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=120", // even if the test is killed

		"--disallow-exit=yes", "--high-priority=yes", "--realtime=yes", "-F", p.script)
	p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = p.Env(), log, log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		out, err := p.Command(t, "pactl", "info").CombinedOutput()
		if err == nil {
			p.hurry(t)
			return
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("pulseaudio does not answer: %v: %s\n%s", err, out, text)
		}
	}
}

// hurry gives the server the real-time priority of this process, if it has
// one: a server gives up what it was started with.
func (p *Pulse) hurry(t testing.TB) {
	out, err := p.Command(t, "chrt", "--pid", strconv.Itoa(os.Getpid())).Output()
	if err == nil && strings.Contains(string(out), "SCHED_RR") {
		_ = p.Command(t, "chrt", "--all-tasks", "--rr", "--pid", "1", strconv.Itoa(p.cmd.Process.Pid)).Run()
	}
}

// Stop ends the server at once.
func (p *Pulse) Stop(t testing.TB) {
	if p.cmd == nil {
		return
	}
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	_ = p.cmd.Wait() // killed
	_ = p.log.Close()
	p.cmd = nil
}

// nullSink are the words that load a sink. Without norewinds one that was idle
// has 2 s of silence rendered, and does nothing with a new stream until they
// are over.
func nullSink(s Sink) []string {
	return []string{"module-null-sink", "sink_name=" + s.Name, fmt.Sprintf("rate=%d", s.Rate), "channels=2", "norewinds=1"}
}

// Plug makes a sink of 48 kHz, with its monitor.
func (p *Pulse) Plug(t testing.TB, sink string) {
	t.Helper()
	p.pactl(t, append([]string{"load-module"}, nullSink(Sink{Name: sink, Rate: 48000})...)...)
}

// Unplug takes a sink away, with its monitor.
func (p *Pulse) Unplug(t testing.TB, sink string) {
	t.Helper()
	for line := range strings.Lines(p.pactl(t, "list", "short", "modules")) {
		fields := strings.Fields(line)
		if len(fields) > 2 && fields[1] == "module-null-sink" && slices.Contains(fields, "sink_name="+sink) {
			p.pactl(t, "unload-module", fields[0])
			return
		}
	}
	t.Fatalf("there is no sink %q", sink)
}

// SetDefault makes a sink the default speaker, and the monitor of another the
// default microphone.
func (p *Pulse) SetDefault(t testing.TB, speaker, microphone string) {
	t.Helper()
	p.pactl(t, "set-default-sink", speaker)
	p.pactl(t, "set-default-source", microphone+".monitor")
}

// Suspend makes a sink, with its monitor, stand still, as the server does with a
// card that it gives to somebody else, or lets them go on.
func (p *Pulse) Suspend(t testing.TB, sink string, still bool) {
	t.Helper()
	p.pactl(t, "suspend-sink", sink, strconv.FormatBool(still))
}

func (p *Pulse) pactl(t testing.TB, args ...string) string {
	t.Helper()
	out, err := p.Command(t, "pactl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("pactl %v: %v: %s", args, err, out)
	}
	return string(out)
}

// Freeze makes the server hang, until Thaw.
func (p *Pulse) Freeze(t testing.TB) { p.signal(t, syscall.SIGSTOP) }

// Thaw ends Freeze.
func (p *Pulse) Thaw(t testing.TB) { p.signal(t, syscall.SIGCONT) }

func (p *Pulse) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// Command is a command that uses the server, such as paplay or pactl; it is
// killed when the test ends.
func (p *Pulse) Command(t testing.TB, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = p.Env()
	return cmd
}
