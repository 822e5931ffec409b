package home

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Volume is how one person in a room is to be heard here.
type Volume struct {
	Member   [32]byte // their member key in that room
	Decibels float64  // stored in tenths
	Muted    bool     // for this listener alone
}

// Volumes are what this node remembers of a room's people: how loud each is to
// be. Its methods are for one goroutine at a time.
type Volumes struct{ file *Sealed }

// Volumes opens the memory of one room.
func (h *Home) Volumes(room [16]byte) (*Volumes, error) {
	f, err := h.sealed("volumes", "remembered volumes", string(room[:]))
	if err != nil {
		return nil, err
	}
	return &Volumes{f}, nil
}

// MaxVolumes is how many people of a room are remembered.
const MaxVolumes = 1024

// One volume is 35 bytes: the member key, tenths of decibels as a signed 16-bit
// number, big-endian, and 1 for muted or 0.
const volumeLen = 32 + 2 + 1

// Load answers what was stored last. Damage is as in [Sealed.Load].
func (v *Volumes) Load() ([]Volume, error) {
	content, err := v.file.Load()
	if err != nil {
		return nil, err
	}
	all, ok := decodeVolumes(content)
	if !ok {
		v.file.setAside()
		return nil, nil
	}
	return all, nil
}

// Store replaces them, whole or not at all; the first MaxVolumes of them.
func (v *Volumes) Store(all []Volume) error {
	content, err := encodeVolumes(all[:min(len(all), MaxVolumes)])
	if err != nil {
		return err
	}
	return v.file.Store(content)
}

func encodeVolumes(all []Volume) ([]byte, error) {
	content := make([]byte, 0, len(all)*volumeLen)
	for i := range all {
		tenths := math.Round(all[i].Decibels * 10)
		if !(tenths >= math.MinInt16 && tenths <= math.MaxInt16) {
			return nil, fmt.Errorf("a volume of %v dB is out of range", all[i].Decibels)
		}
		content = append(content, all[i].Member[:]...)
		content = binary.BigEndian.AppendUint16(content, uint16(int16(tenths)))
		muted := byte(0)
		if all[i].Muted {
			muted = 1
		}
		content = append(content, muted)
	}
	return content, nil
}

func decodeVolumes(content []byte) (all []Volume, ok bool) {
	if len(content)%volumeLen != 0 || len(content) > MaxVolumes*volumeLen {
		return nil, false
	}
	for ; len(content) > 0; content = content[volumeLen:] {
		if content[34] > 1 {
			return nil, false
		}
		all = append(all, Volume{
			Member:   [32]byte(content),
			Decibels: float64(int16(binary.BigEndian.Uint16(content[32:]))) / 10,
			Muted:    content[34] == 1,
		})
	}
	return all, true
}
