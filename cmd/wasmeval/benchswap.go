package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// swapPart measures the latency of evaluation while rules are swapped.
type swapPart struct{ rate float64 }

func (p *swapPart) flags(cmd *cobra.Command) {
	cmd.Long = `Measures how long events wait for their verdicts, with the rule at rest, and with another
version of it activated again and again, by turns and each three times as long as --for says: of the
2,000 events of a second the p99 is that of twenty, whom anything else on the machine may delay.`
	cmd.Flags().Float64Var(&p.rate, "swaps", p.rate, "swaps a second")
}

const (
	swapRule    = "bench"
	swapLengths = 3 // that it measures as long as the others do
)

func (p *swapPart) check() error {
	if p.rate <= 0 || p.rate > 10_000 {
		return fmt.Errorf("--swaps is %v: expected a number above 0, at most 10000", p.rate)
	}
	return nil
}

func (p *swapPart) run(ctx context.Context, b *bench) error {
	l := &benchLoad{rate: 2000, batch: 1, workers: 4}
	quiet := b.report.measured("swap", "quiet", l.rate)
	swapping := b.report.measured("swap", fmt.Sprintf("%.0f swaps a second", p.rate), l.rate)
	var achieved []float64
	for range b.runs {
		s, err := startServer(ctx)
		if err != nil {
			return err
		}
		rate, err := p.pair(ctx, b, s, l, quiet, swapping)
		s.kill()
		if err != nil {
			return err
		}
		achieved = append(achieved, rate)
	}
	b.report.judge("swap", micros(swapping.all(p99OfRun)), micros(quiet.all(p99OfRun)), fmt.Sprintf(
		"%s swaps a second were made, %s events/s", number(median(achieved)), number(l.rate)))
	b.report.plots = append(b.report.plots, latencyPlot("swap", "latency-swap.svg",
		"Latency of verdicts under swaps", quiet, swapping))
	return nil
}

// pair measures without and with swaps by turns, and returns how many swaps a second there were.
func (p *swapPart) pair(ctx context.Context, b *bench, s *benchServer, l *benchLoad,
	quiet, swapping *measurement) (rate float64, err error) {
	for version := range 2 {
		if err := s.push(ctx, swapRule, ruleOf(version, "*")); err != nil {
			return 0, err
		}
	}
	open := func() (lane, error) { return newHTTPLane(s.url, "/v1/evaluate", "", benchEvents(1), nil) }
	calm := &contender{server: s, load: l, open: open}
	moved := &contender{server: s, load: l, open: open}
	swapper, err := newSwapLane(s)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, calm.close(), moved.close(), swapper.Close()) }()
	if err := errors.Join(b.warm(ctx, calm), b.warm(ctx, moved)); err != nil {
		return 0, err
	}
	swaps := &loadRun{}
	for range swapLengths * turns {
		if err := calm.measure(ctx, b.length/turns); err != nil {
			return 0, err
		}
		if err := p.swapWhile(ctx, swapper, moved, swaps, b.length/turns); err != nil {
			return 0, err
		}
	}
	quiet.add(calm.run)
	swapping.add(moved.run)
	return swaps.rate(), nil
}

// swapWhile measures while another version is activated again and again, and adds what was swapped.
func (p *swapPart) swapWhile(ctx context.Context, swapper lane, c *contender, swaps *loadRun,
	length time.Duration) error {
	type result struct {
		r   *loadRun
		err error
	}
	done := make(chan result, 1)
	go func() {
		l := &benchLoad{rate: p.rate, batch: 1, workers: 1}
		r, err := l.drive(ctx, []lane{swapper}, length)
		done <- result{r, err}
	}()
	err := c.measure(ctx, length)
	made := <-done
	if err = errors.Join(err, made.err); err != nil {
		return err
	}
	swaps.add(made.r)
	return nil
}

// swapLane activates one version after the other. Like events it goes without net/http's client, which
// would take as much of the processors that events wait for as the swap does.
type swapLane struct {
	versions [2]*httpLane
	n        int
}

func newSwapLane(s *benchServer) (*swapLane, error) {
	w := &swapLane{}
	for i := range w.versions {
		var err error
		if w.versions[i], err = newHTTPLane(s.url, "/v1/rules/"+swapRule+"/activate",
			"Authorization: Bearer "+s.client.token+"\r\n",
			[][]byte{fmt.Appendf(nil, `{"version":%d}`, 1+i)}, nil); err != nil {
			return nil, errors.Join(err, w.Close())
		}
	}
	return w, nil
}

func (w *swapLane) send() (int, error) {
	w.n++
	return w.versions[w.n%2].send()
}

// Close implements lane.
func (w *swapLane) Close() error {
	var err error
	for _, v := range w.versions {
		if v != nil {
			err = errors.Join(err, v.Close())
		}
	}
	return err
}
