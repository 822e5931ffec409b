package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"teahouse": main})
}

// TestScripts runs the scenarios in testdata/script. What they have beyond
// testscript's own commands:
//
//	exits CODE PROGRAM ARG...   runs it and checks the exit code
//	start NAME PROGRAM ARG...   begins it, its output going to NAME.out and NAME.err
//	signal NAME SIG...          sends it signals, one right after the other
//	ended NAME CODE             waits for its end and checks the exit code
//	say NAME LINE               writes a line to its standard input
//	hangup NAME                 ends its standard input
//	await FILE REGEXP           waits until a line of the file matches
//	peer NAME VAR               VAR = the first address of NAME's listening event
//	tone FILE HZ SECONDS        writes a WAV
//	hears FILE HZ SECONDS       checks that a WAV has that much of the tone
//	whole FILE HZ SECONDS SPURTS EVENTS    checks that a WAV has just that much
//	                            of it, but for what the stats in EVENTS own up to
//	busyport VAR                VAR = a port that is taken, TCP and UDP
//	samepeer, samemember, sameport FILE FILE    two runs had the same
//	damage DIR                  flips a bit in each file in it
//	nowhere DIR TEXT            no file in it has the text
//
// LISTEN is the flag to listen on loopback alone, at any port.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Values[processes{}] = &children{all: map[string]*child{}}
			e.Setenv("LISTEN", "--listen=/ip4/127.0.0.1/udp/0/quic-v1")
			e.Setenv("PULSE_SERVER", "/nonexistent") // no sound server is to be found from here
			return nil
		},
		Condition: func(name string) (bool, error) {
			if name != "soundcard" {
				return false, fmt.Errorf("no condition %q", name)
			}
			cards, err := os.ReadFile("/proc/asound/cards")
			return err == nil && !strings.Contains(string(cards), "no soundcards"), nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "start": startChild, "signal": signalChild, "ended": ended, "say": say, "hangup": hangup,
			"await": await, "peer": peerOf, "tone": tone, "hears": hears, "whole": whole, "busyport": busyPort,
			"samepeer": same(`"peer":"(\w+)"`), "samemember": same(`"event":"joined".*"member":"(\w+)"`), "sameport": same(`/udp/(\d+)/`),
			"damage": damage, "nowhere": nowhere,
		},
	})
}

type processes struct{}

type children struct {
	mu  sync.Mutex
	all map[string]*child
}

type child struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	done  chan struct{}
}

func need(ts *testscript.TestScript, ok bool, use string) {
	if !ok {
		ts.Fatalf("usage: %s", use)
	}
}

func exits(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, len(args) >= 2, "exits CODE PROGRAM ARG...")
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

func childrenOf(ts *testscript.TestScript) *children {
	c, ok := ts.Value(processes{}).(*children)
	if !ok {
		ts.Fatalf("no processes")
	}
	return c
}

func find(ts *testscript.TestScript, name string) *child {
	c := childrenOf(ts)
	c.mu.Lock()
	defer c.mu.Unlock()
	found := c.all[name]
	if found == nil {
		ts.Fatalf("no process %q was started", name)
	}
	return found
}

func startChild(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, len(args) >= 2, "start NAME PROGRAM ARG...")
	name := args[0]
	path, err := lookPath(ts, args[1])
	ts.Check(err)
	cmd := exec.Command(path, args[2:]...)
	cmd.Dir = ts.MkAbs(".")
	for _, k := range []string{"PATH", "HOME", "PULSE_SERVER", "TMPDIR"} {
		cmd.Env = append(cmd.Env, k+"="+ts.Getenv(k))
	}
	stdin, err := cmd.StdinPipe()
	ts.Check(err)
	for ext, to := range map[string]*io.Writer{".out": &cmd.Stdout, ".err": &cmd.Stderr} {
		f, err := os.Create(ts.MkAbs(name + ext))
		ts.Check(err)
		defer f.Close()
		*to = f
	}
	ts.Check(cmd.Start())
	c := &child{cmd, stdin, make(chan struct{})}
	go func() {
		_ = cmd.Wait() // ended looks at the state
		close(c.done)
	}()
	all := childrenOf(ts)
	all.mu.Lock()
	all.all[name] = c
	all.mu.Unlock()
	ts.Defer(func() {
		_ = cmd.Process.Kill()
		<-c.done
		for _, ext := range []string{".out", ".err"} {
			text, _ := os.ReadFile(ts.MkAbs(name + ext))
			if len(text) > 6000 {
				text = text[len(text)-6000:]
			}
			ts.Logf("[%s%s]\n%s", name, ext, text)
		}
	})
}

