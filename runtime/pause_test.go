package runtime

import (
	"context"
	"fmt"
	goruntime "runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wasmeval/bus"
	"wasmeval/internal/event"
	"wasmeval/internal/hostile"
)

// tries is how often a test that measures time may be disturbed by other programs of the machine:
// what is really too slow is so every time.
const tries = 5

// While two workers run the rules that take longest, and garbage is collected all the time, a
// goroutine that does nothing but wake up is never late by more than 20 ms.
func TestHeartbeat(t *testing.T) {
	limits := DefaultLimits()
	limits.Quarantine = QuarantineLimits{Wait: time.Second, MaxWait: time.Second} // never for anything
	f := open(t, t.TempDir(), limits)
	names := f.invite(t)
	var late []time.Duration
	for range tries {
		stop := f.attack(t)
		worst := heartbeat(time.Second)
		stop()
		f.drain()
		if late = append(late, worst); worst <= 20*time.Millisecond {
			break
		}
	}
	s := f.Stats()
	t.Logf("with %d hostile rules and %d slices, the longest %v: late by %v", names, s.Batches,
		s.SliceMax, late)
	if slices.Min(late) > 20*time.Millisecond {
		t.Errorf("a goroutine was late by %v: expected at most 20 ms", late)
	}
}

// heartbeat wakes up every millisecond for a while, and returns by how much it was late at worst.
func heartbeat(length time.Duration) (worst time.Duration) {
	for begun := time.Now(); time.Since(begun) < length; {
		before := time.Now()
		time.Sleep(time.Millisecond)
		worst = max(worst, time.Since(before)-time.Millisecond)
	}
	return worst
}

// invite activates the hostile rules that run for as long as their fuel lasts, and tells how many.
func (f *fixture) invite(t *testing.T) (n int) {
	t.Helper()
	for _, m := range hostile.Modules() {
		if m.Bomb || m.Refused != "" || m.Verdicts[1].Fault != FaultFuel {
			continue
		}
		if _, err := f.Put(context.Background(), RuleName(fmt.Sprint("h-", m.Name)), m.Code,
			PutOptions{Activate: true}); err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n < 20 {
		t.Fatalf("only %d hostile rules: the corpus is not what this test expects", n)
	}
	return n
}

// attack keeps both workers busy with the event that hostile rules wait for, and collects garbage
// in a loop, until stop is called.
func (f *fixture) attack(t *testing.T) (stop func()) {
	t.Helper()
	var ended atomic.Bool
	var all sync.WaitGroup
	head, err := event.AppendHead(nil, &event.Envelope{ID: []byte("bad"), Arrival: 1})
	if err != nil {
		t.Fatal(err)
	}
	for shard := range f.bus.Shards() {
		p := f.bus.NewProducer(bus.SourceHTTP)
		all.Go(func() {
			for !ended.Load() {
				if f.bus.Ring(shard).UsedBytes() < 1024 {
					_, _ = p.Submit(shard, []bus.Record{{Head: head, Body: []byte(`{"bad":1}`)}})
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	all.Go(func() {
		for !ended.Load() {
			goruntime.GC()
		}
	})
	return func() {
		ended.Store(true)
		all.Wait()
	}
}
