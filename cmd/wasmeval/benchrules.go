package main

import (
	"context"
	"fmt"
	"math"
	goruntime "runtime"
	"slices"
	"time"

	"github.com/spf13/cobra"
)

// rulesPart measures what an event costs by the number of rules, by its size, and by the number of
// fields.
type rulesPart struct{}

func (p *rulesPart) flags(cmd *cobra.Command) {
	cmd.Long = `Measures what an event costs the server: by how many rules of two conditions want it, by
how many do not, by its size, and by how many fields a rule declares. Events come 1,000 a POST, at
a rate that is two thirds of what the server can take. About one event in a thousand matches a rule.
At last it measures how fast all rules evaluate a burst of events with 1 worker, 2, 4 and so on, up to
one for each processor.`
	cmd.Example = "  wasmeval bench rules\n  wasmeval bench rules --max-rules 100 --runs 1"
}

const (
	postBytes = 256 * kib // of events in one POST, about
	postMost  = 1000      // events in it
)

func (p *rulesPart) run(ctx context.Context, b *bench) error {
	wanted := []int{0}
	for n := 1; n < b.rules; n *= 10 {
		wanted = append(wanted, n)
	}
	wanted = append(wanted, b.rules)
	matching, err := p.grow(ctx, b, "rules that match", "*", wanted)
	if err != nil {
		return err
	}
	idle, err := p.grow(ctx, b, "rules that do not match", "other.type", []int{1, 10 * b.rules})
	if err != nil {
		return err
	}
	sizes, err := p.sizes(ctx, b)
	if err != nil {
		return err
	}
	fields, err := p.fields(ctx, b)
	if err != nil {
		return err
	}
	workers, err := p.workers(ctx, b)
	if err != nil {
		return err
	}
	p.judge(b, matching, idle)
	p.plots(b, matching, sizes, fields, workers)
	return nil
}

// judge holds the costs against their targets.
func (p *rulesPart) judge(b *bench, matching, idle []*measurement) {
	none, most := matching[0], matching[len(matching)-1]
	perRule := make([]float64, len(most.Runs))
	for i, r := range most.Runs {
		perRule[i] = (r.CPU - none.Runs[i].CPU) / most.X
	}
	b.report.judge("rules-cost", perRule, nil, fmt.Sprintf("%.0f rules, without the %s µs of an "+
		"event that no rule wants; go test -bench . in bench/peers has peers", most.X,
		number(none.median(cpuOfRun)/1e3)))
	b.report.judge("unmatched", micros(idle[1].all(cpuOfRun)), micros(idle[0].all(cpuOfRun)),
		fmt.Sprintf("%.0f rules and 1", idle[1].X))
}

func (p *rulesPart) plots(b *bench, matching, sizes, fields, workers []*measurement) {
	cost := func(m *measurement) float64 { return m.median(cpuOfRun) }
	line := func(list []*measurement, y func(*measurement) float64) (points [][2]float64) {
		for _, m := range list {
			if m.X > 0 {
				points = append(points, [2]float64{m.X, y(m)})
			}
		}
		return points
	}
	add := func(file, title, x, y string, logX bool, points [][2]float64) {
		b.report.plots = append(b.report.plots, &plot{part: "rules", file: file, title: title, x: x, y: y,
			logX: logX, logY: logX, lines: []plotLine{{"wasmeval", points}}})
	}
	rate := func(m *measurement) float64 { return m.median(rateOfRun) }
	byRules := line(matching, cost)
	add("throughput-rules.svg", "Events a second for a core of the server, by rules on every event",
		"rules", "events/s", true, line(matching, func(m *measurement) float64 { return 1e9 / cost(m) }))
	grows := func(points [][2]float64, what string) string {
		return fmt.Sprintf("CPU an event: %s ns more with each %s", number(slope(points)), what)
	}
	add("cost-rules.svg", grows(byRules, "rule"), "rules", "ns", true, byRules)
	bySize := line(sizes, cost)
	add("cost-size.svg", grows(bySize, "byte"), "bytes", "ns", true, bySize)
	byFields := line(fields, cost)
	add("cost-fields.svg", grows(byFields, "field"), "fields", "ns", false, byFields)
	add("throughput-workers.svg", fmt.Sprintf("Events a second by workers, %d rules on each event", b.rules),
		"workers", "events/s", false, line(workers, rate))
}

