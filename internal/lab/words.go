//go:build linux

package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ErrNoRecogniser: pocketsphinx or its English model is not installed.
var ErrNoRecogniser = errors.New("recognising words needs the packages pocketsphinx and pocketsphinx-en-us")

// Digits are the words that [Recognise] knows, in order of their value.
var Digits = [10]string{"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}

const (
	recogniseRate  = 16000
	recogniseModel = "/usr/share/pocketsphinx/model/en-us"
)

// Recognise gives the digit that a machine hears in each of the sounds (mono,
// 48 kHz), which hold one each with some silence around it; "" where it hears
// none.
func Recognise(ctx context.Context, sounds [][]float32) ([]string, error) {
	tool, err := exec.LookPath("pocketsphinx_batch")
	if err != nil {
		return nil, errors.Join(ErrNoRecogniser, err)
	}
	if _, err := os.Stat(recogniseModel); err != nil {
		return nil, errors.Join(ErrNoRecogniser, err)
	}
	dir, err := os.MkdirTemp("", "teahouse-words-")
	if err != nil {
		return nil, fmt.Errorf("make a place for sounds: %w", err)
	}
	defer os.RemoveAll(dir)
	var list strings.Builder
	for i, sound := range sounds {
		var raw []byte
		for _, s := range resampleTo(sound, recogniseRate) {
			raw = binary.LittleEndian.AppendUint16(raw, uint16(int16(math.Round(max(-1, min(1, s))*32767))))
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.raw", i)), raw, 0o600); err != nil {
			return nil, err
		}
		fmt.Fprintln(&list, i)
	}
	grammar := "#JSGF V1.0;\ngrammar digits;\npublic <digit> = " + strings.Join(Digits[:], " | ") + ";\n"
	for name, text := range map[string]string{"list": list.String(), "digits.jsgf": grammar} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	said := filepath.Join(dir, "said")
	cmd := command(ctx, tool,
		"-hmm", recogniseModel+"/en-us", "-dict", recogniseModel+"/cmudict-en-us.dict", "-jsgf", filepath.Join(dir, "digits.jsgf"),
		"-ctl", filepath.Join(dir, "list"), "-cepdir", dir, "-cepext", ".raw", "-adcin", "yes",
		"-hyp", said, "-logfn", filepath.Join(dir, "log"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("recognise words: %w: %s", err, out)
	}
	text, err := os.ReadFile(said)
	if err != nil {
		return nil, fmt.Errorf("recognise words: %w", err)
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	if len(lines) != len(sounds) {
		return nil, fmt.Errorf("recognise words: %d answers for %d sounds", len(lines), len(sounds))
	}
	words := make([]string, len(lines))
	for i, line := range lines { // "seven (6 -2345)", or " (6 -2345)"
		word, _, _ := strings.Cut(line, "(")
		words[i] = strings.TrimSpace(word)
	}
	return words, nil
}
