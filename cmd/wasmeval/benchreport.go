package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report is what a run of bench measured.
type report struct {
	Version  string         `json:"version"`
	Go       string         `json:"go"`
	CPU      string         `json:"cpu"`
	Cores    int            `json:"cores"`
	Kernel   string         `json:"kernel"`
	Time     time.Time      `json:"time"`
	Rows     []reportRow    `json:"rows"`
	Measured []*measurement `json:"measured"`

	plots []*plot
}

func (r *report) begin() {
	r.Version, r.Go, r.Cores = version, goruntime.Version(), goruntime.NumCPU()
	r.Time = time.Now().UTC()
	r.CPU, r.Kernel = machineName()
}

// measurement is one load on one server, or one queue: its runs.
type measurement struct {
	Part    string     `json:"part"`
	What    string     `json:"what"`
	Offered float64    `json:"offered"`     // events a second; 0: as fast as they are taken
	X       float64    `json:"x,omitempty"` // of a row of loads: how many rules, fields or bytes
	Runs    []*loadRun `json:"runs"`

	silent bool // its latencies say nothing, since nobody answers
}

// measured returns the part's measurement of that name, which the first run makes.
func (r *report) measured(part, what string, offered float64) *measurement {
	for _, m := range r.Measured {
		if m.Part == part && m.What == what && m.Offered == offered {
			return m
		}
	}
	m := &measurement{Part: part, What: what, Offered: offered}
	r.Measured = append(r.Measured, m)
	return m
}

func (m *measurement) add(r *loadRun) { m.Runs = append(m.Runs, r) }

// all is one figure of every run.
func (m *measurement) all(of func(*loadRun) float64) []float64 {
	list := make([]float64, len(m.Runs))
	for i, r := range m.Runs {
		list[i] = of(r)
	}
	return list
}

func (m *measurement) median(of func(*loadRun) float64) float64 { return median(m.all(of)) }

// median is the middle of a list, or the mean of the two in the middle; NaN if it is empty.
func median(list []float64) float64 {
	if len(list) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(list))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

func cpuOfRun(r *loadRun) float64    { return r.CPU }
func p50OfRun(r *loadRun) float64    { return r.P50 }
func p99OfRun(r *loadRun) float64    { return r.P99 }
func p999OfRun(r *loadRun) float64   { return r.P999 }
func maxOfRun(r *loadRun) float64    { return r.Max }
func rateOfRun(r *loadRun) float64   { return r.rate() }
func lostOfRun(r *loadRun) float64   { return float64(r.Dropped) + float64(r.Missing) }
func unseenOfRun(r *loadRun) float64 { return math.Abs(float64(r.Missing)) }

// What of a target is held against its limit.
const (
	byFigure     = iota
	byRatio      // figure / base
	byDifference // figure - base
)

// target is what one figure has to reach.
type target struct {
	id, what, unit string
	by             int
	limit          float64
	atLeast        bool // else at most
}

// targets are the rows of a report, in its order.
var targets = []target{
	{"http-cpu", "one event a POST, asynchronous: CPU against bare net/http", "µs", byRatio, 1.35,
		false},
	{"verdict-cpu", "one event a POST, verdict in the reply: CPU against bare net/http", "µs", byRatio,
		1.5, false},
	{"verdict-latency", "a lone request, verdict in the reply: p50 above bare net/http", "µs",
		byDifference, 30, false},
	{"ndjson-cpu", "NDJSON, 100 events a POST: CPU an event", "µs", byFigure, 0.7, false},
	{"ndjson-rate", "NDJSON, 100 events a POST: events a second", "", byFigure, 2e6, true},
	{"udp-loss", "UDP, one event a datagram, as fast as they are sent: lost", "", byFigure, 0, false},
	{"udp-cpu", "UDP, one event a datagram: CPU against a bare loop", "µs", byRatio, 1.4, false},
	{"segments-rate", "UDP with segmentation offload: evaluated events a second", "", byFigure, 2e6,
		true},
	{"segments-loss", "UDP with segmentation offload: events that no count has", "", byFigure, 0,
		false},
	{"rules-cost", "many rules on every event, two fields each: a rule and event", "ns", byFigure, 6,
		false},
	{"unmatched", "rules that do not match: CPU of many against that of one", "µs", byRatio, 1.1,
		false},
	{"ring-single", "ring, 256 B, many producers: a message", "ns", byFigure, 20, false},
	{"ring-batch", "ring, 256 B, in batches of 16: a message", "ns", byFigure, 8, false},
	{"ring-light", "ring, lightly loaded: CPU against a channel's", "ns", byRatio, 1, false},
	{"tail-beyond", "load that the ring holds and a channel does not: p99 of the channel against " +
		"the ring's", "µs", byRatio, 10, true},
	{"tail-below", "load that both hold: p99 of the ring against the channel's", "µs", byRatio, 1,
		false},
	{"wake-up", "one event, parked worker: p50 to its verdict", "µs", byFigure, 15, false},
	{"idle", "idle server: CPU", "%", byFigure, 0.5, false},
	{"swap", "100 swaps a second: p99 of evaluation against none", "µs", byRatio, 1.5, false},
	{"start-time", "start with rules of 4 kinds: ready", "s", byFigure, 2, false},
	{"start-memory", "start with rules of 4 kinds: resident", "MiB", byFigure, 250, false},
}

// reportRow is a target and what was measured of it: medians over the runs, also of the ratio.
type reportRow struct {
	ID      string    `json:"id"`
	What    string    `json:"what"`
	Target  string    `json:"target"`
	Unit    string    `json:"unit,omitempty"`
	Figure  float64   `json:"figure"`
	Base    float64   `json:"base,omitempty"`
	Against float64   `json:"against,omitempty"` // the ratio or difference, where the target is one
	Pass    bool      `json:"pass"`
	Runs    []float64 `json:"runs"`
	Bases   []float64 `json:"bases,omitempty"`
	Note    string    `json:"note,omitempty"`
}