func lookPath(ts *testscript.TestScript, program string) (string, error) {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		path := filepath.Join(dir, program)
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: not found", program)
}

func signalChild(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, len(args) >= 2, "signal NAME SIG...")
	c := find(ts, args[0])
	for _, name := range args[1:] {
		sig := map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}[name]
		ts.Check(c.cmd.Process.Signal(sig))
	}
}

func ended(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, len(args) == 2, "ended NAME CODE")
	c := find(ts, args[0])
	select {
	case <-c.done:
	case <-time.After(20 * time.Second):
		ts.Fatalf("%s has not ended", args[0])
	}
	if code := c.cmd.ProcessState.ExitCode(); strconv.Itoa(code) != args[1] {
		ts.Fatalf("%s ended with %d, want %s", args[0], code, args[1])
	}
}

func say(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, len(args) == 2, "say NAME LINE")
	_, err := io.WriteString(find(ts, args[0]).stdin, args[1]+"\n")
	ts.Check(err)
}

func hangup(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, len(args) == 1, "hangup NAME")
	ts.Check(find(ts, args[0]).stdin.Close())
}

func await(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, len(args) == 2, "await FILE REGEXP")
	want := regexp.MustCompile("(?m)" + args[1])
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if text, err := os.ReadFile(ts.MkAbs(args[0])); err == nil && want.Match(text) {
			return
		}
	}
	ts.Fatalf("%s never matched %s", args[0], args[1])
}

func peerOf(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, len(args) == 2, "peer NAME VAR")
	await(ts, false, []string{args[0] + ".out", `"event":"listening"`})
	for line := range strings.Lines(ts.ReadFile(args[0] + ".out")) {
		var e struct {
			Event string
			Addrs []string
		}
		if json.Unmarshal([]byte(line), &e) == nil && e.Event == "listening" && len(e.Addrs) > 0 {
			ts.Setenv(args[1], e.Addrs[0])
			return
		}
	}
	ts.Fatalf("no address")
}

func busyPort(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, len(args) == 1, "busyport VAR")
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	ts.Check(err)
	port := l.Addr().(*net.TCPAddr).Port
	u, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	ts.Check(err)
	ts.Defer(func() { l.Close(); u.Close() })
	ts.Setenv(args[0], strconv.Itoa(port))
}

func tone(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, len(args) == 3 || len(args) == 4, "tone FILE HZ SECONDS [PEAK]")
	hz, err := strconv.ParseFloat(args[1], 64)
	ts.Check(err)
	seconds, err := strconv.ParseFloat(args[2], 64)
	ts.Check(err)
	peak := 8000.0
	if len(args) == 4 {
		peak, err = strconv.ParseFloat(args[3], 64)
		ts.Check(err)
	}
	n := int(seconds * 48000)
	b := []byte("RIFF\x00\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00")
	b = binary.LittleEndian.AppendUint32(b, 48000)
	b = binary.LittleEndian.AppendUint32(b, 96000)
	b = append(b, 2, 0, 16, 0)
	b = append(b, "data"...)
	b = binary.LittleEndian.AppendUint32(b, uint32(2*n))
	for i := range n {
		b = binary.LittleEndian.AppendUint16(b, uint16(int16(peak*math.Sin(2*math.Pi*hz*float64(i)/48000))))
	}
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-8))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o600))
}

// hears looks at the WAV that the program writes (44 bytes of header, 48 kHz,
// 16 bits, stereo) in windows of 20 ms.
func hears(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, len(args) == 3, "hears FILE HZ SECONDS")
	hz, err := strconv.ParseFloat(args[1], 64)
	ts.Check(err)
	want, err := strconv.ParseFloat(args[2], 64)
	ts.Check(err)
	if got := toneIn(ts, args[0], hz); neg != (got < want) {
		ts.Fatalf("%s has %.2f s of %g Hz, want %v: %g s", args[0], got, hz, !neg, want)
	}
}

