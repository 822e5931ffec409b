//go:build lab

package scenario

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"teahouse/internal/lab"
)

// oneSentence checks what a person is told of a failure.
func oneSentence(t *testing.T, a *actor, words ...string) {
	t.Helper()
	var said []string
	for line := range strings.Lines(a.Stderr()) {
		said = append(said, strings.TrimSpace(line))
	}
	if len(said) != 1 || !strings.HasPrefix(said[0], "teahouse: ") {
		t.Fatalf("not one sentence: %q", said)
	}
	for _, w := range words {
		if !strings.Contains(said[0], w) {
			t.Errorf("%q does not say %q", said[0], w)
		}
	}
}

// No bootstrap is reachable: the node says so, tries on with growing pauses,
// answers and leaves as always meanwhile; and finds its room once there is one.
func TestBootstrapComesLater(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	// Where the bootstrap will be, with the key that it has kept.
	listener, port := bothPorts(t)
	at := []string{"--listen", fmt.Sprintf("/ip4/127.0.0.1/udp/%d/quic-v1", port), "--listen", fmt.Sprintf("/ip4/127.0.0.1/tcp/%d", port)}
	first := s.bootstrap(t, nil)
	peer := first.event(t, "listening", nil).Text("peer")
	first.leaves(t)
	tcp := fmt.Sprintf("/ip4/127.0.0.1/tcp/%d/p2p/%s", port, peer)

	// Somebody else listens there, and sees who comes.
	var mu sync.Mutex
	var attempts []time.Time
	var watch sync.WaitGroup
	watch.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
			mu.Lock()
			if n := len(attempts); n == 0 || time.Since(attempts[n-1]) > 300*time.Millisecond {
				attempts = append(attempts, time.Now())
			}
			mu.Unlock()
		}
	})
	impatient := s.guest(t, "impatient", "none", "/ip4/127.0.0.1/tcp/9/p2p/"+peer)
	early := s.guest(t, "early", "tone:440", tcp)
	impatient.event(t, "joined", nil)
	asked := time.Now()
	impatient.leaves(t)
	if d := time.Since(asked); d > 3*time.Second {
		t.Errorf("leaving took %v where nobody answers", d)
	}
	joined := early.event(t, "joined", nil)
	said := early.event(t, "error", nil)
	if said.Text("code") != "network" || !strings.Contains(said.Text("message"), "--peer answers yet: trying on") {
		t.Errorf("it says %v", said.Fields)
	}
	t.Logf("said %v after joining: %s", said.Seen.Sub(joined.Seen).Round(100*time.Millisecond), said.Text("message"))
	must(t, exec.CommandContext(soon(t), s.program, "ctl", "mute", "--home", early.home).Run())
	must(t, exec.CommandContext(soon(t), s.program, "ctl", "unmute", "--home", early.home).Run())

	must(t, listener.Close())
	watch.Wait()
	var pauses []time.Duration
	for i := 1; i < len(attempts); i++ {
		pauses = append(pauses, attempts[i].Sub(attempts[i-1]).Round(time.Millisecond))
	}
	t.Logf("tried %d times, with pauses of %v", len(attempts), pauses)
	// 1 s, 2 s, 4 s, each a quarter more or less.
	if len(pauses) < 2 || len(pauses) > 3 || pauses[len(pauses)-1] <= pauses[0] {
		t.Errorf("no back-off: tried %d times, with pauses of %v", len(attempts), pauses)
	}

	appeared := time.Now()
	boot := s.startOn(t, "bootstrap", at, "bootstrap")
	if got := boot.event(t, "listening", nil).Text("peer"); got != peer {
		t.Fatalf("the bootstrap has become %s", got)
	}
	late := s.guest(t, "late", "tone:550", tcp)
	early.hears(t, late.member(t))
	late.hears(t, early.member(t))
	t.Logf("they talk %v after the bootstrap appeared", time.Since(appeared).Round(time.Millisecond))
	early.leaves(t)
	late.leaves(t)
}

// bothPorts listens on a TCP port of loopback whose number is free for UDP too.
func bothPorts(t *testing.T) (net.Listener, int) {
	t.Helper()
	for range 32 {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		must(t, err)
		port := l.Addr().(*net.TCPAddr).Port
		u, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err == nil {
			must(t, u.Close())
			return l, port
		}
		must(t, l.Close())
	}
	t.Fatal("no port is free for both")
	return nil, 0
}

