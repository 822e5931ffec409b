package home

import (
	"bytes"
	"encoding/hex"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func volumesOf(t *testing.T, h *Home, room byte) *Volumes {
	t.Helper()
	v, err := h.Volumes([16]byte{room})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestVolumesComeBack(t *testing.T) {
	root := t.TempDir()
	h := open(t, root)
	all := []Volume{
		{Member: [32]byte{1, 2}, Decibels: -6.5},
		{Member: [32]byte{3}, Decibels: 12, Muted: true},
	}
	if got, err := volumesOf(t, h, 7).Load(); got != nil || err != nil {
		t.Fatalf("of nothing: %v, %v", got, err)
	}
	if err := volumesOf(t, h, 7).Store(all); err != nil {
		t.Fatal(err)
	}
	h.Close()
	h = open(t, root)
	if got, err := volumesOf(t, h, 7).Load(); err != nil || !reflect.DeepEqual(got, all) {
		t.Errorf("after a restart: %v, %v", got, err)
	}
	if got, err := volumesOf(t, h, 8).Load(); got != nil || err != nil {
		t.Errorf("another room finds %v, %v", got, err)
	}
	files, err := filepath.Glob(filepath.Join(h.State, "volumes", "*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	if data, err := os.ReadFile(files[0]); err != nil || bytes.Contains(data, []byte{1, 2, 0, 0}) {
		t.Errorf("whom this node knows lies open: %x, %v", data, err)
	}
	if err := os.WriteFile(files[0], []byte("damage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := volumesOf(t, h, 7).Load(); got != nil || err != nil {
		t.Errorf("damaged: %v, %v", got, err)
	}
	if _, err := os.Stat(files[0] + ".corrupt"); err != nil {
		t.Error("the damaged file is not set aside")
	}
	if err := volumesOf(t, h, 7).Store(make([]Volume, MaxVolumes+5)); err != nil {
		t.Fatal(err)
	}
	if got, _ := volumesOf(t, h, 7).Load(); len(got) != MaxVolumes {
		t.Errorf("%d volumes are kept", len(got))
	}
}

func TestVolumeBytes(t *testing.T) {
	got, err := encodeVolumes([]Volume{{Member: [32]byte{0xab, 31: 0xcd}, Decibels: -6.55, Muted: true}})
	want := "ab" + strings.Repeat("00", 30) + "cd" + "ffbe" + "01" // -66 tenths: halves round away from 0
	if err != nil || hex.EncodeToString(got) != want {
		t.Errorf("%x, %v; want %s", got, err, want)
	}
	for _, db := range []float64{math.NaN(), math.Inf(1), 4000} {
		if _, err := encodeVolumes([]Volume{{Decibels: db}}); err == nil {
			t.Errorf("%v dB was encoded", db)
		}
	}
}

// What can be decoded is encoded to the same bytes.
func FuzzVolumes(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{1}, volumeLen))
	f.Add(bytes.Repeat([]byte{2}, volumeLen))
	f.Add(bytes.Repeat([]byte{0xff}, 2*volumeLen-1))
	f.Fuzz(func(t *testing.T, content []byte) {
		all, ok := decodeVolumes(content)
		if !ok {
			return
		}
		if again, err := encodeVolumes(all); err != nil || !bytes.Equal(again, content) {
			t.Errorf("%x became %x, %v", content, again, err)
		}
	})
}
