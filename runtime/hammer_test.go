package runtime

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wasmeval/bus"
	"wasmeval/internal/event"
)

// Workers that hammer a breaker try a rule once when its wait is over, never two at a time, and do
// not call it before.
func TestBreakerHammer(t *testing.T) {
	limits := DefaultLimits().Quarantine
	limits.MaxWait = 4 * time.Second
	var changes, begun atomic.Int64
	b := newBreaker(limits, func() { changes.Add(1) })
	now, allTries, closed := int64(1e18), int64(0), 0
	for round := range 4000 {
		now += int64(100 * time.Millisecond)
		open, due := b.state.Load() == breakerOpen, now >= b.until.Load()
		var calls, tries atomic.Int64
		var all sync.WaitGroup
		for worker := range 4 {
			all.Go(func() {
				r := rand.New(rand.NewPCG(uint64(round), uint64(worker)))
				for range 1 + r.IntN(10) {
					call, try := b.admit(now)
					if !call {
						continue
					}
					calls.Add(1)
					if try {
						tries.Add(1)
					}
					if r.IntN(5) > 0 {
						if b.failure(now, why) {
							begun.Add(1)
						}
					} else {
						b.success(1)
					}
					b.view()
				}
			})
		}
		all.Wait()
		allTries += tries.Load()
		if !open {
			closed++
		}
		if open && tries.Load() != int64(b2i(due)) || open && !due && calls.Load() > 0 || !open &&
			tries.Load() > 0 {
			t.Fatalf("round %d, quarantined %v, its wait over %v: %d calls, %d tries", round, open, due,
				calls.Load(), tries.Load())
		}
	}
	// A quarantine begins, goes on or ends with each change, and all but the first with a try.
	if changes.Load() != begun.Load()+allTries || begun.Load() < 10 || closed < 10 {
		t.Errorf("%d changes, %d quarantines, %d tries, %d rounds without", changes.Load(), begun.Load(),
			allTries, closed)
	}
}

// Everything at once: requests that are answered or time out, rules of all kinds that are put,
// changed, tested and deleted. Each event is evaluated once, each request is answered, and nothing
// is left of rules that are deleted.
func TestEverythingAtOnce(t *testing.T) {
	f := start(t)
	f.registry.db.NoSync = true
	images := openFiles(t)
	var all sync.WaitGroup
	var asked atomic.Uint64
	done := make(chan struct{})
	running := func() bool {
		select {
		case <-done:
			return false
		default:
			return true
		}
	}
	for lane := range 2 {
		p := f.bus.NewProducer(bus.SourceHTTP)
		all.Go(func() {
			for i := 0; running(); i++ {
				asked.Add(uint64(f.request(t, p, lane, i)))
			}
		})
	}
	const changes = 150
	var changing sync.WaitGroup
	for g := range 4 {
		changing.Go(func() { f.changes(t, g, changes) })
	}
	changing.Wait()
	close(done)
	all.Wait()
	f.drain()
	s, l := f.Stats(), f.bus.Ledger()
	if s.Events != asked.Load() || l.Evaluated != asked.Load() || l.Difference() != 0 {
		t.Errorf("%d events were sent, %d evaluated, %d counted as such, difference %d", asked.Load(),
			s.Events, l.Evaluated, l.Difference())
	}
	for _, r := range f.Rules() {
		if _, err := f.Delete(context.Background(), r.Name, ""); err != nil {
			t.Error(err)
		}
	}
	s = f.Stats()
	if s.Programs != 0 || len(s.Rules) != 0 || openFiles(t) != images || len(f.replies.open) != 0 {
		t.Errorf("no rules are left, but %d programs, %d counters, %d images and %d requests", s.Programs,
			len(s.Rules), openFiles(t)-images, len(f.replies.open))
	}
}

// request sends three events and waits for their verdicts, or goes away now and then. It returns
// how many were taken.
func (f *fixture) request(t *testing.T, p *bus.Producer, lane, i int) int {
	rule := ""
	if i%3 == 0 {
		rule = fmt.Sprint("r", i%5)
	}
	r, err := f.OpenReply(3, rule)
	if errors.Is(err, ErrNoRule) {
		return 0
	}
	if err != nil {
		t.Error(err)
		return 0
	}
	defer r.Close()
	var recs []bus.Record
	for k := range 3 {
		env := event.Envelope{ID: []byte("1"), Type: fmt.Append(nil, "t", i%7),
			Arrival: time.Now().UnixNano(), Reply: r.ID(), Index: uint32(k)}
		head, err := event.AppendHead(nil, &env)
		if err != nil {
			t.Error(err)
		}
		body := fmt.Appendf(nil, `{"bad":%d,"n":%d}`, b2i(i%50 == 3 && k == 1), i)
		recs = append(recs, bus.Record{Head: head, Body: body})
	}
	n, _ := p.Submit((lane+i)%2, recs) // what is not taken is counted
	for k := n; k < 3; k++ {
		r.Skip(k)
	}
	if i%10 != 0 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, err := r.Wait(ctx, time.Minute)
		if err != nil && !(rule != "" && errors.Is(err, ErrNoRule)) {
			t.Errorf("request %d: %v", i, err)
		}
	}
	return n
}

// changes makes n changes of five rules. It is refused for what others did to them meanwhile, and
// for nothing else.
func (f *fixture) changes(t *testing.T, g, n int) {
	ctx := context.Background()
	var modules [][]byte
	for _, name := range []string{"v1", "v2", "trap", "loop", "exit", "always", "unrest", "columns",
		"stain", "greedy"} {
		modules = append(modules, module(t, name))
	}
	for i := range n {
		name := RuleName(fmt.Sprint("r", (i+g)%5))
		var err error
		switch (i*7 + g) % 9 {
		case 0, 1, 2:
			code := modules[(i*3+g)%len(modules)]
			_, err = f.Put(ctx, name, code, PutOptions{Activate: i%4 != 0})
		case 3:
			_, err = f.Rollback(ctx, name, "")
		case 4:
			_, err = f.Disable(ctx, name, "")
		case 5:
			_, err = f.Enable(ctx, name, "")
		case 6:
			_, err = f.Delete(ctx, name, "")
		case 7:
			_, err = f.Test(ctx, name, 0, []TestEvent{TestEvent(`{"bad":1}`), TestEvent(`{}`)}, nil)
		case 8:
			_, err = f.Configure(ctx, name, RuleConfig{Fuel: uint64(1000 + i*1000)}, "")
		}
		var e *Error
		if err != nil && (!errors.As(err, &e) || e.Kind != NotFound && e.Kind != Conflict) {
			t.Errorf("change %d of rule %s: %v", i, name, err)
		}
		f.Stats()
		f.Rules()
	}
}
