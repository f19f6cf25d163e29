package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"
)

// roomyCalls makes an engine's calls large enough for the batches of a test.
func roomyCalls(e *Engine) { e.limits.CallFuel = 100 * e.limits.EventFuel }

func putRule(t *testing.T, e *Engine, rule, mod string) {
	t.Helper()
	_, err := e.Put(context.Background(), RuleName(rule), module(t, mod), PutOptions{Activate: true})
	if err != nil {
		t.Fatal(err)
	}
}

// handleBatch gives a worker events in one batch, on this goroutine.
func handleBatch(t *testing.T, e *Engine, events ...string) {
	t.Helper()
	var recs [][]byte
	for _, ev := range events {
		recs = append(recs, record(t, ev))
	}
	e.workers[0].Handle(recs)
}

func count(h HistogramStats) (n uint64) {
	for _, c := range h.Counts {
		n += c
	}
	return n
}

// Each evaluation is counted once in each counter, whatever becomes of it.
func TestCountedOnce(t *testing.T) {
	for _, c := range []struct {
		module, fault         string
		calls, replaced, good uint64
	}{
		{"negative", FaultVerdict, 1, 0, 3}, // one call tells good and bad verdicts
		{"trap", FaultTrap, 5, 2, 3},        // that of the batch, and one for each event
		{"fail", FaultRule, 5, 0, 3},
	} {
		t.Run(c.module, func(t *testing.T) {
			e := idle(t, t.TempDir())
			defer shut(t, e)
			roomyCalls(e)
			putRule(t, e, "r", c.module)
			handleBatch(t, e, `{}`, `{}`, `{"bad":1}`, `{}`)
			s := e.Stats()
			r := s.Rules[0]
			if r.Outcomes != [Outcomes]uint64{Matched: c.good, Failed: 1} {
				t.Errorf("outcomes %v of 3 good events and a bad one", r.Outcomes)
			}
			for kind, n := range r.Faults {
				if n != uint64(b2i(kind == c.fault)) {
					t.Errorf("%d failures of kind %s", n, kind)
				}
			}
			if n := count(r.Took); n != 4 {
				t.Errorf("%d durations for 4 events", n)
			}
			// Each instance that is new is asked for a place first.
			slices := c.calls + 1 + c.replaced
			if n := count(s.Slices); r.Calls != c.calls || n != slices || r.Replaced != c.replaced {
				t.Errorf("%d calls, %d slices, %d replaced: expected %d, %d, %d", r.Calls, n, r.Replaced,
					c.calls, slices, c.replaced)
			}
			if n := count(s.Queued); s.Events != 4 || s.Batches != 1 || n != 4 || s.Unwanted != 0 {
				t.Errorf("%d events, %d batches, %d waits, %d unwanted", s.Events, s.Batches, n, s.Unwanted)
			}
			var fuel uint64
			for _, v := range e.router.(*collect).all(t) {
				fuel += v.Fuel
			}
			if fuel == 0 || fuel > r.Fuel { // that of a batch that failed is in no verdict
				t.Errorf("fuel %d is counted, %d is in the verdicts", r.Fuel, fuel)
			}
		})
	}
}

// Uploads that fail leave no counters, programs or images behind, and take none away.
func TestFailedPutsLeaveNothing(t *testing.T) {
	f := start(t)
	images := openFiles(t)
	refused := &RuleConfig{Params: map[string]json.RawMessage{"i": json.RawMessage("13")}}
	fail := func(name string) {
		t.Helper()
		_, err := f.Put(context.Background(), RuleName(name), module(t, "params"),
			PutOptions{Activate: true, Config: refused})
		var e *Error
		if !errors.As(err, &e) || e.Kind != BadModule {
			t.Fatalf("error %v, expected a refusal", err)
		}
	}
	for i := range 20 {
		fail(fmt.Sprint("r", i))
	}
	s := f.Stats()
	if len(s.Rules) != 0 || s.Programs != 0 || openFiles(t) != images || s.Generation != 0 {
		t.Errorf("20 uploads that failed left %d counters, %d programs, %d images, generation %d",
			len(s.Rules), s.Programs, openFiles(t)-images, s.Generation)
	}
	f.put("r1", "v1")
	f.send("x", `{}`)
	fail("r1")
	s = f.Stats()
	if len(s.Rules) != 1 || s.Rules[0].Outcomes[Matched] != 1 || s.Rules[0].Version != 1 {
		t.Errorf("after one that failed the rule's counters are %+v", s.Rules)
	}
	f.put("r1", "v2")
	f.send("x", `{}`)
	if r := f.Stats().Rules[0]; r.Outcomes[Matched] != 2 || r.Version != 2 {
		t.Errorf("the next version's counters are %+v", r)
	}
	if _, err := f.Delete(context.Background(), "r1", "test"); err != nil {
		t.Fatal(err)
	}
	if s := f.Stats(); len(s.Rules) != 0 || s.Programs != 0 || openFiles(t) != images {
		t.Errorf("a deleted rule left %d counters and %d programs", len(s.Rules), s.Programs)
	}
}

// Who asks for the counters, as a scrape does, waits neither for a change nor for Close.
func TestStatsDoNotWait(t *testing.T) {
	f := start(t)
	f.put("r", "v1")
	f.guests.Lock()
	f.mu.Lock()
	done := make(chan Stats)
	go func() { done <- f.Stats() }()
	select {
	case s := <-done:
		if len(s.Rules) != 1 || s.Rules[0].Version != 1 || s.Generation != 1 {
			t.Errorf("during a change they are %+v", s)
		}
	case <-time.After(10 * time.Second):
		t.Error("they wait for a change")
	}
	f.mu.Unlock()
	f.guests.Unlock()
}
