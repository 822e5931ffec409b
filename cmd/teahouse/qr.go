package main

import (
	"fmt"
	"strings"

	"rsc.io/qr"
)

// quiet is the margin that a camera needs, in modules (ISO 18004: 4).
const quiet = 4

// qrText draws a link as a QR code in half blocks, two modules a character, for
// a terminal of so many columns (0: of any width). In capitals a link is
// alphanumeric for QR, which takes 5.5 bits a character instead of 8. With
// colour it is black on white whatever the terminal's colours are; without, the
// blocks are the light modules, as suits light letters on a dark ground.
func qrText(link string, columns int, colour bool) (string, error) {
	code, err := qr.Encode(strings.ToUpper(link), qr.L)
	if err != nil {
		return "", fmt.Errorf("the link is too long for one (%d characters): write it to a file with --out", len(link))
	}
	side := code.Size + 2*quiet
	if columns > 0 && side > columns {
		return "", fmt.Errorf("it is %d columns wide and this terminal has %d: make the window wider", side, columns)
	}
	light := func(x, y int) bool { return y >= side || !code.Black(x-quiet, y-quiet) }
	var out strings.Builder
	for y := 0; y < side; y += 2 {
		if colour {
			out.WriteString("\x1b[38;5;231;48;5;16m") // white blocks on black
		}
		for x := range side {
			switch upper, lower := light(x, y), light(x, y+1); {
			case upper && lower:
				out.WriteString("█")
			case upper:
				out.WriteString("▀")
			case lower:
				out.WriteString("▄")
			default:
				out.WriteString(" ")
			}
		}
		if colour {
			out.WriteString("\x1b[0m")
		}
		out.WriteString("\n")
	}
	return out.String(), nil
}
