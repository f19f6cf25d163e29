package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"wasmeval/runtime"
)

// replayBatch is how many events are evaluated at once. It is fixed, since the fuel of a verdict is
// the average of its batch.
const replayBatch = 256

func newReplay() *cobra.Command {
	var rules, params []string
	var output string
	var all bool
	cmd := &cobra.Command{
		Use:   "replay --rule NAME=MODULE EVENTS.ndjson",
		Short: "Run a file of events through rules, as fast as they go",
		Long: `Evaluates a file of events, one JSON object a line, by one rule or more, in this process: with the
server's own engine, and no server. Verdicts go to stdout, or to a file, as the server has them, in
the order of the events; a file has them once all are there. A summary goes to stderr. The same file
gives the same bytes in every run: an event arrives at its own time, or, if it has none, one
millisecond for each line after 2026-01-01; what depends on the time of the run, such as took_us, is
left out, and no rule is quarantined. Lines that are no events are reported and counted, and make the
exit code 1. Files may be compressed by gzip; - is stdin.`,
		Example: `  wasmeval replay --rule limit=limit.wasm events.ndjson
  wasmeval replay --rule limit=limit.wasm --rule geo=geofence.wasm --key user.id \
      --param limit:limit=50 events.ndjson.gz -o verdicts.ndjson`,
		Args: cobra.ExactArgs(1),
	}
	configured := addOfflineFlags(cmd)
	cmd.Flags().StringSliceVar(&rules, "rule", nil, "rule as NAME=MODULE, any number of times")
	cmd.Flags().StringArrayVar(&params, "param", nil,
		"parameter as name=value for all rules, or RULE:name=value, any number of times")
	cmd.Flags().StringVarP(&output, "output", "o", "-", "file for the verdicts; -: stdout")
	cmd.Flags().BoolVar(&all, "all", false, "also verdicts with code 0: of rules that did not match")
	_ = cmd.MarkFlagRequired("rule") // it exists
	cmd.RunE = interruptible(func(cmd *cobra.Command, args []string) error {
		c, err := offlineConfig(configured)
		if err != nil {
			return err
		}
		list, err := parseRules(rules, params)
		if err != nil {
			return err
		}
		out := &verdictOutput{name: output}
		write := func(_ eventLine, verdicts []json.RawMessage) error {
			for _, v := range verdicts {
				if all || !isUnmatched(v) {
					if err := out.line(v); err != nil {
						return err
					}
				}
			}
			return nil
		}
		r := &replay{rules: list, each: write, log: cmd.ErrOrStderr(), stdin: cmd.InOrStdin(),
			begin: func() error { return out.open(cmd.OutOrStdout(), list, args[0]) }, summary: true}
		err = r.run(cmd.Context(), c, args[0])
		return errors.Join(err, out.close(r.whole))
	})
	return cmd
}

// replayRule is a rule of a replay.
type replayRule struct {
	name, file string
	config     runtime.RuleConfig
}

// put makes it a rule of the engine.
func (r *replayRule) put(ctx context.Context, engine *runtime.Offline) error {
	code, err := moduleFile(r.file)
	if err != nil {
		return err
	}
	_, err = engine.Put(ctx, runtime.RuleName(r.name), code,
		runtime.PutOptions{Activate: true, Config: &r.config, By: "offline"})
	if err != nil {
		return fmt.Errorf("cannot use module %q as rule %q: %w", r.file, r.name, err)
	}
	return nil
}

// parseRules reads --rule and --param.
func parseRules(rules, params []string) ([]replayRule, error) {
	list := make([]replayRule, len(rules))
	for i, text := range rules {
		name, file, ok := strings.Cut(text, "=")
		if !ok {
			return nil, fmt.Errorf("--rule %q: expected NAME=MODULE", text)
		}
		list[i] = replayRule{name: name, file: file}
		if at := ruleNamed(list, name); at != i {
			return nil, fmt.Errorf("--rule %q: expected a name that no other rule has", text)
		}
	}
	return list, setParams(list, params)
}

func ruleNamed(list []replayRule, name string) int {
	return slices.IndexFunc(list, func(r replayRule) bool { return r.name == name })
}

// sameFile reports whether two names are those of one file.
func sameFile(a, b string) bool {
	of, err := os.Stat(a)
	other, otherErr := os.Stat(b)
	return err == nil && otherErr == nil && os.SameFile(of, other)
}

