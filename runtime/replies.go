package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// replies are the requests that wait for verdicts, by their number.
type replies struct {
	last  atomic.Uint64
	mu    sync.RWMutex
	open  map[uint64]*Reply
	stale atomic.Uint64 // events whose request no longer waits
}

// Reply collects the verdicts of one request's events.
type Reply struct {
	id   uint64
	rule string // or "" for all that match
	all  *replies

	mu       sync.Mutex
	verdicts []json.RawMessage
	left     int
	done     chan struct{}
}

// oneRule is the bit of a reply's number that says that its events are for one rule alone, also when
// the request no longer waits and nobody knows which.
const oneRule = 1 << 63

// ErrNoRule is returned by OpenReply when the named rule is not active.
var ErrNoRule = errors.New("no such rule is active")

// ErrBusy is returned by OpenReply when Limits.Waiting requests wait already.
var ErrBusy = errors.New("too many requests wait for verdicts")

// OpenReply makes a reply for n events. If rule is not empty, the events are evaluated by that rule
// alone, whatever it matches. The caller puts ID into the events' envelopes, with their index, and
// must Close the reply.
func (e *Engine) OpenReply(n int, rule string) (*Reply, error) {
	if rule != "" {
		if _, ok := e.set.Load().byName[rule]; !ok {
			return nil, &Error{Kind: NotFound, Msg: "rule " + rule, Err: ErrNoRule}
		}
	}
	id := e.replies.last.Add(1)
	if rule != "" {
		id |= oneRule
	}
	r := &Reply{
		id: id, rule: rule, all: &e.replies,
		verdicts: make([]json.RawMessage, n), left: n, done: make(chan struct{}),
	}
	if n == 0 {
		close(r.done)
	}
	e.replies.mu.Lock()
	defer e.replies.mu.Unlock()
	if len(e.replies.open) >= e.limits.Waiting {
		return nil, ErrBusy
	}
	e.replies.open[r.id] = r
	return r, nil
}

func (rs *replies) find(id uint64) *Reply {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	return rs.open[id]
}

// ID is the number for the envelopes of the request's events; never 0.
func (r *Reply) ID() uint64 { return r.id }

// Skip says that the event with this index was not taken and will have no verdicts.
func (r *Reply) Skip(index int) { r.set(uint32(index), nil) }

// set stores the verdicts of one event, a JSON array, each index once.
func (r *Reply) set(index uint32, list json.RawMessage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if int64(index) >= int64(len(r.verdicts)) || r.left == 0 {
		return
	}
	r.verdicts[index] = list
	if r.left--; r.left == 0 {
		close(r.done)
	}
}

// timers are used again: a context with a timeout would allocate several things for each request.
var timers = sync.Pool{New: func() any { return time.NewTimer(time.Hour) }}

// Wait returns, for each event by its index, a JSON array of verdicts, nil for those that were
// skipped. It returns ctx's error if that ends first, and context.DeadlineExceeded after the timeout.
func (r *Reply) Wait(ctx context.Context, timeout time.Duration) ([]json.RawMessage, error) {
	late := timers.Get().(*time.Timer)
	late.Reset(timeout)
	defer timers.Put(late)
	defer late.Stop()
	select {
	case <-r.done:
		return r.verdicts, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-late.C:
		return nil, context.DeadlineExceeded
	}
}

// Close ends the reply: verdicts that come later are counted and thrown away.
func (r *Reply) Close() {
	r.all.mu.Lock()
	delete(r.all.open, r.id)
	r.all.mu.Unlock()
}
