package runtime

import (
	"sync"
	"sync/atomic"
	"time"
)

// QuarantineLimits say when a rule that keeps failing is no longer called, and for how long.
type QuarantineLimits struct {
	InRow   int           // failures in a row; 0: never for these
	Percent int           // of the last 1,000 evaluations; 0: never for these
	Wait    time.Duration // before the first try; it doubles with each try that fails
	MaxWait time.Duration
}

// quarantineWindow is how many evaluations Percent is of.
const quarantineWindow = 1000

// Quarantine tells since when, why and how long a rule is not called.
type Quarantine struct {
	Since  time.Time     `json:"since"`
	Until  time.Time     `json:"until"` // of the next try: the first event after it is evaluated
	Wait   time.Duration `json:"wait_ns"`
	Tries  int           `json:"tries"` // that failed
	Reason VerdictError  `json:"reason"`
}

// The states of a breaker.
const (
	breakerClosed uint32 = iota // the rule is called
	breakerOpen                 // it is not
	breakerTrying               // one worker tries it with one event
)

// breaker keeps a rule that fails too often from being called. Workers ask it before each call and
// tell it the result. While a rule does not fail, that costs them two loads and no lock.
type breaker struct {
	limits  QuarantineLimits
	changed func() // called, without the lock, when a quarantine begins, goes on or ends

	state atomic.Uint32
	// watch says that there were failures in the window, so that successes have to be counted.
	watch atomic.Bool
	until atomic.Int64 // of the quarantine, in ns since 1970-01-01 UTC
	// instead is the error of verdicts of the rule while it is not called. It is stored before the
	// state says so.
	instead atomic.Pointer[VerdictError]

	mu    sync.Mutex // guards the rest
	count uint64     // evaluations since watch was set
	row   int        // failures since the last success
	// failed are the counts at which the last failures came, a ring of as many as are too many.
	failed []uint64
	last   int
	now    Quarantine // while the state is not closed
}

func newBreaker(l QuarantineLimits, changed func()) *breaker {
	return &breaker{limits: l, changed: changed,
		failed: make([]uint64, quarantineWindow*l.Percent/100)}
}

// admit tells whether the rule may be called at the time now, and whether the call is a try: then
// it must be for one event, and success or failure must follow.
func (b *breaker) admit(now int64) (call, try bool) {
	switch b.state.Load() {
	case breakerClosed:
		return true, false
	case breakerOpen:
		if now >= b.until.Load() && b.state.CompareAndSwap(breakerOpen, breakerTrying) {
			return true, true
		}
	}
	return false, false
}

// success counts n evaluations that did not fail.
func (b *breaker) success(n int) {
	if !b.watch.Load() {
		return
	}
	b.mu.Lock()
	b.row = 0
	b.count += uint64(n)
	ended := b.state.Load() == breakerTrying
	if ended {
		b.state.Store(breakerClosed)
		b.forget()
	} else if b.state.Load() == breakerClosed && b.quiet() {
		b.forget()
	}
	b.mu.Unlock()
	if ended {
		b.changed()
	}
}

// quiet reports whether no failure is in the window any more.
func (b *breaker) quiet() bool {
	newest := uint64(0)
	if len(b.failed) > 0 {
		newest = b.failed[b.last]
	}
	return b.count-newest >= quarantineWindow
}

// forget clears what was counted.
func (b *breaker) forget() {
	clear(b.failed)
	b.count, b.row = 0, 0
	b.watch.Store(false)
}

// failure counts one evaluation that failed, and reports whether a quarantine began with it.
func (b *breaker) failure(now int64, why *VerdictError) (began bool) {
	b.mu.Lock()
	before := b.state.Load()
	changed := b.fail(now, why)
	b.mu.Unlock()
	if changed {
		b.changed()
	}
	return changed && before == breakerClosed
}

func (b *breaker) fail(now int64, why *VerdictError) (changed bool) {
	switch b.state.Load() {
	case breakerOpen:
		return false // of a call that began before
	case breakerTrying:
		b.now.Tries++
		b.now.Wait = min(2*b.now.Wait, b.limits.MaxWait)
		b.now.Reason = *why
		b.open(now)
		return true
	}
	b.watch.Store(true)
	b.count++
	b.row++
	tooMany := b.limits.InRow > 0 && b.row >= b.limits.InRow
	if len(b.failed) > 0 {
		b.last = (b.last + 1) % len(b.failed)
		b.failed[b.last] = b.count
		oldest := b.failed[(b.last+1)%len(b.failed)]
		tooMany = tooMany || oldest > 0 && b.count-oldest < quarantineWindow
	}
	if !tooMany {
		return false
	}
	b.now = Quarantine{Since: time.Unix(0, now).UTC(), Wait: b.limits.Wait, Reason: *why}
	b.open(now)
	return true
}

// open keeps the rule from being called for the wait.
func (b *breaker) open(now int64) {
	b.now.Until = time.Unix(0, now+int64(b.now.Wait)).UTC()
	b.hold()
}

// hold keeps the rule from being called until the time that now has.
func (b *breaker) hold() {
	b.until.Store(b.now.Until.UnixNano())
	b.instead.Store(&VerdictError{Kind: FaultQuarantine, Message: "the rule failed too often; it is " +
		"tried again at " + b.now.Until.Format(time.RFC3339Nano)})
	b.state.Store(breakerOpen)
}

// resume goes on with a quarantine from before a restart.
func (b *breaker) resume(q Quarantine) {
	b.now = q
	b.watch.Store(true)
	b.hold()
}

// view is the quarantine that is in force, or nil.
func (b *breaker) view() *Quarantine {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state.Load() == breakerClosed {
		return nil
	}
	q := b.now
	return &q
}