// grow measures one server with more and more rules.
func (p *rulesPart) grow(ctx context.Context, b *bench, what, match string, counts []int) (
	[]*measurement, error) {
	s, err := startServer(ctx, "--max-rules", fmt.Sprint(max(1000, slices.Max(counts))))
	if err != nil {
		return nil, err
	}
	defer s.kill()
	var list []*measurement
	have := 0
	for _, n := range counts {
		if err := pushRules(ctx, s, have, n, match); err != nil {
			return nil, err
		}
		have = n
		m, err := p.measure(ctx, b, s, fmt.Sprintf("%d %s", n, what), float64(n), benchEvents(postMost))
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

// pushRules uploads the rules from one number to another.
func pushRules(ctx context.Context, s *benchServer, from, to int, match string) error {
	for ; from < to; from++ {
		if err := s.push(ctx, ruleName(from), pairRule(from, match, seldom)); err != nil {
			return err
		}
	}
	return nil
}

// workers measures bursts on servers with more and more workers.
func (p *rulesPart) workers(ctx context.Context, b *bench) ([]*measurement, error) {
	var list []*measurement
	for n := 1; n <= goruntime.NumCPU(); n *= 2 {
		m := b.report.measured("rules", fmt.Sprintf("burst, %d rules, workers: %d", b.rules, n), 0)
		m.X, m.silent = float64(n), true
		if err := p.bursts(ctx, b, m, n); err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

// bursts measures one server: one burst to warm it up, then one for each run.
func (p *rulesPart) bursts(ctx context.Context, b *bench, m *measurement, workers int) error {
	s, err := startServer(ctx, "--shards", fmt.Sprint(workers))
	if err != nil {
		return err
	}
	defer s.kill()
	if err := pushRules(ctx, s, 0, b.rules, "*"); err != nil {
		return err
	}
	c, err := newHTTPLane(s.url, "/v1/events", "", benchEvents(postMost), nil)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	for i := range b.runs + 1 {
		r, err := burst(ctx, s, c)
		if err != nil {
			return err
		}
		if i > 0 {
			m.add(r)
		}
	}
	return nil
}

// burstPosts is how many POSTs make a burst: it fits into the ring, and with many rules to evaluate
// it takes much longer than to send it.
const burstPosts = 16

// burst sends as much as the ring takes, and measures until all of it is evaluated.
func burst(ctx context.Context, s *benchServer, c lane) (*loadRun, error) {
	var begun time.Time
	r, err := s.measured(ctx, func() (*loadRun, error) {
		r := &loadRun{latency: newHistogram()}
		begun = time.Now()
		for range burstPosts {
			n, err := c.send()
			if err != nil {
				return nil, err
			}
			r.Sent += uint64(n)
		}
		return r, nil
	})
	if err != nil {
		return nil, err
	}
	r.Seconds = time.Since(begun).Seconds()
	return r, nil
}

// sizes measures events of more and more bytes.
func (p *rulesPart) sizes(ctx context.Context, b *bench) ([]*measurement, error) {
	s, err := startServer(ctx)
	if err != nil {
		return nil, err
	}
	defer s.kill()
	if err := s.push(ctx, "bench", ruleOf(0, "*")); err != nil {
		return nil, err
	}
	var list []*measurement
	for _, size := range []int{100, 200, 500, 2 * kib, 8 * kib, 64 * kib} {
		events := make([][]byte, max(1, min(postMost, postBytes/size)))
		for i := range events {
			events[i] = sized(i, size)
		}
		m, err := p.measure(ctx, b, s, fmt.Sprintf("events of %d bytes", size), float64(size), events)
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

// fields measures one rule that declares more and more fields.
func (p *rulesPart) fields(ctx context.Context, b *bench) ([]*measurement, error) {
	s, err := startServer(ctx)
	if err != nil {
		return nil, err
	}
	defer s.kill()
	events := slices.Repeat([][]byte{numbers()}, postBytes/len(numbers()))
	var list []*measurement
	for _, n := range []int{1, 2, 4, 8, 16, 32, 64} {
		var all []condition
		for i := range n {
			all = append(all, condition{fmt.Sprintf("f%d", i), float64(i)})
		}
		if err := s.push(ctx, "bench", ruleModule("*", all)); err != nil {
			return nil, err
		}
		m, err := p.measure(ctx, b, s, fmt.Sprintf("a rule with %d of 64 fields", n), float64(n), events)
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}

// measure takes what an event costs the server with the rules that it has. It offers two thirds of
// what a probe says that the server takes, so that the ring does not fill up and no event is
// scanned in vain.
func (p *rulesPart) measure(ctx context.Context, b *bench, s *benchServer, what string, x float64,
	events [][]byte) (*measurement, error) {
	open := func() (lane, error) { return newHTTPLane(s.url, "/v1/events", "", events, nil) }
	rate, err := p.capacity(ctx, s, min(b.length, 300*time.Millisecond), open)
	if err != nil {
		return nil, err
	}
	l := benchLoad{rate: rate * 2 / 3, batch: len(events), workers: 1}
	m := b.report.measured("rules", what, math.Round(l.rate*float64(l.batch)))
	m.X, m.silent = x, true
	for range b.runs {
		r, err := b.against(ctx, s, &l, open)
		if err != nil {
			return nil, err
		}
		m.add(r)
	}
	return m, nil
}

// capacity is how many POSTs a second the server can evaluate, by bursts for some time; not more than
// a core of the client's can send.
func (p *rulesPart) capacity(ctx context.Context, s *benchServer, length time.Duration,
	open func() (lane, error)) (float64, error) {
	c, err := open()
	if err != nil {
		return 0, err
	}
	defer func() { _ = c.Close() }()
	posts, seconds := 0, 0.0
	for seconds < length.Seconds() {
		r, err := burst(ctx, s, c)
		if err != nil {
			return 0, err
		}
		posts, seconds = posts+burstPosts, seconds+r.Seconds
	}
	return float64(posts) / seconds, nil
}
