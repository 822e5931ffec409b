package home

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func peersOf(t *testing.T, h *Home, network string) *Sealed {
	t.Helper()
	p, err := h.Peers(network)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPeersComeBack(t *testing.T) {
	root := t.TempDir()
	h := open(t, root)
	p := peersOf(t, h, "willow")
	if got, err := p.Load(); got != nil || err != nil {
		t.Fatalf("of nothing: %q, %v", got, err)
	}
	secret := []byte("/ip4/192.0.2.7/udp/7654/quic-v1 of somebody")
	for _, content := range [][]byte{[]byte("old"), secret} {
		if err := p.Store(content); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := peersOf(t, h, "birch").Load(); got != nil || err != nil {
		t.Errorf("another network finds %q, %v", got, err)
	}
	h.Close()
	h = open(t, root)
	if got, err := peersOf(t, h, "willow").Load(); !bytes.Equal(got, secret) || err != nil {
		t.Errorf("after a restart: %q, %v", got, err)
	}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, secret[:15]) || strings.Contains(path, "willow") {
			t.Errorf("%s tells whom the node knows, or where", path)
		}
		if info, _ := d.Info(); info.Mode().Perm() != 0o600 {
			t.Errorf("%s is %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPeersTooMany(t *testing.T) {
	p := peersOf(t, open(t, t.TempDir()), "willow")
	if err := p.Store(make([]byte, maxFile-sealedOverhead)); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Load(); len(got) != maxFile-sealedOverhead || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := p.Store(make([]byte, maxFile-sealedOverhead+1)); err == nil {
		t.Error("stored what could not be read again")
	}
}

// DESIGN section 8: a corrupt cache is set aside, and the node goes on.
func TestPeersCorrupt(t *testing.T) {
	for name, spoil := range map[string]func(b []byte) []byte{
		"empty":           func([]byte) []byte { return nil },
		"cut off":         func(b []byte) []byte { return b[:len(b)-1] },
		"only the head":   func(b []byte) []byte { return b[:sealedOverhead-1] },
		"a bit":           func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"nonce":           func(b []byte) []byte { b[3] ^= 1; return b },
		"another version": func(b []byte) []byte { b[0]++; return b },
		"too long":        func(b []byte) []byte { return append(b, make([]byte, maxFile)...) },
	} {
		t.Run(name, func(t *testing.T) {
			h := open(t, t.TempDir())
			var said bytes.Buffer
			h.log = slog.New(slog.NewTextHandler(&said, nil))
			p := peersOf(t, h, "willow")
			if err := p.Store([]byte("somebody")); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(p.path)
			if err != nil {
				t.Fatal(err)
			}
			spoilt := spoil(bytes.Clone(b))
			if err := os.WriteFile(p.path, spoilt, 0o600); err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time there is nothing
				if got, err := p.Load(); got != nil || err != nil {
					t.Fatalf("%q, %v", got, err)
				}
			}
			if aside, err := os.ReadFile(p.path + ".corrupt"); err != nil || !bytes.Equal(aside, spoilt) {
				t.Errorf("set aside: %d bytes, %v", len(aside), err)
			}
			if lines := strings.Count(said.String(), "\n"); lines != 1 {
				t.Errorf("%d lines in the log: %s", lines, &said)
			}
			if err := p.Store([]byte("again")); err != nil {
				t.Fatal(err)
			}
			if got, err := p.Load(); string(got) != "again" || err != nil {
				t.Errorf("afterwards: %q, %v", got, err)
			}
		})
	}
}

// A file that is copied over another network's is not taken for that.
func TestPeersOfAnotherNetwork(t *testing.T) {
	h := open(t, t.TempDir())
	a, b := peersOf(t, h, "willow"), peersOf(t, h, "birch")
	if err := a.Store([]byte("somebody")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(a.path, b.path); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Load(); got != nil || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}
