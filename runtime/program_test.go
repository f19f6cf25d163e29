package runtime

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
)

// panicky is a context that does something and then panics when it is asked for a value.
type panicky struct {
	context.Context
	before func()
}

// Value implements context.Context.
func (p panicky) Value(any) any {
	p.before()
	panic("the maker panics")
}

// If the one who makes a program panics, those who wait for it make it themselves.
func TestMakerPanics(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		e := idle(t, dir)
		defer shut(t, e)
		code := module(t, "always")
		if _, err := e.Validate(context.Background(), code); err != nil { // and into the cache
			t.Fatal(err)
		}
		var waiting sync.WaitGroup
		made := 0
		maker := panicky{Context: context.Background(), before: func() {
			for range 3 {
				waiting.Go(func() {
					prog, err := e.programs.get(context.Background(), code)
					if err != nil {
						t.Errorf("one who waited has error %v", err)
					}
					e.programs.put(prog)
				})
			}
			synctest.Wait() // until they wait for this one
			made++
		}}
		func() {
			defer func() {
				if p := recover(); p != "the maker panics" || made != 1 {
					t.Errorf("the maker panicked with %v, after %d turns", p, made)
				}
			}()
			_, _ = e.programs.get(maker, code)
		}()
		waiting.Wait()
		if n := e.programs.count(); n != 0 || len(e.programs.making) != 0 {
			t.Errorf("%d programs are loaded, %d are made: expected none", n, len(e.programs.making))
		}
	})
}
