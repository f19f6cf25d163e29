package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
)

func newBench() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure the server, or the ring against Go channels",
		Long: `All loads are open loops: each request has a time at which it is meant to be sent, and
its latency counts from then, so that a server that stalls cannot hide it. Servers are processes of
their own with fresh data folders; their CPU time is what the operating system says. What a server
could do at best is measured in the same run, on a server that only reads and replies. Each load
runs several times, and medians are printed. Whoever interrupts it gets the parts that are done; the
servers end, and their folders are removed.`,
		Args: cobra.NoArgs,
		RunE: helpOnly,
	}
	cmd.AddCommand(
		newBenchPart("bus", "Hold the ring against Go channels", &busPart{producers: 2}),
		newBenchPart("http", "Events by POST, against a bare net/http server", newHTTPPart()),
		newBenchPart("udp", "Events by UDP, against a bare loop that reads", newUDPPart()),
		newBenchPart("rules", "What rules cost, and what size and fields of events do", &rulesPart{}),
		newBenchPart("swap", "Latency while rules are swapped, against none", &swapPart{rate: 100}),
		newBenchPart("start", "Start with many rules: time and memory", &startPart{dir: "rules-sdk"}),
		newBenchRule(),
		newBenchAll(),
		newFloorHTTP(),
		newFloorUDP(),
	)
	return cmd
}

// benchPart is one part of a report: a verb of bench.
type benchPart interface {
	flags(cmd *cobra.Command) // their defaults are what the part has
	run(ctx context.Context, b *bench) error
}

// checkedPart is a part that may refuse to run. All are asked before the first one runs, so that no run
// of minutes ends for want of a file.
type checkedPart interface{ check() error }

// bench is one run of a verb: what all parts are told, and the report that they add to.
type bench struct {
	length, warmUp time.Duration
	runs           int
	rules          int    // at most
	dir            string // of the report; empty: there is none
	out            io.Writer
	report         report
}

func (b *bench) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.DurationVar(&b.length, "for", 2*time.Second, "length of each run")
	f.DurationVar(&b.warmUp, "warm-up", 500*time.Millisecond, "the same load before it, not measured")
	f.IntVar(&b.runs, "runs", 3, "runs of each load; the figures are medians")
	f.IntVar(&b.rules, "max-rules", 1000, "rules in rules and start; ten times as many of "+
		"those that do not match")
	f.StringVarP(&b.dir, "output", "o", "", "folder for the report (Markdown, JSON) and plots (SVG)")
}

func (b *bench) check() error {
	if b.length <= 0 || b.warmUp < 0 || b.runs < 1 || b.runs > 100 || b.rules < 1 || b.rules > 1000 {
		return errors.New("expected --for above 0, --warm-up 0 or more, --runs 1 to 100 and " +
			"--max-rules 1 to 1000")
	}
	return nil
}

func newBenchPart(name, short string, p benchPart) *cobra.Command {
	var b bench
	cmd := &cobra.Command{Use: name, Short: short, Args: cobra.NoArgs}
	b.flags(cmd)
	p.flags(cmd)
	cmd.RunE = interruptible(func(cmd *cobra.Command, _ []string) error {
		b.out = cmd.OutOrStdout()
		return b.run(cmd.Context(), p)
	})
	return cmd
}

func newBenchAll() *cobra.Command {
	var b bench
	start := &startPart{dir: "rules-sdk"}
	cmd := &cobra.Command{
		Use: "all", Short: "All of these, and a report", Args: cobra.NoArgs,
		Example: "  wasmeval bench all -o report",
	}
	b.flags(cmd)
	start.flags(cmd)
	cmd.RunE = interruptible(func(cmd *cobra.Command, _ []string) error {
		b.out = cmd.OutOrStdout()
		return b.run(cmd.Context(), &busPart{producers: 2}, newHTTPPart(), newUDPPart(), &rulesPart{},
			&swapPart{rate: 100}, start)
	})
	return cmd
}

// run does the parts, prints what each measured, and writes the report. When ctx ends so do the servers,
// and with them whatever waits for an answer: then run returns ctx's error.
func (b *bench) run(ctx context.Context, parts ...benchPart) error {
	if err := b.check(); err != nil {
		return err
	}
	for _, p := range parts {
		if c, ok := p.(checkedPart); ok {
			if err := c.check(); err != nil {
				return err
			}
		}
	}
	b.report.begin()
	for _, p := range parts {
		before := len(b.report.Measured)
		err := p.run(ctx, b)
		if ctx.Err() != nil {
			return ctx.Err() // another error is that the servers were ended
		}
		if err != nil {
			return err
		}
		if err := b.report.print(b.out, before); err != nil {
			return err
		}
	}
	if err := b.report.printRows(b.out); err != nil {
		return err
	}
	if b.dir == "" {
		return nil
	}
	if err := b.report.write(b.dir); err != nil {
		return fmt.Errorf("cannot write the report: %w", err)
	}
	fmt.Fprintf(b.out, "report in %s\n", b.dir)
	return nil
}
