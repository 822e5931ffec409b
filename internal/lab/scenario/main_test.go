//go:build lab

package scenario

import (
	"context"
	"encoding/base32"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"teahouse/internal/lab"
)

// builds are the programs of this run, each built once.
var builds *lab.Builds

func TestMain(m *testing.M) {
	// Most of a scenario is waiting, and where sound is judged it comes before
	// the rest. The command line has the last word.
	if err := flag.Set("test.parallel", "4"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	dir, err := os.MkdirTemp("", "teahouse-scenario-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if builds, err = lab.NewBuilds(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// patience is how long anything that must happen may take.
const patience = 30 * time.Second

func soon(t *testing.T) context.Context {
	t.Helper()
	return within(t, patience)
}

// within is for what may take longer.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// must is for what cannot fail in a working lab.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// stage is where a scenario plays: one network name and room, one bootstrap.
type stage struct {
	dir     string
	program string
	network string
	topic   string
	env     []string
	judged  bool   // its sound is: see newSoundStage
	clean   bool   // what a sound card hears is cleaned, as by default
	peer    string // the bootstrap's address by QUIC
	peerTCP string
}

// newStage builds the program with these tags and names a network and a room
// that no other scenario uses.
func newStage(t *testing.T, tags ...string) *stage {
	t.Helper()
	program, err := builds.Teahouse(t.Context(), tags...)
	must(t, err)
	name := strings.NewReplacer("/", " ", "_", " ").Replace(t.Name())
	return &stage{
		dir: t.TempDir(), program: program,
		network: "lab " + name, topic: "the teahouse of " + name,
	}
}

// newSoundStage is newStage for a scenario whose sound is judged. Its processes
// run before whatever else this machine does, and no other such scenario runs
// beside it, in this run or another: at one real-time priority a process that
// starts (Argon2id) holds up one that speaks for a time slice, 100 ms.
func newSoundStage(t *testing.T) *stage {
	t.Helper()
	s := newStage(t) // a build is not waited for in line
	s.judged = true
	lock, err := os.OpenFile(filepath.Join(os.TempDir(), "teahouse-lab-sound.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	must(t, err)
	must(t, syscall.Flock(int(lock.Fd()), syscall.LOCK_EX))
	t.Cleanup(func() { _ = lock.Close() }) // which unlocks
	return s
}

// listenOn are the flags to listen at any port of one address alone.
func listenOn(addr string) []string {
	return []string{"--listen", "/ip4/" + addr + "/udp/0/quic-v1", "--listen", "/ip4/" + addr + "/tcp/0"}
}

// actor is one teahouse process.
type actor struct {
	*lab.Process
	home    string
	speaker string // its WAV, if it has one
}

// start starts teahouse with these arguments on a host (nil: loopback).
func (s *stage) start(t *testing.T, host *lab.Host, home string, args ...string) *actor {
	t.Helper()
	addr := "127.0.0.1"
	if host != nil {
		addr = host.Addr().String()
	}
	a := &actor{home: filepath.Join(s.dir, home)}
	args = slices.Concat(args, []string{"--json", "--home", a.home, "--network", s.network}, listenOn(addr))
	p, err := lab.Start(lab.Spec{Host: host, Path: s.program, Args: args, Env: s.env, Dir: s.dir, Urgent: s.judged})
	must(t, err)
	a.Process = p
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s %s: exit code %s\n%s", home, args[0], exitOf(p), p.Stderr())
			for _, e := range p.Events() {
				if e.Name != "stats" {
					t.Logf("  %s %v %v", e.Seen.Format("05.000"), e.Name, e.Fields)
				}
			}
		}
	})
	return a
}

func exitOf(p *lab.Process) string {
	code, err := p.Wait(context.Background())
	return fmt.Sprint(code, err)
}

// bootstrap starts the node that the others of the stage begin from.
func (s *stage) bootstrap(t *testing.T, host *lab.Host) *actor {
	t.Helper()
	a := s.start(t, host, "bootstrap", "bootstrap")
	for _, addr := range a.event(t, "listening", nil).Texts("addrs") {
		if strings.Contains(addr, "/tcp/") {
			s.peerTCP = addr
		} else {
			s.peer = addr
		}
	}
	return a
}

// join starts a member of the stage's room; it knows the bootstrap alone.
// Where a speaker is asked for by "record", it is a WAV in the home's place.
func (s *stage) join(t *testing.T, host *lab.Host, home, mic, speaker string, args ...string) *actor {
	t.Helper()
	if speaker == "record" {
		speaker = "file:" + filepath.Join(s.dir, home+".wav")
	}
	if mic == "default" && !s.clean {
		// What is played to a sound card is judged as it is.
		args = append([]string{"--process", "off", "--gate", "open"}, args...)
	}
	a := s.start(t, host, home, append([]string{
		"join", s.topic, "--peer", s.peer,
		"--mic", mic, "--speaker", speaker, "--allow-recording",
	}, args...)...)
	a.speaker = strings.TrimPrefix(speaker, "file:")
	return a
}

// event waits for the first event of this name that want, if any, takes.
func (a *actor) event(t *testing.T, name string, want func(lab.Event) bool) lab.Event {
	t.Helper()
	e, err := a.WaitEvent(soon(t), func(e lab.Event) bool { return e.Name == name && (want == nil || want(e)) })
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return e
}

// member is the actor's member key, as text, once it has joined.
func (a *actor) member(t *testing.T) string {
	t.Helper()
	return a.event(t, "joined", nil).Text("member")
}

// hears waits until the actor hears somebody speak.
func (a *actor) hears(t *testing.T, member string) lab.Event {
	t.Helper()
	return a.event(t, "speaking", func(e lab.Event) bool { return e.Text("member") == member && e.True("on") })
}

// leaves ends the actor as a person would, and expects exit code 0.
func (a *actor) leaves(t *testing.T) {
	t.Helper()
	must(t, a.Signal(syscall.SIGINT))
	a.ends(t, 0)
}

// ends waits for the actor's end.
func (a *actor) ends(t *testing.T, want int) {
	t.Helper()
	code, err := a.Wait(soon(t))
	must(t, err)
	if code != want {
		t.Fatalf("exit code %d, want %d; standard error: %s", code, want, a.Stderr())
	}
}

// lastUp is the latest link that came up with member.
func (a *actor) lastUp(member string) (up lab.Event, ok bool) {
	for _, e := range a.Events() {
		if e.Name == "link" && e.Text("member") == member && e.Text("state") == "up" {
			up, ok = e, true
		}
	}
	return up, ok
}

// lastStats is the latest stats event about member.
func (a *actor) lastStats(member string) (stats lab.Event) {
	for _, e := range a.Events() {
		if e.Name == "stats" && e.Text("member") == member {
			stats = e
		}
	}
	return stats
}

// keyOf is the bytes of a member key or room id of an event.
func keyOf(t *testing.T, text string) []byte {
	t.Helper()
	b, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.ToUpper(text))
	if err != nil || len(b) < 16 {
		t.Fatalf("%q is no key: %v", text, err)
	}
	return b
}

// speech is d of a recorded voice, and a WAV with it.
func speech(t *testing.T, dir, prompt string, d time.Duration) (pcm []float32, file string) {
	t.Helper()
	pcm, err := lab.Speech(t.Context(), prompt, 0, d)
	if errors.Is(err, lab.ErrNoSpeech) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	must(t, err)
	file = filepath.Join(dir, prompt+".wav")
	must(t, lab.WriteWAV(file, pcm))
	return pcm, file
}

// network makes an isolated network, removed with the test.
func network(t *testing.T, topology lab.Topology) *lab.Net {
	t.Helper()
	n, err := lab.NewNet(t.Context(), topology)
	if errors.Is(err, lab.ErrNotRoot) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	must(t, err)
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func host(t *testing.T, n *lab.Net, name string) *lab.Host {
	t.Helper()
	h, err := n.Host(t.Context(), name)
	must(t, err)
	return h
}
