//go:build linux

package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Limits of what is kept of a process, so that a runaway does not eat the
// machine.
const (
	maxLine   = 1 << 20 // bytes of one line of standard output
	maxEvents = 1 << 20
	maxStderr = 8 << 20 // bytes; what comes later is dropped
)

// Event is one line of a program's --json output.
type Event struct {
	Name   string         // its field "event"
	Time   time.Time      // its field "time", zero if it has none
	Seen   time.Time      // when the lab read it
	Fields map[string]any // all fields, numbers as float64
}

// Text is a field as text, or empty.
func (e Event) Text(field string) string { s, _ := e.Fields[field].(string); return s }

// Number is a field as a number, or 0.
func (e Event) Number(field string) float64 { f, _ := e.Fields[field].(float64); return f }

// True tells whether a field is true.
func (e Event) True(field string) bool { b, _ := e.Fields[field].(bool); return b }

// Texts is a field that is a list of texts.
func (e Event) Texts(field string) (list []string) {
	all, _ := e.Fields[field].([]any)
	for _, one := range all {
		if s, ok := one.(string); ok {
			list = append(list, s)
		}
	}
	return list
}

// Spec says what to start.
type Spec struct {
	Host *Host // nil: where the lab itself is
	Path string
	Args []string
	Env  []string // KEY=value, added to the lab's own
	Dir  string
	// Urgent lets it run before whatever else this machine is doing, where the
	// kernel allows it: for what handles sound, so that a figure is not one of
	// the machine's load.
	Urgent bool
}

// Process is a running program: its standard output line by line, as events
// where they are JSON objects, its standard error as a whole. Its methods may
// be called from any goroutine.
type Process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	done  chan struct{} // closed when it has ended and all output is read

	mu     sync.Mutex
	events []Event
	lines  []string // of standard output that are no events
	stderr bytes.Buffer
	news   chan struct{} // closed and replaced when anything above changes
}

// urgent wraps the program of an urgent spec. chrt needs root, and a kernel
// that lets it.
func (s Spec) urgent() Spec {
	if s.Urgent && exec.Command("chrt", "--rr", "1", "true").Run() == nil {
		s.Path, s.Args = "chrt", append([]string{"--rr", "1", s.Path}, s.Args...)
	}
	return s
}

// Start starts a program.
func Start(spec Spec) (*Process, error) {
	ctx := context.Background() // a process ends by Kill, or with the lab
	spec = spec.urgent()
	var cmd *exec.Cmd
	if spec.Host != nil {
		cmd = spec.Host.Command(ctx, spec.Path, spec.Args...)
	} else {
		cmd = command(ctx, spec.Path, spec.Args...)
	}
	cmd.Dir, cmd.Env = spec.Dir, append(os.Environ(), spec.Env...)
	p := &Process{cmd: cmd, done: make(chan struct{}), news: make(chan struct{})}
	var err error
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Path, err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Path, err)
	}
	cmd.Stderr = stderrOf{p}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Path, err)
	}
	go func() { // ends with the process, Kill waits for it
		p.read(stdout)
		_ = cmd.Wait() // ProcessState tells
		close(p.done)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.changed()
	}()
	return p, nil
}

type stderrOf struct{ p *Process }

func (w stderrOf) Write(b []byte) (int, error) {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	if room := maxStderr - w.p.stderr.Len(); room > 0 {
		w.p.stderr.Write(b[:min(len(b), room)])
	}
	w.p.changed()
	return len(b), nil
}

func (p *Process) read(stdout io.Reader) {
	lines := bufio.NewScanner(stdout)
	lines.Buffer(make([]byte, 4096), maxLine)
	for lines.Scan() {
		p.take(lines.Bytes(), time.Now())
	}
	_, _ = io.Copy(io.Discard, stdout) // after a line that is too long
}

