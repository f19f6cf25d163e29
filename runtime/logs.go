package runtime

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// recentLogs is how many lines are kept of each rule. Whoever follows them reads these too, so it
	// is also how far one may fall behind.
	recentLogs = 128

	// maxFollowers is how many may follow the lines of one rule at once.
	maxFollowers = 16
)

// LogLine is a line that a rule logged.
type LogLine struct {
	Seq     uint64        `json:"seq"` // grows with each line, also over restarts of the server
	Time    time.Time     `json:"time"`
	Level   string        `json:"level"` // debug, info, warn, error
	Version VersionNumber `json:"version"`
	Text    string        `json:"text"`
}

// logNames are the levels by their numbers in the ABI.
var logNames = [...]string{"debug", "info", "warn", "error"}

// Logs are the last lines that a rule logged within its rate, over all its versions since the
// server started. Workers add to them without waiting for anybody. The zero value is ready to use. All
// methods may be called from any goroutine.
type Logs struct {
	base  atomic.Uint64 // Seq of the first line; stored before count counts it
	count atomic.Uint64 // lines so far; a line's number counts from 0
	lines [recentLogs]atomic.Pointer[LogLine]

	// followers is nil while there are none: all that they cost a worker then is this load. The slice
	// is never changed, only replaced under mu.
	followers atomic.Pointer[[]*Follower]
	mu        sync.Mutex
	ended     bool

	lost atomic.Uint64 // lines that were gone before a follower read them
}

// Add adds a line; a level above those of the ABI is the highest.
func (l *Logs) Add(version VersionNumber, level int, text string) {
	now := time.Now()
	if l.base.Load() == 0 {
		l.base.CompareAndSwap(0, uint64(now.UnixMicro()))
	}
	n := l.count.Add(1) - 1
	line := &LogLine{Seq: l.base.Load() + n, Time: now.UTC(), Version: version, Text: text,
		Level: logNames[max(0, min(level, len(logNames)-1))]}
	place := &l.lines[n%recentLogs]
	for {
		// A worker that was held up does not put its line over a newer one.
		old := place.Load()
		if old != nil && old.Seq > line.Seq || place.CompareAndSwap(old, line) {
			break
		}
	}
	if list := l.followers.Load(); list != nil {
		for _, f := range *list {
			f.wake()
		}
	}
}

// kept are the numbers of the oldest line that may be there, and of the line to come.
func (l *Logs) kept() (first, next uint64) {
	next = l.count.Load()
	return next - min(next, recentLogs), next
}

// at returns the line with that number, nil if it is not there yet, and whether it is gone.
func (l *Logs) at(n uint64) (line *LogLine, gone bool) {
	line = l.lines[n%recentLogs].Load()
	switch seq := l.base.Load() + n; {
	case line == nil || line.Seq < seq:
		return nil, false
	case line.Seq > seq:
		return nil, true
	}
	return line, false
}

// Recent returns at most the last n lines, the oldest first.
func (l *Logs) Recent(n int) []LogLine {
	list := []LogLine{}
	for i, next := l.kept(); i < next; i++ {
		if line, _ := l.at(i); line != nil {
			list = append(list, *line)
		}
	}
	return list[max(0, len(list)-n):]
}

// end tells followers that no line comes any more.
func (l *Logs) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	if list := l.followers.Load(); list != nil {
		for _, f := range *list {
			f.wake()
		}
	}
}

// Follower reads the lines of one rule as they come. Only one goroutine may use it.
type Follower struct {
	logs *Logs
	kick chan struct{}
	next uint64 // number of the line to read
}

// Follow begins with the line after the one whose Seq is after, or, if that is 0, with the last n
// lines. It is a Busy error with too many followers. The caller must close the follower.
func (l *Logs) Follow(after uint64, n int) (*Follower, error) {
	f := &Follower{logs: l, kick: make(chan struct{}, 1)}
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []*Follower
	if p := l.followers.Load(); p != nil {
		list = *p
	}
	if len(list) >= maxFollowers {
		return nil, errorf(Busy, "%d follow the log of this rule already", len(list))
	}
	list = append(slices.Clip(list), f)
	l.followers.Store(&list)
	first, next := l.kept()
	base := l.base.Load()
	switch {
	case after == 0:
		f.next = next - min(next-first, uint64(max(0, n)))
	case after < base || after-base >= next:
		f.next = first // of another life of the server: all lines are new
	default:
		f.next = after - base + 1
	}
	f.wake()
	return f, nil
}

// Close ends the following.
func (f *Follower) Close() {
	l := f.logs
	l.mu.Lock()
	defer l.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(*l.followers.Load()),
		func(o *Follower) bool { return o == f })
	if len(list) == 0 {
		l.followers.Store(nil)
		return
	}
	l.followers.Store(&list)
}

func (f *Follower) wake() {
	select {
	case f.kick <- struct{}{}:
	default: // a token is there already
	}
}

// Wake has a token when there may be something to read.
func (f *Follower) Wake() <-chan struct{} { return f.kick }

// Read returns the lines that have come, how many were lost before they were read, and whether the
// rule was deleted, so that no others come.
func (f *Follower) Read() (list []LogLine, lost uint64, ended bool) {
	l := f.logs
	l.mu.Lock()
	ended = l.ended // before the lines, which may still come
	l.mu.Unlock()
	first, next := l.kept()
	if f.next < first {
		lost, f.next = first-f.next, first
	}
	for ; f.next < next; f.next++ {
		line, gone := l.at(f.next)
		if line == nil && !gone {
			break // the worker that puts it there wakes us then
		}
		if gone {
			lost++
			continue
		}
		list = append(list, *line)
	}
	l.lost.Add(lost)
	return list, lost, ended
}

// Logs returns the log of a rule. It is a NotFound error if there is none of this name.
func (e *Engine) Logs(name RuleName) (*Logs, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	rec := e.rules[name]
	if rec == nil {
		return nil, noRule(name)
	}
	e.keepStats(name, rec, nil) // a rule that did not run since the start has none yet
	e.statsMu.Lock()
	defer e.statsMu.Unlock()
	return &e.stats[name].logs, nil
}
