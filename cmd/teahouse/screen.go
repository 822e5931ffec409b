package main

import (
	"io"
	"os"
	"strings"
	"sync"
	"unicode"

	"golang.org/x/term"
)

// screen is standard error as people see it: lines, and in a terminal one
// line at the bottom that tells the state of now. It may be used from several
// goroutines; the logger writes through it too.
type screen struct {
	out    io.Writer
	width  func() int // 0: no bottom line
	colour bool

	mu     sync.Mutex
	bottom string
	shown  bool
}

// newScreen is standard error. Colours are for terminals, unless NO_COLOR is
// set (no-color.org: to anything but the empty string).
func newScreen(f *os.File) *screen {
	s := &screen{out: f, width: func() int { return 0 }}
	if term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		s.colour = os.Getenv("NO_COLOR") == ""
		s.width = func() int {
			w, _, err := term.GetSize(int(f.Fd()))
			if err != nil || w < 20 {
				return 0
			}
			return w
		}
	}
	return s
}

// Write puts whole lines above the bottom line.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	n, err := s.out.Write(p)
	s.draw()
	return n, err
}

func (s *screen) println(text string) {
	_, _ = s.Write([]byte(text + "\n")) // nobody is left to tell
}

// setBottom changes the bottom line; empty takes it away.
func (s *screen) setBottom(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if text == s.bottom && s.shown {
		return
	}
	s.clear()
	s.bottom = text
	s.draw()
}

func (s *screen) clear() {
	if s.shown {
		_, _ = io.WriteString(s.out, "\r\x1b[K")
		s.shown = false
	}
}

func (s *screen) draw() {
	if w := s.width(); w > 0 && s.bottom != "" {
		_, _ = io.WriteString(s.out, cut(s.bottom, w-1))
		s.shown = true
	}
}

// Styles of people's lines.
const (
	styleAlarm = "1;97;41" // white on red: muted, recorded
	styleLive  = "1;30;42" // black on green: heard by all
	styleGood  = "32"
	styleDim   = "2"
	styleBold  = "1"
)

func (s *screen) paint(style, text string) string {
	if !s.colour || style == "" {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}

// cut shortens text to width columns, not counting colours. Wide letters
// count double, as terminals draw them.
func cut(text string, width int) string {
	var b strings.Builder
	columns, escape, cutOff := 0, false, false
	for _, r := range text {
		switch {
		case escape:
			escape = r != 'm'
		case r == '\x1b':
			escape = true
		default:
			columns += columnsOf(r)
			cutOff = cutOff || columns > width
			if cutOff {
				continue
			}
		}
		b.WriteRune(r) // colours end where they would have ended
	}
	return b.String()
}

func columnsOf(r rune) int {
	switch {
	case unicode.Is(unicode.Mn, r):
		return 0
	case r >= 0x1100 && (r <= 0x115F || r >= 0x2E80 && r <= 0xA4CF || r >= 0xAC00 && r <= 0xD7A3 ||
		r >= 0xF900 && r <= 0xFAFF || r >= 0xFE30 && r <= 0xFE6F || r >= 0xFF00 && r <= 0xFF60 ||
		r >= 0xFFE0 && r <= 0xFFE6 || r >= 0x1F300 && r <= 0x1FAFF || r >= 0x20000 && r <= 0x3FFFD):
		return 2
	}
	return 1
}

// plain makes text of others fit for a terminal: no control characters, no
// escapes, no marks that turn the writing direction.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) || unicode.Is(unicode.Cf, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) {
			return -1
		}
		return r
	}, text)
}
