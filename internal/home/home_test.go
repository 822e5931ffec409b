package home

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

func env(pairs ...string) func(string) string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return func(k string) string { return m[k] }
}

func TestLocate(t *testing.T) {
	for _, c := range []struct {
		name, root string
		env        func(string) string
		want       Dirs
	}{
		{"one directory", "/h", env(), Dirs{"/h/config", "/h/data", "/h/state", "/h/run"}},
		{"defaults", "", env("HOME", "/u"), Dirs{"/u/.config/teahouse", "/u/.local/share/teahouse", "/u/.local/state/teahouse", "/u/.local/state/teahouse/run"}},
		{"all set", "", env("XDG_CONFIG_HOME", "/c", "XDG_DATA_HOME", "/d", "XDG_STATE_HOME", "/s", "XDG_RUNTIME_DIR", "/r"), Dirs{"/c/teahouse", "/d/teahouse", "/s/teahouse", "/r/teahouse"}},
		{"relative ones are ignored", "", env("HOME", "/u", "XDG_CONFIG_HOME", "c", "XDG_RUNTIME_DIR", "r"), Dirs{"/u/.config/teahouse", "/u/.local/share/teahouse", "/u/.local/state/teahouse", "/u/.local/state/teahouse/run"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Locate(c.root, c.env)
			if err != nil || got != c.want {
				t.Errorf("got %+v, %v, want %+v", got, err, c.want)
			}
		})
	}
	if _, err := Locate("", env()); err == nil {
		t.Error("without HOME and XDG directories there is nowhere to go, and no error")
	}
}

