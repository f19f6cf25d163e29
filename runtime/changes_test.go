package runtime

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
)

// Whatever is asked of a rule while it is deleted and put again, it is there or NotFound.
func TestDeletedMeanwhile(t *testing.T) {
	f := start(t)
	f.registry.db.NoSync = true // the disk is not what this test is about
	ctx, code := context.Background(), module(t, "v1")
	var found, missing, left atomic.Int64
	var all sync.WaitGroup
	done := make(chan struct{})
	for _, ask := range []func() error{
		func() error { _, err := f.Activate(ctx, "r", 1, ""); return err },
		func() error { _, err := f.Enable(ctx, "r", ""); return err },
		func() error {
			_, err := f.Configure(ctx, "r", RuleConfig{Fuel: uint64(1000 + found.Load())}, "")
			return err
		},
		func() error { _, err := f.Test(ctx, "r", 0, []TestEvent{TestEvent(`{}`)}, nil); return err },
		func() error {
			got, err := f.Module("r", 1)
			if err == nil && len(got) != len(code) {
				t.Errorf("the module has %d bytes, expected %d", len(got), len(code))
			}
			return err
		},
	} {
		left.Add(1)
		all.Go(func() {
			defer left.Add(-1)
			for {
				select {
				case <-done:
					return
				default:
				}
				var e *Error
				switch err := ask(); {
				case err == nil:
					found.Add(1)
				case errors.As(err, &e) && e.Kind == NotFound:
					missing.Add(1)
				default:
					t.Errorf("error %v: expected none, or NotFound", err)
					return
				}
			}
		})
	}
	enough := func() bool { return found.Load() >= 100 && missing.Load() >= 100 }
	for n := 0; left.Load() > 0 && (n < 100 || !enough()) && n < 10_000; n++ {
		f.put("r", "v1")
		if _, err := f.Delete(ctx, "r", ""); err != nil {
			t.Error(err)
			break
		}
	}
	close(done)
	all.Wait()
	if found.Load() == 0 || missing.Load() == 0 {
		t.Errorf("the rule was there %d times and not %d times: expected both", found.Load(),
			missing.Load())
	}
}
