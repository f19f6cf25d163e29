package main

import (
	"bytes"
	"fmt"
	"html"
	"math"
)

// plot is a picture of lines. That it is written here, and by no library, is since a picture as
// simple as this takes a page, and gonum's plot would bring fonts and images into the server.
type plot struct {
	part, file, title string
	x, y              string // what the axes have
	logX, logY        bool
	lines             []plotLine
}

type plotLine struct {
	name   string
	points [][2]float64
}

// The sizes of a plot in pixels.
const (
	plotWidth, plotHeight = 760, 420
	plotLeft, plotRight   = 80, 200 // to the right there are the names of the lines
	plotTop, plotBottom   = 40, 60
	innerWidth            = plotWidth - plotLeft - plotRight
	innerHeight           = plotHeight - plotTop - plotBottom
)

var plotColours = []string{"#0b62a4", "#d2691e", "#2e8b57", "#8b1a89", "#b22222",
	"#555555", "#b8860b"}

// axis says where a value goes: from 0 to 1.
type axis struct {
	low, high float64
	log       bool
}

// axis has room for one coordinate of all points.
func (p *plot) axis(which int, log bool) axis {
	a := axis{math.Inf(1), math.Inf(-1), log}
	for _, l := range p.lines {
		for _, pt := range l.points {
			a.low, a.high = min(a.low, pt[which]), max(a.high, pt[which])
		}
	}
	switch {
	case a.high < a.low: // no points
		a.low, a.high = 1, 10
	case log:
		a.low = math.Pow(10, math.Floor(math.Log10(max(a.low, 1e-9))))
		a.high = math.Pow(10, math.Ceil(math.Log10(max(a.high, 1e-9))))
		if a.high == a.low {
			a.high *= 10
		}
	default:
		a.low = min(a.low, 0)
		if a.high == a.low {
			a.high++
		}
	}
	return a
}

func (a *axis) place(v float64) float64 {
	if a.log {
		v = max(v, a.low)
		return math.Log10(v/a.low) / math.Log10(a.high/a.low)
	}
	return (v - a.low) / (a.high - a.low)
}

// ticks are powers of ten, or about five round numbers.
func (a *axis) ticks() (list []float64) {
	if a.log {
		for v := a.low; v <= a.high*1.001; v *= 10 {
			list = append(list, v)
		}
		return list
	}
	step := math.Pow(10, math.Floor(math.Log10((a.high-a.low)/2)))
	for (a.high-a.low)/step > 6 {
		step *= 2
	}
	for v := a.low; v <= a.high*1.001; v += step {
		list = append(list, v)
	}
	return list
}

func (p *plot) svg() []byte {
	var b bytes.Buffer
	ax, ay := p.axis(0, p.logX), p.axis(1, p.logY)
	x := func(v float64) float64 { return plotLeft + innerWidth*ax.place(v) }
	y := func(v float64) float64 { return plotTop + innerHeight*(1-ay.place(v)) }
	write := func(x, y float64, more, s string) {
		fmt.Fprintf(&b, `<text x="%.0f" y="%.0f" %s>%s</text>`+"\n", x, y, more, html.EscapeString(s))
	}
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family=`+
		`"sans-serif" font-size="12"><rect width="100%%" height="100%%" fill="white"/>`+"\n", plotWidth,
		plotHeight)
	write(plotLeft, 22, `font-size="15"`, p.title)
	write(plotLeft+innerWidth/2, plotHeight-14, `text-anchor="middle"`, p.x)
	write(18, plotTop+innerHeight/2, fmt.Sprintf(
		`text-anchor="middle" transform="rotate(-90 18 %d)"`, plotTop+innerHeight/2), p.y)
	for _, v := range ax.ticks() {
		fmt.Fprintf(&b, `<path d="M%.1f %d V%d" stroke="#ddd"/>`+"\n", x(v), plotTop, plotTop+innerHeight)
		write(x(v), plotTop+innerHeight+18, `text-anchor="middle"`, short(v))
	}
	for _, v := range ay.ticks() {
		fmt.Fprintf(&b, `<path d="M%d %.1f H%d" stroke="#ddd"/>`+"\n", plotLeft, y(v),
			plotLeft+innerWidth)
		write(plotLeft-6, y(v)+4, `text-anchor="end"`, short(v))
	}
	for i, l := range p.lines {
		colour := plotColours[i%len(plotColours)]
		fmt.Fprintf(&b, `<polyline fill="none" stroke="%s" stroke-width="2" points="`, colour)
		for _, pt := range l.points {
			fmt.Fprintf(&b, "%.1f,%.1f ", x(pt[0]), y(pt[1]))
		}
		b.WriteString(`"/>` + "\n")
		for _, pt := range l.points {
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x(pt[0]), y(pt[1]), colour)
		}
		write(plotWidth-plotRight+12, float64(plotTop+12+18*i), `fill="`+colour+`"`, l.name)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// short writes a value of an axis.
func short(v float64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1e6, "M"}, {1e3, "k"}} {
		if v >= u.size {
			return fmt.Sprintf("%.4g%s", v/u.size, u.name)
		}
	}
	return fmt.Sprintf("%.4g", v)
}

// slope is the steepness of the line that fits the points best, by least squares.
func slope(points [][2]float64) float64 {
	var sx, sy, sxx, sxy float64
	n := float64(len(points))
	for _, p := range points {
		sx, sy, sxx, sxy = sx+p[0], sy+p[1], sxx+p[0]*p[0], sxy+p[0]*p[1]
	}
	if d := n*sxx - sx*sx; d != 0 {
		return (n*sxy - sx*sy) / d
	}
	return 0
}

// latencyLine is a measurement's latencies by quantiles q. Its x is 1/(1-q), so that the nines
// after the point have room.
func latencyLine(m *measurement) plotLine {
	l := plotLine{name: m.What}
	for _, x := range []float64{2, 4, 10, 20, 100, 200, 1000, 2000, 10_000} {
		values := m.all(func(r *loadRun) float64 {
			return float64(r.latency.ValueAtQuantile(100 * (1 - 1/x)))
		})
		l.points = append(l.points, [2]float64{x, median(values) / 1e3})
	}
	return l
}

// latencyPlot is a plot of the latencies of measurements.
func latencyPlot(part, file, title string, list ...*measurement) *plot {
	p := &plot{part: part, file: file, title: title, logX: true, logY: true,
		x: "1 / (1 - quantile): 100 is p99, 1k is p99.9", y: "latency, µs"}
	for _, m := range list {
		p.lines = append(p.lines, latencyLine(m))
	}
	return p
}
