package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"
)

// program is a process under measurement that prints one event per line.
type program struct {
	name   string
	cmd    *exec.Cmd
	events chan event // closed when standard output has ended; what does not fit is dropped
	stderr lastWords
}

// event is one line of `--json`: what the benchmarks look at.
type event struct {
	Event  string    `json:"event"`
	Time   time.Time `json:"time"`
	Addrs  []string  `json:"addrs"`
	State  string    `json:"state"`
	Others int       `json:"others"`
}

// lastWords keeps the end of what a process said on standard error.
type lastWords struct {
	mu   sync.Mutex
	text []byte
}

func (l *lastWords) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, p...)
	l.text = l.text[max(0, len(l.text)-2000):]
	return len(p), nil
}

func (l *lastWords) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(bytes.TrimSpace(l.text))
}

// start runs file with args. The process ends with stop, or is killed when
// ctx ends.
func start(ctx context.Context, name, file string, args ...string) (*program, error) {
	p := &program{name: name, cmd: exec.CommandContext(ctx, file, args...), events: make(chan event, 1024)}
	p.cmd.Stderr = &p.stderr
	p.cmd.WaitDelay = time.Second
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w (scripts/run builds it)", name, err)
	}
	go func() { // ends with the process's standard output; stop reads the channel to its end
		defer close(p.events)
		lines := bufio.NewScanner(stdout)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var e event
			if json.Unmarshal(lines.Bytes(), &e) != nil || e.Event == "stats" {
				continue // stats come each second for each member, and nobody here reads them
			}
			select {
			case p.events <- e:
			default: // nobody waits for events any more
			}
		}
	}()
	return p, nil
}

// wait gives the next event of this kind and state ("" for any); others before
// it are passed over.
func (p *program) wait(ctx context.Context, kind, state string) (event, error) {
	for {
		select {
		case <-ctx.Done():
			return event{}, fmt.Errorf("%s printed no %q in time: %w; it said: %s", p.name, kind, ctx.Err(), &p.stderr)
		case e, ok := <-p.events:
			if !ok {
				return event{}, fmt.Errorf("%s ended before %q; it said: %s", p.name, kind, &p.stderr)
			}
			if e.Event == kind && (state == "" || e.State == state) {
				return e, nil
			}
		}
	}
}

// use is what the process has used so far.
func (p *program) use() (processUse, error) { return useOf(p.cmd.Process.Pid) }

// stop asks the process to leave and waits for it.
func (p *program) stop() error {
	interrupted := p.cmd.Process.Signal(os.Interrupt)
	for range p.events { // its writer must not wait for us
	}
	err := p.cmd.Wait()
	if interrupted == nil && err == nil {
		return nil
	}
	return fmt.Errorf("%s did not leave properly: %w; it said: %s", p.name, errors.Join(interrupted, err), &p.stderr)
}

// group is processes that are stopped together.
type group []*program

func (g *group) start(ctx context.Context, name, file string, args ...string) (*program, error) {
	p, err := start(ctx, name, file, args...)
	if err == nil {
		*g = append(*g, p)
	}
	return p, err
}

// stop stops all, last first, and keeps what went wrong.
func (g *group) stop() error {
	var all error
	for _, p := range slices.Backward(*g) {
		all = errors.Join(all, p.stop())
	}
	*g = nil
	return all
}

// newNetwork is the name of a network that nobody else is on.
func newNetwork() string { return "lab-" + strings.ToLower(rand.Text()) }
