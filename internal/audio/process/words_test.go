package process

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"teahouse/internal/audio"
)

// digits are the words that are recognised, and the names of their prompts.
var digits = []string{"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}

// digit is the recorded prompt of a digit.
func digit(t testing.TB, n int) []float32 {
	return prompt(t, fmt.Sprintf("digits/%d", n))
}

// recognise gives the word that pocketsphinx hears in each of the sounds,
// which hold one digit each, with 0.3 s around it; "" where it hears none.
func recognise(t testing.TB, sounds [][]float32) []string {
	t.Helper()
	tool, err := exec.LookPath("pocketsphinx_batch")
	if err != nil {
		t.Skip("no pocketsphinx: scripts/setup --lab installs it")
	}
	const models = "/usr/share/pocketsphinx/model/en-us"
	if _, err := os.Stat(models + "/en-us"); err != nil {
		t.Skip("no pocketsphinx-en-us: scripts/setup --lab installs it")
	}
	dir := t.TempDir()
	var list strings.Builder
	for i, sound := range sounds {
		down, err := audio.NewResampler(audio.Rate, 16000, 1, audio.QualityFile)
		if err != nil {
			t.Fatal(err)
		}
		pcm := make([]float32, len(sound)/3)
		_, n := down.Process(pcm, sound)
		writeWAV(t, filepath.Join(dir, fmt.Sprintf("%d.wav", i)), pcm[:n], 16000)
		fmt.Fprintln(&list, i)
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	hypotheses := filepath.Join(dir, "hypotheses")
	cmd := exec.Command(tool,
		"-hmm", models+"/en-us", "-dict", models+"/cmudict-en-us.dict",
		"-jsgf", write("digits.jsgf", "#JSGF V1.0;\ngrammar digits;\npublic <digit> = "+strings.Join(digits, " | ")+";\n"),
		"-ctl", write("list", list.String()), "-cepdir", dir, "-cepext", ".wav", "-adcin", "yes", "-adchdr", "44",
		"-hyp", hypotheses, "-logfn", filepath.Join(dir, "log"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("pocketsphinx: %v: %s", err, out)
	}
	text, err := os.ReadFile(hypotheses)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	if len(lines) != len(sounds) {
		t.Fatalf("pocketsphinx heard %d sounds of %d", len(lines), len(sounds))
	}
	words := make([]string, len(lines))
	for i, line := range lines {
		words[i] = strings.TrimSpace(line[:strings.LastIndex(line, "(")])
	}
	return words
}

// TestRecognition is about the judge: it knows every digit that is clean.
func TestRecognition(t *testing.T) {
	var sounds [][]float32
	for n := range digits {
		sounds = append(sounds, padded(digit(t, n)))
	}
	sounds = append(sounds, make([]float32, audio.Rate))
	words := recognise(t, sounds)
	if got := words[:len(digits)]; strings.Join(got, " ") != strings.Join(digits, " ") {
		t.Errorf("clean digits were heard as %q", got)
	}
	if words[len(digits)] != "" {
		t.Errorf("silence was heard as %q", words[len(digits)])
	}
}

// around is the silence on each side of a digit.
const around = 3 * audio.Rate / 10

func padded(x []float32) []float32 {
	y := make([]float32, len(x)+2*around)
	copy(y[around:], x)
	return y
}

// right is how many of the ten words, recognised in the order of the digits,
// are theirs.
func right(words []string) (n int) {
	for i, w := range words {
		if w == digits[i%len(digits)] {
			n++
		}
	}
	return n
}
