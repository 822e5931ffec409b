package home

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func networks(t *testing.T) *Networks {
	t.Helper()
	d, err := Locate(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	n := NetworksOf(d)
	n.work = 10 // age's own takes a second
	return n
}

// put stores text, as a new network if name is empty.
func put(t *testing.T, n *Networks, name, text string) string {
	t.Helper()
	name, err := n.Change(func([]StoredNetwork) (string, string, error) { return name, text, nil })
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func TestNetworks(t *testing.T) {
	n := networks(t)
	if all, err := n.List(); err != nil || len(all) != 0 {
		t.Fatalf("%v, %v in a home that is not there", all, err)
	}
	a, b := put(t, n, "", "one"), put(t, n, "", "two")
	if a == b || put(t, n, b, "two, revised") != b {
		t.Fatal("networks are mixed up")
	}
	all, err := n.List()
	if err != nil || len(all) != 2 {
		t.Fatalf("%v, %v", all, err)
	}
	for _, s := range all {
		want := map[string]string{a: "one", b: "two, revised"}[s.Name]
		if s.Text != want || s.Root != NoRoot {
			t.Errorf("%+v, want %q", s, want)
		}
		if info, err := os.Stat(s.File); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v: others may read it", info.Mode(), err)
		}
	}
	if info, err := os.Stat(n.dir()); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory: %v, %v", info.Mode(), err)
	}
	refusal := errors.New("no")
	if _, err := n.Change(func([]StoredNetwork) (string, string, error) { return a, "three", refusal }); !errors.Is(err, refusal) {
		t.Errorf("a refusal is %v", err)
	}
	if _, err := n.Change(func([]StoredNetwork) (string, string, error) { return "nobody", "three", nil }); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a network that is not there: %v", err)
	}
	if s, err := n.Read(a); err != nil || s.Text != "one" {
		t.Errorf("changed by what was refused: %+v, %v", s, err)
	}
}

// Two who change at once see each other's change.
func TestNetworksAtOnce(t *testing.T) {
	n := networks(t)
	name := put(t, n, "", "0")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 10 {
				_, err := NetworksOf(n.dirs).Change(func(all []StoredNetwork) (string, string, error) {
					var count int
					_, err := fmt.Sscan(all[0].Text, &count)
					return name, fmt.Sprint(count + 1), err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if s, err := n.Read(name); err != nil || s.Text != "80" {
		t.Errorf("%+v, %v after 80 changes", s, err)
	}
}

func TestNetworksAreBounded(t *testing.T) {
	n := networks(t)
	for range MaxNetworks {
		put(t, n, "", "x")
	}
	if _, err := n.Change(func([]StoredNetwork) (string, string, error) { return "", "x", nil }); !errors.Is(err, ErrTooMany) {
		t.Errorf("one too many: %v", err)
	}
	if all, err := n.List(); err != nil || len(all) != MaxNetworks {
		t.Errorf("%d, %v", len(all), err)
	}
	put(t, n, mustList(t, n)[0].Name, "y") // an old one may be changed
	if err := os.WriteFile(filepath.Join(n.dir(), "huge.net"), make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := n.Read("huge"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a huge file: %v", err)
	}
}

func mustList(t *testing.T, n *Networks) []StoredNetwork {
	t.Helper()
	all, err := n.List()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// What a crash left is removed at the next change, and never listed.
func TestNetworksLeftovers(t *testing.T) {
	n := networks(t)
	put(t, n, "", "one")
	left := filepath.Join(n.dir(), asidePrefix+"x"+networkSuffix)
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if all := mustList(t, n); len(all) != 1 {
		t.Errorf("listed: %v", all)
	}
	put(t, n, "", "two")
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestRootKeys(t *testing.T) {
	seed := RootSeed(bytes.Repeat([]byte{5}, 32))
	allow := func([]StoredNetwork) error { return nil }
	asked := 0
	say := func(phrase string) func() (string, error) {
		return func() (string, error) { asked++; return phrase, nil }
	}
	n := networks(t)
	plain, err := n.Create("one", seed, "", allow)
	if err != nil {
		t.Fatal(err)
	}
	locked, err := n.Create("two", seed, "correct horse", allow)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]RootKey{plain: PlainRoot, locked: LockedRoot} {
		s, err := n.Read(name)
		if err != nil || s.Root != want {
			t.Errorf("%+v, %v, want %v", s, err, want)
		}
		if info, err := os.Stat(n.RootFile(name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v: others may read it", info.Mode(), err)
		}
		if got, err := n.RootSeedOf(name, say("correct horse")); err != nil || got != seed {
			t.Errorf("%v", err)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times for one passphrase", asked)
	}
	if text, err := os.ReadFile(n.RootFile(locked)); err != nil || strings.Contains(string(text), strings.Repeat("05", 8)) {
		t.Errorf("the key stands in the file, or %v", err)
	}
	for _, wrong := range []string{"correct hors", ""} {
		if _, err := n.RootSeedOf(locked, say(wrong)); !errors.Is(err, ErrPassphrase) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	refusal := errors.New("no terminal")
	if _, err := n.RootSeedOf(locked, func() (string, error) { return "", refusal }); !errors.Is(err, refusal) {
		t.Errorf("%v", err)
	}
	if _, err := n.RootSeedOf(put(t, n, "", "three"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no root key: %v", err)
	}
	if err := n.LockRoot(plain, seed, "battery staple"); err != nil {
		t.Fatal(err)
	}
	if got, err := n.RootSeedOf(plain, say("battery staple")); err != nil || got != seed {
		t.Errorf("under another passphrase: %v", err)
	}
}

// Whatever bit flips, a root key is itself or an error.
func TestRootKeyDamage(t *testing.T) {
	seed := RootSeed(bytes.Repeat([]byte{5}, 32))
	for _, phrase := range []string{"", "correct horse"} {
		n := networks(t)
		name, err := n.Create("one", seed, phrase, func([]StoredNetwork) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(n.RootFile(name))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(text); i += 7 {
			damaged := bytes.Clone(text)
			damaged[i] ^= 1
			if err := os.WriteFile(n.RootFile(name), damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := n.RootSeedOf(name, func() (string, error) { return phrase, nil })
			if err == nil && got != seed || err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrPassphrase) {
				t.Fatalf("byte %d: %v", i, err)
			}
		}
	}
}
