package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"wasmeval/runtime"
)

// maxBenchEvents is how many events of a file are used: they are kept in memory.
const maxBenchEvents = 100_000

func newBenchRule() *cobra.Command {
	var params []string
	var format string
	var length time.Duration
	cmd := &cobra.Command{
		Use:   "rule MODULE EVENTS.ndjson",
		Short: "Measure one rule on a file of events, with no server",
		Long: `Evaluates the events that the rule is for, again and again, one by one and in batches of 64, in this
process by the server's own engine. "rule" is the time within the module and in handing it the batch;
"whole" has the reading of JSON and the encoding of verdicts with it, as a worker of the server does.
Fuel is of each event alone. Keyed state is not emptied in between.`,
		Example: `  wasmeval bench rule limit.wasm events.ndjson
  wasmeval bench rule limit.wasm events.ndjson --param limit=50 --for 5s --format json`,
		Args: cobra.ExactArgs(2),
	}
	configured := addOfflineFlags(cmd)
	cmd.Flags().StringArrayVar(&params, "param", nil, "parameter as name=value, any number of times")
	cmd.Flags().DurationVar(&length, "for", time.Second, "length of each of the two runs")
	cmd.Flags().StringVar(&format, "format", "text", "text or json")
	cmd.RunE = interruptible(func(cmd *cobra.Command, args []string) error {
		if format != "text" && format != "json" || length <= 0 {
			return fmt.Errorf("expected --format text or json, and --for above 0")
		}
		c, err := offlineConfig(configured)
		if err != nil {
			return err
		}
		rule := []replayRule{{name: "rule", file: args[0]}}
		if err := setParams(rule, params); err != nil {
			return err
		}
		b := ruleBench{Module: args[0]}
		err = b.run(cmd.Context(), c, &rule[0], args[1], cmd.InOrStdin(), length)
		if err != nil {
			return err
		}
		return b.write(cmd.OutOrStdout(), format)
	})
	return cmd
}

// ruleBench is what one rule costs.
type ruleBench struct {
	Module      string     `json:"module"`
	Bytes       int        `json:"bytes"`
	Events      int        `json:"events"` // of the file
	Batch1      benchRun   `json:"batch_1"`
	Batch64     benchRun   `json:"batch_64"`
	Fuel        fuelFigure `json:"fuel"`
	Pages       int        `json:"memory_pages"`
	Instantiate int64      `json:"instantiate_ns"`
	FromImage   int64      `json:"from_image_ns,omitempty"`
	Reset       int64      `json:"reset_ns,omitempty"`
}

// benchRun is one run, in nanoseconds for each event that the rule is for.
type benchRun struct {
	Calls uint64  `json:"calls"`
	Rule  float64 `json:"rule_ns"`
	Whole float64 `json:"whole_ns"` // with Rule in it
}

// fuelFigure is the fuel of single events.
type fuelFigure struct {
	Events int    `json:"events"` // that the rule was called for
	P50    uint64 `json:"p50"`
	P99    uint64 `json:"p99"`
	Max    uint64 `json:"max"`
	Failed int    `json:"failed"`
}