// A damaged entry of the cache of slow derivations is set aside; the same room
// is found again without it.
func TestDamagedCacheIsSetAside(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.bootstrap(t, nil)
	other := s.guest(t, "other", "tone:440", s.peer)
	a := s.guest(t, "a", "none", s.peer)
	before := a.member(t)
	a.leaves(t)
	cache, err := filepath.Glob(filepath.Join(a.home, "state", "derived", "*"))
	must(t, err)
	if len(cache) != 2 {
		t.Fatalf("the cache holds %d entries, not the network's and the room's", len(cache))
	}
	for i, file := range cache {
		text, err := os.ReadFile(file)
		must(t, err)
		text[len(text)/2] ^= 1
		must(t, os.WriteFile(file, text[:len(text)-i], 0o600)) // one changed, one cut short too
	}
	a = s.guest(t, "a", "none", s.peer)
	if now := a.member(t); now != before {
		t.Errorf("member %s has become %s", before, now)
	}
	a.hears(t, other.member(t))
	a.leaves(t)
	if n := strings.Count(a.Stderr(), "set aside"); n != 2 {
		t.Errorf("it tells of %d damaged entries: %s", n, a.Stderr())
	}
	for _, file := range cache {
		_, err := os.Stat(file + ".damaged")
		must(t, err)
	}
	other.leaves(t)
}

// smallDisk is the stage with a file system of some KiB at dir/disk, which is
// there for what it starts alone: in a mount namespace that lasts as long as
// its keeper. See tells where the test finds what lies in a directory there.
func (s *stage) smallDisk(t *testing.T, kbytes int) (on *stage, see func(path string) string) {
	t.Helper()
	if os.Geteuid() != 0 && os.Getenv("CI") == "" {
		t.Skip("a disk of its own needs root")
	}
	disk := filepath.Join(s.dir, "disk")
	must(t, os.Mkdir(disk, 0o700))
	keeper, err := lab.Start(lab.Spec{Path: "unshare", Args: []string{
		"--mount", "--propagation", "private", "sh", "-c",
		fmt.Sprintf("mount -t tmpfs -o size=%dk,mode=700 teahouse-lab '%s' && echo mounted && exec sleep 600", kbytes, disk),
	}})
	must(t, err)
	t.Cleanup(keeper.Kill)
	for deadline := time.Now().Add(patience); len(keeper.Lines()) == 0; time.Sleep(5 * time.Millisecond) {
		if keeper.Ended() || time.Now().After(deadline) {
			t.Fatalf("no small disk: %s", keeper.Stderr())
		}
	}
	program := filepath.Join(s.dir, "on-small-disk")
	must(t, os.WriteFile(program, []byte(fmt.Sprintf("#!/bin/sh\nexec nsenter --mount --target %d -- '%s' \"$@\"\n", keeper.Pid(), s.program)), 0o700))
	there := *s
	there.program = program
	return &there, func(path string) string { return fmt.Sprintf("/proc/%d/root%s", keeper.Pid(), path) }
}

// fill leaves no room on the disk of a directory until the file it answers is
// removed.
func fill(t *testing.T, dir string) (file string) {
	t.Helper()
	file = filepath.Join(dir, "filler")
	f, err := os.Create(file)
	must(t, err)
	defer f.Close()
	for {
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			return file
		}
	}
}

// tree is every file under a directory, with what it holds.
func tree(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files[path], err = os.ReadFile(path)
		}
		return err
	}))
	return files
}

