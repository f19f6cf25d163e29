package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// benchLoad is how requests are offered.
type benchLoad struct {
	rate    float64 // requests or datagrams a second; 0: as fast as they are taken
	batch   int     // events in each
	workers int
}

func (l *benchLoad) check() error {
	if l.rate < 0 || l.batch < 1 || l.batch > 100_000 || l.workers < 1 || l.workers > 1000 {
		return errors.New("expected --rate 0 or more, --batch 1 to 100000 and --workers 1 to 1000")
	}
	return nil
}

// lane is one worker's way to a server: a connection or a socket.
type lane interface {
	// send sends one request and returns how many of its events were taken, as far as an answer says.
	send() (taken int, err error)
	Close() error
}

// loadRun is what one run of a load measured. Times are in nanoseconds.
type loadRun struct {
	Sent    uint64  `json:"sent"`  // events that were offered
	Taken   uint64  `json:"taken"` // events that the server took
	Dropped uint64  `json:"dropped"`
	Missing int64   `json:"missing"` // sent, and in no count of the server
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpu_ns"` // of the server, for each event that it took
	P50     float64 `json:"p50_ns"`
	P99     float64 `json:"p99_ns"`
	P999    float64 `json:"p999_ns"`
	Max     float64 `json:"max_ns"`

	latency *hdrhistogram.Histogram
}

func (r *loadRun) rate() float64 { return float64(r.Taken) / r.Seconds }

// quantiles takes the latencies into the figures.
func (r *loadRun) quantiles(h *hdrhistogram.Histogram) {
	r.latency = h
	r.P50, r.P99 = float64(h.ValueAtQuantile(50)), float64(h.ValueAtQuantile(99))
	r.P999, r.Max = float64(h.ValueAtQuantile(99.9)), float64(h.Max())
}

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, int64(time.Minute), 3) }

// record adds a duration; above a minute it counts as a minute.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(int64(d), 1), int64(time.Minute)))
}

// drive offers the load for a time: lane i sends requests i, i+workers, …, each at its intended
// time, or at once if that has passed.
func (l *benchLoad) drive(ctx context.Context, lanes []lane, length time.Duration) (
	*loadRun, error) {
	d := &driver{benchLoad: l, run: &loadRun{}, latency: newHistogram(), length: length}
	var all sync.WaitGroup
	d.begun = time.Now()
	for i := range lanes {
		all.Go(func() { d.lane(ctx, i, lanes[i]) })
	}
	all.Wait()
	d.run.Seconds = time.Since(d.begun).Seconds()
	d.run.quantiles(d.latency)
	return d.run, errors.Join(ctx.Err(), d.err)
}

// driver is one run of drive.
type driver struct {
	*benchLoad
	begun  time.Time
	length time.Duration

	mu      sync.Mutex // guards the rest, which lanes add to at their end
	run     *loadRun
	latency *hdrhistogram.Histogram
	err     error
}

func (d *driver) lane(ctx context.Context, i int, to lane) {
	latency := newHistogram()
	var sent, taken uint64
	clock, err := newPacer(d.begun)
	for err == nil && ctx.Err() == nil {
		intended := time.Since(d.begun)
		if d.rate > 0 {
			intended = time.Duration(float64(i) / d.rate * 1e9)
			i += d.workers
		}
		if intended > d.length {
			break
		}
		clock.until(ctx, intended)
		var n int
		n, err = to.send()
		sent += uint64(d.batch)
		taken += uint64(n)
		record(latency, time.Since(d.begun)-intended)
	}
	if clock != nil {
		clock.close()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.run.Sent += sent
	d.run.Taken += taken
	d.latency.Merge(latency)
	if d.err == nil {
		d.err = err // mostly all lanes have the same
	}
}

// contender is one load on one server.
type contender struct {
	server *benchServer
	load   *benchLoad
	open   func() (lane, error)
	into   *measurement // that byTurns adds the run to

	lanes []lane
	run   *loadRun
}

// turns is how many times each contender has its turn in one run. What one costs is held against what
// another does; if each ran once for the whole length, they would run at times at which the machine,
// which others use too, is not the same.
const turns = 5

// against measures one load on one server.
func (b *bench) against(ctx context.Context, s *benchServer, l *benchLoad,
	open func() (lane, error)) (*loadRun, error) {
	c := &contender{server: s, load: l, open: open}
	err := b.warm(ctx, c)
	if err == nil {
		err = c.measure(ctx, b.length)
	}
	return c.run, errors.Join(err, c.close())
}

// byTurns measures loads that are held against each other.
func (b *bench) byTurns(ctx context.Context, list []*contender) (err error) {
	defer func() {
		for _, c := range list {
			err = errors.Join(err, c.close())
		}
	}()
	for _, c := range list {
		if err := b.warm(ctx, c); err != nil {
			return err
		}
	}
	for range turns {
		for _, c := range list {
			if err := c.measure(ctx, b.length/turns); err != nil {
				return err
			}
		}
	}
	for _, c := range list {
		c.into.add(c.run)
	}
	return nil
}

// warm opens the lanes of a contender and offers the load for the time of the warm-up.
func (b *bench) warm(ctx context.Context, c *contender) error {
	c.run = &loadRun{}
	for range c.load.workers {
		l, err := c.open()
		if err != nil {
			return err
		}
		c.lanes = append(c.lanes, l)
	}
	if b.warmUp == 0 {
		return nil
	}
	err := c.measure(ctx, b.warmUp)
	c.run = &loadRun{}
	return err
}

// measure offers the load for a time and adds what it measures to the run.
func (c *contender) measure(ctx context.Context, length time.Duration) error {
	r, err := c.server.measured(ctx, func() (*loadRun, error) { return c.load.drive(ctx, c.lanes, length) })
	if err == nil {
		c.run.add(r)
	}
	return err
}

// measured adds to what a load measured what the server counted of it, and its CPU time, until all of
// it is evaluated.
func (s *benchServer) measured(ctx context.Context, load func() (*loadRun, error)) (*loadRun, error) {
	before, err := s.settled(ctx, 0)
	if err != nil {
		return nil, err
	}
	cpu, err := s.cpu()
	if err != nil {
		return nil, err
	}
	r, err := load()
	if err != nil {
		return nil, err
	}
	after, err := s.settled(ctx, before.Received+r.Sent)
	if err != nil {
		return nil, err
	}
	used, err := s.cpu()
	if err != nil {
		return nil, err
	}
	r.account(before, after)
	r.CPU = float64(used-cpu) / float64(max(r.Taken, 1))
	return r, nil
}

func (c *contender) close() (err error) {
	for _, l := range c.lanes {
		err = errors.Join(err, l.Close())
	}
	return err
}

// account takes what the server counted into the figures.
func (r *loadRun) account(before, after *tally) {
	if !after.counts {
		return // a server that answers each request: what was taken is known by the answers
	}
	r.Dropped = after.dropped() - before.dropped()
	r.Taken = after.Evaluated - before.Evaluated
	r.Missing = int64(r.Sent) - int64(after.Received-before.Received)
}

// add takes another part of the same run into the figures.
func (r *loadRun) add(part *loadRun) {
	r.CPU = (r.CPU*float64(r.Taken) + part.CPU*float64(part.Taken)) / float64(max(r.Taken+part.Taken, 1))
	r.Sent += part.Sent
	r.Taken += part.Taken
	r.Dropped += part.Dropped
	r.Missing += part.Missing
	r.Seconds += part.Seconds
	if r.latency != nil {
		part.latency.Merge(r.latency)
	}
	r.quantiles(part.latency)
}
