package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
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

// Each version has a configuration of its own, which comes back with it.
func TestConfigOfVersions(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	f := open(t, dir, DefaultLimits())
	put := func(mod string, activate bool, config *RuleConfig) error {
		_, err := f.Put(ctx, "r", module(t, mod), PutOptions{Activate: activate, Config: config})
		return err
	}
	with := func(text string) *RuleConfig {
		return &RuleConfig{Params: map[string]json.RawMessage{"s": json.RawMessage(text)}}
	}
	now := func(n VersionNumber, want *RuleConfig) {
		t.Helper()
		r, err := f.Rule("r")
		if err != nil || r.Active != n || !r.Config.equal(want) {
			t.Errorf("version %d is active with %+v, %v: expected version %d with %+v", r.Active, r.Config, err, n, want)
		}
	}
	refused := func(err error, want string) {
		t.Helper()
		var e *Error
		if !errors.As(err, &e) || e.Kind != BadParams || !strings.Contains(e.Msg, want) {
			t.Errorf("error %v: expected %q", err, want)
		}
	}
	fuel := &RuleConfig{Fuel: 1000, OnFailure: FailClosed}
	if err := errors.Join(put("always", true, fuel), put("params", true, with(`"one"`))); err != nil {
		t.Fatal(err)
	}
	now(2, with(`"one"`))
	back := func(want VersionNumber) {
		t.Helper()
		if s, err := f.Rollback(ctx, "r", ""); err != nil || s.Running != want {
			t.Fatalf("version %d runs after a rollback, expected %d, %v", s.Running, want, err)
		}
	}
	back(1)
	now(1, fuel)
	f.stop()
	f = open(t, dir, DefaultLimits())
	if _, err := f.Configure(ctx, "r", RuleConfig{Fuel: 2000}, ""); err != nil {
		t.Fatal(err)
	}
	back(2)
	now(2, with(`"one"`))
	f.send("x", `{}`)
	if v := f.out.all(t)[0]; !bytes.Contains(v.Payload, []byte("one")) {
		t.Errorf("payload %s, error %v: expected the version's parameter", v.Payload, v.Error)
	}

	// A version that comes without one takes over the rule's, if it can.
	refused(put("v1", true, nil), `param "s" is not declared by the rule; version 3 has no configuration of `+
		"its own, so it takes over that of version 2")
	now(2, with(`"one"`))
	refused(put("v1", false, with("1")), `param "s" is not declared`)
	refused(put("v1", false, &RuleConfig{OnFailure: "x"}), "on_failure")
	if err := errors.Join(put("v1", false, nil), put("v2", false, &RuleConfig{Fuel: 3000})); err != nil {
		t.Fatal(err)
	}
	_, err := f.Activate(ctx, "r", 3, "")
	refused(err, "version 3 has no configuration of its own")
	now(2, with(`"one"`))
	list, err := f.Versions("r")
	if err != nil || len(list) != 4 {
		t.Fatalf("%d versions, %v", len(list), err)
	}
	for i, want := range []*RuleConfig{{Fuel: 2000}, with(`"one"`), nil, {Fuel: 3000}} {
		if got := list[i].Config; (got == nil) != (want == nil) || got != nil && !got.equal(want) {
			t.Errorf("version %d has %+v, expected %+v", i+1, got, want)
		}
	}
	if _, err := f.Activate(ctx, "r", 4, ""); err != nil {
		t.Fatal(err)
	}
	now(4, &RuleConfig{Fuel: 3000})
	if _, err := f.Activate(ctx, "r", 3, ""); err != nil {
		t.Fatal(err)
	}
	now(3, &RuleConfig{Fuel: 3000})
	if err := put("params", true, nil); err != nil { // it was there before, and comes back as it was
		t.Fatal(err)
	}
	now(2, with(`"one"`))
	if s, err := f.Disable(ctx, "r", ""); err != nil || s.Running != 0 {
		t.Errorf("version %d runs though the rule is disabled, %v", s.Running, err)
	}
}