// verdictOutput is where verdicts go. A file has them once all are there, and until then what it had.
type verdictOutput struct {
	name string // of a file; -: stdout
	file *os.File
	to   string // the name that file gets in the end; empty: it has it
	out  *bufio.Writer
}

// open begins the output, which must not be one of the files that are read.
func (o *verdictOutput) open(stdout io.Writer, rules []replayRule, events string) (err error) {
	if o.name != "-" {
		if o.file, err = o.create(rules, events); err != nil {
			return o.failed(cmp.Or(errors.Unwrap(err), err))
		}
		stdout = o.file
	}
	o.out = bufio.NewWriterSize(stdout, 64<<10)
	return nil
}

func (o *verdictOutput) create(rules []replayRule, events string) (*os.File, error) {
	info, err := os.Stat(o.name)
	mode := os.FileMode(0o666)
	if err == nil {
		if !info.Mode().IsRegular() { // a pipe, or /dev/null
			return os.OpenFile(o.name, os.O_WRONLY, 0)
		}
		mode = info.Mode().Perm()
	}
	if sameFile(o.name, events) {
		return nil, errors.New("it is the file of the events")
	}
	for i := range rules {
		if sameFile(o.name, rules[i].file) {
			return nil, fmt.Errorf("it is the module of rule %q", rules[i].name)
		}
	}
	if o.to, err = filepath.EvalSymlinks(o.name); err != nil {
		o.to = o.name // it is not there yet
	}
	return os.OpenFile(o.to+".part", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
}

func (o *verdictOutput) failed(err error) error {
	return fmt.Errorf("cannot write verdicts %q: %w", o.name, err)
}

func (o *verdictOutput) line(verdict []byte) error {
	_, _ = o.out.Write(verdict) // it keeps its error
	if err := o.out.WriteByte('\n'); err != nil {
		return o.failed(err)
	}
	return nil
}

// close ends the output, also if it was never opened. Without all verdicts a file is as it was before.
func (o *verdictOutput) close(whole bool) error {
	if o.out == nil {
		return nil
	}
	err := o.out.Flush()
	if o.file != nil {
		err = cmp.Or(err, o.file.Close())
	}
	if o.to != "" {
		part := o.to + ".part"
		if whole && err == nil {
			err = os.Rename(part, o.to)
		} else {
			_ = os.Remove(part)
		}
	}
	if err != nil {
		return o.failed(err)
	}
	return nil
}

// isUnmatched reports whether a verdict says that the rule did not match. Of the members before the
// code, those that a stranger chose are quoted, so that this text stands nowhere else before it.
func isUnmatched(verdict json.RawMessage) bool {
	_, rest, _ := bytes.Cut(verdict, []byte(`},"code":`))
	return bytes.HasPrefix(rest, []byte(`0,"fuel":`))
}

// replay is one run of a file through rules.
type replay struct {
	rules   []replayRule
	begin   func() error                                           // before the first event, or nil
	each    func(from eventLine, verdicts []json.RawMessage) error // for each event
	log     io.Writer                                              // for bad lines and progress
	summary bool
	stdin   io.Reader

	events, bad int
	took        time.Duration
	whole       bool // all events were evaluated
}

// maxBadLines is how many lines that are no events are told one by one.
const maxBadLines = 20

// run evaluates the file. What is no event makes an error, after everything else was done.
func (r *replay) run(ctx context.Context, c *Config, name string) (err error) {
	engine, err := openOffline(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, engine.Close()) }()
	for i := range r.rules {
		if err := r.rules[i].put(ctx, engine); err != nil {
			return err
		}
	}
	in, size, read, err := openEvents(name, r.stdin)
	if err != nil {
		return err
	}
	defer in.Close()
	events, err := newEventReader(name, in, c, r.report(name))
	if err != nil {
		return err
	}
	// Whatever may be wrong with rules and events is known now.
	if r.begin != nil {
		if err := r.begin(); err != nil {
			return err
		}
	}
	bar := newProgress(r.log, size)
	start := time.Now()
	err = r.evaluate(ctx, engine, events, func() { bar.show(read.n.Load(), r.events) })
	r.took = time.Since(start)
	bar.clear()
	if err != nil {
		return err
	}
	r.whole = true
	if r.summary {
		r.summarize(engine)
	}
	if r.bad > 0 {
		return fmt.Errorf("%d of the lines of %q are no events", r.bad, name)
	}
	return nil
}

