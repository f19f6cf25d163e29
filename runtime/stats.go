package runtime

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Outcome is how an evaluation of one event by one rule ended.
type Outcome uint8

// The outcomes.
const (
	Matched     Outcome = iota // a code above 0
	Unmatched                  // code 0
	Failed                     // an error verdict
	Quarantined                // an error verdict, and the rule was not called
	Outcomes                   // how many there are
)

var outcomeNames = [Outcomes]string{"matched", "unmatched", "failed", "quarantined"}

// String is the outcome's name in metrics.
func (o Outcome) String() string { return outcomeNames[o] }

// histogramBuckets have the upper bounds 1 µs, 2 µs, 4 µs … 2^23 µs (8.4 s), and then no bound.
const histogramBuckets = 25

// Histogram counts durations in buckets that double. Any goroutine may add and read; a reading is
// not one moment's, but each count is exact.
type Histogram struct {
	counts [histogramBuckets]atomic.Uint64
	sumNS  atomic.Int64
}

func (h *Histogram) add(ns int64, n int) {
	ns = max(ns, 0)
	i := min(bits.Len64(uint64(max(ns-1, 0)/1000)), histogramBuckets-1)
	h.counts[i].Add(uint64(n))
	h.sumNS.Add(ns * int64(n))
}

// HistogramStats is a reading of a Histogram: Counts[i] durations of at most Bounds()[i].
type HistogramStats struct {
	Counts [histogramBuckets]uint64
	Sum    time.Duration
}

func (h *Histogram) read() HistogramStats {
	s := HistogramStats{Sum: time.Duration(h.sumNS.Load())}
	for i := range h.counts {
		s.Counts[i] = h.counts[i].Load()
	}
	return s
}

func (h *HistogramStats) merge(other HistogramStats) {
	h.Sum += other.Sum
	for i, n := range other.Counts {
		h.Counts[i] += n
	}
}

// Bounds are the upper bounds of a HistogramStats' buckets; the last bucket has none.
func Bounds() [histogramBuckets - 1]time.Duration {
	var b [histogramBuckets - 1]time.Duration
	for i := range b {
		b[i] = time.Microsecond << i
	}
	return b
}

// ruleStats are the counters of one rule, from its first version on until it is deleted.
type ruleStats struct {
	lanes    []lane // element i is worker i's
	logged   atomic.Uint64
	unlogged atomic.Uint64 // lines above the rate
	unkeyed  atomic.Uint64 // calls of state functions for events without a key
	begun    atomic.Uint64 // quarantines
	active   atomic.Uint32 // the active version

	logSecond atomic.Int64
	logLines  atomic.Int64
	logs      Logs
}

// lane is one worker's counters of a rule, on cache lines of their own. The worker adds to them once a
// call, not once an event.
type lane struct {
	outcomes  [Outcomes]atomic.Uint64
	fuel      atomic.Uint64
	calls     atomic.Uint64
	took      Histogram // a guest call's time, shared among its events
	faults    [len(faultKinds)]atomic.Uint64
	wrongType atomic.Uint64
	oversize  atomic.Uint64 // payloads refused for their size
	cut       atomic.Uint64 // log lines cut for their size
	ungrown   atomic.Uint64 // times that memory did not grow for its limit
	replaced  atomic.Uint64 // instances replaced after a failure

	_ [64]byte
}

// average is what the rule used for an event so far, by this worker, rounded up; 0 if it never called it.
func (l *lane) average() uint64 {
	done := l.outcomes[Matched].Load() + l.outcomes[Unmatched].Load() + l.outcomes[Failed].Load()
	if done == 0 {
		return 0
	}
	return l.fuel.Load()/done + 1
}

var faultKinds = [...]string{
	FaultFuel, FaultStack, FaultTrap, FaultExit, FaultRule, FaultVerdict, FaultMemory,
	FaultInstantiate, FaultQuarantine,
}

func (l *lane) fault(kind string) {
	for i, k := range faultKinds {
		if k == kind {
			l.faults[i].Add(1)
		}
	}
}

// mayLog counts a line against the rule's rate for this second.
func (s *ruleStats) mayLog(rate int) bool {
	now := time.Now().Unix()
	if last := s.logSecond.Load(); last != now && s.logSecond.CompareAndSwap(last, now) {
		s.logLines.Store(0)
	}
	if s.logLines.Add(1) > int64(rate) {
		s.unlogged.Add(1)
		return false
	}
	s.logged.Add(1)
	return true
}

// RuleStats are one rule's counters since the server started.
type RuleStats struct {
	Name     RuleName
	Version  VersionNumber // the active one
	Outcomes [Outcomes]uint64
	Faults   map[string]uint64 // failed evaluations by the kind of their error
	Fuel     uint64            // units
	Calls    uint64

	WrongType uint64 // values that were not of their column's type
	Oversize  uint64 // payloads that were too large
	Cut       uint64 // log lines that were too long
	Ungrown   uint64 // times that its memory did not grow, for the limit
	Replaced  uint64 // instances replaced after a failure
	Logged    uint64
	Unlogged  uint64 // log lines above the rate
	LogLost   uint64 // log lines that were gone before one who followed them had read them

	Unkeyed uint64       // calls of state functions for events without a key
	State   []StateStats // of the active version

	Quarantined bool   // now
	Quarantines uint64 // that began

	Took HistogramStats
}

func (s *ruleStats) read(name RuleName) RuleStats {
	r := RuleStats{
		Name: name, Version: VersionNumber(s.active.Load()), Faults: map[string]uint64{},
		Logged: s.logged.Load(), Unlogged: s.unlogged.Load(), LogLost: s.logs.lost.Load(),
		Quarantines: s.begun.Load(), Unkeyed: s.unkeyed.Load(),
	}
	for i := range s.lanes {
		s.lanes[i].read(&r)
	}
	return r
}

// read adds the worker's counters to r.
func (l *lane) read(r *RuleStats) {
	for i := range l.outcomes {
		r.Outcomes[i] += l.outcomes[i].Load()
	}
	for i, k := range faultKinds {
		r.Faults[k] += l.faults[i].Load()
	}
	r.Took.merge(l.took.read())
	r.Fuel += l.fuel.Load()
	r.Calls += l.calls.Load()
	r.WrongType += l.wrongType.Load()
	r.Oversize += l.oversize.Load()
	r.Cut += l.cut.Load()
	r.Ungrown += l.ungrown.Load()
	r.Replaced += l.replaced.Load()
}

// Stats are the engine's figures since the server started.
type Stats struct {
	Generation Generation
	Swaps      uint64
	SwapTook   HistogramStats
	Programs   int // modules that are compiled and loaded
	Rules      []RuleStats

	Events    uint64 // evaluated, whether any rule wanted them or not
	Unwanted  uint64 // events that no rule wanted
	Batches   uint64
	Queued    HistogramStats // from an event's arrival until a worker took it
	Slices    HistogramStats // of guests: times in which a worker could not be interrupted
	SliceMax  time.Duration  // the longest of them
	Made      uint64         // instances that workers made while events waited, for want of a spare
	ReplyMiss uint64         // events whose request no longer waits for the verdicts
	Unsaid    uint64         // log lines dropped, since the log did not keep up

	Compiles     [CompileResults]uint64
	CompileTook  HistogramStats // of those that were not cached
	CacheEvicted uint64         // compiled modules removed to make room for others
}