func (b *ruleBench) run(ctx context.Context, c *Config, rule *replayRule, name string,
	stdin io.Reader, length time.Duration) (err error) {
	recs, lines, err := readEvents(c, name, stdin, maxBenchEvents)
	if err != nil {
		return err
	}
	code, err := moduleFile(rule.file)
	if err != nil {
		return err
	}
	engine, err := openOffline(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	b.Bytes, b.Events = len(code), len(recs)
	costs, err := engine.Costs(ctx, code, rule.config)
	if err != nil {
		return err
	}
	b.Pages, b.Instantiate = costs.Pages, costs.Instantiate.Nanoseconds()
	b.FromImage, b.Reset = costs.FromImage.Nanoseconds(), costs.Reset.Nanoseconds()
	fuel, called, err := measureFuel(ctx, engine, code, rule.config, lines)
	if err != nil {
		return err
	}
	if b.Fuel = fuel; fuel.Events == 0 {
		return fmt.Errorf("the rule's match names the type of none of the %d events of %q", len(recs), name)
	}
	if err := rule.put(ctx, engine); err != nil {
		return err
	}
	wanted := make([][]byte, len(called))
	for i, at := range called {
		wanted[i] = recs[at]
	}
	if b.Batch1, err = benchBatches(ctx, engine, wanted, 1, length); err != nil {
		return err
	}
	b.Batch64, err = benchBatches(ctx, engine, wanted, 64, length)
	return err
}

// readEvents reads at most so many events of a file; the first line that is none is an error.
func readEvents(c *Config, name string, stdin io.Reader, most int) (recs [][]byte, lines []eventLine,
	err error) {
	in, _, _, err := openEvents(name, stdin)
	if err != nil {
		return nil, nil, err
	}
	defer in.Close()
	var bad error
	r, err := newEventReader(name, in, c, func(e lineError) {
		if bad == nil {
			bad = fmt.Errorf("%s:%d: %s", name, e.line, e.text)
		}
	})
	if err != nil {
		return nil, nil, err
	}
	recs, lines, err = r.next(most)
	switch {
	case bad != nil:
		return nil, nil, bad
	case err == nil && len(recs) == 0:
		err = fmt.Errorf("there are no events in %q", name)
	}
	return recs, lines, err
}

// measureFuel evaluates events one by one; called are the indexes of those that the rule is for.
func measureFuel(ctx context.Context, engine *runtime.Offline, code []byte,
	config runtime.RuleConfig, lines []eventLine) (f fuelFigure, called []int, err error) {
	session, err := engine.NewSession(ctx, code, config)
	if err != nil {
		return f, nil, err
	}
	defer session.Close()
	var fuel []uint64
	for i, l := range lines {
		if err := ctx.Err(); err != nil {
			return f, nil, err
		}
		v, err := session.Evaluate(ctx, l.json, time.Unix(0, offlineStart+int64(l.line)*1e6), 0)
		if err != nil {
			return f, nil, fmt.Errorf("line %d: %w", l.line, err)
		}
		if v.Matched {
			fuel, called = append(fuel, v.Fuel), append(called, i)
		}
		if v.Error != nil {
			f.Failed++
		}
	}
	if f.Events = len(fuel); f.Events == 0 {
		return f, nil, nil
	}
	slices.Sort(fuel)
	f.P50, f.P99, f.Max = fuel[len(fuel)/2], fuel[len(fuel)*99/100], fuel[len(fuel)-1]
	return f, called, nil
}

// benchBatches evaluates the events in batches of that size for that long, and all of them once at
// least.
func benchBatches(ctx context.Context, engine *runtime.Offline, recs [][]byte, size int,
	length time.Duration) (run benchRun, err error) {
	before := engine.Stats()
	var events uint64
	start := time.Now()
	for once := false; !once || time.Since(start) < length; once = true {
		for batch := range slices.Chunk(recs, size) {
			engine.Run(batch)
		}
		events += uint64(len(recs))
		if ctx.Err() != nil {
			return run, ctx.Err()
		}
	}
	took := time.Since(start)
	after := engine.Stats()
	run.Calls = after.Rules[0].Calls - before.Rules[0].Calls
	run.Whole = float64(took.Nanoseconds()) / float64(events)
	run.Rule = float64((after.Slices.Sum - before.Slices.Sum).Nanoseconds()) / float64(events)
	return run, nil
}

func (b *ruleBench) write(out io.Writer, format string) error {
	if format == "json" {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(b)
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "module\t%s, %d bytes\n", b.Module, b.Bytes)
	fmt.Fprintf(w, "events\t%d, of which the rule was called for %d; it failed for %d\n",
		b.Events, b.Fuel.Events, b.Fuel.Failed)
	for _, r := range []struct {
		size int
		run  *benchRun
	}{{1, &b.Batch1}, {64, &b.Batch64}} {
		fmt.Fprintf(w, "batch of %d\trule %.1f ns an event, whole %.1f ns; %d calls\n", r.size, r.run.Rule,
			r.run.Whole, r.run.Calls)
	}
	fmt.Fprintf(w, "fuel an event\tp50 %d, p99 %d, max %d\n", b.Fuel.P50, b.Fuel.P99, b.Fuel.Max)
	fmt.Fprintf(w, "memory\t%d pages of 64 KiB\n", b.Pages)
	fmt.Fprintf(w, "instantiate\t%v; from an image %s\nreset\t%s\n", time.Duration(b.Instantiate),
		durationOr(b.FromImage, "not possible"), durationOr(b.Reset, "not possible"))
	return w.Flush()
}

func durationOr(ns int64, none string) string {
	if ns == 0 {
		return none
	}
	return time.Duration(ns).String()
}
