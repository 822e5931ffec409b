package lab

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

// A drawing is well-formed XML, escapes what it is given, and shows each point.
func TestPlot(t *testing.T) {
	for _, p := range []Plot{
		{},
		{Title: "a < b & c", Lines: []Line{{Name: "<x>", Points: [][2]float64{{0, 0}, {20, 3}, {50, 11}}}, {Name: "one", Points: [][2]float64{{0, 1}}}}},
		{MaxY: 1, Lines: []Line{{Points: [][2]float64{{-300, 0.5}, {300, 7}}}}},
	} {
		svg := string(p.SVG())
		d := xml.NewDecoder(strings.NewReader(svg))
		for {
			_, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%v in %s", err, svg)
			}
		}
		points := 0
		for _, line := range p.Lines {
			points += len(line.Points)
		}
		if got := strings.Count(svg, "<circle"); got != points {
			t.Errorf("%d points of %d", got, points)
		}
		if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
			t.Errorf("no number: %s", svg)
		}
	}
}