func (p *Process) take(line []byte, now time.Time) {
	e := Event{Seen: now}
	isEvent := json.Unmarshal(line, &e.Fields) == nil && e.Text("event") != ""
	e.Name = e.Text("event")
	e.Time, _ = time.Parse(time.RFC3339Nano, e.Text("time"))
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case isEvent && len(p.events) < maxEvents:
		p.events = append(p.events, e)
	case !isEvent && len(p.lines) < maxEvents:
		p.lines = append(p.lines, string(line))
	}
	p.changed()
}

// changed is called with mu held.
func (p *Process) changed() {
	close(p.news)
	p.news = make(chan struct{})
}

// Pid is its process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Events are those that came so far.
func (p *Process) Events() []Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clip(p.events)
}

// Lines are the lines of standard output so far that are no events.
func (p *Process) Lines() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clip(p.lines)
}

// Stderr is the standard error so far.
func (p *Process) Stderr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

// WaitEvent waits for the first event, from the very first on, for which want
// answers true. It fails when the process ends without one, or with ctx.
func (p *Process) WaitEvent(ctx context.Context, want func(Event) bool) (Event, error) {
	return p.WaitEventFrom(ctx, 0, want)
}

// WaitEventFrom is WaitEvent without the first skip events.
func (p *Process) WaitEventFrom(ctx context.Context, skip int, want func(Event) bool) (Event, error) {
	for next := skip; ; {
		ended := p.Ended() // before looking, so that no event is missed
		p.mu.Lock()
		events, news := p.events, p.news
		p.mu.Unlock()
		for ; next < len(events); next++ {
			if want(events[next]) {
				return events[next], nil
			}
		}
		if ended {
			return Event{}, fmt.Errorf("%s ended with %d without the event; %s", p.cmd.Path, p.cmd.ProcessState.ExitCode(), p.last())
		}
		select {
		case <-news:
		case <-ctx.Done():
			return Event{}, fmt.Errorf("waiting for an event of %s: %w; %s", p.cmd.Path, ctx.Err(), p.last())
		}
	}
}

// WaitStderr waits until standard error contains text.
func (p *Process) WaitStderr(ctx context.Context, text string) error {
	for {
		ended := p.Ended()
		p.mu.Lock()
		found, news := strings.Contains(p.stderr.String(), text), p.news
		p.mu.Unlock()
		switch {
		case found:
			return nil
		case ended:
			return fmt.Errorf("%s ended without saying %q; %s", p.cmd.Path, text, p.last())
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s to say %q: %w; %s", p.cmd.Path, text, ctx.Err(), p.last())
		}
	}
}

// last is what it said last, for an error.
func (p *Process) last() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	names := make([]string, 0, len(p.events))
	for _, e := range p.events {
		if e.Name != "stats" {
			names = append(names, e.Name)
		}
	}
	said := bytes.TrimSpace(p.stderr.Bytes())
	return fmt.Sprintf("events %v, standard error %q", names[max(0, len(names)-20):], said[max(0, len(said)-2000):])
}

// Write writes to its standard input.
func (p *Process) Write(text string) error {
	_, err := io.WriteString(p.stdin, text)
	return err
}

// CloseStdin ends its standard input.
func (p *Process) CloseStdin() error { return p.stdin.Close() }

// Signal sends it a signal.
func (p *Process) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Ended tells whether it has ended.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Wait waits for its end and gives its exit code; -1 after a signal.
func (p *Process) Wait(ctx context.Context) (code int, err error) {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("waiting for %s to end: %w; %s", p.cmd.Path, ctx.Err(), p.last())
	}
}

// CPU is the time it has used, user and system, once it has ended.
func (p *Process) CPU() time.Duration {
	if !p.Ended() {
		return 0
	}
	return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
}

// Kill ends it as kill -9 does, and waits.
func (p *Process) Kill() {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		panic(fmt.Sprintf("kill a child: %v", err)) // it is ours
	}
	<-p.done
}

// Stop asks it to end with SIGINT, kills it where that takes longer than
// grace, and gives its exit code.
func (p *Process) Stop(grace time.Duration) (code int) {
	_ = p.Signal(syscall.SIGINT) // it may have ended
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if code, err := p.Wait(ctx); err == nil {
		return code
	}
	p.Kill()
	return -1
}
