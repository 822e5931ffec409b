package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo terminal with a program in it.
type terminal struct {
	t      *testing.T
	master *os.File
	slave  *os.File
	cmd    *exec.Cmd
	done   chan struct{}

	mu   sync.Mutex
	text bytes.Buffer
}

func openTerminal(t *testing.T, env []string, args ...string) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 30, Col: 100}); err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, master: master, slave: slave, done: make(chan struct{})}
	term.cmd = exec.Command("teahouse", args...)
	term.cmd.Env = append(append(os.Environ(), "TERM=xterm", "NO_COLOR="), env...)
	term.cmd.Stdin, term.cmd.Stdout, term.cmd.Stderr = slave, slave, slave
	term.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := term.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := master.Read(b)
			if err != nil {
				return
			}
			term.mu.Lock()
			term.text.Write(b[:n])
			term.mu.Unlock()
		}
	}()
	go func() {
		_ = term.cmd.Wait()
		close(term.done)
	}()
	t.Cleanup(func() {
		_ = term.cmd.Process.Kill()
		<-term.done
		slave.Close()
		master.Close()
	})
	return term
}

func (m *terminal) shown() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.text.String()
}

// await waits until what was shown matches.
func (m *terminal) await(pattern string) {
	m.t.Helper()
	want := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(20 * time.Second); !want.MatchString(m.shown()); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			m.t.Fatalf("never shown: %s\n%q", pattern, m.shown())
		}
	}
}

func (m *terminal) press(key string) {
	m.t.Helper()
	if _, err := m.master.WriteString(key); err != nil {
		m.t.Fatal(err)
	}
}

func (m *terminal) ends(code int) {
	m.t.Helper()
	select {
	case <-m.done:
	case <-time.After(20 * time.Second):
		m.t.Fatalf("it does not end\n%q", m.shown())
	}
	if got := m.cmd.ProcessState.ExitCode(); got != code {
		m.t.Errorf("exit code %d, want %d\n%q", got, code, m.shown())
	}
}

// cooked tells whether the terminal edits lines and echoes.
func (m *terminal) cooked() bool {
	m.t.Helper()
	state, err := unix.IoctlGetTermios(int(m.slave.Fd()), unix.TCGETS)
	if err != nil {
		m.t.Fatal(err)
	}
	return state.Lflag&unix.ICANON != 0 && state.Lflag&unix.ECHO != 0
}

func joinIn(t *testing.T, env ...string) *terminal {
	t.Helper()
	m := openTerminal(t, env, "join", "tea", "--home", t.TempDir(), "--listen", "/ip4/127.0.0.1/udp/0/quic-v1",
		"--mic", "silence", "--speaker", "none", "--nick", "Ada")
	m.await(`You are in tea as Ada; nobody else is here yet`)
	m.await(` LIVE .* tea · 1 here · m mute · q leave`)
	if m.cooked() {
		t.Error("single keys are not taken")
	}
	return m
}

func TestKeysInATerminal(t *testing.T) {
	m := joinIn(t)
	m.press("m")
	m.await(`You are MUTED: nobody hears you. Press m to speak.`)
	m.await(`\x1b\[1;97;41m MUTED \x1b\[0m tea · 1 here · m unmute · q leave`)
	m.press("x")
	m.press("m")
	m.await(`You are LIVE: everybody here hears you. Press m to mute.`)
	m.press("q")
	m.ends(0)
	m.await(`You have left.\r\n`)
	if !m.cooked() {
		t.Error("the terminal was not given back")
	}
}

// With push to talk nobody is called live whose key is up.
func TestPushToTalkInATerminal(t *testing.T) {
	m := openTerminal(t, nil, "join", "tea", "--home", t.TempDir(), "--listen", "/ip4/127.0.0.1/udp/0/quic-v1",
		"--mic", "silence", "--speaker", "none", "--nick", "Ada", "--gate", "ptt", "--mode", "shielded")
	m.await(`Push to talk: nobody hears you while the key is up. Space is the key`)
	m.await(`The mode is shielded: your packets show nothing of what you do`)
	m.await(` KEY UP .* tea · 1 here · shielded · space talk · q leave`)
	m.press(" ")
	m.await(` LIVE .* tea · 1 here · shielded · space stop · q leave`)
	m.press("d")
	m.await(`You are DEAF: you hear nobody`)
	m.await(` MUTED .* DEAF .* tea`)
	m.press("d")
	m.await(`You hear everybody again`)
	m.press(" ")
	m.await(` KEY UP .* tea`)
	m.press("q")
	m.ends(0)
}

func TestTerminalIsGivenBack(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(*terminal)
		code int
	}{
		{"Ctrl-C", func(m *terminal) { m.press("\x03") }, 0},
		{"SIGTERM", func(m *terminal) { _ = m.cmd.Process.Signal(syscall.SIGTERM) }, 0},
		{"two signals", func(m *terminal) {
			// Both while it stands still, so that it has not left before the second.
			for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGTERM, syscall.SIGINT, syscall.SIGCONT} {
				_ = m.cmd.Process.Signal(sig)
			}
		}, 130},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := joinIn(t)
			c.end(m)
			m.ends(c.code)
			if !m.cooked() {
				t.Error("the terminal was not given back")
			}
			m.await(`(\r\n|\r\x1b\[K)$`) // no bottom line is left behind
		})
	}
}

func TestNoColor(t *testing.T) {
	m := joinIn(t, "NO_COLOR=1")
	m.press("m")
	m.await(`MUTED  tea`)
	m.press("q")
	m.ends(0)
	if regexp.MustCompile(`\x1b\[[0-9;]*m`).MatchString(m.shown()) {
		t.Errorf("colours in spite of NO_COLOR: %q", m.shown())
	}
}