// toneIn is how many seconds of a tone are in a WAV as the program writes it.
func toneIn(ts *testscript.TestScript, path string, hz float64) (seconds float64) {
	data := []byte(ts.ReadFile(path))
	at := slices.Index(data, 'd')
	for at >= 0 && at+8 < len(data) && string(data[at:at+4]) != "data" {
		at++
	}
	if at < 0 || at+8 >= len(data) {
		ts.Fatalf("%s has no data", path)
	}
	data = data[at+8:]
	const window = 960
	for ; len(data) >= 4*window; data = data[4*window:] {
		var re, im, sum float64
		for i := range window {
			x := float64(int16(binary.LittleEndian.Uint16(data[4*i:])))
			w := 2 * math.Pi * hz * float64(i) / 48000
			re, im, sum = re+x*math.Cos(w), im+x*math.Sin(w), sum+x*x
		}
		if sum/window > 100*100 && 2*(re*re+im*im)/window/sum > 0.8 {
			seconds += 0.02
		}
	}
	return seconds
}

// whole compares what is heard with what playout says that it did. However busy
// the machine is: a frame that was neither made up nor left out has to be in
// the file, once, and what is longer or shorter than it was has to be in the
// figures. A spurt may lose a window of 20 ms at either end, and one by its fades.
func whole(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, len(args) == 5 && !neg, "whole FILE HZ SECONDS SPURTS EVENTS")
	var numbers [3]float64
	for i := range numbers {
		var err error
		numbers[i], err = strconv.ParseFloat(args[1+i], 64)
		ts.Check(err)
	}
	hz, want, spurts := numbers[0], numbers[1], numbers[2]
	var last struct {
		Event                              string
		Received, Sent, Concealed, Skipped float64
		ConcealedMs                        float64 `json:"concealed_ms"`
		StretchedMs                        float64 `json:"stretched_ms"`
	}
	for line := range strings.Lines(ts.ReadFile(args[4])) {
		e := last
		if json.Unmarshal([]byte(line), &e) == nil && e.Event == "stats" {
			last = e
		}
	}
	const frame, window = 0.02, 0.02
	if last.Sent*frame < want {
		ts.Fatalf("%s tells of %v frames, too few for %g s", args[4], last.Sent, want)
	}
	changed := (last.ConcealedMs + last.StretchedMs) / 1000
	edges := 3 * window * (spurts + last.Concealed + last.Skipped)
	least, most := want-changed-edges-frame*(last.Concealed+last.Skipped), want+changed+2*window*spurts
	got := toneIn(ts, args[0], hz)
	ts.Logf("%.2f s of %g Hz in %s, to be between %.2f and %.2f: %+v", got, hz, args[0], least, most, last)
	if got < least || got > most {
		ts.Fatalf("%s has %.2f s of %g Hz, not between %.2f and %.2f: %+v", args[0], got, hz, least, most, last)
	}
}

// same compares the first match in two files.
func same(pattern string) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		need(ts, len(args) == 2, "samepeer FILE FILE")
		var got [2]string
		for i, file := range args {
			m := regexp.MustCompile(pattern).FindStringSubmatch(ts.ReadFile(file))
			if m == nil {
				ts.Fatalf("%s has no %s", file, pattern)
			}
			got[i] = m[1]
		}
		if neg == (got[0] == got[1]) {
			ts.Fatalf("%s and %s", got[0], got[1])
		}
	}
}

func damage(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, len(args) == 1, "damage DIR")
	files, err := filepath.Glob(filepath.Join(ts.MkAbs(args[0]), "*"))
	ts.Check(err)
	for _, file := range files {
		data, err := os.ReadFile(file)
		ts.Check(err)
		data[len(data)/2] ^= 1
		ts.Check(os.WriteFile(file, data, 0o600))
	}
}

func nowhere(ts *testscript.TestScript, _ bool, args []string) {
	need(ts, len(args) == 2, "nowhere DIR TEXT")
	files := 0
	ts.Check(filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		files++
		data, err := os.ReadFile(path)
		if strings.Contains(path+string(data), args[1]) {
			return fmt.Errorf("%s has it", path)
		}
		return err
	}))
	if files == 0 {
		ts.Fatalf("no files in %s", args[0])
	}
}