// report reports lines that are no events.
func (r *replay) report(name string) func(lineError) {
	return func(e lineError) {
		if r.bad++; r.bad <= maxBadLines {
			fmt.Fprintf(r.log, "%s:%d: %s\n", name, e.line, e.text)
		}
	}
}

// readBatch is a batch that was read, or why there is none.
type readBatch struct {
	recs [][]byte
	from []eventLine
	bad  []lineError
	err  error
}

// evaluate reads and evaluates at once, each on a goroutine of its own. If it ends early the reader may
// still wait for what stdin gives, which nobody will see.
func (r *replay) evaluate(ctx context.Context, engine *runtime.Offline, events *eventReader,
	progress func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	batches := make(chan readBatch, 4)
	report := events.onBad
	go func() {
		for {
			var b readBatch
			events.onBad = func(e lineError) { b.bad = append(b.bad, e) }
			b.recs, b.from, b.err = events.next(replayBatch)
			select {
			case batches <- b:
			case <-ctx.Done():
				return
			}
			if len(b.recs) == 0 {
				return
			}
		}
	}()
	for {
		var b readBatch
		select {
		case b = <-batches:
		case <-ctx.Done():
			return ctx.Err()
		}
		for _, e := range b.bad {
			report(e)
		}
		if b.err != nil {
			return b.err
		}
		if len(b.recs) == 0 {
			return nil
		}
		verdicts, err := engine.Replay(ctx, b.recs)
		if err != nil {
			return err
		}
		for i, list := range verdicts {
			if err := r.each(b.from[i], list); err != nil {
				return err
			}
		}
		r.events += len(b.recs)
		progress()
	}
}

// summarize tells what the rules did, by the engine's own counters.
func (r *replay) summarize(engine *runtime.Offline) {
	seconds := max(r.took.Seconds(), 1e-9)
	fmt.Fprintf(r.log, "%d events in %v (%.0f/s), %d lines that are none\n", r.events,
		r.took.Round(time.Millisecond), float64(r.events)/seconds, r.bad)
	w := tabwriter.NewWriter(r.log, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "RULE\tCALLED\tMATCHED\tUNMATCHED\tFAILED\tFUEL/EVENT\tNS/EVENT\t")
	stats := engine.Stats()
	for i := range stats.Rules {
		s := &stats.Rules[i]
		called := uint64(0)
		for _, n := range s.Outcomes {
			called += n
		}
		of := float64(cmp.Or(called, 1))
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%.0f\t%.0f\t\n", s.Name, called, s.Outcomes[runtime.Matched],
			s.Outcomes[runtime.Unmatched], s.Outcomes[runtime.Failed], float64(s.Fuel)/of,
			float64(s.Took.Sum.Nanoseconds())/of)
	}
	_ = w.Flush() // what stderr does not take is nobody's loss
}

// progress is one line on a terminal that says how far a file is. A library for it would bring along
// three more, and this is all that is needed.
type progress struct {
	out   io.Writer // nil: nobody looks
	size  int64     // of the file; 0: not known
	begun time.Time
	shown time.Time
}

// newProgress makes a line that is shown only if out is a terminal.
func newProgress(out io.Writer, size int64) *progress {
	p := &progress{size: size, begun: time.Now()}
	if f, ok := out.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			p.out = out
		}
	}
	return p
}

// show shows how far it is, ten times a second at most.
func (p *progress) show(read int64, events int) {
	if p.out == nil || time.Since(p.shown) < 100*time.Millisecond {
		return
	}
	p.shown = time.Now()
	rate := float64(events) / time.Since(p.begun).Seconds()
	if p.size == 0 {
		fmt.Fprintf(p.out, "\r\x1b[K%d events, %.0f/s", events, rate)
		return
	}
	const width = 30
	part := min(float64(read)/float64(p.size), 1)
	full := int(part * width)
	fmt.Fprintf(p.out, "\r\x1b[K[%s%s] %3.0f %%  %d events, %.0f/s", strings.Repeat("#", full),
		strings.Repeat(".", width-full), part*100, events, rate)
}

// clear takes the line away.
func (p *progress) clear() {
	if p.out != nil && !p.shown.IsZero() {
		_, _ = fmt.Fprint(p.out, "\r\x1b[K")
	}
}