func open(t *testing.T, root string) *Home {
	t.Helper()
	d, err := Locate(root, nil)
	if err != nil {
		t.Fatal(err)
	}
	h, err := Open(d, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func TestOneNodePerHome(t *testing.T) {
	root := t.TempDir()
	h := open(t, root)
	if _, err := Open(h.Dirs, nil); !errors.Is(err, ErrLocked) {
		t.Fatalf("second Open: %v, want ErrLocked", err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Fatalf("second Close: %v", err)
	}
	open(t, root)
}

// A node that is killed must not lock its owner out.
func TestLockDiesWithItsProcess(t *testing.T) {
	if dir := os.Getenv("TEAHOUSE_TEST_LOCK"); dir != "" {
		holdLock(dir)
	}
	root := t.TempDir() // after the child's part: it is killed, and would leave one behind
	cmd := exec.Command(os.Args[0], "-test.run=^TestLockDiesWithItsProcess$")
	cmd.Env = append(os.Environ(), "TEAHOUSE_TEST_LOCK="+root)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, len("locked\n"))
	if _, err := io.ReadFull(out, line); err != nil || string(line) != "locked\n" {
		t.Fatalf("child said %q, %v", line, err)
	}
	d, _ := Locate(root, nil)
	if _, err := Open(d, nil); !errors.Is(err, ErrLocked) {
		t.Errorf("while the child lives: %v, want ErrLocked", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	open(t, root)
}

// holdLock is the child: it holds the lock until it is killed, or its parent
// has died. It waits on a pipe, because a process whose goroutines all sleep
// for good is ended by Go itself.
func holdLock(dir string) {
	d, _ := Locate(dir, nil)
	h, err := Open(d, nil)
	if err != nil {
		os.Exit(1)
	}
	os.Stdout.WriteString("locked\n")
	_, _ = io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(h) // a file that is collected is closed, and the lock with it
	os.Exit(0)
}

func TestFilesArePrivate(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	h := open(t, root)
	if _, err := h.HostKey(); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Enter([16]byte{1}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Derived("tea", func() [32]byte { return [32]byte{} }); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Port(func() (int, error) { return 40000, nil }); err != nil {
		t.Fatal(err)
	}
	files := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		} else {
			files++
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s is %o, want %o", path, info.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil || files < 6 {
		t.Errorf("%d files, %v", files, err)
	}
}

func TestHostKeyIsKept(t *testing.T) {
	root := t.TempDir()
	h := open(t, root)
	a, err := h.HostKey()
	if err != nil {
		t.Fatal(err)
	}
	b, err := h.HostKey()
	if err != nil || !a.Equal(b) {
		t.Errorf("the second call gave another key (%v)", err)
	}
	if c, err := StoredHostKey(h.Dirs); err != nil || !a.Equal(c) {
		t.Errorf("stored: another key (%v)", err)
	}
	if FreshKey().Equal(FreshKey()) {
		t.Error("two fresh keys are equal")
	}
}

// Every single flipped bit and every truncation of a key file must be
// noticed, and the file left as it is.
func TestDamagedKeysAreRefused(t *testing.T) {
	h := open(t, t.TempDir())
	if _, err := h.HostKey(); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Enter([16]byte{1}); err != nil {
		t.Fatal(err)
	}
	members, err := filepath.Glob(filepath.Join(h.Data, "members", "*"))
	if err != nil || len(members) != 1 {
		t.Fatalf("member files: %v, %v", members, err)
	}
	for _, c := range []struct {
		path string
		read func(*Home) error
	}{
		{filepath.Join(h.Data, "host.key"), func(h *Home) error { _, err := h.HostKey(); return err }},
		{members[0], func(h *Home) error { _, err := h.Enter([16]byte{1}); return err }},
		{filepath.Join(h.Data, "local.key"), func(h *Home) error { _, err := h.Enter([16]byte{1}); return err }},
	} {
		good, err := os.ReadFile(c.path)
		if err != nil {
			t.Fatal(err)
		}
		damaged := [][]byte{{}, []byte("\n"), good[:len(good)/2], append(bytes.Clone(good), 'x'), bytes.Repeat([]byte("a"), maxFile+1), bytes.ToUpper(good)}
		for i := range good {
			d := bytes.Clone(good)
			d[i] ^= 1 << (i % 8)
			damaged = append(damaged, d)
		}
		for _, d := range damaged {
			if err := os.WriteFile(c.path, d, 0o600); err != nil {
				t.Fatal(err)
			}
			h.local = nil // as after a restart
			err := c.read(h)
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), c.path) {
				t.Fatalf("%s damaged to %.60q: %v, want ErrCorrupt with the path", c.path, d, err)
			}
			if now, err := os.ReadFile(c.path); err != nil || !bytes.Equal(now, d) {
				t.Fatalf("%s was replaced", c.path)
			}
		}
		if err := os.WriteFile(c.path, good, 0o600); err != nil {
			t.Fatal(err)
		}
		h.local = nil
		if err := c.read(h); err != nil {
			t.Errorf("%s restored: %v", c.path, err)
		}
	}
}

func TestMissingLocalKeyIsDamage(t *testing.T) {
	root := t.TempDir()
	h := open(t, root)
	if _, err := h.Enter([16]byte{1}); err != nil {
		t.Fatal(err)
	}
	h.Close()
	if err := os.Remove(filepath.Join(root, "data", "local.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, root).Enter([16]byte{1}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %v, want ErrCorrupt: a new local key would have meant a new member", err)
	}
}

func TestMembers(t *testing.T) {
	root := t.TempDir()
	var key []byte
	var last uint64
	for range 5 {
		h := open(t, root)
		m, err := h.Enter([16]byte{1})
		if err != nil {
			t.Fatal(err)
		}
		if key != nil && !bytes.Equal(key, m.Key) {
			t.Fatal("another member key in the same room")
		}
		if m.Instance <= last {
			t.Fatalf("instance %d after %d", m.Instance, last)
		}
		if err := m.Raise(m.Instance + 1000); err != nil {
			t.Fatal(err)
		}
		if err := m.Raise(3); err != nil {
			t.Fatal(err)
		}
		key, last = m.Key, m.Instance
		other, err := h.Enter([16]byte{2})
		if err != nil {
			t.Fatal(err)
		}
		if other.Key.Equal(m.Key) {
			t.Fatal("one member key in two rooms")
		}
		h.Close()
	}
}

// Two copies of one home that both run must not be the same instance.
func TestCopiedHome(t *testing.T) {
	root, copied := t.TempDir(), t.TempDir()
	h := open(t, root)
	if _, err := h.Enter([16]byte{1}); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(copied, os.DirFS(root)); err != nil {
		t.Fatal(err)
	}
	a, err := h.Enter([16]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	b, err := open(t, copied).Enter([16]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	if !a.Key.Equal(b.Key) {
		t.Error("the copy is another member")
	}
	if a.Instance == b.Instance {
		t.Errorf("both are instance %d", a.Instance)
	}
}

// A process that dies between writing aside and renaming leaves the old file,
// and its leftover goes at the next start.
func TestCrashWhileWriting(t *testing.T) {
	root := t.TempDir()
	h := open(t, root)
	before, err := h.Enter([16]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
	left := filepath.Join(root, "data", "members", asidePrefix+"XYZ")
	if err := os.WriteFile(left, []byte("teahouse-mem"), 0o600); err != nil {
		t.Fatal(err)
	}
	h = open(t, root)
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the leftover is still there (%v)", err)
	}
	after, err := h.Enter([16]byte{1})
	if err != nil || !after.Key.Equal(before.Key) || after.Instance <= before.Instance {
		t.Errorf("after the crash: %v", err)
	}
}

// kill -9 while a home is written to, again and again: the key stays the same,
// and no instance number that was told comes again.
func TestKilledWhileWriting(t *testing.T) {
	if dir := os.Getenv("TEAHOUSE_TEST_WRITER"); dir != "" {
		d, _ := Locate(dir, nil)
		h, err := Open(d, nil)
		for err == nil {
			var m *Member
			if m, err = h.Enter([16]byte{1}); err == nil {
				fmt.Printf("%x %d\n", m.Key.Seed()[:8], m.Instance)
			}
		}
		fmt.Println(err)
		os.Exit(1)
	}
	root := t.TempDir()
	var key string
	var last uint64
	told := 0
	for i := range 12 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledWhileWriting$")
		cmd.Env = append(os.Environ(), "TEAHOUSE_TEST_WRITER="+root)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			k, number, _ := strings.Cut(lines.Text(), " ")
			instance, err := strconv.ParseUint(number, 10, 64)
			if err != nil {
				t.Fatalf("the writer said %q", lines.Text())
			}
			if key != "" && k != key || instance <= last {
				t.Fatalf("member %s, instance %d after %s, %d", k, instance, key, last)
			}
			key, last, told = k, instance, told+1
			if n == 3*i { // then it is killed, at whatever it is doing
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		cmd.Wait()
	}
	m, err := open(t, root).Enter([16]byte{1})
	if err != nil || m.Instance <= last || fmt.Sprintf("%x", m.Key.Seed()[:8]) != key {
		t.Errorf("in the end: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(root, "*", "members", asidePrefix+"*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	t.Logf("%d numbers told in 12 lives", told)
}

// A disk that takes no more must leave the old file whole. A directory in the
// place of the target makes the rename fail for root too.
func TestFailedWriteLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "sub", "file")
	if err := os.MkdirAll(filepath.Join(target, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := writeFile(target, []byte("x")); err == nil {
		t.Fatal("a file took the place of a directory")
	}
	entries, err := os.ReadDir(filepath.Join(dir, "sub"))
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestDerived(t *testing.T) {
	root := t.TempDir()
	h := open(t, root)
	calls := 0
	derive := func() [32]byte { calls++; return sha256.Sum256([]byte("tea")) }
	get := func() {
		t.Helper()
		if got, err := h.Derived("a secret topic", derive); err != nil || got != sha256.Sum256([]byte("tea")) {
			t.Fatalf("got %x, %v", got, err)
		}
	}
	get()
	get()
	if calls != 1 {
		t.Errorf("derived %d times, want once", calls)
	}
	// Neither subject nor result is on disk in clear.
	sum := sha256.Sum256([]byte("tea"))
	var path string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(p)
		if bytes.Contains(data, []byte("topic")) || bytes.Contains(data, sum[:]) {
			t.Errorf("%s tells it: %q", p, data)
		}
		if filepath.Base(filepath.Dir(p)) == "derived" {
			path = p
		}
		return err
	})
	if err != nil || path == "" {
		t.Fatalf("no cache entry (%v)", err)
	}
	if err := os.WriteFile(path, []byte("rubbish that is long enough to be a sealed result, perhaps"), 0o600); err != nil {
		t.Fatal(err)
	}
	get()
	get()
	if calls != 2 {
		t.Errorf("derived %d times, want once more after the damage", calls)
	}
	if _, err := os.Stat(path + ".damaged"); err != nil {
		t.Errorf("the damaged entry was not set aside: %v", err)
	}
	for i := range 2 * maxDerived {
		if _, err := h.Derived(string(rune(i)), derive); err != nil {
			t.Fatal(err)
		}
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) > maxDerived {
		t.Errorf("%d entries, want at most %d", len(entries), maxDerived)
	}
}

func TestPortIsChosenOnce(t *testing.T) {
	root := t.TempDir()
	h := open(t, root)
	for _, next := range []int{41000, 42000} {
		if got, err := h.Port(func() (int, error) { return next, nil }); err != nil || got != 41000 {
			t.Errorf("got %d, %v, want 41000", got, err)
		}
	}
	if err := os.WriteFile(filepath.Join(h.State, "ports"), []byte("?"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := h.Port(func() (int, error) { return 43000, nil }); err != nil || got != 43000 {
		t.Errorf("after damage: %d, %v", got, err)
	}
}

func TestControlSocket(t *testing.T) {
	short, _ := Locate("/h", nil)
	if got := short.ControlSocket(); got != "/h/run/ctl.sock" {
		t.Errorf("got %s", got)
	}
	root := filepath.Join(t.TempDir(), strings.Repeat("long/", 30))
	h := open(t, root)
	path, err := h.PrepareControlSocket()
	if err != nil || len(path) > maxSocketPath || path != h.ControlSocket() {
		t.Fatalf("got %s, %v", path, err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := h.PrepareControlSocket(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old socket is still there (%v)", err)
	}
	other, _ := Locate(filepath.Join(root, "x"), nil)
	if other.ControlSocket() == path {
		t.Error("two homes, one socket")
	}
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       Config
		err        string
	}{
		{"empty", "", Config{}, ""},
		{"all", "# mine\nnetwork = \"village\"\n nick=\"Ada \\u00e9\" # me\n", Config{"village", "Ada é"}, ""},
		{"unknown", "\nnetwrk = \"x\"", Config{}, "line 2: no such setting"},
		{"unquoted", "nick = Ada", Config{}, "line 1: nick wants a value in double quotes"},
		{"more after it", `nick = "a" "b"`, Config{}, "double quotes"},
		{"twice", "nick = \"a\"\nnick = \"b\"", Config{}, "line 2: nick is set twice"},
		{"no value", "nick", Config{}, "line 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, _ := Locate(t.TempDir(), nil)
			if err := os.MkdirAll(d.Config, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(d.Config, "config.toml"), []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := ReadConfig(d)
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Fatalf("error %v, want %q", err, c.err)
			}
			if got != c.want {
				t.Errorf("got %+v", got)
			}
		})
	}
	d, _ := Locate(t.TempDir(), nil)
	if got, err := ReadConfig(d); err != nil || got != (Config{}) {
		t.Errorf("no file: %+v, %v", got, err)
	}
}

// Property: what decodes encodes back to the same bytes.
func FuzzRecord(f *testing.F) {
	f.Add(encodeRecord("member", make([]byte, 40)))
	f.Add([]byte("teahouse-member-1 00 00\n"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		value, err := decodeRecord("member", data, 40)
		if err != nil {
			return
		}
		if len(value) != 40 || !bytes.Equal(encodeRecord("member", value), data) {
			t.Errorf("%q decodes to %x, which encodes otherwise", data, value)
		}
	})
}

func FuzzConfig(f *testing.F) {
	f.Add("network = \"x\"\n")
	f.Add("# c\nnick=\"\\n\"#")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := parseConfig(text)
		if err != nil {
			return
		}
		// Lines may come in any order and with any space around them.
		b, err := parseConfig("\n# first\n" + text + "\n")
		if err != nil || a != b {
			t.Errorf("%q: %+v, then %+v, %v", text, a, b, err)
		}
	})
}
