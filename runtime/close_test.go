package runtime

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
)

// variant is the same module with other bytes: another custom section at its end.
func variant(code []byte, n uint64) []byte {
	text := fmt.Sprint(n)
	return append(append(append([]byte{}, code...), 0), sized(append([]byte{0}, text...))...)
}

// Close waits for guests that run for tests, uploads and changes, whose memory and code would go
// while they use them, and what comes later is told that the server stops. Nothing hangs.
func TestCloseWaitsForGuests(t *testing.T) {
	limits := DefaultLimits()
	limits.InitFuel, limits.Versions = 1<<40, 1<<30
	slow, spin := module(t, "slowstart"), module(t, "loop")
	var events []TestEvent
	for range 10_000 { // take many seconds
		events = append(events, TestEvent(`{"bad":1}`))
	}
	for range 3 {
		f := open(t, t.TempDir(), limits)
		f.registry.db.NoSync = true
		f.put("spin", "loop")
		f.put("change", "always")
		ctx := context.Background()
		var n atomic.Uint64
		f.untilClosed(t, []func() error{
			func() error { _, err := f.Test(ctx, "spin", 0, events, nil); return err },
			func() error { _, err := f.Test(ctx, "spin", 0, events, nil); return err },
			func() error { _, err := f.Test(ctx, "spin", 0, events, nil); return err }, // waits
			func() error { _, err := f.Validate(ctx, variant(slow, n.Add(1))); return err },
			func() error {
				_, err := f.Put(ctx, "new", variant(slow, n.Add(1)), PutOptions{Activate: true})
				return err
			},
			func() error { _, err := f.Put(ctx, "spin", spin, PutOptions{Activate: true}); return err },
			func() error {
				_, err := f.Configure(ctx, "change", RuleConfig{Fuel: 1000 + n.Add(1)}, "")
				return err
			},
			func() error { _, err := f.Activate(ctx, "change", 1, ""); return err },
			func() error { _, err := f.Module("change", 1); return err },
			func() error { _, err := f.Audit("change", 10); return err },
		})
		if n := f.programs.count(); n != 0 {
			t.Errorf("%d programs are left", n)
		}
	}
}

// untilClosed makes the calls again and again while it closes the engine. Each must be refused in
// the end, and for no other reason than that.
func (f *fixture) untilClosed(t *testing.T, calls []func() error) {
	t.Helper()
	var all sync.WaitGroup
	var made atomic.Int64
	for i, call := range calls {
		all.Go(func() {
			for {
				err := call()
				made.Add(1)
				var e *Error
				switch {
				case errors.As(err, &e) && e.Kind == ShuttingDown:
					return
				case err != nil:
					t.Errorf("call %d: error %v", i, err)
					return
				}
				f.Stats()
				f.Rules()
			}
		})
	}
	until(t, "tests run and other calls were made", func() bool {
		return len(f.tests) == maxTests && made.Load() > 30
	})
	f.stop()
	all.Wait()
	f.stop() // once more does nothing
}

// An engine that is closed refuses everything.
func TestClosed(t *testing.T) {
	f := start(t)
	f.put("r", "always")
	f.stop()
	ctx, odd := context.Background(), module(t, "odd")
	for what, call := range map[string]func() error{
		"put":      func() error { _, err := f.Put(ctx, "s", odd, PutOptions{}); return err },
		"validate": func() error { _, err := f.Validate(ctx, odd); return err },
		"test":     func() error { _, err := f.Test(ctx, "r", 0, nil, nil); return err },
		"activate": func() error { _, err := f.Activate(ctx, "r", 1, ""); return err },
		"rollback": func() error { _, err := f.Rollback(ctx, "r", ""); return err },
		"delete":   func() error { _, err := f.Delete(ctx, "r", ""); return err },
		"module":   func() error { _, err := f.Module("r", 1); return err },
		"audit":    func() error { _, err := f.Audit("", 1); return err },
	} {
		var e *Error
		if err := call(); !errors.As(err, &e) || e.Kind != ShuttingDown {
			t.Errorf("%s: error %v, expected %s", what, err, ShuttingDown)
		}
	}
}

// A test that waits for its turn ends with its client, and gives back what it has.
func TestTestsTakeTurns(t *testing.T) {
	f := start(t)
	f.put("r", "always")
	for range maxTests {
		f.tests <- struct{}{}
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	one := []TestEvent{TestEvent(`{}`)}
	if _, err := f.Test(gone, "r", 0, one, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v of a test whose client has gone", err)
	}
	for range maxTests {
		<-f.tests
	}
	for range 2 * maxTests {
		if got, err := f.Test(context.Background(), "r", 0, one, nil); err != nil || got[0].Code != 1 {
			t.Errorf("a test says %+v, %v", got, err)
		}
	}
	if n := len(f.tests); n != 0 {
		t.Errorf("%d turns were not given back", n)
	}
	f.stop() // would wait for those who have not left
}
