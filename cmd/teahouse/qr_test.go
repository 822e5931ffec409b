package main

import (
	"strings"
	"testing"

	"rsc.io/qr"
)

// What is drawn is the code of the link in capitals, module by module, with its
// margin.
func TestQRText(t *testing.T) {
	link := "teahouse:net/" + strings.Repeat("a2b3", 90)
	picture, err := qrText(link, 0, false)
	if err != nil {
		t.Fatal(err)
	}
	code, err := qr.Encode(strings.ToUpper(link), qr.L)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(picture, "\n"), "\n")
	side := code.Size + 2*quiet
	if len(lines) != (side+1)/2 {
		t.Fatalf("%d lines for %d modules", len(lines), side)
	}
	for i, line := range lines {
		blocks := []rune(line)
		if len(blocks) != side {
			t.Fatalf("line %d has %d blocks, want %d", i, len(blocks), side)
		}
		for x, block := range blocks {
			upper, lower := block == '█' || block == '▀', block == '█' || block == '▄'
			if upper == code.Black(x-quiet, 2*i-quiet) || 2*i+1 < side && lower == code.Black(x-quiet, 2*i+1-quiet) {
				t.Fatalf("wrong at %d, %d: %c", x, 2*i, block)
			}
		}
	}
	if side > 72 {
		t.Errorf("a usual link takes %d columns", side)
	}
	coloured, err := qrText(link, side, true)
	if err != nil || !strings.HasPrefix(coloured, "\x1b[38;5;231;48;5;16m█") {
		t.Errorf("%q, %v", coloured[:30], err)
	}
	if _, err := qrText(link, side-1, false); err == nil || !strings.Contains(err.Error(), "wider") {
		t.Errorf("too wide for the terminal: %v", err)
	}
	if _, err := qrText(strings.Repeat("a", 5000), 0, false); err == nil || !strings.Contains(err.Error(), "--out") {
		t.Errorf("too long for a code: %v", err)
	}
}

func TestShellQuote(t *testing.T) {
	for text, want := range map[string]string{
		"village": "village", "my village": "'my village'", "": "''", "o'clock": `'o'\''clock'`,
		"$(rm)": "'$(rm)'", "茶": "'茶'", "teahouse:net/a2": "teahouse:net/a2",
	} {
		if got := shellQuote(text); got != want {
			t.Errorf("%q is quoted as %s", text, got)
		}
	}
}