// A disk that is full: nothing of what was there is touched, a sentence says
// so, exit code 1; with space again all goes on. A recording that fills its
// disk ends, for all to see, and can be played; the talk goes on.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	on, see := s.smallDisk(t, 256)
	disk := filepath.Join(s.dir, "disk")
	s.bootstrap(t, nil)
	other := s.guest(t, "other", "tone:440", s.peer)

	a := on.guest(t, "disk/a", "none", s.peer)
	member := a.member(t)
	a.leaves(t)
	before, old := tree(t, see(a.home)), instance(t, see(a.home))
	filler := fill(t, see(disk))
	for _, home := range []string{"disk/a", "disk/new"} {
		b := on.guest(t, home, "none", s.peer)
		b.ends(t, 1)
		oneSentence(t, b, "no space left on device", "free some space")
		b.event(t, "error", func(e lab.Event) bool { return e.Text("code") == "disk" })
		if home != "disk/a" {
			continue
		}
		after := tree(t, see(b.home))
		for file, text := range before {
			if !bytes.Equal(text, after[file]) && filepath.Base(file) != "lock" { // it names the last process
				t.Errorf("%s held %q, holds %q", file, text, after[file])
			}
		}
		if len(after) != len(before) {
			t.Errorf("%d files have become %d", len(before), len(after))
		}
	}
	must(t, os.Remove(filler))
	a = on.guest(t, "disk/a", "none", s.peer)
	if now := a.member(t); now != member || instance(t, see(a.home)) <= old {
		t.Errorf("with space again: member %s, instance %d, were %s, %d", now, instance(t, see(a.home)), member, old)
	}
	a.hears(t, other.member(t))
	a.leaves(t)
	other.leaves(t)

	// 256 KiB are 1.3 s of recording.
	talker := s.join(t, nil, "talker", "tone:550", "none")
	recorder := on.start(t, nil, "recorder", "join", s.topic, "--peer", s.peer, "--mic", "none", "--speaker", "file:"+filepath.Join(disk, "talk.wav"))
	r := recorder.member(t)
	told := recorder.event(t, "error", nil)
	if told.Text("code") != "device" || !strings.Contains(told.Text("message"), "no space left on device") || !strings.Contains(told.Text("message"), "the talk goes on") {
		t.Errorf("of the recording it says %v", told.Fields)
	}
	talker.event(t, "recording", func(e lab.Event) bool { return e.Text("member") == r && !e.True("on") })
	skip, m := len(recorder.Events()), talker.member(t)
	recorder.from(t, skip, "stats", func(e lab.Event) bool { return e.Text("member") == m && e.Number("kbit_s") > 20 })
	recorder.leaves(t)
	talker.leaves(t)
	channels, err := lab.ReadWAV(see(filepath.Join(disk, "talk.wav")))
	must(t, err)
	if d := time.Duration(len(channels[0])) * time.Second / lab.Rate; d < time.Second {
		t.Errorf("of the recording %v are left", d)
	}
}

// kill -9 at any moment of a node's way into a room: the home is whole each
// time, its instance number never goes back, and it is one and the same member.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	begin := func(home string) *actor {
		return s.startOn(t, home, listenOn("127.0.0.1"), "join", s.topic, "--mic", "none", "--speaker", "none")
	}
	whole := func(home string) (member string, way time.Duration) {
		started := time.Now()
		a := begin(home)
		joined := a.event(t, "joined", nil)
		a.leaves(t)
		var left []string
		for _, level := range []string{"*", "*/*"} {
			found, err := filepath.Glob(filepath.Join(a.home, level, ".aside-*"))
			must(t, err)
			left = append(left, found...)
		}
		if len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		return joined.Text("member"), joined.Seen.Sub(started)
	}
	var lives, joins int
	dies := func(home, member string, way time.Duration) {
		before := instance(t, filepath.Join(s.dir, home))
		a := begin(home)
		time.Sleep(time.Duration(random.Float64() * 1.1 * float64(way))) // the moment is what is tested
		a.Kill()
		now := instance(t, a.home)
		if now < before {
			t.Fatalf("%s: instance %d after %d", home, now, before)
		}
		if now > before {
			lives++
		}
		for _, e := range a.Events() {
			if e.Name == "joined" {
				joins++
				if m := e.Text("member"); member != "" && m != member {
					t.Fatalf("%s: member %s has become %s", home, member, m)
				}
			}
		}
	}

	// A home that is there.
	_, first := whole("a")
	member, again := whole("a")
	for range 12 {
		dies("a", member, again)
	}
	if m, _ := whole("a"); m != member {
		t.Errorf("member %s has become %s", member, m)
	}
	// Homes that are just being made.
	for i := range 4 {
		home := fmt.Sprintf("new-%d", i)
		dies(home, "", first)
		before := instance(t, filepath.Join(s.dir, home))
		whole(home)
		if now := instance(t, filepath.Join(s.dir, home)); now <= before {
			t.Errorf("%s: instance %d after %d", home, now, before)
		}
	}
	t.Logf("the way into the room took %v at first and %v then; of 16 killed lives %d had taken a new instance, %d had joined", first, again, lives, joins)
	if lives == 0 {
		t.Error("each death came too early: the test tests nothing")
	}
}
