package lab

import (
	"bytes"
	"fmt"
	"html"
	"math"
	"strconv"
)

// Plot is a line drawing for a report.
type Plot struct {
	Title, X, Y string // what it shows, and what stands on its axes, with units
	MaxY        float64
	Lines       []Line
}

// Line is one line of a [Plot], its points in order.
type Line struct {
	Name   string
	Points [][2]float64 // x, y
}

// lineColours can be told apart without seeing red and green (Okabe and Ito,
// "Color universal design", 2008).
var lineColours = [...]string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"}

// SVG draws p, 640 by 360. Both axes begin at 0; Y ends at MaxY, or where the
// highest point needs it to if that is 0.
func (p *Plot) SVG() []byte {
	const width, height, left, right, top, bottom = 640.0, 360.0, 60.0, 20.0, 40.0, 50.0
	mostX, mostY := 0.0, p.MaxY
	leastX := 0.0
	for _, line := range p.Lines {
		for _, at := range line.Points {
			leastX, mostX = min(leastX, at[0]), max(mostX, at[0])
			if p.MaxY == 0 {
				mostY = max(mostY, at[1])
			}
		}
	}
	stepX, stepY := tick(mostX-leastX), tick(mostY)
	mostY = math.Max(stepY, math.Ceil(mostY/stepY-1e-9)*stepY)
	if mostX <= leastX {
		mostX = leastX + 1
	}
	x := func(v float64) float64 { return left + (v-leastX)/(mostX-leastX)*(width-left-right) }
	y := func(v float64) float64 { return height - bottom - min(v, mostY)/mostY*(height-top-bottom) }

	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%v" height="%v" viewBox="0 0 %v %v" font-family="sans-serif" font-size="12">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, `<rect width="%v" height="%v" fill="white"/>`+"\n", width, height)
	fmt.Fprintf(&b, `<text x="%v" y="18" font-size="14">%s</text>`+"\n", left, html.EscapeString(p.Title))
	for v := math.Ceil(leastX/stepX) * stepX; v <= mostX+1e-9; v += stepX {
		fmt.Fprintf(&b, `<path d="M%.1f %.1fV%.1f" stroke="#ddd"/><text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`+"\n", x(v), top, height-bottom, x(v), height-bottom+16, figure(v))
	}
	for v := 0.0; v <= mostY+1e-9; v += stepY {
		fmt.Fprintf(&b, `<path d="M%.1f %.1fH%.1f" stroke="#ddd"/><text x="%.1f" y="%.1f" text-anchor="end">%s</text>`+"\n", left, y(v), width-right, left-6, y(v)+4, figure(v))
	}
	fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" text-anchor="middle">%s</text>`+"\n", (left+width-right)/2, height-12, html.EscapeString(p.X))
	fmt.Fprintf(&b, `<text transform="translate(16 %.1f) rotate(-90)" text-anchor="middle">%s</text>`+"\n", (top+height-bottom)/2, html.EscapeString(p.Y))
	for i, line := range p.Lines {
		colour := lineColours[i%len(lineColours)]
		var path bytes.Buffer
		for k, at := range line.Points {
			fmt.Fprintf(&path, "%c%.1f %.1f", "ML"[min(k, 1)], x(at[0]), y(at[1]))
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x(at[0]), y(at[1]), colour)
		}
		fmt.Fprintf(&b, `<path d="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", path.String(), colour)
		fmt.Fprintf(&b, `<text x="%.1f" y="%.1f" fill="%s">%s</text>`+"\n", left+10, top+14+16*float64(i), colour, html.EscapeString(line.Name))
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// tick is a round distance between about five marks over a span.
func tick(span float64) float64 {
	if span <= 0 {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(span/5)))
	for _, k := range []float64{1, 2, 5} {
		if span/(k*unit) <= 6 {
			return k * unit
		}
	}
	return 10 * unit
}

func figure(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }
