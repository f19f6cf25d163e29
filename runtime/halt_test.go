package runtime

import (
	"context"
	"fmt"
	"testing"
	"time"

	"wasmeval/bus"
	"wasmeval/internal/event"
)

// gate is a Router that holds the worker up in the middle of a batch.
type gate struct {
	collect
	entered, open chan struct{}
}

// Route waits until the gate is open.
func (g *gate) Route(rule string, code int32, failed bool, v []byte) {
	g.collect.Route(rule, code, failed, v)
	select {
	case g.entered <- struct{}{}:
	default:
	}
	<-g.open
}

// halting is an engine with two rules that count and more events in its one ring than a batch has, whose
// worker is in its first batch, after the call of the first rule.
func halting(t *testing.T, dir string) (*fixture, *gate) {
	t.Helper()
	b, err := bus.New(bus.Config{Shards: 1, RingBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	limits := DefaultLimits()
	limits.CallFuel = 64 * limits.EventFuel // so that a rule gets the batch in one call
	g := &gate{entered: make(chan struct{}, 1), open: make(chan struct{})}
	e, err := Open(context.Background(), Config{DataDir: dir, Bus: b, Router: g, Limits: limits,
		Batch: 64, Fields: event.Fields{Type: "type", Key: "key"}})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{Engine: e, t: t, bus: b, out: &g.collect, in: b.NewProducer(bus.SourceHTTP)}
	t.Cleanup(f.stop)
	f.put("first", "counting")
	f.put("second", "counting")
	reply, err := e.OpenReply(64, "") // of the events of the first batch
	if err != nil {
		t.Fatal(err)
	}
	var recs []bus.Record
	for i := range 1000 {
		env := event.Envelope{Key: []byte("k"), Arrival: time.Now().UnixNano()}
		if i < 64 {
			env.Reply, env.Index = reply.ID(), uint32(i)
		}
		head, err := event.AppendHead(nil, &env)
		if err != nil {
			t.Fatal(err)
		}
		recs = append(recs, bus.Record{Head: head, Body: []byte(`{"key":"k"}`)})
	}
	if _, err := f.in.Submit(0, recs); err != nil {
		t.Fatal(err)
	}
	e.Start()
	<-g.entered
	b.Close()
	t.Cleanup(func() {
		_, err := reply.Wait(context.Background(), time.Millisecond)
		if whole := b.Ring(0).Released() > 0; whole != (err == nil) {
			t.Errorf("the batch was evaluated: %v, but its request got error %v", whole, err)
		}
	})
	return f, g
}

// counted opens the engine of a folder again and returns the codes that its rules give the next event.
func counted(t *testing.T, dir string) string {
	t.Helper()
	f := openWith(t, Config{DataDir: dir, Limits: DefaultLimits()})
	f.sendKeyed([2]string{"k", `{"key":"k"}`})
	codes := map[string]int32{}
	for _, v := range f.out.all(t) {
		codes[v.Rule] = v.Code
	}
	f.stop()
	return fmt.Sprintf("first %d, second %d", codes["first"], codes["second"])
}

// A worker that is halted ends after its batch: what it evaluated is in the ledger and, after the next
// start, in the states; what is left in the ring is neither.
func TestHaltAfterBatch(t *testing.T) {
	dir := t.TempDir()
	f, g := halting(t, dir)
	ended := make(chan bool)
	go func() { ended <- f.Halt(time.Minute) }()
	until(t, "the engine is being halted", func() bool { return f.halt.Load() == haltAfterBatch })
	close(g.open)
	if !<-ended {
		t.Error("the worker did not end")
	}
	f.stop()
	wantLedger(t, f.bus, 64)
	if got, want := counted(t, dir), "first 65, second 65"; got != want {
		t.Errorf("codes after a restart %s, expected %s", got, want)
	}
}

// If the batch takes too long the worker ends after the call that it is in. The batch is not counted as
// evaluated then, and what the rules that saw it have counted is kept.
func TestHaltAfterCall(t *testing.T) {
	dir := t.TempDir()
	f, g := halting(t, dir)
	ended := make(chan bool)
	go func() { ended <- f.Halt(time.Second) }()
	until(t, "the batch took too long", func() bool { return f.halt.Load() == haltAfterCall })
	close(g.open)
	if !<-ended {
		t.Error("the worker did not end")
	}
	f.stop()
	wantLedger(t, f.bus, 0)
	if got, want := counted(t, dir), "first 65, second 1"; got != want {
		t.Errorf("codes after a restart %s, expected %s", got, want)
	}
}

// Halt does not wait for ever.
func TestHaltInVain(t *testing.T) {
	f, g := halting(t, t.TempDir())
	if f.Halt(10 * time.Millisecond) {
		t.Error("a worker that is held up has ended")
	}
	close(g.open)
}

func wantLedger(t *testing.T, b *bus.Bus, evaluated uint64) {
	t.Helper()
	l := b.Ledger()
	got := fmt.Sprintf("evaluated %d, in flight %d, difference %d", l.Evaluated, l.InFlight(), l.Difference())
	want := fmt.Sprintf("evaluated %d, in flight %d, difference 0", evaluated, 1000-evaluated)
	if got != want {
		t.Errorf("ledger: %s; expected: %s", got, want)
	}
}