// judge adds the row of a target. Figures and bases are of the same runs, by pairs.
func (r *report) judge(id string, figures, bases []float64, note string) {
	i := slices.IndexFunc(targets, func(t target) bool { return t.id == id })
	if i < 0 {
		panic("BUG: there is no target " + id)
	}
	t := &targets[i]
	row := reportRow{ID: id, What: t.what, Target: t.String(), Unit: t.unit, Note: note,
		Figure: median(figures), Runs: figures, Bases: bases}
	held := row.Figure
	if t.by != byFigure {
		pairs := make([]float64, len(figures))
		for i := range figures {
			if pairs[i] = figures[i] - bases[i]; t.by == byRatio {
				pairs[i] = figures[i] / bases[i]
			}
		}
		row.Base, row.Against = median(bases), median(pairs)
		held = row.Against
	}
	row.Pass = held <= t.limit
	if t.atLeast {
		row.Pass = held >= t.limit
	}
	r.Rows = append(r.Rows, row)
}

// String says what is expected.
func (t *target) String() string {
	text := "at most "
	if t.atLeast {
		text = "at least "
	}
	switch t.by {
	case byRatio:
		return text + number(t.limit) + "x"
	case byDifference:
		return text + "+" + number(t.limit) + " " + t.unit
	}
	return strings.TrimSpace(text + number(t.limit) + " " + t.unit)
}

// number writes a figure with three digits, or all of a larger one.
func number(f float64) string {
	switch {
	case f == 0:
		return "0"
	case math.Abs(f) >= 100:
		return fmt.Sprintf("%.0f", f)
	}
	return fmt.Sprintf("%.*f", max(0, 2-int(math.Floor(math.Log10(math.Abs(f))))), f)
}

// cells of a row, in the order of rowHeads.
func (w *reportRow) cells() []string {
	base, against, pass := "", "", "no"
	if w.Against != 0 {
		base, against = number(w.Base), number(w.Against)
		if strings.HasSuffix(w.Target, "x") {
			against += "x"
		}
	}
	if w.Pass {
		pass = "yes"
	}
	return []string{w.What, w.Target, strings.TrimSpace(number(w.Figure) + " " + w.Unit), base,
		against, pass, w.Note}
}

var (
	rowHeads  = []string{"what", "target", "figure", "base", "ratio or difference", "met", ""}
	loadHeads = []string{"load", "offered/s", "taken/s", "CPU ns", "p50", "p99", "p99.9", "max",
		"dropped", "missing"}
)

// cells of a measurement, in the order of loadHeads.
func (m *measurement) cells() []string {
	offered := "max"
	if m.Offered > 0 {
		offered = fmt.Sprintf("%.0f", m.Offered)
	}
	list := []string{m.What, offered, fmt.Sprintf("%.0f", m.median(rateOfRun)),
		number(m.median(cpuOfRun))}
	for _, f := range []func(*loadRun) float64{p50OfRun, p99OfRun, p999OfRun, maxOfRun} {
		cell := ""
		if !m.silent {
			cell = time.Duration(m.median(f)).Round(10 * time.Nanosecond).String()
		}
		list = append(list, cell)
	}
	dropped, missing := uint64(0), int64(0)
	for _, r := range m.Runs {
		dropped += r.Dropped
		missing += r.Missing
	}
	return append(list, fmt.Sprint(dropped), fmt.Sprint(missing))
}

// print prints the measurements from number from on.
func (r *report) print(out io.Writer, from int) error {
	if from == len(r.Measured) {
		return nil
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, strings.Join(loadHeads, "\t")+"\t")
	for _, m := range r.Measured[from:] {
		fmt.Fprintln(w, strings.Join(m.cells(), "\t")+"\t")
	}
	return w.Flush()
}

func (r *report) printRows(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for i := range r.Rows {
		if i == 0 {
			fmt.Fprintf(w, "\n%s\n", strings.Join(rowHeads, "\t"))
		}
		fmt.Fprintln(w, strings.Join(r.Rows[i].cells(), "\t"))
	}
	return w.Flush()
}

// write writes report.md, report.json and the plots into a folder, which it makes.
func (r *report) write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, p := range r.plots {
		if err := os.WriteFile(filepath.Join(dir, p.file), p.svg(), 0o644); err != nil {
			return err
		}
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "report.json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "report.md"), r.markdown(), 0o644)
}

func (r *report) markdown() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# wasmeval %s, measured\n\n%s, %d cores, Linux %s, %s, %s.\n\n", r.Version, r.CPU,
		r.Cores, r.Kernel, r.Go, r.Time.Format(time.RFC3339))
	b.WriteString("Figures are medians of the runs. Latencies count from the time at which a request " +
		"was meant to be sent. CPU is the server's for each event, as the operating system has it; of " +
		"the queues it is that of the whole process, producers included.\n\n## Targets\n\n")
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(rowHeads)
	line(slices.Repeat([]string{"---"}, len(rowHeads)))
	for i := range r.Rows {
		line(r.Rows[i].cells())
	}
	part := ""
	for _, m := range r.Measured {
		if m.Part != part {
			part = m.Part
			fmt.Fprintf(&b, "\n## %s\n\n", part)
			for _, p := range r.plots {
				if p.part == part {
					fmt.Fprintf(&b, "![%s](%s)\n\n", p.title, p.file)
				}
			}
			line(loadHeads)
			line(slices.Repeat([]string{"---"}, len(loadHeads)))
		}
		line(m.cells())
	}
	return b.Bytes()
}
