package main

import (
	"cmp"
	"errors"
	"fmt"
	"image/color"
	"os"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"parley/cmd/parley/internal/load"
)

// The plot's size, and its colours: told apart by who sees few colours too
// (those of Okabe and Ito), and always named in the legend.
const (
	plotWidth  = 24 * vg.Centimeter
	plotHeight = 16 * vg.Centimeter

	margin      = vg.Centimeter / 2
	legendWidth = 4.5 * vg.Centimeter

	thin = vg.Length(1.4) // points; a curve lies on the wide one that it equals
	wide = vg.Length(3)
)

var (
	blueInk   = color.RGBA{0x00, 0x72, 0xb2, 0xff}
	orangeInk = color.RGBA{0xd5, 0x5e, 0x00, 0xff}
	greenInk  = color.RGBA{0x00, 0x9e, 0x73, 0xff}
	greyInk   = color.RGBA{0x88, 0x88, 0x88, 0xff}
)

// curve is one line of a plot.
type curve struct {
	name   string
	colour color.Color
	width  vg.Length
	dashed bool
	dots   bool
	at     plotter.XYs
}

// figurePlot is a plot with its legend beside it, where no curve is.
type figurePlot struct {
	*plot.Plot
	legend plot.Legend
}

// beside is what the legend leaves.
func beside(c draw.Canvas) draw.Canvas { return draw.Crop(c, 0, -legendWidth, 0, 0) }

func (p *figurePlot) drawLegend(c draw.Canvas) {
	p.legend.Draw(draw.Crop(c, c.Size().X-legendWidth+margin, 0, 0, -margin))
}

// drawBench writes the plot of a report as SVG.
func drawBench(path string, r *benchReport) error {
	var upper, lower *figurePlot
	var err error
	if r.Find != nil {
		upper, err = overLoad(r)
	} else {
		upper, lower, err = overTime(r)
	}
	if err != nil {
		return err
	}
	canvas := vgsvg.New(plotWidth, plotHeight)
	paper := draw.Crop(draw.New(canvas), margin, -margin, margin, -margin)
	if r.Find != nil {
		upper.Draw(beside(paper))
		upper.drawLegend(paper)
	} else {
		tiles := draw.Tiles{Rows: 2, Cols: 1, PadY: margin}
		curves := plot.Align([][]*plot.Plot{{upper.Plot}, {lower.Plot}}, tiles, beside(paper))
		for i, p := range []*figurePlot{upper, lower} {
			p.Draw(curves[i][0])
			p.drawLegend(tiles.At(paper, 0, i))
		}
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = canvas.WriteTo(f)
	return errors.Join(err, f.Close())
}

// overTime is latency above throughput.
func overTime(r *benchReport) (latency, throughput *figurePlot, err error) {
	series := func(y func(load.Point) float64) plotter.XYs {
		var at plotter.XYs
		for _, p := range r.Timeline {
			at = append(at, plotter.XY{X: p.At, Y: y(p)})
		}
		return at
	}
	// Of a second in which nothing happened there is no latency.
	latencies := func(of func(load.Point) load.Latency, y func(load.Latency) float64) plotter.XYs {
		var at plotter.XYs
		for _, p := range r.Timeline {
			if l := of(p); l.Count > 0 {
				at = append(at, plotter.XY{X: p.At, Y: y(l)})
			}
		}
		return at
	}
	ack, seen := func(p load.Point) load.Latency { return p.Ack }, func(p load.Point) load.Latency { return p.Seen }
	p50, p99 := func(l load.Latency) float64 { return l.P50 }, func(l load.Latency) float64 { return l.P99 }
	title := fmt.Sprintf("%d transactions of %d people, %s picks/s due", r.Plan.Transactions, r.Plan.People, figure(r.Plan.PerSecond))
	latency, err = plotOf(title, "", "latency, ms",
		curve{"seen by another, p50", orangeInk, wide, true, false, latencies(seen, p50)},
		curve{"seen by another, p99", orangeInk, wide, false, false, latencies(seen, p99)},
		curve{"acknowledged, p50", blueInk, thin, true, false, latencies(ack, p50)},
		curve{"acknowledged, p99", blueInk, thin, false, false, latencies(ack, p99)},
	)
	if err != nil {
		return nil, nil, err
	}
	throughput, err = plotOf("", "seconds", "picks/s",
		curve{"due", greyInk, wide, true, false, series(func(p load.Point) float64 { return p.Due })},
		curve{"acknowledged", greenInk, thin, false, false, series(func(p load.Point) float64 { return p.Acknowledged })},
	)
	return latency, throughput, err
}

// overLoad is latency against load.
func overLoad(r *benchReport) (*figurePlot, error) {
	steps := slices.Clone(r.Find.Steps)
	slices.SortFunc(steps, func(a, b load.Step) int { return cmp.Compare(a.PerSecond, b.PerSecond) })
	series := func(y func(load.Step) float64) plotter.XYs {
		var at plotter.XYs
		for _, s := range steps {
			at = append(at, plotter.XY{X: s.PerSecond, Y: y(s)})
		}
		return at
	}
	title := fmt.Sprintf("%d transactions of %d people: %s picks/s hold with p99 under %s",
		r.Plan.Transactions, r.Plan.People, figure(r.Find.Best), ms(r.Find.UnderMS))
	var bound plotter.XYs
	if len(steps) > 0 {
		bound = plotter.XYs{{X: 0, Y: r.Find.UnderMS}, {X: steps[len(steps)-1].PerSecond, Y: r.Find.UnderMS}}
	}
	p, err := plotOf(title, "load, picks/s", "latency, ms",
		curve{"seen by another, p99", orangeInk, wide, false, true, series(func(s load.Step) float64 { return s.Seen.P99 })},
		curve{"acknowledged, p99", blueInk, thin, false, true, series(func(s load.Step) float64 { return s.Acknowledged.P99 })},
		curve{"acknowledged, p50", blueInk, thin, true, true, series(func(s load.Step) float64 { return s.Acknowledged.P50 })},
		curve{"the bound", greyInk, thin, true, false, bound},
	)
	if err != nil {
		return nil, err
	}
	p.Y.Max = min(p.Y.Max, 4*r.Find.UnderMS) // what is beyond is only much
	return p, nil
}

func plotOf(title, x, y string, curves ...curve) (*figurePlot, error) {
	p := &figurePlot{Plot: plot.New(), legend: plot.NewLegend()}
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Title.Padding = vg.Points(8)
	p.BackgroundColor = color.White
	p.Add(plotter.NewGrid())
	p.legend.Top, p.legend.Left, p.legend.Padding = true, true, vg.Points(3)
	p.X.Min, p.Y.Min = 0, 0
	for _, c := range curves {
		if len(c.at) == 0 {
			continue
		}
		line, err := plotter.NewLine(c.at)
		if err != nil {
			return nil, err
		}
		line.Color, line.Width = c.colour, c.width
		if c.dashed {
			line.Dashes = []vg.Length{vg.Points(4), vg.Points(3)}
		}
		p.Add(line)
		p.legend.Add(c.name, line)
		if c.dots {
			dots, err := plotter.NewScatter(c.at)
			if err != nil {
				return nil, err
			}
			dots.GlyphStyle = draw.GlyphStyle{Color: c.colour, Radius: vg.Points(2.5), Shape: draw.CircleGlyph{}}
			p.Add(dots)
		}
	}
	p.X.Min, p.Y.Min = 0, 0
	p.Y.Max *= 1.05
	return p, nil
}
