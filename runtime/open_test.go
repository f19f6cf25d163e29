package runtime

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"wasmeval/bus"
)

// An engine that is opened in vain, since who opens it does not want it any more, ends what is being compiled
// and lets go of what it has loaded. No rule is broken by that, and what was saved stays as it is.
func TestOpenIsInterrupted(t *testing.T) {
	dir := t.TempDir()
	f := openWith(t, Config{DataDir: dir, Limits: DefaultLimits()})
	f.put("counts", "counting") // is loaded first
	kept := entries(t, dir)
	f.put("later", "never")
	f.wantCodes("before", []int{1}, [2]string{"k", `{}`})
	f.stop()
	for _, name := range entries(t, dir) {
		if !slices.Contains(kept, name) {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	b, err := bus.New(bus.Config{Shards: 2, RingBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := Open(ctx, Config{DataDir: dir, Bus: b, Router: &collect{}, Limits: DefaultLimits(), Batch: 64,
			CompileCommand: []string{"/bin/sh", "-c", "exec sleep 60"}})
		ended <- err
	}()
	child(t)
	begun := time.Now()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) || time.Since(begun) > 5*time.Second {
		t.Errorf("error %v after %v, expected that it was cancelled", err, time.Since(begun))
	}
	left, err := filepath.Glob(filepath.Join(dir, "cache", compileName))
	if list := children(t); err != nil || len(list) > 0 || len(left) > 0 {
		t.Errorf("children %v and folders %v are left (%v)", list, left, err)
	}
	f = openWith(t, Config{DataDir: dir, Limits: DefaultLimits()})
	if len(f.broken) > 0 {
		t.Errorf("broken rules: %v", f.broken)
	}
	f.wantCodes("after a start that was interrupted", []int{2}, [2]string{"k", `{}`})
}
