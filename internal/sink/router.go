package sink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxPlans = 4096 // rules whose plan is kept; for others each route is asked each time
	// abortGrace is how long Close waits, once it has aborted the deliveries, for writes that
	// cannot be aborted: those to a file or to standard output.
	abortGrace = time.Second
)

// Router takes verdicts and hands them to the sinks that its routes name, and to the tail.
type Router struct {
	routes []route
	queues []*queue // a route's sinks are bits, by their index here
	tail   *Tail

	// plans are the routes by rule. The map is never changed, only replaced under mu.
	plans atomic.Pointer[map[string]plan]
	mu    sync.Mutex

	stopping chan struct{}
	stop     sync.Once
	abort    context.CancelFunc
}

type route struct {
	filter
	sinks uint64
}

// plan is those routes that want a rule at all.
type plan []*route

// New opens the sinks and starts a goroutine for each; the caller closes the router. The sink of
// type stdout writes to stdout, one write for each batch of lines; nobody else should write there
// without a lock. All faults are reported at once, joined by errors.Join; then nothing runs.
func New(c Config, stdout io.Writer) (*Router, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("cannot route verdicts: %w", err)
	}
	ctx, abort := context.WithCancel(context.Background())
	r := &Router{
		tail:     newTail(cmp.Or(c.TailListeners, defaultTailListeners)),
		stopping: make(chan struct{}),
		abort:    abort,
	}
	r.plans.Store(new(map[string]plan))
	index := make(map[string]int)
	var faults []error
	for i, s := range c.Sinks {
		s.setDefaults()
		q, err := r.open(ctx, &s, stdout)
		if err != nil {
			faults = append(faults, fmt.Errorf("cannot open sink %q: %w", s.Name, err))
			continue
		}
		index[s.Name] = i
		r.queues = append(r.queues, q)
	}
	if len(faults) > 0 {
		abort()
		for _, q := range r.queues {
			faults = append(faults, q.out.close())
		}
		return nil, errors.Join(faults...)
	}
	for i := range c.Routes {
		f, _ := newFilter(c.Routes[i].Rules, c.Routes[i].Codes) // Check has seen the faults
		rt := route{filter: f}
		for _, name := range c.Routes[i].Sinks {
			rt.sinks |= 1 << index[name]
		}
		r.routes = append(r.routes, rt)
	}
	for _, q := range r.queues {
		go q.run()
	}
	return r, nil
}

// open makes the queue of one sink with its output, and does not start it.
func (r *Router) open(ctx context.Context, c *SinkConfig, stdout io.Writer) (*queue, error) {
	q, err := newQueue(ctx, r.stopping, c)
	if err != nil {
		return nil, err
	}
	switch c.Type {
	case TypeStdout:
		q.out = &writer{q: q, w: stdout}
	case TypeFile:
		f, err := openFile(c.Path, c, q.fail)
		if err != nil {
			return nil, err
		}
		q.out = &writer{q: q, w: f, file: f}
	case TypeWebhook:
		o := newWebhook(q, c)
		if c.DeadLetter != "" {
			if o.dead, err = openFile(c.DeadLetter, c, q.fail); err != nil {
				return nil, err
			}
		}
		q.out, q.batchMax, q.batchBytes, q.batchWait = o, c.BatchMax, webhookBatchBytes, c.BatchWait
	default:
		panic(fmt.Sprintf("BUG: sink type %q was not checked", c.Type))
	}
	return q, nil
}

// Wants reports whether a sink or a listener would get such a verdict. Any goroutine may call it.
func (r *Router) Wants(rule string, code int32, failed bool) bool {
	return r.sinksOf(rule, code, failed) != 0 || r.tail.wants(rule, code, failed)
}

// Route queues a copy of line, a JSON object without a newline, for each sink and listener that
// wants it, once for each. It never waits: what does not fit into a queue is dropped and counted,
// also after Close. Any goroutine may call it; the caller keeps line.
func (r *Router) Route(rule string, code int32, failed bool, line []byte) {
	for set := r.sinksOf(rule, code, failed); set != 0; set &= set - 1 {
		r.queues[bits.TrailingZeros64(set)].put(line)
	}
	r.tail.route(rule, code, failed, line)
}

// sinksOf returns the set of sinks for a verdict.
func (r *Router) sinksOf(rule string, code int32, failed bool) (set uint64) {
	plans := *r.plans.Load()
	p, ok := plans[rule]
	if !ok {
		if len(plans) >= maxPlans {
			return r.search(rule, code, failed)
		}
		p = r.makePlan(rule)
	}
	for _, rt := range p {
		if rt.wantsCode(code, failed) {
			set |= rt.sinks
		}
	}
	return set
}

// search is sinksOf without a plan. Where there are more rules than plans, making room for each
// other's plan over and over would cost far more than asking every route.
func (r *Router) search(rule string, code int32, failed bool) (set uint64) {
	for i := range r.routes {
		if rt := &r.routes[i]; rt.wants(rule, code, failed) {
			set |= rt.sinks
		}
	}
	return set
}

// makePlan finds the routes of a rule that was not seen before and keeps them. It is the only part
// of routing that allocates and takes a lock: once for each rule.
func (r *Router) makePlan(rule string) plan {
	p := plan{}
	for i := range r.routes {
		if r.routes[i].wantsRule(rule) {
			p = append(p, &r.routes[i])
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	old := *r.plans.Load()
	if len(old) >= maxPlans {
		return p // others were faster
	}
	next := make(map[string]plan, len(old)+1)
	maps.Copy(next, old)
	next[rule] = p
	r.plans.Store(&next)
	return p
}

// Tail is the handler of GET /v1/tail.
func (r *Router) Tail() *Tail { return r.tail }

// Close stops taking verdicts, ends the tail, and delivers what is queued until ctx ends; then it
// aborts the deliveries. It returns after the last goroutine ended, and a *LeftError if verdicts
// were left. Batches that a webhook could not deliver go to its dead-letter file also now.
//
// A write to a file or to standard output cannot be aborted: if one hangs, Close returns a second
// after ctx ended, with a *LeftError that names the sink. Close may be called more than once.
func (r *Router) Close(ctx context.Context) error {
	r.stop.Do(func() {
		r.tail.Close()
		close(r.stopping)
		for _, q := range r.queues {
			q.ring.Close()
		}
	})
	ended := make(chan struct{})
	waiting := make(chan struct{})
	go func() {
		defer close(waiting)
		for _, q := range r.queues {
			select {
			case <-q.done:
			case <-ended:
				return
			}
		}
		r.tail.wait(ended)
	}()
	select {
	case <-waiting:
	case <-ctx.Done():
		r.abort()
		r.tail.abort()
		t := time.NewTimer(abortGrace)
		select {
		case <-waiting:
		case <-t.C:
		}
		t.Stop()
	}
	close(ended)
	<-waiting
	r.abort()
	return r.leftError()
}

func (r *Router) leftError() error {
	e := &LeftError{}
	for _, q := range r.queues {
		select {
		case <-q.done:
			// The queue is empty. What is pending now is in the hands of a Route that came after
			// Close and has still to count it as dropped.
			e.Left += q.left.Load()
		default:
			e.Stuck = append(e.Stuck, q.name)
			s := q.stat()
			e.Left += s.Left + s.Pending
		}
	}
	if e.Left == 0 && e.Stuck == nil {
		return nil
	}
	return e
}
