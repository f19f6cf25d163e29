package runtime

import (
	goruntime "runtime"
	"sync/atomic"
	"time"
)

// The most fuel that a guest gets at a time, however much it has. While it runs, its goroutine cannot be
// interrupted, and whoever stops the world waits for it; where a slice's fuel is used up it comes to the
// host for the next one. With much memory that is sooner, since the first touch of a page of 4 KiB takes
// 1 to 3 µs, which no fuel pays for: it takes three units at least to touch one.
const (
	sliceFuel      = 100_000
	shortSliceFuel = 4_000
	longSliceBytes = 4 << 20 // of memory, at most, for the longer ones
)

// slice is how much fuel the guest gets at a time.
func (in *instance) slice() uint64 {
	if in.memory.size > longSliceBytes {
		return shortSliceFuel
	}
	return sliceFuel
}

// grant gives the guest a budget of fuel for what it does next.
func (in *instance) grant(budget uint64) {
	first := min(budget, in.slice())
	in.budget, in.reserve = budget, budget-first
	in.fuel.Set(first)
}

// grown is called when the memory has grown, and takes back what a slice has no more.
func (in *instance) grown() {
	if in.fuel == nil {
		return // it is not made yet
	}
	if more := int64(in.fuel.Get()) - int64(in.slice()); more > 0 {
		in.reserve += uint64(more)
		in.fuel.Set(in.slice())
	}
}

// left is how much of the budget is left; below 0 once that is exhausted.
func (in *instance) left() int64 { return int64(in.fuel.Get()) + int64(in.reserve) }

// used is how much of the budget was used.
func (in *instance) used() uint64 { return in.budget - min(uint64(max(in.left(), 0)), in.budget) }

// charge takes n units of fuel for work that the host does for the guest. Out of fuel it panics
// with errHostFuel, which wazero turns into the error of the guest's call.
func (in *instance) charge(n uint64) {
	in.fuel.Set(uint64(int64(in.fuel.Get()) - int64(min(n, 1<<40))))
	if in.pause(); int64(in.fuel.Get()) < 0 {
		panic(errHostFuel)
	}
}

// pause ends the guest's slice if its fuel is used up, and begins the next one if there is more. It
// reports whether the fuel was used up.
func (in *instance) pause() bool {
	left := int64(in.fuel.Get())
	if left >= 0 {
		return false
	}
	if in.slicer != nil {
		in.slicer.next()
	}
	more := min(in.reserve, uint64(int64(in.slice())-left))
	in.reserve -= more
	in.fuel.Set(uint64(left + int64(more)))
	return true
}

// yieldAfter is how long guests may run, in one slice after the other, before a worker lets others
// have its core: the scheduler would wait for 10 ms before it takes it away.
const yieldAfter = int64(100 * time.Microsecond)

// slicer measures the slices of a worker's guests: the time in which the worker could not be
// interrupted. Its methods belong to that worker; other goroutines may read all and longest.
type slicer struct {
	all     Histogram
	longest atomic.Int64 // ns

	busy  int64 // ns of slices since this worker yielded
	begun time.Duration
	ran   int64 // ns of slices that have ended, since somebody set it to 0
}

var processBegun = time.Now()

// clock is the monotonic clock: time.Now reads another one, too, which takes as long again.
func clock() time.Duration { return time.Since(processBegun) }

// begin begins a slice.
func (s *slicer) begin() { s.begun = clock() }

// next ends a slice, and lets others run if it is time for that. Then the next one begins.
func (s *slicer) next() {
	now := clock()
	ns := (now - s.begun).Nanoseconds()
	s.begun = now
	s.ran += ns
	s.all.add(ns, 1)
	if ns > s.longest.Load() {
		s.longest.Store(ns)
	}
	if s.busy += ns; s.busy > yieldAfter {
		s.busy = 0
		goruntime.Gosched()
		s.begun = clock()
	}
}
