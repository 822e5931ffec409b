//go:build linux

package lab

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func start(t *testing.T, spec Spec) *Process {
	t.Helper()
	p, err := Start(spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestProcess(t *testing.T) {
	p := start(t, Spec{Path: "bash", Args: []string{
		"-c", `echo '{"event":"a","n":3,"on":true,"list":["x","y"],"time":"2026-01-02T03:04:05.000006Z"}'; echo plain; echo '{"not":"one"}'; ` +
			`read line; echo "{\"event\":\"read\",\"line\":\"$line\"}"; echo oops >&2; echo "$EXTRA" >&2; read end; exit 7`,
	}, Env: []string{"EXTRA=extra"}})
	ctx := soon(t)
	e, err := p.WaitEvent(ctx, func(e Event) bool { return e.Name == "a" })
	if err != nil {
		t.Fatal(err)
	}
	if e.Number("n") != 3 || !e.True("on") || len(e.Texts("list")) != 2 || e.Time.Nanosecond() != 6000 || e.Seen.IsZero() {
		t.Errorf("event %+v", e)
	}
	if err := p.Write("hello\n"); err != nil {
		t.Fatal(err)
	}
	if e, err = p.WaitEventFrom(ctx, 1, func(Event) bool { return true }); err != nil || e.Text("line") != "hello" {
		t.Errorf("event %+v, %v", e, err)
	}
	if err := p.WaitStderr(ctx, "oops\nextra\n"); err != nil {
		t.Error(err)
	}
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if _, err := p.WaitEvent(short, func(Event) bool { return false }); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "oops") {
		t.Errorf("an event that does not come: %v", err)
	}
	if p.Ended() {
		t.Error("it has ended")
	}
	if err := p.CloseStdin(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.WaitEvent(ctx, func(Event) bool { return false }); err == nil || !strings.Contains(err.Error(), "ended with 7") {
		t.Errorf("an event of one that has ended: %v", err)
	}
	if code, err := p.Wait(ctx); code != 7 || err != nil {
		t.Errorf("exit code %d, %v", code, err)
	}
	if err := p.WaitStderr(ctx, "never"); err == nil {
		t.Error("it never said so")
	}
	if got := p.Lines(); len(got) != 2 || got[0] != "plain" {
		t.Errorf("lines %q", got)
	}
	stubborn := start(t, Spec{Path: "bash", Args: []string{"-c", "trap '' INT; echo '{\"event\":\"up\"}'; while :; do sleep 0.1; done"}})
	if _, err := stubborn.WaitEvent(ctx, func(Event) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if code := stubborn.Stop(100 * time.Millisecond); code != -1 {
		t.Errorf("exit code %d of one that was killed", code)
	}
	if _, err := Start(Spec{Path: "/nonexistent"}); err == nil {
		t.Error("started what does not exist")
	}
}
