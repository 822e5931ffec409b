//go:build lab && linux && amd64

package scenario

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A machine whose clock is wrong. The kernel lets no process have a wall clock
// of its own (time namespaces move the monotonic clock alone), and the program
// must be the real one, TLS certificates and all. So the clock is moved where
// the program reads it: in the page of code that the kernel maps into each
// process, the vDSO, whose clock_gettime is overwritten, before the program's
// first instruction, by one that adds some seconds to CLOCK_REALTIME.

// skewedClock is the machine code of that clock_gettime(edi clock, rsi *ts),
// with the seconds that it adds to CLOCK_REALTIME and to CLOCK_MONOTONIC behind
// it: they can be changed while the process is stopped.
func skewedClock(realtime, monotonic int64) []byte {
	code := []byte{
		0xb8, 0xe4, 0x00, 0x00, 0x00, // mov eax, 228 (clock_gettime)
		0x0f, 0x05, // syscall
		0x83, 0xff, 0x01, // cmp edi, 1
		0x77, 0x10, // ja out: neither CLOCK_REALTIME (0) nor CLOCK_MONOTONIC (1)
		0x89, 0xf9, // mov ecx, edi
		0x4c, 0x8d, 0x05, 0x08, 0x00, 0x00, 0x00, // lea r8, [rip+8] (behind out)
		0x4d, 0x8b, 0x04, 0xc8, // mov r8, [r8+rcx*8]
		0x4c, 0x01, 0x06, // add [rsi], r8
		0xc3, // out: ret
	}
	code = binary.LittleEndian.AppendUint64(code, uint64(realtime))
	return binary.LittleEndian.AppendUint64(code, uint64(monotonic))
}

// skew starts a member of the room whose clock is off by d, whole seconds.
func (s *stage) skew(t *testing.T, d time.Duration, home string, args ...string) *actor {
	t.Helper()
	// A shell that stops itself: time to take hold of it before it becomes the
	// program.
	wrapper := filepath.Join(s.dir, "stopped-"+home)
	must(t, os.WriteFile(wrapper, []byte("#!/bin/sh\nkill -STOP $$\nexec '"+s.program+"' \"$@\"\n"), 0o700))
	stopped := *s
	stopped.program = wrapper
	a := stopped.start(t, nil, home, args...)
	must(t, takeClock(a.Pid(), int64(d/time.Second)))
	return a
}

// takeClock waits until the process has stopped itself, lets it go on to its
// next exec, and moves the wall clock of what it has become.
func takeClock(pid int, seconds int64) error {
	runtime.LockOSThread() // a tracer is a thread
	defer runtime.UnlockOSThread()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return err
		}
		if _, rest, _ := bytes.Cut(stat, []byte(") ")); len(rest) > 0 && rest[0] == 'T' {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d does not stop", pid)
		}
	}
	if err := syscall.PtraceAttach(pid); err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	if err := syscall.PtraceSetOptions(pid, syscall.PTRACE_O_TRACEEXEC); err != nil {
		return fmt.Errorf("trace exec: %w", err)
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		return err
	}
	for status.TrapCause() != syscall.PTRACE_EVENT_EXEC {
		if err := syscall.PtraceCont(pid, 0); err != nil {
			return fmt.Errorf("continue: %w", err)
		}
		if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil {
			return fmt.Errorf("wait: %w", err)
		}
		if !status.Stopped() {
			return fmt.Errorf("process %d ended: %v", pid, status)
		}
	}
	return errorsOf(overwriteClock(pid, seconds, 0), syscall.PtraceDetach(pid))
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// overwriteClock sets the clocks of a stopped process off by these seconds.
func overwriteClock(pid int, realtime, monotonic int64) error {
	at, size, err := vdso(pid)
	if err != nil {
		return err
	}
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer mem.Close()
	image := make([]byte, size)
	if _, err := mem.ReadAt(image, at); err != nil {
		return fmt.Errorf("read the vDSO: %w", err)
	}
	file, err := elf.NewFile(bytes.NewReader(image))
	if err != nil {
		return fmt.Errorf("the vDSO: %w", err)
	}
	symbols, err := file.DynamicSymbols()
	if err != nil {
		return fmt.Errorf("the vDSO's symbols: %w", err)
	}
	code := skewedClock(realtime, monotonic)
	for _, s := range symbols {
		if s.Name == "__vdso_clock_gettime" {
			_, err := mem.WriteAt(code, at+int64(s.Value))
			return err
		}
	}
	return fmt.Errorf("the vDSO has no clock_gettime")
}

// vdso is where the page lies in a process.
func vdso(pid int) (at int64, size int, err error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(maps)) {
		if !strings.HasSuffix(strings.TrimSpace(line), "[vdso]") {
			continue
		}
		span, _, _ := strings.Cut(line, " ")
		from, to, _ := strings.Cut(span, "-")
		first, err1 := strconv.ParseInt(from, 16, 64)
		last, err2 := strconv.ParseInt(to, 16, 64)
		return first, int(last - first), errorsOf(err1, err2)
	}
	return 0, 0, fmt.Errorf("process %d has no vDSO", pid)
}

// DESIGN section 8: someone whose clock is wrong by an hour, either way, still
// finds the room through a bootstrap whose clock is right, and both hear each
// other.
func TestClockWrongByAnHour(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{time.Hour, -time.Hour} {
		t.Run(off.String(), func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.bootstrap(t, nil)
			right := s.guest(t, "right", "tone:440", s.peer)
			right.event(t, "joined", nil)
			begun := time.Now()
			wrong := s.skew(t, off, "wrong", "join", s.topic, "--peer", s.peer, "--mic", "tone:550", "--speaker", "none")
			joined := wrong.event(t, "joined", nil)
			if d := joined.Time.Sub(joined.Seen) - off; d.Abs() > 5*time.Second {
				t.Fatalf("the clock is off by %v: the test tests nothing", joined.Time.Sub(joined.Seen))
			}
			heard := right.hears(t, wrong.member(t))
			wrong.hears(t, right.member(t))
			t.Logf("heard %v after the start", heard.Seen.Sub(begun).Round(time.Millisecond))
			wrong.leaves(t)
			right.leaves(t)
		})
	}
}
